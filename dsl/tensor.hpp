#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.hpp"
#include "base/extent.hpp"

namespace heddle {

/// Elements allocated around a tensor, before its first and after its last along one dimension.
struct Border {
  std::int64_t before = 0;
  std::int64_t after = 0;
  bool operator==(const Border&) const = default;
};

/// How a tensor lies in memory. Dimensions are numbered logically (as the operator and ONNX number them, 0 first).
struct Layout {
  std::vector<int> order;      ///< logical dimensions, outermost first; empty means row-major
  std::vector<Border> border;  ///< per logical dimension; empty means none. Every border element holds `border_value`
  double border_value = 0;

  bool operator==(const Layout&) const = default;
};

/// Element type, shape and layout of a value. Extents may be symbolic.
struct TensorType {
  DType dtype = DType::f32;
  std::vector<Extent> shape;
  Layout layout;

  int rank() const { return static_cast<int>(shape.size()); }
  Extent element_count() const;
  bool is_static() const;

  std::vector<int> order() const;  ///< layout.order, or 0..rank-1
  Border border(int dim) const;    ///< {0, 0} where there is none
  bool has_border() const;
  std::vector<Extent> strides() const;  ///< per logical dimension, in elements, borders counted
  Extent allocated_elements() const;    ///< borders counted
  Extent origin() const;                ///< elements between the allocation's start and element (0, ..., 0)
  int innermost() const;                ///< the logical dimension of stride 1; -1 for rank 0

  bool operator==(const TensorType&) const = default;

  /// "f32[1,64,56,56]", "f32[1,64,H,W]{0,2,3,1|2:1+1,3:1+1}": element type, extents, order if not row-major, borders,
  /// "=V" where the border's value is not 0.
  std::string str() const;
  static TensorType parse(std::string_view text);  ///< inverse of str(); throws Error{invalid_argument}

  TensorType substitute(const std::map<std::string, Extent>& replacements) const;
};

TensorType tensor(DType dtype, std::vector<Extent> shape);

/// Channels last for rank 4 (N, H, W, C) and rank 3 (N, W, C): the order of Layout for a convolution's data.
std::vector<int> channels_last(int rank);

/// Names of the dimensions of an operator that has none of its own, logical order: x is the last, then y, c, n, d4...
std::vector<std::string> default_dimensions(int rank);

}  // namespace heddle
