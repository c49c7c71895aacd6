#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/array.hpp"

// Loops that references have in common. Algorithms never use them: a reference that shares code with what it checks
// would share its mistakes.
namespace heddle::ops {

std::vector<double> to_doubles(const Array& array);

/// A tensor (n, c, spatial...) with 1 to 3 spatial dimensions seen as (n, c, z, y, x).
struct Spatial {
  std::vector<double> values;
  std::int64_t n = 1, c = 1;
  std::array<std::int64_t, 3> extents = {1, 1, 1};  ///< z, y, x

  explicit Spatial(const Array& array);
  Spatial(const Shape& shape);  ///< zeros

  std::int64_t index(std::int64_t in, std::int64_t ic, const std::array<std::int64_t, 3>& at) const {
    return (((in * c + ic) * extents[0] + at[0]) * extents[1] + at[1]) * extents[2] + at[2];
  }
  double at(std::int64_t in, std::int64_t ic, const std::array<std::int64_t, 3>& p) const {
    return values[static_cast<std::size_t>(index(in, ic, p))];
  }
  bool contains(const std::array<std::int64_t, 3>& p) const {
    for (std::size_t d = 0; d < 3; ++d)
      if (p[d] < 0 || p[d] >= extents[d]) return false;
    return true;
  }
};

/// An attribute of 1 to 3 values as (z, y, x); `otherwise` where it has none.
std::array<std::int64_t, 3> spatial(std::span<const std::int64_t> values, std::int64_t otherwise);

/// Calls f for every index of a box, the last dimension fastest.
template <std::size_t Rank, class F>
void for_each(const std::array<std::int64_t, Rank>& extents, F f) {
  for (const std::int64_t extent : extents)
    if (extent <= 0) return;
  std::array<std::int64_t, Rank> at{};
  for (;;) {
    f(at);
    std::size_t d = Rank;
    while (d > 0 && ++at[d - 1] == extents[d - 1]) at[--d] = 0;
    if (d == 0) return;
  }
}

/// Calls f for every index of a shape, the last dimension fastest; once with an empty index for rank 0.
template <class F>
void for_each(const Shape& shape, F f) {
  if (element_count(shape) == 0) return;
  std::vector<std::int64_t> at(shape.size(), 0);
  for (;;) {
    f(static_cast<const std::vector<std::int64_t>&>(at));
    std::size_t d = shape.size();
    while (d > 0 && ++at[d - 1] == shape[d - 1]) at[--d] = 0;
    if (d == 0) return;
  }
}

/// The row-major position of an index.
std::int64_t flat(const Shape& shape, std::span<const std::int64_t> index);

/// The row-major position in `shape` of the element that broadcasts to `index`, which has at least its rank.
std::int64_t flat_broadcast(const Shape& shape, std::span<const std::int64_t> index);

}  // namespace heddle::ops
