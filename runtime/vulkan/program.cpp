#include "runtime/vulkan/program.hpp"

#include <cmath>

#include "base/error.hpp"
#include "runtime/vulkan/recording.hpp"

namespace heddle::runtime::gpu::vulkan {

VulkanProgram::VulkanProgram(std::shared_ptr<Context> context, const Commands& commands)
    : context_(std::move(context)) {
  context_->must_live();
  const VolkDeviceTable& call = context_->call();
  const VkDevice device = context_->device();
  try {
    // A pool of its own: pools may not be used by two threads at once.
    const VkCommandPoolCreateInfo pool{.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                       .queueFamilyIndex = context_->physical().queue_family};
    context_->check(call.vkCreateCommandPool(device, &pool, nullptr, &pool_), "make a command buffer");
    const VkCommandBufferAllocateInfo buffer{.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                             .commandPool = pool_,
                                             .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                             .commandBufferCount = 1};
    context_->check(call.vkAllocateCommandBuffers(device, &buffer, &commands_), "make a command buffer");
    const VkFenceCreateInfo fence{.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    context_->check(call.vkCreateFence(device, &fence, nullptr, &fence_), "make a fence");
    Recording(*this, commands).run();
  } catch (...) {
    release();
    throw;
  }
}

VulkanProgram::~VulkanProgram() {
  if (running_) {
    try {
      context_->wait(fence_);
    } catch (const Error&) {  // the device was lost: nothing runs on it any more
    }
  }
  release();
}

void VulkanProgram::release() {
  const VolkDeviceTable& call = context_->call();
  const VkDevice device = context_->device();
  call.vkDestroyFence(device, fence_, nullptr);
  call.vkDestroyCommandPool(device, pool_, nullptr);
  call.vkDestroyDescriptorPool(device, descriptors_, nullptr);
  call.vkDestroyQueryPool(device, timestamps_, nullptr);
}

void VulkanProgram::submit() {
  if (running_)
    throw Error(ErrorCode::internal, "a program was started again before its last execution was waited for");
  context_->submit(commands_, fence_);
  running_ = true;
}

void VulkanProgram::wait() {
  if (!running_) return;
  running_ = false;
  context_->wait(fence_);
  completed_ = true;
}

std::vector<Program::Interval> VulkanProgram::intervals() const {
  if (timed_launches_ == 0 || !completed_ || running_) return {};
  std::vector<std::uint64_t> ticks(std::size_t{2} * timed_launches_);
  context_->check(context_->call().vkGetQueryPoolResults(
                      context_->device(), timestamps_, 0, 2 * timed_launches_, ticks.size() * sizeof(std::uint64_t),
                      ticks.data(), sizeof(std::uint64_t), VK_QUERY_RESULT_64_BIT | VK_QUERY_RESULT_WAIT_BIT),
                  "give timestamps");
  const Physical& physical = context_->physical();
  const std::uint64_t mask =
      physical.timestamp_bits >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << physical.timestamp_bits) - 1;
  const auto nanoseconds = [&](std::uint64_t from, std::uint64_t to) {
    // The counter may wrap between the two.
    return std::llround(static_cast<double>((to - from) & mask) * physical.properties.limits.timestampPeriod);
  };
  std::vector<Interval> intervals;
  for (std::size_t i = 0; i < ticks.size(); i += 2)
    intervals.push_back({nanoseconds(ticks[0], ticks[i]), nanoseconds(ticks[i], ticks[i + 1])});
  return intervals;
}

}  // namespace heddle::runtime::gpu::vulkan
