#include <algorithm>
#include <cmath>
#include <functional>

#include "graph/arrays.hpp"
#include "graph/passes/passes.hpp"
#include "graph/passes/rewrite.hpp"
#include "ops/catalog.hpp"

namespace heddle::graph {
namespace {

/// A constant operand of mul or add as one value a channel of `type` (dimension `channel`); nothing if it varies along
/// another dimension or would change the result's shape.
std::optional<std::vector<double>> per_channel(const Array& array, const TensorType& type, int channel) {
  const auto channels = type.shape[static_cast<std::size_t>(channel)].constant();
  const int rank = static_cast<int>(array.shape().size());
  if (!channels || rank > type.rank()) return std::nullopt;
  for (int d = 0; d < rank; ++d) {
    const std::int64_t extent = array.shape()[static_cast<std::size_t>(d)];
    if (extent == 1) continue;
    if (d + type.rank() - rank != channel || extent != *channels) return std::nullopt;
  }
  std::vector<double> values = to_doubles(array);
  if (values.size() == 1) values.assign(static_cast<std::size_t>(*channels), values[0]);
  return values;
}

/// Where the output channel lies in the weights of an operator that absorbs scales: which channel a weight belongs to.
struct Weights {
  int channel = 0;  ///< of the result
  std::function<std::size_t(std::int64_t flat, const Shape& shape)> of;
};

std::optional<Weights> weights_of(const Rewriter& r, const Node& node) {
  const std::string_view op = node.op->name();
  if (op == "conv")
    return Weights{1, [](std::int64_t flat, const Shape& shape) {
                     return static_cast<std::size_t>(flat / (element_count(shape) / shape[0]));
                   }};
  if (op == "conv_transpose") {
    const auto groups = node.attributes.at("group").get<std::int64_t>();
    return Weights{1, [groups](std::int64_t flat, const Shape& shape) {
                     const std::int64_t taps = element_count(shape) / shape[0] / shape[1];
                     const std::int64_t in = flat / taps / shape[1], out = flat / taps % shape[1];
                     return static_cast<std::size_t>(in / (shape[0] / groups) * shape[1] + out);
                   }};
  }
  if (op == "matmul" && r.type(node.inputs[1]).rank() == 2 && !node.attributes.at("transpose_b").get<bool>())
    return Weights{r.type(node.outputs[0]).rank() - 1,
                   [](std::int64_t flat, const Shape& shape) { return static_cast<std::size_t>(flat % shape[1]); }};
  return std::nullopt;
}

/// The bias as one value a channel; zeros where there is none. Nothing if it is not known or varies otherwise.
std::optional<std::vector<double>> bias_of(const Rewriter& r, const Node& node, const Weights& weights) {
  const TensorType& type = r.type(node.outputs[0]);
  const auto channels = type.shape[static_cast<std::size_t>(weights.channel)].constant();
  if (!channels) return std::nullopt;
  if (node.inputs.size() < 3) return std::vector<double>(static_cast<std::size_t>(*channels), 0.0);
  const auto& b = r.constant(node.inputs[2]);
  if (!b) return std::nullopt;
  // A convolution's bias is a vector over the channels; a product's broadcasts to the result.
  if (node.op->name() != "matmul") return to_doubles(*b);
  return per_channel(*b, type, weights.channel);
}

int add_bias(Rewriter& r, const Node& node, DType dtype, const std::vector<double>& bias) {
  return r.add_constant(from_doubles(dtype, {static_cast<std::int64_t>(bias.size())}, bias), node.name + "~bias");
}

/// mul(conv(x, w, b), s) -> conv(x, w s, b s)
std::optional<int> scale_weights(Rewriter& r, const Node& node, const Node& inner, const Array& factor) {
  const auto weights = weights_of(r, inner);
  if (!weights || !r.constant(inner.inputs[1])) return std::nullopt;
  auto bias = bias_of(r, inner, *weights);
  const auto scale = per_channel(factor, r.type(inner.outputs[0]), weights->channel);
  if (!bias || !scale || !std::all_of(scale->begin(), scale->end(), [](double v) { return std::isfinite(v); }))
    return std::nullopt;
  const Array w = *r.constant(inner.inputs[1]);
  std::vector<double> values = to_doubles(w);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] *= (*scale)[weights->of(static_cast<std::int64_t>(i), w.shape())];
  std::vector<int> inputs{inner.inputs[0],
                          r.add_constant(from_doubles(w.dtype(), w.shape(), values), node.name + "~weights")};
  if (inner.inputs.size() > 2) {
    for (std::size_t c = 0; c < bias->size(); ++c) (*bias)[c] *= (*scale)[c];
    inputs.push_back(add_bias(r, node, w.dtype(), *bias));
  }
  return r.add(*inner.op, inner.attributes, inputs, inner.name);
}

/// add(conv(x, w, b), t) -> conv(x, w, b + t)
std::optional<int> shift_bias(Rewriter& r, const Node& node, const Node& inner, const Array& shift) {
  const auto weights = weights_of(r, inner);
  if (!weights) return std::nullopt;
  auto bias = bias_of(r, inner, *weights);
  const auto added = per_channel(shift, r.type(inner.outputs[0]), weights->channel);
  if (!bias || !added) return std::nullopt;
  for (std::size_t c = 0; c < bias->size(); ++c) (*bias)[c] += (*added)[c];
  const int b = add_bias(r, node, r.type(inner.outputs[0]).dtype, *bias);
  return r.add(*inner.op, inner.attributes, {inner.inputs[0], inner.inputs[1], b}, inner.name);
}

/// Constants of one shape, or of which one is a single element, combined element by element.
template <class F>
std::optional<Array> combined(const Array& a, const Array& b, F f) {
  const Array& shaped = a.size() >= b.size() ? a : b;
  if (a.size() != 1 && b.size() != 1 && a.shape() != b.shape()) return std::nullopt;
  std::vector<double> values(static_cast<std::size_t>(shaped.size()));
  for (std::int64_t i = 0; i < shaped.size(); ++i)
    values[static_cast<std::size_t>(i)] = f(a.at(a.size() == 1 ? 0 : i), b.at(b.size() == 1 ? 0 : i));
  return from_doubles(a.dtype(), shaped.shape(), values);
}

struct Affine {
  int x;
  int constant;
};

/// op(x, c) that nothing else reads, c known, of the result's shape.
std::optional<Affine> affine(const Rewriter& r, int id, std::string_view op) {
  const Node* node = r.producer(id, op);
  if (node == nullptr || !r.used_once(id) || !r.constant(node->inputs[1])) return std::nullopt;
  if (r.type(node->inputs[0]).shape != r.type(id).shape) return std::nullopt;
  return Affine{node->inputs[0], node->inputs[1]};
}

/// mul(add(mul(x, a), b), c) -> add(mul(x, a c), b c), and the shorter chains inside it. A lone add(x, b) is not
/// scaled: that could cancel where the sum was small.
std::optional<int> merge_chain(Rewriter& r, const Operators& operators, const Node& node, int operand, const Array& c) {
  const bool multiplies = node.op->name() == "mul";
  const auto sum = affine(r, operand, "add");
  if (!multiplies) {
    if (!sum) return std::nullopt;
    const auto total = combined(*r.constant(sum->constant), c, [](double a, double b) { return a + b; });
    if (!total) return std::nullopt;
    return r.add(operators.get("add"), Json::object(), {sum->x, r.add_constant(*total, node.name + "~sum")}, node.name);
  }
  const auto product = affine(r, sum ? sum->x : operand, "mul");
  if (!product) return std::nullopt;
  const auto times = [](double a, double b) { return a * b; };
  const auto factor = combined(*r.constant(product->constant), c, times);
  const auto shift = sum ? combined(*r.constant(sum->constant), c, times) : std::nullopt;
  if (!factor || (sum && !shift)) return std::nullopt;
  const int scaled = r.add(operators.get("mul"), Json::object(),
                           {product->x, r.add_constant(*factor, node.name + "~factor")}, node.name);
  if (!sum) return scaled;
  return r.add(operators.get("add"), Json::object(), {scaled, r.add_constant(*shift, node.name + "~shift")}, node.name);
}

}  // namespace

/// Before: conv, conv_transpose or matmul with known weights, then mul and add of constants that differ by output
/// channel at most. After: scaled weights and a bias. Chains of such mul and add elsewhere become one mul and one add.
Graph fold_affine(const Graph& graph) {
  const Operators operators;
  return rewrite_nodes(graph, [&](Rewriter& r, const Node& node) -> std::optional<int> {
    const std::string_view op = node.op->name();
    if (op != "mul" && op != "add") return std::nullopt;
    const std::vector<int> in = r.operands(node);
    const auto& c = r.constant(in[1]);
    if (!c || !is_float(c->dtype()) || r.type(in[0]).shape != r.type(node.outputs[0]).shape) return std::nullopt;
    const Array constant = *c;
    const Node* producer = r.producer(in[0]);
    if (producer == nullptr || !r.used_once(in[0])) return std::nullopt;
    const Node inner = *producer;  // a copy: adding nodes moves the original
    const auto folded = op == "mul" ? scale_weights(r, node, inner, constant) : shift_bias(r, node, inner, constant);
    return folded ? folded : merge_chain(r, operators, node, in[0], constant);
  });
}

}  // namespace heddle::graph
