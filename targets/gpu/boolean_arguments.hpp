#pragma once
#include <Halide.h>

namespace heddle::targets {

/// Halide moves conditions that are the same for all threads out of kernels and hands them over as booleans, which
/// have no size in a SPIR-V uniform block:
///
///   let t = n < 5                          let t.argument = select(n < 5, 1, 0)
///   gpu_block (...) { if (t) ... }   ->    gpu_block (...) { if (t.argument != 0) ... }
Halide::Internal::Stmt boolean_arguments(const Halide::Internal::Stmt& s);

}  // namespace heddle::targets
