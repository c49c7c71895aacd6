#pragma once
#include <catch2/catch.hpp>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "runtime/opencl/opencl.hpp"

// What the tests of OpenCL devices share: a few kernels and short ways to launch them.
namespace heddle::test {

using namespace runtime::gpu;

/// OpenCL C with the entries that the tests launch. Their last argument is shared memory, as Halide's kernels have it.
extern const char* const opencl_source;

inline plan::DeviceKernel kernel_of(const std::string& entry) {
  return {.kernel = entry + "_of_test", .entry = entry, .file = "opencl/test.cl"};
}

inline Launch::Argument buffer(Memory& memory, std::uint64_t offset, std::uint64_t bytes) {
  return {.is_buffer = true, .buffer = {&memory, offset, bytes}};
}
inline Launch::Argument buffer(Memory& memory) { return buffer(memory, 0, memory.bytes()); }

template <class T>
inline Launch::Argument scalar(T value) {
  Launch::Argument argument{.scalar_bytes = sizeof value};
  std::memcpy(argument.scalar.data(), &value, sizeof value);
  return argument;
}

inline std::shared_ptr<Device> open() { return open_opencl_device(choose_device(DeviceApi::opencl, "")); }

/// A device with entries of the source above, and short ways to use it.
struct Bench {
  std::shared_ptr<Device> device = open();
  std::map<std::string, std::shared_ptr<Code>> codes = {};

  Launch launch(const std::string& entry, std::uint32_t blocks, std::uint32_t threads,
                std::vector<Launch::Argument> arguments, std::uint32_t shared_bytes = 0) {
    std::shared_ptr<Code>& code = codes[entry];
    if (!code) code = device->build(kernel_of(entry), opencl_source, "");
    return {.code = code.get(),
            .blocks = {blocks, 1, 1},
            .threads = {threads, 1, 1},
            .shared_bytes = shared_bytes,
            .arguments = std::move(arguments)};
  }
  void run(std::vector<Launch> launches) {
    const auto program = device->record({.launches = std::move(launches)});
    program->submit();
    program->wait();
  }
  template <class T>
  std::unique_ptr<Memory> memory(const std::vector<T>& values) {
    auto memory = device->allocate(values.size() * sizeof(T));
    device->write(*memory, 0, values.data(), memory->bytes());
    return memory;
  }
  template <class T>
  std::vector<T> values(const Memory& memory) {
    std::vector<T> values(memory.bytes() / sizeof(T));
    device->read(memory, 0, values.data(), memory.bytes());
    return values;
  }
};

inline std::vector<float> ramp(std::size_t n, float first = 0) {
  std::vector<float> values(n);
  std::iota(values.begin(), values.end(), first);
  return values;
}

/// The error that `f` ends with.
template <class F>
Error error_of(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e;
  }
  return Error(ErrorCode::internal, "no error");
}

template <class F>
void check_error(ErrorCode code, const std::string& part, F f) {
  const Error error = error_of(f);
  CHECK(error.code() == code);
  CHECK_THAT(error.what(), Catch::Contains(part));
}

}  // namespace heddle::test
