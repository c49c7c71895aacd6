#include "runtime/vulkan/context.hpp"

#include <chrono>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::runtime::gpu::vulkan {
namespace {

// A thread that sleeps in the driver wakes tens of microseconds late, much beside a model of a millisecond. A device
// that is the processor itself needs the core instead.
std::chrono::microseconds spin_time(DeviceInfo::Kind kind) {
  return std::chrono::microseconds(kind == DeviceInfo::Kind::cpu ? 0 : 2000);
}

}  // namespace

Context::Context(Physical device) : physical_(std::move(device)) {
  vkGetPhysicalDeviceMemoryProperties(physical_.handle, &memory_);
  const float priority = 1;
  const VkDeviceQueueCreateInfo queue{.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                      .queueFamilyIndex = physical_.queue_family,
                                      .queueCount = 1,
                                      .pQueuePriorities = &priority};
  VkDeviceCreateInfo info{.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                          .queueCreateInfoCount = 1,
                          .pQueueCreateInfos = &queue,
                          .enabledExtensionCount = static_cast<std::uint32_t>(physical_.extensions.size()),
                          .ppEnabledExtensionNames = physical_.extensions.data()};
  physical_.features.with_chain([&](const VkPhysicalDeviceFeatures2& features) {
    info.pNext = &features;
    vulkan::check(vkCreateDevice(physical_.handle, &info, nullptr, &device_),
                  fmt::format("open '{}'", physical_.info.name));
  });
  volkLoadDeviceTable(&call_, device_);
  call_.vkGetDeviceQueue(device_, physical_.queue_family, 0, &queue_);
}

Context::~Context() {
  call_.vkDeviceWaitIdle(device_);
  caches_.clear();
  for (const auto& [bindings, layout] : layouts_) {
    call_.vkDestroyPipelineLayout(device_, layout.pipeline, nullptr);
    call_.vkDestroyDescriptorSetLayout(device_, layout.set, nullptr);
  }
  call_.vkDestroyDevice(device_, nullptr);
}

void Context::check(VkResult result, std::string_view what) {
  if (result == VK_ERROR_DEVICE_LOST) lost_ = true;
  vulkan::check(result, what);
}

void Context::must_live() const {
  if (lost_) vulkan::check(VK_ERROR_DEVICE_LOST, fmt::format("use '{}'", physical_.info.name));
}

void Context::submit(VkCommandBuffer commands, VkFence fence) {
  must_live();
  const VkSubmitInfo info{
      .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1, .pCommandBuffers = &commands};
  check(call_.vkResetFences(device_, 1, &fence), "start commands");
  const std::lock_guard lock(queue_mutex_);
  check(call_.vkQueueSubmit(queue_, 1, &info, fence), "start commands");
}

void Context::wait(VkFence fence) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point end = Clock::now() + spin_time(physical_.info.kind);
  VkResult result = VK_NOT_READY;
  do result = call_.vkGetFenceStatus(device_, fence);
  while (result == VK_NOT_READY && Clock::now() < end);
  if (result == VK_NOT_READY) result = call_.vkWaitForFences(device_, 1, &fence, VK_TRUE, UINT64_MAX);
  check(result, "complete commands");
}

Context::MemoryType Context::device_memory(std::uint32_t allowed) const {
  // A device that shares the host's memory needs no staging if the host sees its memory too. Elsewhere such memory is
  // the small part that is mapped through the bus.
  const bool shares =
      physical_.info.kind == DeviceInfo::Kind::cpu || physical_.info.kind == DeviceInfo::Kind::integrated;
  constexpr VkMemoryPropertyFlags visible = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
  std::optional<MemoryType> best;
  int best_score = -1;
  for (std::uint32_t i = 0; i < memory_.memoryTypeCount; ++i) {
    const VkMemoryPropertyFlags flags = memory_.memoryTypes[i].propertyFlags;
    if ((allowed >> i & 1) == 0 || (flags & VK_MEMORY_PROPERTY_PROTECTED_BIT) != 0) continue;
    const bool mapped = (flags & visible) == visible;
    int score = (flags & VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT) != 0 ? 8 : 0;
    if (mapped == shares) score += 4;
    if (shares && (flags & VK_MEMORY_PROPERTY_HOST_CACHED_BIT) != 0) score += 2;
    if (score > best_score) best = MemoryType{i, flags}, best_score = score;
  }
  if (!best) throw Error(ErrorCode::unsupported, "the Vulkan driver has no memory for buffers of a kernel");
  return *best;
}

Context::MemoryType Context::host_memory(std::uint32_t allowed) const {
  constexpr VkMemoryPropertyFlags needed = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
  std::optional<MemoryType> best;
  int best_score = -1;
  for (std::uint32_t i = 0; i < memory_.memoryTypeCount; ++i) {
    const VkMemoryPropertyFlags flags = memory_.memoryTypes[i].propertyFlags;
    if ((allowed >> i & 1) == 0 || (flags & needed) != needed) continue;
    int score = (flags & VK_MEMORY_PROPERTY_HOST_CACHED_BIT) != 0 ? 2 : 0;  // else every read crosses the bus
    if ((flags & VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT) == 0) score += 1;
    if (score > best_score) best = MemoryType{i, flags}, best_score = score;
  }
  if (!best) throw Error(ErrorCode::unsupported, "the Vulkan driver has no memory that the host can see");
  return *best;
}

const Context::Layout& Context::layout(bool uniform_block, std::uint32_t buffers) {
  const std::lock_guard lock(mutex_);
  Layout& layout = layouts_[{uniform_block, buffers}];
  if (layout.pipeline != VK_NULL_HANDLE) return layout;
  layout.uniform_block = uniform_block;
  layout.buffers = buffers;
  std::vector<VkDescriptorSetLayoutBinding> bindings;
  const auto add = [&](VkDescriptorType type) {
    bindings.push_back({.binding = static_cast<std::uint32_t>(bindings.size()),
                        .descriptorType = type,
                        .descriptorCount = 1,
                        .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT});
  };
  if (uniform_block) add(VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER);
  for (std::uint32_t i = 0; i < buffers; ++i) add(VK_DESCRIPTOR_TYPE_STORAGE_BUFFER);
  const VkDescriptorSetLayoutCreateInfo set{.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
                                            .bindingCount = static_cast<std::uint32_t>(bindings.size()),
                                            .pBindings = bindings.data()};
  if (layout.set == VK_NULL_HANDLE)
    check(call_.vkCreateDescriptorSetLayout(device_, &set, nullptr, &layout.set), "lay out a kernel's buffers");
  const VkPipelineLayoutCreateInfo pipeline{
      .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO, .setLayoutCount = 1, .pSetLayouts = &layout.set};
  check(call_.vkCreatePipelineLayout(device_, &pipeline, nullptr, &layout.pipeline), "lay out a kernel's buffers");
  return layout;
}

PipelineCache& Context::pipelines(const std::string& directory) {
  const std::lock_guard lock(mutex_);
  std::unique_ptr<PipelineCache>& cache = caches_[directory];
  if (!cache) cache = std::make_unique<PipelineCache>(*this, directory);
  return *cache;
}

}  // namespace heddle::runtime::gpu::vulkan
