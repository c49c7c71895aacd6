#pragma once
#include <Halide.h>

namespace heddle::targets {

/// Part of the key of cached kernels: raised whenever the pass changes what it makes.
constexpr int whole_accumulators_version = 1;

/// Vectors of an accumulator that are updated in some lanes are stored whole:
///
///   acc[ramp(0, 1, 16)] = acc[...] + x[...] if ramp(k, 1, 16) < n
///   acc[ramp(0, 1, 16)] = select(ramp(k, 1, 16) < n, acc[...] + x[... if ramp(k, 1, 16) < n], acc[...])
///
/// A predicated store keeps LLVM from holding the accumulator in registers, and the whole vector that is loaded after
/// it has to wait until the part has reached the cache. What an update reads of other buffers stays predicated.
///
/// Applied where the lanes that are not updated lie in the allocation for certain, and no other task writes them.
Halide::Internal::Stmt whole_accumulators(const Halide::Internal::Stmt& s);

}  // namespace heddle::targets
