#include "graph/arrays.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.hpp"

namespace heddle::graph {
namespace {

/// One plane: `to` walks its innermost dimension with stride 1, `from` its own. Square tiles keep both in cache.
template <class T>
void transpose_plane(const T* from, T* to, std::int64_t rows, std::int64_t columns, std::int64_t from_row,
                     std::int64_t from_column, std::int64_t to_row) {
  constexpr std::int64_t tile = 32;
  for (std::int64_t r0 = 0; r0 < rows; r0 += tile)
    for (std::int64_t c0 = 0; c0 < columns; c0 += tile)
      for (std::int64_t r = r0; r < std::min(r0 + tile, rows); ++r)
        for (std::int64_t c = c0; c < std::min(c0 + tile, columns); ++c)
          to[r * to_row + c] = from[r * from_row + c * from_column];
}

template <class T>
void transpose_elements(const Array& array, Array& result, const std::vector<int>& permutation) {
  const auto rank = permutation.size();
  std::vector<std::int64_t> strides(rank, 1), from_strides(rank), to_strides(rank, 1);
  for (std::size_t d = rank - 1; d-- > 0;) {
    strides[d] = strides[d + 1] * array.shape()[d + 1];
    to_strides[d] = to_strides[d + 1] * result.shape()[d + 1];
  }
  for (std::size_t d = 0; d < rank; ++d) from_strides[d] = strides[static_cast<std::size_t>(permutation[d])];
  const T* from = static_cast<const T*>(array.data());
  T* to = static_cast<T*>(result.mutable_data());
  // The tiles run over the result's innermost dimension and over the one in which the source is contiguous.
  const std::size_t column = rank - 1;
  std::size_t row = column;
  for (std::size_t d = 0; d < rank; ++d)
    if (permutation[d] == static_cast<int>(rank) - 1) row = d;
  if (row == column) row = rank >= 2 ? rank - 2 : 0;
  std::vector<std::int64_t> at(rank, 0);
  for (;;) {
    std::int64_t from_base = 0, to_base = 0;
    for (std::size_t d = 0; d < rank; ++d) {
      from_base += at[d] * from_strides[d];
      to_base += at[d] * to_strides[d];
    }
    if (rank == 1) std::memcpy(to, from, array.bytes());
    else
      transpose_plane(from + from_base, to + to_base, result.shape()[row], result.shape()[column], from_strides[row],
                      from_strides[column], to_strides[row]);
    std::size_t d = rank;
    while (d > 0) {
      --d;
      if (d == row || d == column) continue;
      if (++at[d] < result.shape()[d]) break;
      at[d] = 0;
    }
    if (std::all_of(at.begin(), at.end(), [](std::int64_t i) { return i == 0; })) return;
  }
}

}  // namespace

Array filled(const Array& element, const Shape& shape) {
  Array array(element.dtype(), shape);
  const std::size_t total = array.bytes();
  if (total == 0) return array;
  // What is already there is copied behind itself, so that the number of copies is logarithmic.
  auto* to = static_cast<std::byte*>(array.mutable_data());
  std::size_t done = element.bytes();
  std::memcpy(to, element.data(), done);
  while (done < total) {
    const std::size_t step = std::min(done, total - done);
    std::memcpy(to + done, to, step);
    done += step;
  }
  return array;
}

Array transposed(const Array& array, const std::vector<int>& permutation) {
  if (permutation.size() != array.shape().size()) throw Error(ErrorCode::internal, "a permutation of another rank");
  Shape shape;
  for (const int d : permutation) shape.push_back(array.shape()[static_cast<std::size_t>(d)]);
  if (shape.empty() || array.size() == 0) return array.reshaped(shape);
  Array result(array.dtype(), shape);
  switch (size_of(array.dtype())) {
    case 1: transpose_elements<std::uint8_t>(array, result, permutation); break;
    case 2: transpose_elements<std::uint16_t>(array, result, permutation); break;
    case 4: transpose_elements<std::uint32_t>(array, result, permutation); break;
    default: transpose_elements<std::uint64_t>(array, result, permutation); break;
  }
  return result;
}

std::vector<double> to_doubles(const Array& array) {
  std::vector<double> values(static_cast<std::size_t>(array.size()));
  if (array.dtype() == DType::f32) {
    const auto elements = array.as<float>();
    std::copy(elements.begin(), elements.end(), values.begin());
    return values;
  }
  for (std::int64_t i = 0; i < array.size(); ++i) values[static_cast<std::size_t>(i)] = array.at(i);
  return values;
}

Array from_doubles(DType type, Shape shape, const std::vector<double>& values) {
  Array array(type, std::move(shape));
  if (type == DType::f32) {
    auto elements = array.as<float>();
    std::transform(values.begin(), values.end(), elements.begin(), [](double v) { return static_cast<float>(v); });
    return array;
  }
  for (std::int64_t i = 0; i < array.size(); ++i) array.set(i, values[static_cast<std::size_t>(i)]);
  return array;
}

double largest_finite(DType type) { return type == DType::f16 ? 65504 : 0x1.FEp127; }

Array narrowed(const Array& array, DType type) {
  const double largest = largest_finite(type);
  Array result(type, array.shape());
  for (std::int64_t i = 0; i < array.size(); ++i) {
    const double x = array.at(i);
    result.set(i, std::isfinite(x) ? std::clamp(x, -largest, largest) : x);
  }
  return result;
}

}  // namespace heddle::graph
