#pragma once
#include <volk.h>

#include <string>
#include <vector>

#include "runtime/gpu/device.hpp"
#include "runtime/vulkan/instance.hpp"

namespace heddle::runtime::gpu::vulkan {

/// The features that kernels may need.
struct Features {
  VkPhysicalDeviceFeatures core{};
  VkPhysicalDeviceVulkan11Features v11{};
  VkPhysicalDeviceVulkan12Features v12{};
  bool maintenance4 = false;  ///< blocks' extents may be specialised (LocalSizeId)

  /// Calls f with the structure that Vulkan's functions take, all parts chained.
  template <class F>
  auto with_chain(F f) {
    VkPhysicalDeviceMaintenance4Features four{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_FEATURES,
                                              .maintenance4 = maintenance4 ? VK_TRUE : VK_FALSE};
    v12.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES;
    v12.pNext = &four;
    v11.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES;
    v11.pNext = &v12;
    VkPhysicalDeviceFeatures2 all{
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &v11, .features = core};
    f(all);
    core = all.features;
    maintenance4 = four.maintenance4 == VK_TRUE;
    v11.pNext = v12.pNext = nullptr;
  }
};

/// What is known of a device before it is opened.
struct Physical {
  /// Buffers have a multiple of these bytes: kernels read whole vectors at the end of one, and none has no bytes.
  static constexpr std::uint64_t granule = 64;

  VkPhysicalDevice handle = VK_NULL_HANDLE;
  DeviceInfo info;
  std::string missing;  ///< what it lacks to be of use; empty if nothing
  VkPhysicalDeviceProperties properties{};
  Features features;                    ///< those to enable: supported, and of use to kernels
  std::vector<const char*> extensions;  ///< to enable
  std::uint32_t queue_family = 0;
  std::uint32_t timestamp_bits = 0;  ///< 0: the queue has no timestamps
};

std::vector<Physical> physical_devices(const Instance& instance);

}  // namespace heddle::runtime::gpu::vulkan
