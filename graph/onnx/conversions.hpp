#pragma once
#include <span>
#include <string_view>

#include "graph/onnx/node.hpp"

namespace heddle::graph::onnx_import {

/// How one ONNX operator becomes catalog operators. Differences between operator sets are the function's business.
struct Conversion {
  std::string_view op_type;
  int first, last;  ///< operator set versions that the function handles
  void (*convert)(OnnxNode&);
  std::string_view domain = "";
};

constexpr std::string_view microsoft = "com.microsoft";  ///< the domain of ONNX Runtime's own operators

constexpr int newest_version = 25;  ///< the newest operator set that the rows were checked against

/// NumPy's product of a and b, whose operands may be vectors (see MatMul).
int numpy_matmul(OnnxNode& n, int a, int b);

// Rows by subject, a file each.
std::span<const Conversion> elementwise_conversions();
std::span<const Conversion> window_conversions();       ///< convolution, pooling, resize, pad
std::span<const Conversion> contraction_conversions();  ///< matrix products
std::span<const Conversion> reduction_conversions();    ///< reductions, softmax, normalisations
std::span<const Conversion> movement_conversions();     ///< reshape, transpose, slice, gather, concat
std::span<const Conversion> quantization_conversions();
std::span<const Conversion> constant_conversions();  ///< constants, shapes, ranges, pass-through

const Conversion* find_conversion(std::string_view domain, std::string_view op_type);  ///< null if no row has it

}  // namespace heddle::graph::onnx_import
