#pragma once
#include <Halide.h>

namespace heddle::targets {

/// Fetches what the next iteration stages in shared memory while this one computes:
///
///   for step                                           registers = fetch(0)
///     a_tile[...] = a[... step ...]                    for step
///     barrier                                            a_tile[...], b_tile[...] = registers
///     b_tile[...] = b[... step ...]             ->       barrier
///     barrier                                            if (step + 1 < steps) registers = fetch(step + 1)
///     acc += a_tile[...] * b_tile[...]                   acc += a_tile[...] * b_tile[...]
///     barrier                                            barrier
///
/// Memory's latency, some 700 cycles, then passes behind the arithmetic: a device hides it behind other blocks only
/// where there are many. Halide also waits between one stage and the next, which only write: those barriers go.
///
/// Applied to serial loops within a kernel whose iterations first write shared memory from what the kernel never
/// writes, in straight lines, and then read it, with barriers between. Everything else stays as it is.
Halide::Internal::Stmt prefetch_stages(const Halide::Internal::Stmt& s);

}  // namespace heddle::targets
