#include <fmt/format.h>
#include <catch2/catch.hpp>
#include <cstddef>
#include <numeric>

#include "base/error.hpp"
#include "heddle/heddle.h"
#include "runtime/cpu.hpp"
#include "runtime/gpu/device.hpp"
#include "tests/runtime/sample_package.hpp"

using namespace heddle;
using Catch::Matchers::Contains;

namespace {

const std::string library = std::string(HEDDLE_BINARY_DIR) + "/lib/libheddle_runtime.so";

/// A program needs the sanitizers' runtime first if a library of it was built with them.
#if defined(__SANITIZE_ADDRESS__)
constexpr const char* sanitizer = "-fsanitize=address,undefined";
#else
constexpr const char* sanitizer = "";
#endif

/// A package on disk for the length of the tests.
const std::string& package_path() {
  static const TemporaryDirectory directory;
  static const std::string path = [] {
    test::write_sample(test::sample_package(), directory.path());
    return directory.path().string();
  }();
  return path;
}

}  // namespace

TEST_CASE("the C interface loads, describes and runs a package", "[c_api]") {
  heddle_model* model = nullptr;
  REQUIRE(heddle_model_load(package_path().c_str(), nullptr, &model) == HEDDLE_OK);
  CHECK(std::string(heddle_model_name(model)) == "sample");
  CHECK(std::string(heddle_model_target(model)) == "sample");
  REQUIRE(heddle_model_input_count(model) == 1);
  REQUIRE(heddle_model_output_count(model) == 2);
  heddle_tensor_info info;
  REQUIRE(heddle_model_input(model, 0, &info) == HEDDLE_OK);
  CHECK(std::string(info.name) == "x");
  CHECK(info.dtype == HEDDLE_F32);
  REQUIRE(info.rank == 2);
  CHECK(info.extents[0] == 2);
  CHECK(info.extents[1] == -1);
  CHECK(std::string(info.texts[1]) == "W");
  REQUIRE(heddle_model_symbol_count(model) == 1);
  heddle_symbol_info symbol;
  REQUIRE(heddle_model_symbol(model, 0, &symbol) == HEDDLE_OK);
  CHECK(std::string(symbol.name) == "W");
  CHECK(symbol.max == 4096);
  std::size_t index = 7;
  REQUIRE(heddle_model_output_index(model, "shape", &index) == HEDDLE_OK);
  CHECK(index == 1);
  CHECK(heddle_model_output_index(model, "shap", &index) == HEDDLE_NOT_FOUND);
  CHECK_THAT(heddle_last_error(), Contains("did you mean 'shape'"));
  CHECK(index == 1);

  heddle_session_options options = HEDDLE_SESSION_OPTIONS_INIT;
  options.threads = 2;
  options.profile = 1;
  heddle_session* session = nullptr;
  REQUIRE(heddle_session_create(model, &options, &session) == HEDDLE_OK);
  heddle_model_free(model);  // the session keeps what it needs

  heddle_tensor out;
  CHECK(heddle_session_get_output(session, 0, &out) == HEDDLE_INVALID_ARGUMENT);
  CHECK(heddle_session_run(session) == HEDDLE_INVALID_ARGUMENT);
  CHECK_THAT(heddle_last_error(), Contains("has not been set"));
  for (const std::int64_t width : {5, 300}) {
    std::vector<float> x(static_cast<std::size_t>(2 * width));
    std::iota(x.begin(), x.end(), 0.5F);
    const std::int64_t shape[] = {2, width};
    const heddle_tensor tensor = {HEDDLE_F32, 2, shape, x.data()};
    REQUIRE(heddle_session_set_input_by_name(session, "x", &tensor) == HEDDLE_OK);
    REQUIRE(heddle_session_run(session) == HEDDLE_OK);
    REQUIRE(heddle_session_get_output(session, 0, &out) == HEDDLE_OK);
    REQUIRE(out.rank == 2);
    CHECK(out.shape[1] == width);
    const auto* values = static_cast<const float*>(out.data);
    CHECK(std::vector<float>(values, values + 2 * width) == test::sample_reference(x));
    std::size_t count = 0;
    const heddle_step_time* steps = nullptr;
    REQUIRE(heddle_session_profile(session, &count, &steps) == HEDDLE_OK);
    REQUIRE(count == 5);
    CHECK(std::string(steps[2].label) == "sum of three");
    CHECK(steps[2].flops == 4 * width);
  }
  heddle_session_free(session);
}

