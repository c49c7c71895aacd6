#pragma once
#include <Halide.h>

#include "dsl/machine.hpp"

namespace heddle::targets {

/// Part of the key of cached kernels: raised whenever the pass changes what it makes.
constexpr int prefetch_panels_version = 1;

/// Fetches the next panel of an operand while tiles of the result are computed with this one:
///
///   for panel                                        for panel
///     for tile                                         for tile
///       for k                                            for k
///         acc += a[...] * b[panel * size + k * step]       prefetch(b[(panel + 1) * size + part(tile, k)])
///                                                          acc += a[...] * b[panel * size + k * step]
///
/// where the parts of all tiles make the next panel. Otherwise the first tile of a panel waits for memory: hardware
/// follows a stream for some lines only, and the stream turns back at each tile before. What lies behind the last panel
/// is fetched too: in a model those are the weights of the next step.
///
/// Applied to serial loops that read vectors of an input densely, where the loops around read the same panel again at
/// least four times, and this panel and the next fit the second cache together. Where panels are tasks of a parallel
/// loop on `threads` threads, the one that follows on the same thread is fetched.
Halide::Internal::Stmt prefetch_panels(const Halide::Internal::Stmt& s, const Machine& machine, int threads);

}  // namespace heddle::targets
