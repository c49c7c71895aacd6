#include "runtime/vulkan/physical.hpp"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

namespace heddle::runtime::gpu::vulkan {
namespace {

DeviceInfo::Kind kind_of(VkPhysicalDeviceType type) {
  switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: return DeviceInfo::Kind::integrated;
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: return DeviceInfo::Kind::discrete;
    case VK_PHYSICAL_DEVICE_TYPE_CPU: return DeviceInfo::Kind::cpu;
    default: return DeviceInfo::Kind::other;
  }
}

bool has_extension(VkPhysicalDevice device, const char* name) {
  std::uint32_t count = 0;
  check(vkEnumerateDeviceExtensionProperties(device, nullptr, &count, nullptr), "list a device's extensions");
  std::vector<VkExtensionProperties> extensions(count);
  check(vkEnumerateDeviceExtensionProperties(device, nullptr, &count, extensions.data()), "list a device's extensions");
  extensions.resize(count);
  return std::ranges::any_of(extensions, [&](const auto& e) { return std::strcmp(e.extensionName, name) == 0; });
}

/// Those that kernels may need. Not robustBufferAccess, which checks every access.
Features useful(const Features& has) {
  Features on;
  on.core.shaderFloat64 = has.core.shaderFloat64;
  on.core.shaderInt64 = has.core.shaderInt64;
  on.core.shaderInt16 = has.core.shaderInt16;
  on.v11.storageBuffer16BitAccess = has.v11.storageBuffer16BitAccess;
  on.v11.uniformAndStorageBuffer16BitAccess = has.v11.uniformAndStorageBuffer16BitAccess;
  on.v11.variablePointersStorageBuffer = has.v11.variablePointersStorageBuffer;
  on.v11.variablePointers = has.v11.variablePointers;
  on.v12.storageBuffer8BitAccess = has.v12.storageBuffer8BitAccess;
  on.v12.uniformAndStorageBuffer8BitAccess = has.v12.uniformAndStorageBuffer8BitAccess;
  on.v12.shaderFloat16 = has.v12.shaderFloat16;
  on.v12.shaderInt8 = has.v12.shaderInt8;
  on.v12.shaderBufferInt64Atomics = has.v12.shaderBufferInt64Atomics;
  on.v12.shaderSubgroupExtendedTypes = has.v12.shaderSubgroupExtendedTypes;
  on.v12.scalarBlockLayout = has.v12.scalarBlockLayout;
  on.v12.uniformBufferStandardLayout = has.v12.uniformBufferStandardLayout;
  on.v12.vulkanMemoryModel = has.v12.vulkanMemoryModel;
  on.v12.vulkanMemoryModelDeviceScope = has.v12.vulkanMemoryModelDeviceScope;
  on.maintenance4 = has.maintenance4;
  return on;
}

/// The compute queue to use; with timestamps if one has them.
void choose_queue(Physical& device) {
  std::uint32_t count = 0;
  vkGetPhysicalDeviceQueueFamilyProperties(device.handle, &count, nullptr);
  std::vector<VkQueueFamilyProperties> families(count);
  vkGetPhysicalDeviceQueueFamilyProperties(device.handle, &count, families.data());
  bool found = false;
  for (std::uint32_t i = 0; i < count; ++i) {
    const VkQueueFamilyProperties& family = families[i];
    if ((family.queueFlags & VK_QUEUE_COMPUTE_BIT) == 0 || family.queueCount == 0) continue;
    if (found && (device.timestamp_bits > 0 || family.timestampValidBits == 0)) continue;
    found = true;
    device.queue_family = i;
    device.timestamp_bits = family.timestampValidBits;
  }
  if (!found) device.missing = "a queue for compute work";
}

Physical describe(VkPhysicalDevice handle, int index) {
  Physical device;
  device.handle = handle;
  vkGetPhysicalDeviceProperties(handle, &device.properties);
  const VkPhysicalDeviceLimits& limits = device.properties.limits;
  DeviceInfo& info = device.info;
  info.api = DeviceApi::vulkan;
  info.index = index;
  info.name = device.properties.deviceName;
  info.kind = kind_of(device.properties.deviceType);

  const std::uint32_t version = device.properties.apiVersion;
  if (version < VK_API_VERSION_1_2) {
    device.missing =
        fmt::format("Vulkan 1.2 (its driver has {}.{})", VK_API_VERSION_MAJOR(version), VK_API_VERSION_MINOR(version));
    return device;
  }
  if (version < VK_API_VERSION_1_3) {
    if (!has_extension(handle, VK_KHR_MAINTENANCE_4_EXTENSION_NAME)) {
      device.missing = "Vulkan 1.3, or 1.2 with VK_KHR_maintenance4";
      return device;
    }
    device.extensions.push_back(VK_KHR_MAINTENANCE_4_EXTENSION_NAME);
  }

  VkPhysicalDeviceMaintenance4Properties maintenance4{.sType =
                                                          VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES};
  VkPhysicalDeviceMaintenance3Properties maintenance3{
      .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES, .pNext = &maintenance4};
  VkPhysicalDeviceDriverProperties driver{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES,
                                          .pNext = &maintenance3};
  VkPhysicalDeviceProperties2 more{.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &driver};
  vkGetPhysicalDeviceProperties2(handle, &more);
  info.driver = fmt::format("{} {}", driver.driverName, driver.driverInfo);

  VkPhysicalDeviceMemoryProperties memory;
  vkGetPhysicalDeviceMemoryProperties(handle, &memory);
  for (std::uint32_t i = 0; i < memory.memoryHeapCount; ++i)
    if ((memory.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) != 0)
      info.memory_bytes = std::max(info.memory_bytes, memory.memoryHeaps[i].size);

  // Buffers are rounded up to whole granules.
  info.most_allocation_bytes =
      std::min({maintenance3.maxMemoryAllocationSize, maintenance4.maxBufferSize, info.memory_bytes}) /
      Physical::granule * Physical::granule;
  info.most_buffer_bytes = std::min<std::uint64_t>(info.most_allocation_bytes, limits.maxStorageBufferRange);
  info.alignment =
      std::max({std::uint64_t{256}, limits.minStorageBufferOffsetAlignment, limits.minUniformBufferOffsetAlignment,
                limits.nonCoherentAtomSize, limits.optimalBufferCopyOffsetAlignment});
  info.block_threads = static_cast<int>(limits.maxComputeWorkGroupInvocations);
  info.shared_bytes = static_cast<int>(limits.maxComputeSharedMemorySize);

  Features has;
  has.with_chain([&](VkPhysicalDeviceFeatures2& all) { vkGetPhysicalDeviceFeatures2(handle, &all); });
  device.features = useful(has);
  const Features& on = device.features;
  const bool storage16 = on.v11.storageBuffer16BitAccess && on.v11.uniformAndStorageBuffer16BitAccess;
  const bool storage8 = on.v12.storageBuffer8BitAccess && on.v12.uniformAndStorageBuffer8BitAccess;
  info.f16 = on.v12.shaderFloat16 && storage16;
  info.f64 = on.core.shaderFloat64;
  info.int8 = on.v12.shaderInt8 && storage8;
  info.int16 = on.core.shaderInt16 && storage16;
  info.int64 = on.core.shaderInt64;
  if (!on.maintenance4) device.missing = "the feature maintenance4";
  choose_queue(device);
  return device;
}

}  // namespace

std::vector<Physical> physical_devices(const Instance& instance) {
  std::uint32_t count = 0;
  check(vkEnumeratePhysicalDevices(instance.handle(), &count, nullptr), "list its devices");
  std::vector<VkPhysicalDevice> handles(count);
  check(vkEnumeratePhysicalDevices(instance.handle(), &count, handles.data()), "list its devices");
  std::vector<Physical> devices;
  for (std::uint32_t i = 0; i < count; ++i) devices.push_back(describe(handles[i], static_cast<int>(i)));
  return devices;
}

}  // namespace heddle::runtime::gpu::vulkan