TEST_CASE("wrong calls give a status and a message", "[c_api]") {
  heddle_model* model = nullptr;
  CHECK(heddle_model_load(nullptr, nullptr, &model) == HEDDLE_INVALID_ARGUMENT);
  CHECK(heddle_model_load("/nowhere/at/all", nullptr, &model) == HEDDLE_NOT_FOUND);
  CHECK_THAT(heddle_last_error(), Contains("/nowhere/at/all"));
  CHECK(model == nullptr);
  CHECK(heddle_model_load(package_path().c_str(), nullptr, nullptr) == HEDDLE_INVALID_ARGUMENT);
  heddle_load_options load = HEDDLE_LOAD_OPTIONS_INIT;
  load.target = "riscv";
  CHECK(heddle_model_load(package_path().c_str(), &load, &model) == HEDDLE_NOT_FOUND);
  load.size = 0;
  CHECK(heddle_model_load(package_path().c_str(), &load, &model) == HEDDLE_INVALID_ARGUMENT);

  REQUIRE(heddle_model_load(package_path().c_str(), nullptr, &model) == HEDDLE_OK);
  heddle_tensor_info info;
  CHECK(heddle_model_input(model, 5, &info) == HEDDLE_INVALID_ARGUMENT);
  CHECK(heddle_model_input(nullptr, 0, &info) == HEDDLE_INVALID_ARGUMENT);
  heddle_session* session = nullptr;
  heddle_session_options options = HEDDLE_SESSION_OPTIONS_INIT;
  options.threads = -1;
  CHECK(heddle_session_create(model, &options, &session) == HEDDLE_INVALID_ARGUMENT);
  REQUIRE(heddle_session_create(model, nullptr, &session) == HEDDLE_OK);

  float data[8] = {};
  const std::int64_t shape[] = {2, 4};
  heddle_tensor tensor = {HEDDLE_F32, 2, shape, data};
  CHECK(heddle_session_set_input(session, 1, &tensor) == HEDDLE_INVALID_ARGUMENT);
  CHECK(heddle_session_set_input(session, 0, nullptr) == HEDDLE_INVALID_ARGUMENT);
  CHECK(heddle_session_set_input_by_name(session, "y", &tensor) == HEDDLE_NOT_FOUND);
  tensor.dtype = static_cast<heddle_dtype>(99);
  CHECK(heddle_session_set_input(session, 0, &tensor) == HEDDLE_INVALID_ARGUMENT);
  tensor.dtype = HEDDLE_I64;
  CHECK(heddle_session_set_input(session, 0, &tensor) == HEDDLE_INVALID_ARGUMENT);
  CHECK_THAT(heddle_last_error(), Contains("input 'x' is f32, not i64"));
  tensor.dtype = HEDDLE_F32;
  tensor.data = nullptr;
  CHECK(heddle_session_set_input(session, 0, &tensor) == HEDDLE_INVALID_ARGUMENT);
  tensor.rank = -2;
  CHECK(heddle_session_set_input(session, 0, &tensor) == HEDDLE_INVALID_ARGUMENT);
  std::size_t count = 0;
  const heddle_step_time* steps = nullptr;
  CHECK(heddle_session_profile(session, &count, &steps) == HEDDLE_INVALID_ARGUMENT);
  heddle_session_free(session);
  heddle_model_free(model);
  heddle_session_free(nullptr);
  heddle_model_free(nullptr);
  CHECK(std::string(heddle_dtype_name(HEDDLE_BF16)) == "bf16");
  CHECK(heddle_dtype_size(HEDDLE_I64) == 8);
  CHECK(heddle_dtype_size(static_cast<heddle_dtype>(99)) == 0);
}

TEST_CASE("a program in C works with the shared library alone", "[c_api]") {
  const TemporaryDirectory directory;
  const auto program = (directory.path() / "program").string();
  const auto built = test::run_command(fmt::format(
      "cc -std=c99 -Wall -Wextra -Wpedantic -Werror {4} -I'{0}/include' '{0}/tests/runtime/data/program.c' '{1}' "
      "-Wl,-rpath,'{2}/lib' -o '{3}'",
      HEDDLE_SOURCE_DIR, library, HEDDLE_BINARY_DIR, program, sanitizer));
  INFO(built.output);
  REQUIRE(built.status == 0);
  const auto ran = test::run_command(fmt::format("'{}' '{}'", program, package_path()));
  INFO(ran.output);
  CHECK(ran.status == 0);
  CHECK_THAT(ran.output, Contains("out 2x6: 6 18 27 36 45 30 110 180 195 210 225 150"));

  // The same on a lesser machine.
  plan::Package demanding = test::sample_package();
  demanding.modules[0].features = {*runtime::cpu_features().begin()};
  test::write_sample(demanding, directory.path() / "package");
  const auto command = fmt::format("'{}' '{}/package'", program, directory.path().string());
  CHECK(test::run_command(command).status == 0);
  const auto refused = test::run_command("HEDDLE_CPU_FEATURES=none " + command);
  CHECK(refused.status == 1);
  CHECK_THAT(refused.output, Contains("sample needs " + demanding.modules[0].features[0]));
}

