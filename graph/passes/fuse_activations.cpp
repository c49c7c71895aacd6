#include <algorithm>
#include <cmath>
#include <numbers>

#include "graph/passes/passes.hpp"
#include "graph/passes/rewrite.hpp"
#include "ops/catalog.hpp"

namespace heddle::graph {
namespace {

/// A product written in any order: a number times values.
struct Product {
  double number = 1;
  std::vector<int> factors;
};

/// Collects the factors of a * b, or a / b of a number b, opening such products inside that nothing else reads. False
/// for other quotients.
bool open(const Rewriter& r, std::string_view op, int a, int b, const std::vector<Extent>& shape, Product& product) {
  const auto factor = [&](int id) {
    const Node* node = r.used_once(id) ? r.producer(id) : nullptr;
    const bool is_product = node != nullptr && (node->op->name() == "mul" || node->op->name() == "div");
    if (!is_product || !open(r, node->op->name(), node->inputs[0], node->inputs[1], r.type(id).shape, product))
      product.factors.push_back(id);
  };
  const auto left = r.scalar(a), right = r.scalar(b);
  if (right && r.type(a).shape == shape) {
    product.number = op == "mul" ? product.number * *right : product.number / *right;
    factor(a);
    return true;
  }
  if (op != "mul") return false;
  if (left && r.type(b).shape == shape) {
    product.number *= *left;
  } else {
    factor(a);
  }
  factor(b);
  return true;
}

/// x and s of mul(x, s) or div(x, 1/s); s = 1 for anything else.
BesideScalar scaled(const Rewriter& r, int id) {
  if (const auto product = operand_beside_scalar(r, id, "mul")) return *product;
  if (const auto quotient = operand_beside_scalar(r, id, "div")) return {quotient->x, 1 / quotient->scalar};
  return {id, 1};
}

/// Whether `gate` is 1 + erf(x / sqrt(2)).
bool is_erf_gate(const Rewriter& r, int gate, int x) {
  const auto sum = operand_beside(r, gate, "add", 1);
  const Node* erf = sum ? r.producer(*sum, "erf") : nullptr;
  if (erf == nullptr) return false;
  const BesideScalar inside = scaled(r, erf->inputs[0]);
  return inside.x == x && near(inside.scalar, std::numbers::sqrt2 / 2);
}

/// Whether `cube` is 0.044715 x^3.
bool is_scaled_cube(const Rewriter& r, int cube, int x) {
  const BesideScalar outer = scaled(r, cube);
  if (!near(outer.scalar, 0.044715)) return false;
  const Node* node = r.producer(outer.x);
  if (node == nullptr) return false;
  if (node->op->name() == "pow") return node->inputs[0] == x && r.scalar(node->inputs[1]) == 3.0;
  if (node->op->name() != "mul") return false;
  const auto is_square = [&](int id) {
    const Node* square = r.producer(id, "mul");
    return square != nullptr && square->inputs[0] == x && square->inputs[1] == x;
  };
  return (node->inputs[1] == x && is_square(node->inputs[0])) || (node->inputs[0] == x && is_square(node->inputs[1]));
}

/// Whether `gate` is 1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)).
bool is_tanh_gate(const Rewriter& r, int gate, int x) {
  const auto sum = operand_beside(r, gate, "add", 1);
  const Node* tanh = sum ? r.producer(*sum, "tanh") : nullptr;
  if (tanh == nullptr) return false;
  const BesideScalar inside = scaled(r, tanh->inputs[0]);
  const Node* cubic = r.producer(inside.x, "add");
  if (cubic == nullptr || !near(inside.scalar, std::sqrt(2 / std::numbers::pi))) return false;
  return (cubic->inputs[0] == x && is_scaled_cube(r, cubic->inputs[1], x)) ||
         (cubic->inputs[1] == x && is_scaled_cube(r, cubic->inputs[0], x));
}

/// x + 3 clamped to [0, 6].
std::optional<int> relu6_of_shifted(const Rewriter& r, int id) {
  const Node* clip = r.producer(id, "clip");
  if (clip == nullptr || !r.used_once(id)) return std::nullopt;
  const Json &low = clip->attributes.at("min"), &high = clip->attributes.at("max");
  if (!low.is_number() || low.get<double>() != 0 || !high.is_number() || high.get<double>() != 6) return std::nullopt;
  return operand_beside(r, clip->inputs[0], "add", 3);
}

struct Fused {
  std::string_view op;
  Json attributes;
  int x;
};

/// x times a gate of x, times a number.
std::optional<Fused> gated(const Rewriter& r, const Product& product) {
  if (product.factors.size() != 2) return std::nullopt;
  for (const std::size_t i : {std::size_t(0), std::size_t(1)}) {
    const int x = product.factors[i], gate = product.factors[1 - i];
    if (gate == x || !r.used_once(gate)) continue;
    if (near(product.number, 0.5)) {
      if (is_erf_gate(r, gate, x)) return Fused{"gelu", {{"approximate", "none"}}, x};
      if (is_tanh_gate(r, gate, x)) return Fused{"gelu", {{"approximate", "tanh"}}, x};
    }
    if (near(product.number, 1.0 / 6) && relu6_of_shifted(r, gate) == x) return Fused{"hard_swish", Json::object(), x};
    if (!near(product.number, 1)) continue;
    if (const Node* hard = r.producer(gate, "hard_sigmoid"))
      if (hard->inputs[0] == x && near(hard->attributes.at("alpha").get<double>(), 1.0 / 6) &&
          near(hard->attributes.at("beta").get<double>(), 0.5))
        return Fused{"hard_swish", Json::object(), x};
    if (const Node* sigmoid = r.producer(gate, "sigmoid")) {
      if (sigmoid->inputs[0] == x) return Fused{"swish", {{"alpha", 1.0}}, x};
      const auto inside = operand_beside_scalar(r, sigmoid->inputs[0], "mul");
      if (inside && inside->x == x) return Fused{"swish", {{"alpha", inside->scalar}}, x};
    }
  }
  return std::nullopt;
}

}  // namespace

/// Before: activations spelled out. After:
///   x sigmoid(a x)                                       -> swish
///   clip(x + 3, 0, 6) / 6                                -> hard_sigmoid
///   x clip(x + 3, 0, 6) / 6, x hard_sigmoid(x)           -> hard_swish
///   0.5 x (1 + erf(x / sqrt 2))                          -> gelu
///   0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))    -> gelu, approximate
/// The factors may stand in any order.
Graph fuse_activations(const Graph& graph) {
  const Operators operators;
  return rewrite_nodes(graph, [&](Rewriter& r, const Node& node) -> std::optional<int> {
    const std::string_view op = node.op->name();
    if (op != "mul" && op != "div") return std::nullopt;
    const TensorType& out = r.type(node.outputs[0]);
    const bool in_f32 = is_float(out.dtype) && out.dtype != DType::f64;
    if (!in_f32) return std::nullopt;
    const std::vector<int> in = r.operands(node);
    Product product;
    if (!open(r, op, in[0], in[1], out.shape, product)) return std::nullopt;
    auto fused = gated(r, product);
    if (!fused && product.factors.size() == 1 && near(product.number, 1.0 / 6))
      if (const auto x = relu6_of_shifted(r, product.factors[0]))
        fused = Fused{"hard_sigmoid", {{"alpha", 1.0 / 6}, {"beta", 0.5}}, *x};
    if (!fused || r.type(fused->x).shape != out.shape) return std::nullopt;
    return r.add(operators.get(fused->op), fused->attributes, {fused->x}, node.name);
  });
}

}  // namespace heddle::graph
