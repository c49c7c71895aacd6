#pragma once
#include <volk.h>

#include <atomic>
#include <memory>
#include <vector>

#include "runtime/vulkan/context.hpp"
#include "runtime/vulkan/memory.hpp"

namespace heddle::runtime::gpu::vulkan {

/// Commands in one primary command buffer, submitted again and again.
class VulkanProgram final : public Program {
 public:
  VulkanProgram(std::shared_ptr<Context> context, const Commands& commands);
  ~VulkanProgram() override;
  VulkanProgram(const VulkanProgram&) = delete;
  VulkanProgram& operator=(const VulkanProgram&) = delete;

  void submit() override;
  void wait() override;
  std::vector<Interval> intervals() const override;

  int barriers() const { return barriers_; }  ///< between its commands; the one before and the one after not counted

 private:
  friend class Recording;
  void release();

  std::shared_ptr<Context> context_;
  std::unique_ptr<VulkanMemory> scalars_;  ///< of all launches
  VkDescriptorPool descriptors_ = VK_NULL_HANDLE;
  VkQueryPool timestamps_ = VK_NULL_HANDLE;  ///< two a launch
  std::uint32_t timed_launches_ = 0;
  VkCommandPool pool_ = VK_NULL_HANDLE;
  VkCommandBuffer commands_ = VK_NULL_HANDLE;
  VkFence fence_ = VK_NULL_HANDLE;
  int barriers_ = 0;
  std::atomic<bool> running_ = false;
  bool completed_ = false;  ///< at least once
};

}  // namespace heddle::runtime::gpu::vulkan
