#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>

#include "base/error.hpp"
#include "base/file.hpp"
#include "runtime/vulkan/hazards.hpp"
#include "runtime/vulkan/vulkan.hpp"
#include "tests/runtime/vulkan_kernels.hpp"

// What goes wrong with Vulkan devices, and what must not. Drivers do not fail when asked to: single functions of an
// opened device are replaced instead.
using namespace heddle;
using namespace heddle::test;
using Catch::Matchers::Contains;
using runtime::gpu::Commands;
using runtime::gpu::Launch;
using runtime::gpu::Memory;
using runtime::gpu::vulkan::Hazards;
using runtime::gpu::vulkan::VulkanDevice;

namespace {

namespace fs = std::filesystem;

template <class F>
std::string refusal(ErrorCode code, F f) {
  try {
    f();
  } catch (const Error& error) {
    INFO(error.what());
    CHECK(error.code() == code);
    return error.what();
  }
  FAIL("nothing was refused");
  return {};
}

/// Runs a hidden test in a process of its own, which asks for Vulkan under the given environment.
bool passes_alone(const std::string& environment, const std::string& test) {
  const std::string program = fs::read_symlink("/proc/self/exe").string();
  return std::system(fmt::format("{} '{}' '{}' > /dev/null 2>&1", environment, program, test).c_str()) == 0;
}

/// One launch that works, whatever failed before.
void must_work(runtime::gpu::Device& device) {
  const auto memory = device.allocate(4096);
  put(device, *memory, 0, std::vector<float>(64, 5));
  const Built kernel(scale_add(), device);
  run(device, {.launches = {scale_add_of(kernel, *memory, 0, 1024, 64, 2, 1)}});
  CHECK(take<float>(device, *memory, 1024, 64) == std::vector<float>(64, 11));
}

}  // namespace

TEST_CASE("alone: there is no driver", "[.]") {
  const auto list = runtime::gpu::list_vulkan_devices();
  CHECK(list.devices.empty());
  CHECK_THAT(list.reason, Contains("no Vulkan driver is installed"));
  refusal(ErrorCode::not_found, [] { runtime::gpu::choose_device(DeviceApi::vulkan, ""); });
  refusal(ErrorCode::not_found, [] { runtime::gpu::open_vulkan_device({.name = "a device"}); });
}

TEST_CASE("alone: there is no validation layer", "[.]") {
  CHECK_THAT(runtime::gpu::list_vulkan_devices().reason, Contains("VK_LAYER_KHRONOS_validation is not installed"));
}

TEST_CASE("where Vulkan lacks a part, the reason is told", "[vulkan]") {
  CHECK(passes_alone("VK_DRIVER_FILES=/nowhere.json VK_ICD_FILENAMES=/nowhere.json", "alone: there is no driver"));
  CHECK(passes_alone("VK_LAYER_PATH=/nowhere", "alone: there is no validation layer"));
  CHECK_FALSE(passes_alone("", "alone: there is no driver"));
}

TEST_CASE("a device that is gone is not opened", "[vulkan]") {
  const Silence silence;
  auto info = runtime::gpu::choose_device(DeviceApi::vulkan, "");
  info.name += " of before";
  CHECK_THAT(refusal(ErrorCode::not_found, [&] { runtime::gpu::open_vulkan_device(info); }), Contains("any more"));
}

TEST_CASE("SPIR-V that is none never reaches the driver", "[vulkan]") {
  const Silence silence;
  const auto device = vulkan_device();
  const Kernel good = step();
  const auto refused = [&](ErrorCode code, std::string spirv, const std::string& entry = "step") {
    Kernel bad{good.manifest, std::move(spirv)};
    bad.manifest.entry = entry;
    return refusal(code, [&] { bad.build(*device); });
  };
  const auto with_word = [&](std::size_t index, std::uint32_t word) {
    std::string spirv = good.code;
    std::memcpy(spirv.data() + 4 * index, &word, 4);
    return spirv;
  };
  CHECK_THAT(refused(ErrorCode::corrupt, ""), Contains("size"));
  CHECK_THAT(refused(ErrorCode::corrupt, "no SPIR-V but text, of 32 bytes."), Contains("does not begin"));
  CHECK_THAT(refused(ErrorCode::corrupt, good.code.substr(0, good.code.size() - 1)), Contains("size"));
  CHECK_THAT(refused(ErrorCode::corrupt, good.code.substr(0, good.code.size() - 4)), Contains("does not end"));
  CHECK_THAT(refused(ErrorCode::corrupt, good.code.substr(0, good.code.size() - 12)), Contains("cut off"));
  CHECK_THAT(refused(ErrorCode::corrupt, with_word(5, 0)), Contains("word 5"));
  CHECK_THAT(refused(ErrorCode::corrupt, with_word(5, 0xffff0011)), Contains("word 5"));
  CHECK_THAT(refused(ErrorCode::corrupt, with_word(5, 0x00010011)), Contains("too short"));
  CHECK_THAT(refused(ErrorCode::unsupported, with_word(1, 0x00020000)), Contains("SPIR-V 2.0"));
  CHECK_THAT(refused(ErrorCode::unsupported, with_word(6, 6)), Contains("OpenCL"));  // its first capability
  CHECK_THAT(refused(ErrorCode::corrupt, good.code, "another"), Contains("no entry of that name"));
  must_work(*device);
}

