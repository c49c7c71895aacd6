#pragma once
#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "runtime/gpu/device.hpp"
#include "runtime/opencl/library.hpp"

namespace heddle::runtime::gpu::opencl {

/// A device as the driver describes it.
struct FoundDevice {
  DeviceInfo info;
  const Library* library = nullptr;
  cl_platform_id platform = nullptr;
  cl_device_id device = nullptr;
  std::string version;                          ///< of OpenCL and the platform, as text; part of the key of binaries
  std::array<std::size_t, 3> block_edges = {};  ///< threads of a block at most, along each dimension
  /// Host and device may touch the same bytes without a call in between, and kernels are as fast on them.
  bool shares_memory = false;
  bool command_buffers = false;  ///< cl_khr_command_buffer on a plain queue
  int build_threads = 0;         ///< programs that are built at once at most; 0: any number
};

struct FoundDevices {
  std::vector<FoundDevice> devices;  ///< element i has info.index i
  std::string reason;                ///< why there are none
};

/// Every device of every platform that can run our kernels: OpenCL 1.2 or later, with a compiler.
FoundDevices find_devices();

}  // namespace heddle::runtime::gpu::opencl
