#pragma once
#include <Halide.h>

#include "dsl/machine.hpp"

namespace heddle::targets {

/// Changes nothing. Throws Error{unsupported}, naming the stage, for kernels that the device or Halide's back end for
/// it cannot run as they are:
/// - more threads in a block, or more shared memory, than the device has, where these are constant;
/// - vectors with a number of lanes that the language has no type for;
/// - gpu_lanes, and atomic updates for Vulkan;
/// - for Vulkan, choices between values for each lane of a vector, of which Halide keeps only the last lane.
Halide::Internal::Stmt check_kernels(const Halide::Internal::Stmt& s, const Gpu& gpu);

}  // namespace heddle::targets
