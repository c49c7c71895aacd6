#pragma once
#include <cstddef>
#include <string>
#include <string_view>

#include "base/dtype.hpp"

namespace heddle::tools {

/// What the machine's threads reach together, measured, not looked up.
struct Peak {
  double gflops = 0;       ///< f32 fused multiply-adds, two operations each: the best of three microkernels
  double byte_gops = 0;    ///< products of u8 and i8 added to i32, two operations each, by the fastest way there is
  double half_gflops = 0;  ///< the same of bf16 and f32; FMAs where no instruction multiplies bf16 faster
  double read_gbps = 0;    ///< reading memory that no cache holds
  double copy_gbps = 0;    ///< copying it: bytes read plus bytes written

  /// What products of such numbers reach.
  double of(DType numbers) const;
};

/// The same of `bytes` in all, passed over again and again: what of them fits comes from the caches.
struct Bandwidth {
  double read_gbps = 0;
  double copy_gbps = 0;  ///< from one half of the bytes to the other: bytes read plus bytes written
};

/// What a rate of Peak::of is of, in words.
std::string products_of(DType numbers);

/// On `threads` threads at once, each pinned and with its own part of the bytes. A few milliseconds, or three passes.
Bandwidth measure_bandwidth(int threads, std::size_t bytes);

/// Runs the microkernels on `threads` threads at once, each pinned to its own processor of the affinity mask. About 0.1
/// s without bandwidth, 0.4 s with.
Peak measure_peak(int threads, bool bandwidth = true);

/// The better of both, member by member: before and after a measurement.
Peak best(const Peak& a, const Peak& b);

/// Whether a kernel of an operator's variant does no more of the plain algorithm's operations than FMAs could:
/// Winograd's algorithm saves some, and products of bytes go several at a time.
bool bounded_by_fma_peak(std::string_view variant);

/// A share above this of a kernel that the peak bounds is no result: the clock rose between the two measurements.
constexpr double largest_valid_share = 1.01;

/// `before` and a measurement now, the better of both. Where a kernel's `gflops` would be an impossible share of it, as
/// when something else held the processor during both, it is measured up to ten times more, over two seconds.
Peak peak_after(const Peak& before, int threads, double gflops);

/// Tells on stderr that `share` of the peak is impossible; `hint` is what to do.
void print_invalid_run(double share, std::string_view hint);

}  // namespace heddle::tools
