#pragma once
#include "runtime/opencl/context.hpp"

namespace heddle::runtime::gpu::opencl {

/// What kernels work on. On processors and integrated devices that offer it, the host sees the same bytes: memory of
/// clSVMAlloc with a buffer over it, for which the standard needs no mapping (fine-grained sharing).
class DeviceMemory final : public Memory {
 public:
  /// Throws Error{out_of_memory}.
  DeviceMemory(std::shared_ptr<Context> context, std::uint64_t bytes);

  std::byte* host() const override { return static_cast<std::byte*>(shared_.get()); }
  cl_mem buffer() const { return buffer_.get(); }

 private:
  struct ReleaseShared {
    const Context* context = nullptr;
    void operator()(void* memory) const { context->cl().svm_free(context->get(), memory); }
  };

  std::shared_ptr<Context> context_;
  std::unique_ptr<void, ReleaseShared> shared_;  // before the buffer over it, so that it goes later
  Handle<cl_mem> buffer_;
};

/// Memory of the host that the driver keeps in place, so that a discrete device copies it at its bus's speed and
/// without the driver's own copy. It stays mapped: commands use its address, never its buffer.
class StagingMemory final : public Memory {
 public:
  /// Throws Error{out_of_memory}.
  StagingMemory(std::shared_ptr<Context> context, std::uint64_t bytes);
  ~StagingMemory() override;
  StagingMemory(const StagingMemory&) = delete;
  StagingMemory& operator=(const StagingMemory&) = delete;

  std::byte* host() const override { return host_; }

 private:
  std::shared_ptr<Context> context_;
  Handle<cl_mem> buffer_;
  std::byte* host_ = nullptr;
};

/// The memory as this device's; throws Error{internal} if it is of another kind or the range lies outside it.
const DeviceMemory& device_memory(const Memory* memory, std::uint64_t offset, std::uint64_t bytes);
/// Where the host sees a range of `memory`; throws Error{internal} if it does not.
std::byte* host_memory(const Memory* memory, std::uint64_t offset, std::uint64_t bytes);

}  // namespace heddle::runtime::gpu::opencl
