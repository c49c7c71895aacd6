#include <algorithm>

#include "graph/arrays.hpp"
#include "graph/passes/passes.hpp"
#include "graph/passes/rewrite.hpp"
#include "ops/catalog.hpp"

namespace heddle::graph {
namespace {

/// mean(x) over dimensions from `axis` to the last, which it keeps; returns axis.
std::optional<int> trailing_mean(const Rewriter& r, int id, int x) {
  const Node* node = r.producer(id, "reduce_mean");
  if (node == nullptr || (x >= 0 && node->inputs[0] != x) || !node->attributes.at("keepdims").get<bool>())
    return std::nullopt;
  const int rank = r.type(node->inputs[0]).rank();
  auto axes = node->attributes.at("axes").get<std::vector<std::int64_t>>();
  if (axes.empty()) return 0;
  for (std::int64_t& axis : axes) axis = axis < 0 ? axis + rank : axis;
  std::sort(axes.begin(), axes.end());
  for (std::size_t i = 0; i < axes.size(); ++i)
    if (axes[i] != rank - static_cast<std::int64_t>(axes.size() - i)) return std::nullopt;
  return static_cast<int>(axes[0]);
}

struct Normalised {
  int x;
  int axis;
  double epsilon;
};

/// sqrt(mean(d^2) + epsilon) of d = x - mean(x)
std::optional<Normalised> deviation(const Rewriter& r, int d, int root) {
  const Node* difference = r.producer(d, "sub");
  if (difference == nullptr) return std::nullopt;
  const int x = difference->inputs[0];
  const auto axis = trailing_mean(r, difference->inputs[1], x);
  const Node* sqrt = r.producer(root, "sqrt");
  if (!axis || sqrt == nullptr) return std::nullopt;
  const auto shifted = operand_beside_scalar(r, sqrt->inputs[0], "add");
  if (!shifted || shifted->scalar < 0) return std::nullopt;
  const Node* mean = r.producer(shifted->x, "reduce_mean");
  if (mean == nullptr || trailing_mean(r, shifted->x, -1) != axis) return std::nullopt;
  const Node* square = r.producer(mean->inputs[0]);
  if (square == nullptr) return std::nullopt;
  const bool power = square->op->name() == "pow" && square->inputs[0] == d && r.scalar(square->inputs[1]) == 2.0;
  const bool product = square->op->name() == "mul" && square->inputs[0] == d && square->inputs[1] == d;
  return power || product ? std::optional(Normalised{x, *axis, shifted->scalar}) : std::nullopt;
}

/// div(d, sqrt(...)), mul(d, reciprocal(sqrt(...)))
std::optional<Normalised> normalised(const Rewriter& r, const Node& node, const std::vector<int>& in) {
  if (node.op->name() == "div") return deviation(r, in[0], in[1]);
  if (node.op->name() != "mul") return std::nullopt;
  for (const std::size_t i : {std::size_t(0), std::size_t(1)})
    if (const Node* inverse = r.producer(in[1 - i], "reciprocal"))
      if (const auto found = deviation(r, in[i], inverse->inputs[0])) return found;
  return std::nullopt;
}

/// A layer_norm that nothing else reads, beside a constant that covers no more than the normalised dimensions.
const Node* norm_beside(const Rewriter& r, const std::vector<int>& in, int& constant) {
  for (const std::size_t i : {std::size_t(0), std::size_t(1)}) {
    const Node* norm = r.producer(in[i], "layer_norm");
    if (norm == nullptr || !r.used_once(in[i]) || !r.constant(in[1 - i])) continue;
    const int rank = r.type(in[i]).rank();
    auto axis = norm->attributes.at("axis").get<int>();
    if (axis < 0) axis += rank;
    if (r.type(in[1 - i]).rank() > rank - axis) continue;
    constant = in[1 - i];
    return norm;
  }
  return nullptr;
}

bool is_all(const std::optional<Array>& array, double value) {
  if (!array) return false;
  const auto values = to_doubles(*array);
  return std::all_of(values.begin(), values.end(), [&](double v) { return v == value; });
}

}  // namespace

/// Before: d = x - mean(x); d / sqrt(mean(d^2) + epsilon) * scale + b. After: layer_norm(x, scale, b). In steps: the
/// quotient becomes a norm with a scale of ones, a following mul and add become its scale and b.
Graph fuse_layer_norm(const Graph& graph) {
  const Operators operators;
  const Operator& layer_norm = operators.get("layer_norm");
  return rewrite_nodes(graph, [&](Rewriter& r, const Node& node) -> std::optional<int> {
    const std::string_view op = node.op->name();
    const std::vector<int> in = r.operands(node);
    if (const auto found = normalised(r, node, in)) {
      const TensorType& type = r.type(found->x);
      const auto last = type.shape.back().constant();
      if (!last) return std::nullopt;
      Array one(type.dtype, {1});
      one.set(0, 1);
      const int scale = r.add_constant(filled(one, {*last}), node.name + "~scale");
      return r.add(layer_norm, {{"axis", found->axis}, {"epsilon", found->epsilon}}, {found->x, scale}, node.name);
    }
    int constant = -1;
    if (op == "mul") {
      const Node* norm = norm_beside(r, in, constant);
      if (norm == nullptr || norm->inputs.size() != 2 || !is_all(r.constant(norm->inputs[1]), 1)) return std::nullopt;
      return r.add(layer_norm, norm->attributes, {norm->inputs[0], constant}, node.name);
    }
    if (op == "add") {
      const Node* norm = norm_beside(r, in, constant);
      if (norm == nullptr || norm->inputs.size() != 2) return std::nullopt;
      return r.add(layer_norm, norm->attributes, {norm->inputs[0], norm->inputs[1], constant}, node.name);
    }
    return std::nullopt;
  });
}

}  // namespace heddle::graph