TEST_CASE("devices are listed as the runtime finds them", "[c_api]") {
  for (const heddle_device_api api : {HEDDLE_OPENCL, HEDDLE_VULKAN}) {
    const auto expected = runtime::gpu::list_devices(static_cast<DeviceApi>(api));
    std::size_t count = 77;
    REQUIRE(heddle_device_count(api, &count) == HEDDLE_OK);
    CHECK(count == expected.devices.size());
    if (count == 0) CHECK_FALSE(std::string(heddle_last_error()).empty());
    for (std::size_t i = 0; i < count; ++i) {
      heddle_device_info info = HEDDLE_DEVICE_INFO_INIT;
      REQUIRE(heddle_device(api, i, &info) == HEDDLE_OK);
      CHECK(info.api == api);
      CHECK(info.name == expected.devices[i].name);
      CHECK(info.driver == expected.devices[i].driver);
      CHECK(info.index == static_cast<int>(i));
      CHECK(info.memory_bytes == expected.devices[i].memory_bytes);
      // A program with an older header has a shorter struct, behind which is something of its own.
      info.size = offsetof(heddle_device_info, driver);
      info.driver = "mine";
      REQUIRE(heddle_device(api, i, &info) == HEDDLE_OK);
      CHECK(std::string(info.driver) == "mine");
      info.size = 0;
      CHECK(heddle_device(api, i, &info) == HEDDLE_INVALID_ARGUMENT);
    }
    heddle_device_info info = HEDDLE_DEVICE_INFO_INIT;
    CHECK(heddle_device(api, count, &info) == HEDDLE_INVALID_ARGUMENT);
    CHECK(heddle_device(api, 0, nullptr) == HEDDLE_INVALID_ARGUMENT);
  }
  std::size_t count = 0;
  CHECK(heddle_device_count(static_cast<heddle_device_api>(7), &count) == HEDDLE_INVALID_ARGUMENT);
}

TEST_CASE("a package for a processor has no device", "[c_api]") {
  heddle_model* model = nullptr;
  heddle_load_options load = HEDDLE_LOAD_OPTIONS_INIT;
  load.device = "0";
  CHECK(heddle_model_load(package_path().c_str(), &load, &model) == HEDDLE_NOT_FOUND);
  CHECK_THAT(heddle_last_error(), Contains("no module for a device"));
  // With a header from before there were devices that member is not ours to read.
  load.size = offsetof(heddle_load_options, device);
  REQUIRE(heddle_model_load(package_path().c_str(), &load, &model) == HEDDLE_OK);
  heddle_device_info info = HEDDLE_DEVICE_INFO_INIT;
  CHECK(heddle_model_device(model, &info) == HEDDLE_NOT_FOUND);
  heddle_model_free(model);
}

TEST_CASE("the runtime that users ship needs neither Halide nor LLVM nor a device's library", "[c_api]") {
  const auto linked = test::run_command("ldd '" + library + "'");
  REQUIRE(linked.status == 0);
  CHECK_THAT(linked.output, Contains("libc.so"));
  for (const char* name : {"Halide", "LLVM", "heddle", "not found", "hwloc", "spdlog", "OpenCL", "vulkan"})
    CHECK_THAT(linked.output, !Contains(name));
  const auto symbols =
      test::run_command("nm -D --defined-only '" + library + "' | awk '{print $3}' | grep -v '^heddle_'");
  CHECK(symbols.output.empty());
}

TEST_CASE("modules of kernels export nothing but kernels and their init", "[c_api]") {
  const TemporaryDirectory directory;
  write_file(directory.path() / "sample.so", test::sample_module());
  const auto symbols = test::run_command(fmt::format(
      "nm -D --defined-only '{}/sample.so' | awk '{{print $3}}' | grep -v '_argv$'", directory.path().string()));
  CHECK(symbols.output == "heddle_module_init\n");
}

TEST_CASE("the shims compile for both architectures", "[c_api]") {
  for (const std::string& compiler : {std::string("cc"), std::string(HEDDLE_AARCH64_CC)}) {
    const auto built =
        test::run_command(fmt::format("{} -std=c17 -O2 -fPIC -fvisibility=hidden -Wall -Wextra -Wpedantic -Werror "
                                      "-I'{}' -isystem '{}/halide/include' -c "
                                      "'{}/generators/shims/shims.c' -o /dev/null",
                                      compiler, HEDDLE_SOURCE_DIR, HEDDLE_SITE_PACKAGES, HEDDLE_SOURCE_DIR));
    INFO(built.output);
    CHECK(built.status == 0);
  }
}
