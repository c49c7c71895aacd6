#pragma once
#include <Halide.h>

#include "dsl/machine.hpp"

namespace heddle::targets {

/// Part of the key of cached kernels: raised whenever the pass changes what it makes.
constexpr int fetch_ahead_version = 5;

/// Fetches what a product reads of a dense operand before it is read: the next panel into the second cache while tiles
/// of the result are computed with this one, and this panel's next lines into the first.
///
///   for panel                                        for panel
///     for tile                                         for tile
///       for k                                            for k
///         acc += a[...] * b[panel * size + k * step]       prefetch(b[(panel + 1) * size + part(tile, k)])
///                                                          prefetch(b[panel * size + k * step + some lines])
///                                                          acc += a[...] * b[panel * size + k * step]
///
/// where the parts of all tiles make the next panel. Otherwise the first tile of a panel waits for memory: hardware
/// follows a stream for some lines only, and the stream turns back at each tile before. What lies behind the last panel
/// is fetched too: in a model those are the weights of the next step.
///
/// Lines that come from the second cache arrive faster than products use them, but later than the processor looks ahead
/// (Cascade Lake: products of 512 x 512 x 512 at 84 % of the multipliers' rate without, 91 with).
///
/// Applied to serial loops that read vectors of an input densely, where the loops around read the same panel again. The
/// next panel is fetched where it and this one fit the second cache together and it is known how often this one is
/// read, lines where the panel does not stay in the first cache. The next panel is the one that the loop over panels
/// comes to, wherever it lies; where panels are tasks of a parallel loop on `threads` threads, the one that follows on
/// the same thread.
Halide::Internal::Stmt fetch_ahead(const Halide::Internal::Stmt& s, const Machine& machine, int threads);

}  // namespace heddle::targets
