#include "runtime/gpu/device.hpp"

#include <array>
#include <catch2/catch.hpp>
#include <cctype>
#include <string>

#include "base/error.hpp"
#include "runtime/opencl/opencl.hpp"
#include "tests/runtime/faulty_opencl.hpp"

// Choosing and opening devices, on the OpenCL ones: the code is the same for both interfaces.
using namespace heddle;
using namespace heddle::runtime;
using test::Environment;
using test::FaultyOpenCl;

namespace {

std::string refusal(std::string_view selector) {
  try {
    gpu::choose_device(DeviceApi::opencl, selector);
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::not_found);
    return e.what();
  }
  return "nothing was refused";
}

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

}  // namespace

TEST_CASE("a device is chosen by its index or a part of its name in any case", "[device]") {
  const Environment nothing("HEDDLE_DEVICE", nullptr);
  const FaultyOpenCl loader(FaultyOpenCl::two_devices);
  const gpu::DeviceList list = gpu::list_devices(DeviceApi::opencl);
  REQUIRE(list.devices.size() >= 2);
  for (std::size_t i = 0; i < list.devices.size(); ++i) CHECK(list.devices[i].index == static_cast<int>(i));

  CHECK(gpu::choose_device(DeviceApi::opencl, "1").index == 1);
  const std::string name = list.devices[0].name;
  REQUIRE(name.size() > 4);
  CHECK(gpu::choose_device(DeviceApi::opencl, name).index == 0);
  CHECK(gpu::choose_device(DeviceApi::opencl, upper(name.substr(1, 4))).index == 0);
  CHECK(gpu::choose_device(DeviceApi::opencl, "").name == name);
}

TEST_CASE("HEDDLE_DEVICE names the device where the caller does not", "[device]") {
  const FaultyOpenCl loader(FaultyOpenCl::two_devices);
  {
    const Environment wanted("HEDDLE_DEVICE", "1");
    CHECK(gpu::choose_device(DeviceApi::opencl, "").index == 1);
    CHECK(gpu::choose_device(DeviceApi::opencl, "0").index == 0);
  }
  {
    const Environment wanted("HEDDLE_DEVICE", "no such device");
    CHECK_THAT(refusal(""), Catch::Contains("no such device"));
  }
  const Environment empty("HEDDLE_DEVICE", "");
  CHECK(gpu::choose_device(DeviceApi::opencl, "").index == 0);
}

TEST_CASE("a device that does not exist is refused with those that do", "[device]") {
  const FaultyOpenCl loader(FaultyOpenCl::two_devices);
  const std::string name = gpu::list_devices(DeviceApi::opencl).devices.at(0).name;
  for (const char* wrong : {"2", "99", "-1", "1.5", "GeForce 256"})
    CHECK_THAT(refusal(wrong), Catch::Contains(wrong) && Catch::Contains("0 " + name) && Catch::Contains("1 " + name));
}

TEST_CASE("a machine without devices says why", "[device]") {
  const auto check_reason = [](const std::string& part) {
    const gpu::DeviceList list = gpu::list_devices(DeviceApi::opencl);
    CHECK(list.devices.empty());
    CHECK_THAT(list.reason, Catch::Contains(part));
    CHECK_THAT(refusal(""), Catch::Contains(part));
    CHECK_THROWS_AS(gpu::open_opencl_device(gpu::DeviceInfo{}), Error);
  };
  {
    const Environment nowhere("HEDDLE_OPENCL_LIBRARY", "/nowhere/libOpenCL.so.1");
    check_reason("/nowhere/libOpenCL.so.1");
  }
  {
    const Environment another("HEDDLE_OPENCL_LIBRARY", "libm.so.6");
    check_reason("clGetPlatformIDs");
  }
  {
    const FaultyOpenCl loader(FaultyOpenCl::no_platform);
    check_reason("/etc/OpenCL/vendors");
  }
  const FaultyOpenCl loader(FaultyOpenCl::old_version);
  check_reason("OpenCL 1.1 of long ago");
}

TEST_CASE("a device is opened once while somebody holds it, and anew when it was lost", "[device]") {
  FaultyOpenCl loader(FaultyOpenCl::works);
  const gpu::DeviceInfo info = gpu::choose_device(DeviceApi::opencl, "0");
  const auto first = gpu::open_device(info);
  CHECK(gpu::open_device(info) == first);
  CHECK_FALSE(first->lost());

  const auto memory = first->allocate(64);
  std::array<std::byte, 64> bytes{};
  loader.set(FaultyOpenCl::failed_execution);
  CHECK_THROWS_AS(first->write(*memory, 0, bytes.data(), bytes.size()), Error);
  loader.set(FaultyOpenCl::works);
  CHECK(first->lost());
  CHECK_THROWS_AS(first->allocate(64), Error);

  const auto second = gpu::open_device(info);
  CHECK(second != first);
  const auto fresh = second->allocate(64);
  second->write(*fresh, 0, bytes.data(), bytes.size());
  CHECK_FALSE(second->lost());
}
