#pragma once
#include <string>
#include <vector>

#include <Halide.h>

#include "dsl/machine.hpp"

// Halide's lowering, corrected for devices. Each pass is one file here, with its before -> after in the comment.
namespace heddle::targets {

/// Part of the key of cached kernels: raised whenever a pass changes what it makes.
constexpr int gpu_passes_version = 8;

/// Adds the passes that a device needs to a scheduled pipeline, before it is lowered. They run after all of Halide's
/// own lowering and before kernels are taken out of the host's code, in this order:
/// 1. register_tiles: each thread keeps its own part of what is stored in registers
/// 2. prefetch_stages: what a loop stages in shared memory is fetched one iteration ahead
/// 3. special_values: is_nan and its like ask a float's bits; makes integers of 16-bit floats, so before the next
/// 4. narrow_floats: bfloat16, and f16 for OpenCL, as bit patterns
/// 5. doubles: constants keep their digits; roots and rounding for Vulkan
/// 6. integers: quotients, remainders and shifts
/// 7. vulkan_values, opencl_vectors: what Halide emits wrongly for one of them
/// 8. boolean_arguments: no booleans among a kernel's arguments
/// 9. check_kernels: the device's limits, and what cannot be mended
/// They throw Error{unsupported} for schedules that would give wrong or unusable kernels.
void add_gpu_passes(Halide::Pipeline& pipeline, const Gpu& gpu);

/// Why a pipeline's arithmetic cannot run on a device with this back end; empty if it can. Asked before a schedule is
/// chosen, so that the kernel is compiled for the processor instead.
std::string gpu_obstacle(const std::vector<Halide::Func>& outputs, DeviceApi api);

}  // namespace heddle::targets
