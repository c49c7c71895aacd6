#include <cmath>

#include "graph/arrays.hpp"
#include "graph/passes/passes.hpp"
#include "graph/passes/rewrite.hpp"
#include "ops/catalog.hpp"

namespace heddle::graph {

/// Before: batch_norm(x, scale, b, mean, variance), all known but x.
/// After: add(mul(x, f), b - mean f) with f = scale / sqrt(variance + epsilon), of shape [C, 1, ...].
/// Where x is narrower than f32 only if fold_affine can take both into the operator that makes x: x f and b - mean f
/// may cancel, and batch_norm, which rounds to the narrow type at its end alone, keeps what rounding each of them
/// loses.
Graph expand_batch_norm(const Graph& graph) {
  const Operators operators;
  return rewrite_nodes(graph, [&](Rewriter& r, const Node& node) -> std::optional<int> {
    if (node.op->name() != "batch_norm") return std::nullopt;
    const std::vector<int> in = r.operands(node);
    const Node* producer = r.producer(in[0]);
    const bool folds = producer != nullptr && r.used_once(in[0]) &&
                       (producer->op->name() == "conv" || producer->op->name() == "conv_transpose");
    if (size_of(r.type(in[0]).dtype) < size_of(DType::f32) && !folds) return std::nullopt;
    for (std::size_t i = 1; i < in.size(); ++i)
      if (!r.constant(in[i])) return std::nullopt;
    const auto scale = to_doubles(*r.constant(in[1])), b = to_doubles(*r.constant(in[2]));
    const auto mean = to_doubles(*r.constant(in[3])), variance = to_doubles(*r.constant(in[4]));
    const double epsilon = node.attributes.at("epsilon").get<double>();
    std::vector<double> factor(scale.size()), shift(scale.size());
    for (std::size_t c = 0; c < scale.size(); ++c) {
      factor[c] = scale[c] / std::sqrt(variance[c] + epsilon);
      shift[c] = b[c] - mean[c] * factor[c];
    }
    const TensorType& type = r.type(in[0]);
    Shape shape(static_cast<std::size_t>(type.rank() - 1), 1);
    shape[0] = static_cast<std::int64_t>(scale.size());
    const int f = r.add_constant(from_doubles(type.dtype, shape, factor), node.name + "~factor");
    const int t = r.add_constant(from_doubles(type.dtype, shape, shift), node.name + "~shift");
    const int scaled = r.add(operators.get("mul"), Json::object(), {in[0], f}, node.name);
    return r.add(operators.get("add"), Json::object(), {scaled, t}, node.name);
  });
}

}  // namespace heddle::graph
