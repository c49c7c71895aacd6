#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/array.hpp"
#include "base/dtype.hpp"

namespace heddle::runtime {

/// A tensor in memory, as a value of the plan describes it: logical dimensions, first one outermost.
struct TensorView {
  DType dtype = DType::f32;
  std::byte* data = nullptr;  ///< element (0, ..., 0)
  Shape shape;
  std::vector<std::int64_t> strides;                      ///< per logical dimension, in elements
  std::vector<std::int64_t> border_before, border_after;  ///< per logical dimension; empty: none

  std::int64_t size() const { return element_count(shape); }
  bool row_major() const;  ///< dense, without gaps or border
};

/// Strides of a dense row-major tensor.
std::vector<std::int64_t> row_major_strides(const Shape& shape);

/// A view of an array's bytes. The array must not be shared and must outlive the view.
TensorView view_of(Array& array);

/// A copy of elements in row-major order, worked out once for shapes and strides: the i-th element of `from` becomes
/// the i-th of `to`. Same dtype and number of elements, or Error{internal}; the shapes may differ.
class CopyPlan {
 public:
  CopyPlan() = default;
  CopyPlan(const TensorView& from, const TensorView& to);

  /// Pointers to the elements (0, ..., 0). The memory must not overlap.
  void run(const std::byte* from, std::byte* to) const;

  struct Loop {
    std::int64_t extent, from, to;
  };

 private:
  std::size_t element_ = 0;  ///< bytes; 0: nothing to copy
  std::vector<Loop> loops_;  ///< outermost first
  bool walks_ = false;       ///< different shapes with gaps: element by element along both
  TensorView from_, to_;     ///< what walks; without data
};

void copy_elements(const TensorView& from, const TensorView& to);

/// The filling of a value's border, worked out once.
class BorderPlan {
 public:
  BorderPlan() = default;
  /// `value` is converted to the dtype as Array::set does.
  BorderPlan(const TensorView& to, double value);

  void run(std::byte* to) const;  ///< pointer to element (0, ..., 0); the tensor itself stays as it is

  struct Side {
    std::int64_t extent, stride, before, after;
    std::int64_t run = 0;  ///< elements from this dimension on, borders included, if they lie one after another; else 0
    std::int64_t start = 0;  ///< of those that lie before element (0, ..., 0)
  };

 private:
  std::size_t element_ = 0;
  std::uint64_t pattern_ = 0;  ///< the value's bytes
  std::vector<Side> sides_;    ///< largest stride first
};

}  // namespace heddle::runtime
