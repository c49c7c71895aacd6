#pragma once
#include <Halide.h>

#include "base/device_api.hpp"

namespace heddle::targets {

/// Keeps 16-bit floats as bit patterns where a device's language has no such type that works everywhere, and computes
/// in f32: OpenCL's `half` is an extension, and no back end of Halide's has bfloat16 for devices.
///
///   float16 out[i] = float16(x[i] + 1)  ->  uint16 out[i] = narrow(float32(widen(uint16 x[i])) + 1)
///
/// with integer operations for widen and narrow, which round to the nearest even value, keep infinities, NaN and
/// denormals. Vulkan has f16 itself; there it is left alone.
Halide::Internal::Stmt narrow_floats(const Halide::Internal::Stmt& s, DeviceApi api);

}  // namespace heddle::targets
