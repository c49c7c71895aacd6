#pragma once
#include "targets/target.hpp"

// What the files of targets/ provide to the table in targets.cpp: a function each.
namespace heddle::targets {

Target x86_64();
Target x86_64_avx2();
Target x86_64_avx512();
Target x86_64_avx512_vnni();
Target x86_64_avx512_zen4();
Target x86_64_avx512_sapphirerapids();
Target arm_64();
Target opencl();
Target vulkan();

/// What all targets ask of Halide: `no_runtime` and `user_context`, so that kernels get everything from the process
/// that loads them, and C names.
Halide::Target linux_target(Halide::Target::Arch architecture, std::vector<Halide::Target::Feature> features);

}  // namespace heddle::targets
