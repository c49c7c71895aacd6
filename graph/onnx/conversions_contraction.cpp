#include <array>

#include <fmt/format.h>

#include "base/error.hpp"
#include "graph/onnx/conversions.hpp"

namespace heddle::graph::onnx_import {
namespace {

int scaled(OnnxNode& n, int value, double factor) {
  if (factor == 1.0) return value;
  return n.op("mul", Json::object(), {value, n.add_scalar(n.type_of(value).dtype, factor)});
}

/// alpha * A' * B' + beta * C.
void convert_gemm(OnnxNode& n) {
  if (n.rank(0) != 2 || n.rank(1) != 2) throw Error(ErrorCode::invalid_argument, "Gemm takes matrices");
  const Json transposes = {{"transpose_a", n.integer("transA", 0) != 0}, {"transpose_b", n.integer("transB", 0) != 0}};
  int product = scaled(n, n.op("matmul", transposes, {n.input(0), n.input(1)}), n.real("alpha", 1.0));
  const double beta = n.real("beta", 1.0);
  if (n.has_input(2) && beta != 0.0) product = n.op("add", Json::object(), {product, scaled(n, n.input(2), beta)});
  n.set_result(product);
}

void convert_matmul(OnnxNode& n) { n.set_result(numpy_matmul(n, n.input(0), n.input(1))); }

constexpr std::array rows = {
    Conversion{"Gemm", 1, newest_version, convert_gemm},
    Conversion{"MatMul", 1, newest_version, convert_matmul},
};

}  // namespace

/// An operand of rank 1 is a row on the left and a column on the right, and that dimension goes away.
int numpy_matmul(OnnxNode& n, int a, int b) {
  const int rank_a = n.type_of(a).rank(), rank_b = n.type_of(b).rank();
  if (rank_a == 0 || rank_b == 0)
    throw Error(ErrorCode::invalid_argument, fmt::format("{} takes no scalars", n.op_type()));
  if (rank_a == 1) a = n.op("reshape", {{"shape", n.shape_attribute({1, n.type_of(a).shape[0]})}}, {a});
  if (rank_b == 1) b = n.op("reshape", {{"shape", n.shape_attribute({n.type_of(b).shape[0], 1})}}, {b});
  const int product = n.op("matmul", Json::object(), {a, b});
  if (rank_a > 1 && rank_b > 1) return product;
  std::vector<Extent> shape = n.type_of(product).shape;
  if (rank_b == 1) shape.pop_back();
  if (rank_a == 1) shape.erase(shape.end() - (rank_b == 1 ? 1 : 2));
  return n.op("reshape", {{"shape", n.shape_attribute(shape)}}, {product});
}

std::span<const Conversion> contraction_conversions() { return rows; }

}  // namespace heddle::graph::onnx_import
