#pragma once
#include <cstdint>
#include <memory>

#include "runtime/gpu/device.hpp"

namespace heddle::runtime::gpu {

/// The Vulkan devices that kernels can run on. `reason` also names the devices that were left out, and why.
DeviceList list_vulkan_devices();

/// Opens it anew; the function to call is open_device(), which shares open devices. Throws Error{not_found} if it is
/// gone, Error{unsupported} with the driver's reason.
std::shared_ptr<Device> open_vulkan_device(const DeviceInfo& info);

/// Warnings and errors of the validation layer since the process began. The layer checks every call, and the order of
/// accesses to memory, if HEDDLE_VULKAN_VALIDATION is set to anything but 0 when the first device is asked for.
std::uint64_t validation_messages();

}  // namespace heddle::runtime::gpu
