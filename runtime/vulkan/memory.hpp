#pragma once
#include <volk.h>

#include <memory>

#include "runtime/vulkan/context.hpp"

namespace heddle::runtime::gpu::vulkan {

enum class Use { kernels, staging };

/// One buffer in its own memory.
class VulkanMemory final : public Memory {
 public:
  VulkanMemory(std::shared_ptr<Context> context, std::uint64_t bytes, Use use);
  ~VulkanMemory() override;
  VulkanMemory(const VulkanMemory&) = delete;
  VulkanMemory& operator=(const VulkanMemory&) = delete;

  std::byte* host() const override { return host_; }
  VkBuffer buffer() const { return buffer_; }
  std::uint64_t buffer_bytes() const { return buffer_bytes_; }  ///< at least bytes()
  Context& context() const { return *context_; }
  const std::shared_ptr<Context>& shared_context() const { return context_; }

 private:
  void release();

  std::shared_ptr<Context> context_;
  std::uint64_t buffer_bytes_ = 0;
  VkBuffer buffer_ = VK_NULL_HANDLE;
  VkDeviceMemory memory_ = VK_NULL_HANDLE;
  std::byte* host_ = nullptr;
};

}  // namespace heddle::runtime::gpu::vulkan
