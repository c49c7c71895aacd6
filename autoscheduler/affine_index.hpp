#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <Halide.h>

// What an index of an access is as a function of its reader's loops, and what it reaches while they run.
namespace heddle::autoscheduler {

/// One index of an access as a function of the reader's loops: offset + sum of coefficient * loop.
struct AffineIndex {
  std::vector<std::int64_t> coefficients;  ///< one a loop of the reader, reductions after the pure ones
  std::int64_t offset = 0;
  bool affine = true;    ///< false: anything within the source's extent may be read
  bool clamped = false;  ///< kept within bounds: near them, less is read than the loops reach
  /// Of an index that is not affine but stays near a line, as x/2 does: the slopes, one a loop, and by how much the
  /// index lies below and above. Empty: there is no such line.
  std::vector<double> slopes = {};
  double below = 0, above = 0;
  /// Of an index as x/2 + 1: floor(numerator / divisor) + added, `numerator` being affine.
  struct Quotient {
    std::vector<std::int64_t> coefficients;
    std::int64_t offset = 0, divisor = 1, added = 0;
  };
  std::optional<Quotient> quotient = {};
  /// Loops that the index depends on, affine or not.
  std::vector<bool> depends;
};

/// The half-open box [min, min + extent) along each dimension.
struct Interval {
  std::int64_t min = 0, extent = 1;
};
using Box = std::vector<Interval>;

/// `loops`: Halide's names, in the order of the coefficients.
AffineIndex affine_index(const Halide::Expr& index, const std::vector<std::string>& loops);

/// The values that an index takes while the loops run over a box.
Interval reach(const AffineIndex& index, const Box& loops);

/// Of an expression that simplifies to an integer.
std::optional<std::int64_t> constant_of(const Halide::Expr& e);

}  // namespace heddle::autoscheduler
