#pragma once
#include <memory>
#include <string>

#include "runtime/gpu/device.hpp"
#include "runtime/vulkan/context.hpp"

namespace heddle::runtime::gpu::vulkan {

class VulkanDevice final : public Device {
 public:
  explicit VulkanDevice(Physical physical);

  const DeviceInfo& info() const override { return context_->physical().info; }
  bool lost() const override { return context_->lost(); }
  std::unique_ptr<Memory> allocate(std::uint64_t bytes) override;
  std::unique_ptr<Memory> allocate_staging(std::uint64_t bytes) override;
  std::shared_ptr<Code> build(const plan::DeviceKernel& kernel, std::string_view code,
                              const std::string& cache) override;
  std::unique_ptr<Program> record(const Commands& commands) override;
  void write(Memory& to, std::uint64_t offset, const void* from, std::uint64_t bytes) override;
  void read(const Memory& from, std::uint64_t offset, void* to, std::uint64_t bytes) override;

  Context& context() const { return *context_; }

 private:
  std::shared_ptr<Context> context_;
};

}  // namespace heddle::runtime::gpu::vulkan