TEST_CASE("code that needs what the device has not is refused", "[vulkan]") {
  const Silence silence;
  auto hardware = vulkan_hardware();
  hardware.features.v12.shaderInt8 = VK_FALSE;
  VulkanDevice device(hardware);
  CHECK_THAT(refusal(ErrorCode::unsupported, [&] { mixed_scalars().build(device); }), Contains("8-bit integers"));
  must_work(device);
}

TEST_CASE("the driver's refusal of code is told", "[vulkan]") {
  const Silence silence;
  const auto device = open_again();
  const auto memory = device->allocate(256);
  const Built kernel(step(), *device);
  device->context().call().vkCreateComputePipelines =
      [](VkDevice, VkPipelineCache, std::uint32_t, const VkComputePipelineCreateInfo*, const VkAllocationCallbacks*,
         VkPipeline*) { return VK_ERROR_UNKNOWN; };
  CHECK_THAT(refusal(ErrorCode::unsupported,
                     [&] { device->record({.launches = {kernel(1, 64, {buffer(*memory, 0, 256)})}}); }),
             Contains("compile kernel 'step'"));
}

TEST_CASE("blocks that cannot be are refused before the driver sees them", "[vulkan]") {
  const Silence silence;
  const auto device = vulkan_device();
  const auto most = static_cast<std::uint32_t>(device->info().block_threads);
  const auto shared = static_cast<std::uint32_t>(device->info().shared_bytes);
  const auto memory = device->allocate(1 << 16);
  const Built any(reverse(), *device), fixed(step(), *device);
  const auto two = [&] { return std::vector{buffer(*memory, 0, 4096), buffer(*memory, 4096, 4096)}; };
  const auto refused = [&](const Launch& launch) {
    return refusal(ErrorCode::unsupported, [&] { device->record({.launches = {launch}}); });
  };
  CHECK_THAT(refused(any(1, most + 1, two(), 64)), Contains("threads"));
  CHECK_THAT(refused(any(1, 0, two(), 64)), Contains("1 to"));
  CHECK_THAT(refused(any(1, 16, two(), shared + 4)), Contains(fmt::format("there are {}", shared)));
  CHECK_THAT(refused(fixed(1, 32, {buffer(*memory, 0, 128)})), Contains("the code has 64"));
  Launch flat = any(1, most, two(), 64);
  flat.threads[1] = 2;
  CHECK_THAT(refused(flat), Contains("in dimension 1") || Contains(fmt::format("at most {} threads", most)));
  must_work(*device);
}

TEST_CASE("launches that do not fit their kernel are refused", "[vulkan]") {
  const Silence silence;
  const auto device = vulkan_device();
  const auto memory = device->allocate(4096);
  const Built kernel(scale_add(), *device), odd(reverse(), *device);
  const auto in = buffer(*memory, 0, 256), out = buffer(*memory, 1024, 256);
  const auto refused = [&](ErrorCode code, const Launch& launch) {
    return refusal(code, [&] { device->record({.launches = {launch}}); });
  };
  const auto one = scalar(1.0F);
  const auto n = scalar(64U);
  CHECK_THAT(refused(ErrorCode::corrupt, kernel(1, 64, {in, one, one, n})), Contains("fewer buffers"));
  CHECK_THAT(refused(ErrorCode::corrupt, kernel(1, 64, {in, out, out, one, one, n})), Contains("more buffers"));
  CHECK_THAT(refused(ErrorCode::corrupt, kernel(1, 64, {in, out, one, one})), Contains("fewer scalars"));
  CHECK_THAT(refused(ErrorCode::corrupt, kernel(1, 64, {in, out, one, one, n, n})), Contains("more scalars"));
  CHECK_THAT(refused(ErrorCode::corrupt, kernel(1, 64, {in, out, scalar(1.0), one, n})), Contains("8 bytes"));
  CHECK_THAT(refused(ErrorCode::corrupt, odd(1, 64, {in, out}, 6)), Contains("whole elements"));
  CHECK_THAT(refused(ErrorCode::internal, kernel(1, 64, {buffer(*memory, 4, 256), out, one, one, n})),
             Contains("no multiple"));
  CHECK_THAT(refused(ErrorCode::internal, kernel(1, 64, {buffer(*memory, 3840, 512), out, one, one, n})),
             Contains("3840 to 4352"));
  must_work(*device);
}

