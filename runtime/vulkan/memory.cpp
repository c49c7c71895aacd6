#include "runtime/vulkan/memory.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::runtime::gpu::vulkan {

VulkanMemory::VulkanMemory(std::shared_ptr<Context> context, std::uint64_t bytes, Use use)
    : Memory(bytes), context_(std::move(context)) {
  context_->must_live();
  const Physical& physical = context_->physical();
  const std::uint64_t most = physical.info.most_allocation_bytes;
  if (bytes > most)
    throw Error(
        ErrorCode::out_of_memory,
        fmt::format("{} bytes of memory are needed in one piece, and '{}' gives at most {}; use a smaller batch "
                    "or model, or another device",
                    bytes, physical.info.name, most));
  constexpr std::uint64_t granule = Physical::granule;
  buffer_bytes_ = std::max(granule, (bytes + granule - 1) / granule * granule);

  const VolkDeviceTable& call = context_->call();
  const VkDevice device = context_->device();
  VkBufferUsageFlags usage = VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT;
  if (use == Use::kernels) usage |= VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_UNIFORM_BUFFER_BIT;
  const VkBufferCreateInfo info{.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = buffer_bytes_, .usage = usage};
  const std::string what = fmt::format("allocate {} bytes on '{}'", bytes, physical.info.name);
  try {
    context_->check(call.vkCreateBuffer(device, &info, nullptr, &buffer_), what);
    VkMemoryRequirements needed;
    call.vkGetBufferMemoryRequirements(device, buffer_, &needed);
    const Context::MemoryType type = use == Use::kernels ? context_->device_memory(needed.memoryTypeBits)
                                                         : context_->host_memory(needed.memoryTypeBits);
    const VkMemoryDedicatedAllocateInfo dedicated{.sType = VK_STRUCTURE_TYPE_MEMORY_DEDICATED_ALLOCATE_INFO,
                                                  .buffer = buffer_};
    const VkMemoryAllocateInfo allocation{.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                          .pNext = &dedicated,
                                          .allocationSize = needed.size,
                                          .memoryTypeIndex = type.index};
    context_->check(call.vkAllocateMemory(device, &allocation, nullptr, &memory_), what);
    context_->check(call.vkBindBufferMemory(device, buffer_, memory_, 0), what);
    constexpr VkMemoryPropertyFlags shared = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT | VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
                                             VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    const bool shares =
        physical.info.kind == DeviceInfo::Kind::cpu || physical.info.kind == DeviceInfo::Kind::integrated;
    if (use == Use::staging || (shares && (type.flags & shared) == shared)) {
      void* mapped = nullptr;
      context_->check(call.vkMapMemory(device, memory_, 0, VK_WHOLE_SIZE, 0, &mapped), what);
      host_ = static_cast<std::byte*>(mapped);
    }
  } catch (...) {
    release();
    throw;
  }
}

VulkanMemory::~VulkanMemory() { release(); }

void VulkanMemory::release() {
  const VolkDeviceTable& call = context_->call();
  call.vkDestroyBuffer(context_->device(), buffer_, nullptr);
  call.vkFreeMemory(context_->device(), memory_, nullptr);  // unmaps it
}

}  // namespace heddle::runtime::gpu::vulkan
