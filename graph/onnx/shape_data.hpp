#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/array.hpp"
#include "base/dtype.hpp"
#include "base/extent.hpp"

// Shape arithmetic: models compute the operands of Reshape, Slice, Expand and Resize from the shapes of other tensors,
// by ordinary nodes on small tensors. With symbolic extents those tensors have no numbers at compile time, so they are
// carried as expressions and evaluated here.
namespace heddle::graph::onnx_import {

/// An exact rational function of the symbolic extents: numerator / denominator, denominator > 0. Models scale shapes
/// through float (Cast, Mul by 2.0 or 0.5, Floor, Cast), which stays exact as long as the factors are fractions.
struct Fraction {
  Extent numerator;
  std::int64_t denominator = 1;

  bool operator==(const Fraction&) const = default;
  std::optional<double> constant() const;
  /// `value` exactly, as a multiple of a power of two; nullopt where that needs a denominator beyond 2^20.
  static std::optional<Fraction> of(double value);
};

/// A small tensor of rank 0 or more whose elements are expressions.
struct ShapeData {
  DType dtype = DType::i64;
  Shape shape;  ///< {} for a scalar
  std::vector<Fraction> elements;

  static constexpr std::int64_t most_elements = 1024;      ///< larger tensors are data, not shapes
  static std::optional<ShapeData> of(const Array& array);  ///< nullopt: too large or not exact
  std::optional<Array> constant() const;                   ///< if no symbol is left
  std::optional<std::vector<Extent>> extents() const;      ///< if every element is an integer
};

/// What a shape operator needs besides its operands. Integers come from attributes or, in later opsets, from inputs.
struct ShapeCall {
  std::string_view op_type;
  std::vector<std::optional<ShapeData>> operands;  ///< one an input; nullopt: left out
  std::vector<std::int64_t> axes;                  ///< of Squeeze, Unsqueeze, ReduceX, Slice, Concat, Gather, Split
  std::vector<std::int64_t> starts, ends, steps;   ///< of Slice
  std::vector<std::int64_t> sizes;                 ///< of Split
  DType to = DType::i64;                           ///< of Cast
  bool keep_dims = true;                           ///< of ReduceX
  SymbolRanges symbols;
};

/// Extent::bounds, made tighter where an extent meets its own quotient: H - div(H, 2) is not negative.
Range tight_bounds(const Extent& extent, const SymbolRanges& symbols);

bool is_shape_operator(std::string_view op_type);

/// Evaluates one; throws Error{unsupported} saying what cannot be expressed. Several results only for Split.
std::vector<ShapeData> evaluate_shape(const ShapeCall& call);

}  // namespace heddle::graph::onnx_import