TEST_CASE("too large a memory or buffer is refused with the numbers", "[vulkan]") {
  const Silence silence;
  auto hardware = vulkan_hardware();
  hardware.info.most_buffer_bytes = 1024;
  VulkanDevice device(hardware);
  const std::uint64_t most = device.info().most_allocation_bytes;
  CHECK_THAT(refusal(ErrorCode::out_of_memory, [&] { device.allocate(most + 1); }), Contains(std::to_string(most + 1)));
  CHECK_THAT(refusal(ErrorCode::out_of_memory, [&] { device.allocate(~std::uint64_t{0}); }), Contains("at most"));
  CHECK_THAT(refusal(ErrorCode::out_of_memory, [&] { device.allocate_staging(most + 1); }), Contains("at most"));

  const auto memory = device.allocate(4096);
  const Built kernel(step(), device);
  CHECK_THAT(refusal(ErrorCode::unsupported,
                     [&] { device.record({.launches = {kernel(1, 64, {buffer(*memory, 0, 1028)})}}); }),
             Contains("1028 bytes") && Contains("at most 1024"));
  must_work(device);
}

TEST_CASE("the device's memory may run out", "[vulkan]") {
  const Silence silence;
  const auto device = open_again();
  auto& call = device->context().call();
  const auto works = call.vkAllocateMemory;
  call.vkAllocateMemory = [](VkDevice, const VkMemoryAllocateInfo*, const VkAllocationCallbacks*, VkDeviceMemory*) {
    return VK_ERROR_OUT_OF_DEVICE_MEMORY;
  };
  CHECK_THAT(refusal(ErrorCode::out_of_memory, [&] { device->allocate(1000); }), Contains("allocate 1000 bytes"));
  call.vkAllocateMemory = works;
  CHECK_FALSE(device->lost());
  must_work(*device);
}

TEST_CASE("a lost device keeps the host's data, and another is opened in its place", "[vulkan]") {
  const Silence silence;
  const auto info = runtime::gpu::choose_device(DeviceApi::vulkan, "");
  const auto shared = std::dynamic_pointer_cast<VulkanDevice>(runtime::gpu::open_device(info));
  REQUIRE(shared == runtime::gpu::open_device(info));
  const auto memory = shared->allocate(4096), staging = shared->allocate_staging(4096);
  std::memset(staging->host(), 7, 4096);
  const Built kernel(step(), *shared);
  const Commands commands{.uploads = {{{staging.get(), 0, 256}, {memory.get(), 0, 256}}},
                          .launches = {kernel(1, 64, {buffer(*memory, 0, 256)})}};
  const auto program = shared->record(commands);

  auto& call = shared->context().call();
  const bool at_once = GENERATE(true, false);
  if (at_once) {
    call.vkQueueSubmit = [](VkQueue, std::uint32_t, const VkSubmitInfo*, VkFence) { return VK_ERROR_DEVICE_LOST; };
    CHECK_THAT(refusal(ErrorCode::device, [&] { program->submit(); }), Contains("must be made anew"));
    program->wait();  // nothing runs
  } else {
    static const auto really = call.vkWaitForFences;
    call.vkGetFenceStatus = [](VkDevice device, VkFence fence) {
      really(device, 1, &fence, VK_TRUE, UINT64_MAX);
      return VK_ERROR_DEVICE_LOST;
    };
    program->submit();
    CHECK_THAT(refusal(ErrorCode::device, [&] { program->wait(); }), Contains("host's data is intact"));
  }
  CHECK(shared->lost());
  CHECK(staging->host()[4095] == std::byte{7});
  std::byte byte;
  for (const auto& use : std::initializer_list<std::function<void()>>{
           [&] { program->submit(); }, [&] { shared->record(commands); }, [&] { shared->allocate(64); },
           [&] { shared->build(plan::DeviceKernel{}, {}, {}); }, [&] { shared->write(*memory, 0, &byte, 1); },
           [&] { shared->read(*memory, 0, &byte, 1); }})
    refusal(ErrorCode::device, use);

  const auto fresh = runtime::gpu::open_device(info);
  CHECK(fresh != shared);
  CHECK(fresh == runtime::gpu::open_device(info));
  must_work(*fresh);
}

