#include "runtime/vulkan/device.hpp"

#include <fmt/format.h>

#include "base/error.hpp"
#include "runtime/vulkan/code.hpp"
#include "runtime/vulkan/memory.hpp"
#include "runtime/vulkan/program.hpp"
#include "runtime/vulkan/transfer.hpp"
#include "runtime/vulkan/vulkan.hpp"

namespace heddle::runtime::gpu {

DeviceList list_vulkan_devices() {
  DeviceList list;
  try {
    for (vulkan::Physical& device : vulkan::physical_devices(vulkan::Instance::get())) {
      if (device.missing.empty()) {
        list.devices.push_back(std::move(device.info));
        continue;
      }
      if (!list.reason.empty()) list.reason += "; ";
      list.reason += fmt::format("{} '{}' lacks {}", device.info.index, device.info.name, device.missing);
    }
    if (list.devices.empty() && list.reason.empty()) list.reason = "the Vulkan drivers have no device";
  } catch (const Error& error) {
    list.reason = error.what();
  }
  return list;
}

std::shared_ptr<Device> open_vulkan_device(const DeviceInfo& info) {
  for (vulkan::Physical& device : vulkan::physical_devices(vulkan::Instance::get())) {
    if (device.info.index != info.index || device.info.name != info.name) continue;
    if (!device.missing.empty())
      throw Error(ErrorCode::unsupported, fmt::format("'{}' lacks {}", info.name, device.missing));
    return std::make_shared<vulkan::VulkanDevice>(std::move(device));
  }
  throw Error(ErrorCode::not_found,
              fmt::format("there is no Vulkan device {} '{}' any more; list the devices again", info.index, info.name));
}

namespace vulkan {

VulkanDevice::VulkanDevice(Physical physical) : context_(std::make_shared<Context>(std::move(physical))) {}

std::unique_ptr<Memory> VulkanDevice::allocate(std::uint64_t bytes) {
  return std::make_unique<VulkanMemory>(context_, bytes, Use::kernels);
}

std::unique_ptr<Memory> VulkanDevice::allocate_staging(std::uint64_t bytes) {
  return std::make_unique<VulkanMemory>(context_, bytes, Use::staging);
}

std::shared_ptr<Code> VulkanDevice::build(const plan::DeviceKernel& kernel, std::string_view code,
                                          const std::string& cache) {
  return std::make_shared<VulkanCode>(context_, kernel, code, cache);
}

std::unique_ptr<Program> VulkanDevice::record(const Commands& commands) {
  return std::make_unique<VulkanProgram>(context_, commands);
}

void VulkanDevice::write(Memory& to, std::uint64_t offset, const void* from, std::uint64_t bytes) {
  vulkan::write(dynamic_cast<VulkanMemory&>(to), offset, from, bytes);
}

void VulkanDevice::read(const Memory& from, std::uint64_t offset, void* to, std::uint64_t bytes) {
  vulkan::read(dynamic_cast<const VulkanMemory&>(from), offset, to, bytes);
}

}  // namespace vulkan
}  // namespace heddle::runtime::gpu
