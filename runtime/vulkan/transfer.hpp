#pragma once
#include <cstdint>

#include "runtime/vulkan/memory.hpp"

// Copies between the host and device memory, complete on return, in pieces through staging memory where the host does
// not see the device's.
namespace heddle::runtime::gpu::vulkan {

void write(VulkanMemory& to, std::uint64_t offset, const void* from, std::uint64_t bytes);
void read(const VulkanMemory& from, std::uint64_t offset, void* to, std::uint64_t bytes);

}  // namespace heddle::runtime::gpu::vulkan