TEST_CASE("the driver's pipelines are kept in a file, and only whole ones of this driver are used", "[vulkan]") {
  const Silence silence;
  const TemporaryDirectory directory;
  const std::string cache = (directory.path() / "pipelines").string();
  // Whether the file was used, and what it held afterwards.
  const auto use = [&] {
    const auto device = open_again();
    const auto memory = device->allocate(4096);
    const Built kernel(step(), *device, cache);
    put(*device, *memory, 0, std::vector<std::uint32_t>(64, 5));
    run(*device, {.launches = {kernel(1, 64, {buffer(*memory, 0, 256)})}});
    CHECK(take<std::uint32_t>(*device, *memory, 0, 64) == std::vector<std::uint32_t>(64, 11));
    return std::pair(device->context().pipelines(cache).found(), device->context().pipelines(cache).path());
  };
  const auto [at_first, path] = use();
  CHECK_FALSE(at_first);
  CHECK(use().first);

  const std::string good = read_file(path);
  const std::size_t data = good.find('\n') + 1;
  const auto sealed = [](const std::string& bytes) {
    return fmt::format("heddle pipelines {} {}\n{}", plan::checksum(bytes), bytes.size(), bytes);
  };
  REQUIRE(sealed(good.substr(data)) == good);
  std::string damaged = good, of_another_device = good.substr(data), of_another_driver = good.substr(data);
  damaged.back() = static_cast<char>(damaged.back() + 1);
  of_another_device[12] = static_cast<char>(of_another_device[12] + 1);  // deviceID
  of_another_driver[16] = static_cast<char>(of_another_driver[16] + 1);  // pipelineCacheUUID
  for (const std::string& bad :
       {std::string(), std::string("?"), good.substr(0, good.size() - 1), damaged, good.substr(data), sealed("short"),
        sealed(of_another_device), sealed(of_another_driver)}) {
    write_file(path, bad);
    CHECK_FALSE(use().first);
    CHECK(use().first);  // it was replaced
  }
}

TEST_CASE("a cache that cannot be written costs no result", "[vulkan]") {
  const Silence silence;
  const TemporaryDirectory directory;
  write_file(directory.path() / "file", "no directory");
  const auto device = open_again();
  const auto memory = device->allocate(256);
  const Built kernel(step(), *device, (directory.path() / "file").string());
  put(*device, *memory, 0, std::vector<std::uint32_t>(64, 5));
  run(*device, {.launches = {kernel(1, 64, {buffer(*memory, 0, 256)})}});
  CHECK(take<std::uint32_t>(*device, *memory, 0, 64) == std::vector<std::uint32_t>(64, 11));
}

TEST_CASE("barriers come where bytes overlap and one side writes", "[vulkan]") {
  const int a = 0, b = 0;
  const auto needs = [](Hazards::Access earlier, Hazards::Access later) {
    Hazards hazards;
    CHECK_FALSE(hazards.add(std::array{earlier}));
    return hazards.add(std::array{later});
  };
  CHECK(needs({&a, 0, 8, true}, {&a, 4, 12, false}));        // read after write
  CHECK(needs({&a, 0, 8, false}, {&a, 7, 8, true}));         // write after read
  CHECK(needs({&a, 4, 8, true}, {&a, 0, 12, true}));         // write after write
  CHECK_FALSE(needs({&a, 0, 8, false}, {&a, 0, 8, false}));  // reads
  CHECK_FALSE(needs({&a, 0, 8, true}, {&a, 8, 16, true}));   // beside each other
  CHECK_FALSE(needs({&a, 0, 8, true}, {&b, 0, 8, true}));    // other memory

  Hazards hazards;
  CHECK_FALSE(hazards.add(std::array{Hazards::Access{&a, 0, 8, true}}));
  CHECK_FALSE(hazards.add(std::array{Hazards::Access{&a, 8, 16, true}}));
  CHECK(hazards.add(std::array{Hazards::Access{&a, 0, 8, false}, Hazards::Access{&b, 0, 8, true}}));
  CHECK_FALSE(hazards.add(std::array{Hazards::Access{&a, 8, 16, false}}));  // the barrier was for it too
  CHECK(hazards.add(std::array{Hazards::Access{&b, 4, 6, false}}));
}
