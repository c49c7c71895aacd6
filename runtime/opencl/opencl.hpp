#pragma once
#include <memory>

#include "runtime/gpu/device.hpp"

namespace heddle::runtime::gpu {

/// The devices of the system's OpenCL loader: libOpenCL.so.1, or what HEDDLE_OPENCL_LIBRARY names.
DeviceList list_opencl_devices();
/// Opens the device with that index. HEDDLE_OPENCL_COMMAND_BUFFERS=1 or 0 says whether its programs are command buffers
/// of the driver's, where it has them (cl_khr_command_buffer); unset, they are on all but processors. Throws
/// Error{not_found}, and Error{device} with the driver's reason.
std::shared_ptr<Device> open_opencl_device(const DeviceInfo& info);

}  // namespace heddle::runtime::gpu
