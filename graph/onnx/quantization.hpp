#pragma once
#include <cstdint>
#include <optional>

#include "graph/onnx/node.hpp"

// ONNX's quantised operators are read as dequantize, the operator on floats, quantize: the passes make integers of
// them, as they do of models that are written so.
namespace heddle::graph::onnx_import {

/// How integers stand for reals: values of the graph, one for all of a tensor or one for each index along `axis`.
struct Quantization {
  int scale;
  std::optional<int> zero;
  std::int64_t axis = 1;
  std::int64_t block = 0;  ///< so many indices along `axis` share a scale, whose rank is then the tensor's
};

/// Operands `scale` and `zero` of the node, which may lack the second. `axis` counts from the end if negative.
Quantization quantization(const OnnxNode& n, int scale, int zero, std::int64_t axis);

int dequantized(OnnxNode& n, int x, const Quantization& q);
/// To the zero point's type, or to `type` where there is none.
int quantized(OnnxNode& n, int x, const Quantization& q, DType type = DType::u8);

/// x - zero point, exact, as `type`. Without a zero point x as `type`. A zero point that is a list belongs to `axis`.
int shifted(OnnxNode& n, int x, std::optional<int> zero, std::int64_t axis, DType type);

}  // namespace heddle::graph::onnx_import
