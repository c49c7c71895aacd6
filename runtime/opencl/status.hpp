#pragma once
#include <CL/cl.h>

#include <string>
#include <string_view>

namespace heddle::runtime::gpu::opencl {

/// "CL_OUT_OF_RESOURCES (-5)"
std::string status_name(cl_int status);

/// Throws Error{out_of_memory} or Error{device}: what we were `doing` ("submit kernel 'k'"), the status, what to do.
[[noreturn]] void fail(cl_int status, std::string_view doing);

inline void check(cl_int status, std::string_view doing) {
  if (status != CL_SUCCESS) fail(status, doing);
}

/// Whether a device whose queue answers so is of no more use. Drivers do not agree on one status: after a fault in a
/// kernel NVIDIA's reports the queue or its context as invalid.
bool means_lost(cl_int status);

}  // namespace heddle::runtime::gpu::opencl
