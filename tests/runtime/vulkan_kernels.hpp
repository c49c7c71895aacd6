#pragma once
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "runtime/gpu/device.hpp"
#include "runtime/vulkan/device.hpp"

// Kernels in hand-written SPIR-V (tests/runtime/data/vulkan) and launches of them.
namespace heddle::test {

/// While it lives, the validation layer may not say anything.
class Silence {
 public:
  Silence();
  ~Silence();
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;

 private:
  std::uint64_t before_;
};

/// The device that tests run on, shared.
std::shared_ptr<runtime::gpu::Device> vulkan_device();

/// The same, not opened. `own_memory`: as if it had memory that the host does not see.
runtime::gpu::vulkan::Physical vulkan_hardware(bool own_memory = false);

/// The same, opened once more.
std::shared_ptr<runtime::gpu::vulkan::VulkanDevice> open_again(bool own_memory = false);

/// A kernel's manifest and its SPIR-V.
struct Kernel {
  plan::DeviceKernel manifest;
  std::string code;

  std::shared_ptr<runtime::gpu::Code> build(runtime::gpu::Device& device, const std::string& cache = {}) const {
    return device.build(manifest, code, cache);
  }
};

Kernel scale_add();      ///< out[i] = scale * in[i] + add for i < n; any width of the block
Kernel reverse();        ///< out = in, reversed within each block; any width of the block, 4 shared bytes a thread
Kernel step();           ///< x[i] = 2 * x[i] + 1 of 32 bits, in place; blocks of 64
Kernel mixed_scalars();  ///< out[i] = a + b + c; scalars of 4, 2 and 1 bytes; blocks of 64

template <class T>
runtime::gpu::Launch::Argument scalar(T value) {
  runtime::gpu::Launch::Argument argument{.scalar_bytes = sizeof value};
  std::memcpy(argument.scalar.data(), &value, sizeof value);
  return argument;
}

inline runtime::gpu::Launch::Argument buffer(runtime::gpu::Memory& memory, std::uint64_t offset, std::uint64_t bytes) {
  return {.is_buffer = true, .buffer = {&memory, offset, bytes}};
}

/// A kernel built for a device; calls make launches of it.
class Built {
 public:
  Built(Kernel kernel, runtime::gpu::Device& device, const std::string& cache = {})
      : kernel_(std::move(kernel)), code_(kernel_.build(device, cache)) {}

  runtime::gpu::Launch operator()(std::uint32_t blocks, std::uint32_t threads,
                                  std::vector<runtime::gpu::Launch::Argument> arguments,
                                  std::uint32_t shared_bytes = 0) const {
    return {.kernel = &kernel_.manifest,
            .code = code_.get(),
            .blocks = {blocks, 1, 1},
            .threads = {threads, 1, 1},
            .shared_bytes = shared_bytes,
            .arguments = std::move(arguments)};
  }

 private:
  Kernel kernel_;
  std::shared_ptr<runtime::gpu::Code> code_;
};

/// `n` floats beginning at byte `in` scaled and added to, written at byte `out`.
runtime::gpu::Launch scale_add_of(const Built& kernel, runtime::gpu::Memory& memory, std::uint64_t in,
                                  std::uint64_t out, std::uint32_t n, float scale, float add);

template <class T>
void put(runtime::gpu::Device& device, runtime::gpu::Memory& memory, std::uint64_t offset,
         const std::vector<T>& values) {
  device.write(memory, offset, values.data(), values.size() * sizeof(T));
}

template <class T>
std::vector<T> take(runtime::gpu::Device& device, const runtime::gpu::Memory& memory, std::uint64_t offset,
                    std::size_t count) {
  std::vector<T> values(count);
  device.read(memory, offset, values.data(), count * sizeof(T));
  return values;
}

/// Records, executes once and waits.
void run(runtime::gpu::Device& device, const runtime::gpu::Commands& commands);

}  // namespace heddle::test
