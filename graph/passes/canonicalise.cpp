#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "graph/arrays.hpp"
#include "graph/passes/passes.hpp"
#include "graph/passes/rewrite.hpp"

// One form for one meaning, so that later passes and the grouping have less to recognise. Every rule looks at one node
// and the nodes that made its operands.
namespace heddle::graph {
namespace {

/// Every element through f, if every result is a number and exact as the element type.
std::optional<Array> mapped(const Array& array, double (*f)(double), bool exactly) {
  std::vector<double> values = to_doubles(array);
  for (double& v : values) v = f(v);
  Array result = from_doubles(array.dtype(), array.shape(), values);
  for (std::int64_t i = 0; exactly && i < result.size(); ++i)
    if (result.at(i) != values[static_cast<std::size_t>(i)]) return std::nullopt;
  return result;
}

/// add(c, x) -> add(x, c)
Result constant_last(const Site& s) {
  constexpr std::array<std::string_view, 9> commutative = {"add", "mul", "min",   "max",        "and",
                                                           "or",  "xor", "equal", "bitwise_and"};
  if (std::find(commutative.begin(), commutative.end(), s.op()) == commutative.end()) return std::nullopt;
  if (!s.r.constant(s.in[0]) || s.r.constant(s.in[1])) return std::nullopt;
  return s.add(s.op(), s.node.attributes, {s.in[1], s.in[0]});
}

/// sub(x, c) -> add(x, -c)
Result sub_constant(const Site& s) {
  if (!s.is("sub") || !is_float(s.out().dtype)) return std::nullopt;
  const auto& c = s.r.constant(s.in[1]);
  if (!c) return std::nullopt;
  return s.add("add", Json::object(), {s.in[0], s.constant(*mapped(*c, [](double v) { return -v; }, false))});
}

/// div(x, c) -> mul(x, 1/c) where 1/c is exact (powers of two): anything else would round once more.
Result div_constant(const Site& s) {
  if (!s.is("div") || !is_float(s.out().dtype)) return std::nullopt;
  const auto& c = s.r.constant(s.in[1]);
  if (!c) return std::nullopt;
  const auto power_of_two = [](double v) {
    int exponent = 0;
    return std::isnormal(v) && std::fabs(std::frexp(v, &exponent)) == 0.5 && std::abs(exponent) < 14;
  };
  for (std::int64_t i = 0; i < c->size(); ++i)
    if (!power_of_two(c->at(i))) return std::nullopt;
  return s.add("mul", Json::object(), {s.in[0], s.constant(*mapped(*c, [](double v) { return 1 / v; }, true))});
}

/// pow(x, 2) -> mul(x, x), and the other exponents that are cheaper said otherwise.
Result pow_constant(const Site& s) {
  if (!s.is("pow") || !is_float(s.out().dtype) || !s.same_type_as_out(s.in[0])) return std::nullopt;
  const auto exponent = s.r.scalar(s.in[1]);
  const int x = s.in[0];
  if (exponent == 1) return x;
  if (exponent == 2) return s.add("mul", Json::object(), {x, x});
  if (exponent == 3) return s.add("mul", Json::object(), {s.add("mul", Json::object(), {x, x}), x});
  if (exponent == 0.5) return s.add("sqrt", Json::object(), {x});
  if (exponent == -1) return s.add("reciprocal", Json::object(), {x});
  return std::nullopt;
}

/// x + 0, x * 1, x / 1 -> x
Result neutral_constant(const Site& s) {
  if (!(s.is("add") || s.is("sub") || s.is("mul") || s.is("div"))) return std::nullopt;
  const auto& c = s.r.constant(s.in[1]);
  if (!c || !s.same_type_as_out(s.in[0])) return std::nullopt;
  const double neutral = s.is("add") || s.is("sub") ? 0 : 1;
  for (std::int64_t i = 0; i < c->size(); ++i)
    if (c->at(i) != neutral) return std::nullopt;
  return s.in[0];
}

/// identity(x), copy(x), and casts, expansions, slices, pads and concatenations that change nothing -> x
Result nothing_done(const Site& s) {
  if (s.in.empty() || !s.same_type_as_out(s.in[0])) return std::nullopt;
  if (s.is("identity") || s.is("copy") || s.is("cast") || s.is("expand") || s.is("reshape")) return s.in[0];
  if (s.is("concat") && s.in.size() == 1) return s.in[0];
  if (s.is("slice")) {
    const auto steps = s.attribute("steps").get<std::vector<std::int64_t>>();
    if (std::all_of(steps.begin(), steps.end(), [](std::int64_t step) { return step > 0; })) return s.in[0];
  }
  if (s.is("pad") && s.attribute("mode") == "constant") {
    const auto pads = s.attribute("pads").get<std::vector<Extent>>();
    if (std::all_of(pads.begin(), pads.end(), [](const Extent& pad) { return pad == Extent(0); })) return s.in[0];
  }
  return std::nullopt;
}

/// reshape(reshape(x)) -> reshape(x)
Result reshape_of_reshape(const Site& s) {
  if (!s.is("reshape")) return std::nullopt;
  const Node* inner = s.r.producer(s.in[0], "reshape");
  if (inner == nullptr) return std::nullopt;
  const int x = inner->inputs[0];
  return s.same_type_as_out(x) ? x : s.add("reshape", s.node.attributes, {x});
}

std::vector<std::int64_t> permutation(const Node& node, int rank) {
  auto perm = node.attributes.at("perm").get<std::vector<std::int64_t>>();
  if (perm.empty())
    for (int d = rank; d-- > 0;) perm.push_back(d);
  for (std::int64_t& d : perm) d = d < 0 ? d + rank : d;
  return perm;
}

/// transpose(transpose(x)) -> transpose(x) or x; transpose that moves only extents of 1 -> reshape
Result transposes(const Site& s) {
  if (!s.is("transpose")) return std::nullopt;
  const int rank = s.out().rank();
  auto perm = permutation(s.node, rank);
  int x = s.in[0];
  bool better = false;
  if (const Node* inner = s.r.producer(x, "transpose")) {
    const auto first = permutation(*inner, rank);
    for (std::int64_t& d : perm) d = first[static_cast<std::size_t>(d)];
    x = inner->inputs[0];
    better = true;
  }
  if (std::is_sorted(perm.begin(), perm.end())) return x;
  std::vector<std::int64_t> moved;
  for (const std::int64_t d : perm)
    if (!(s.r.type(x).shape[static_cast<std::size_t>(d)] == Extent(1))) moved.push_back(d);
  if (std::is_sorted(moved.begin(), moved.end())) {
    Json shape = Json::array();
    for (const Extent& extent : s.out().shape) shape.push_back(extent.str());
    return s.add("reshape", {{"shape", shape}}, {x});
  }
  return better ? Result(s.add("transpose", {{"perm", perm}}, {x})) : std::nullopt;
}

/// matmul of a constant to be transposed -> matmul of the transposed constant, which is packed as all others are.
Result matmul_of_transposed_constant(const Site& s) {
  if (!s.is("matmul")) return std::nullopt;
  for (const std::size_t i : {std::size_t(0), std::size_t(1)}) {
    const char* flag = i == 0 ? "transpose_a" : "transpose_b";
    const auto& c = s.r.constant(s.in[i]);
    if (!c || !s.attribute(flag).get<bool>()) continue;
    std::vector<int> perm;
    for (int d = 0; d < s.r.type(s.in[i]).rank(); ++d) perm.push_back(d);
    std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
    std::vector<int> inputs = s.in;
    inputs[i] = s.constant(transposed(*c, perm));
    Json attributes = s.node.attributes;
    attributes[flag] = false;
    return s.add("matmul", attributes, inputs);
  }
  return std::nullopt;
}

constexpr double infinity = std::numeric_limits<double>::infinity();

struct Bounds {
  double low = -infinity, high = infinity;
};

double bound(const Node& node, const char* name) {
  const Json& value = node.attributes.at(name);
  if (value.is_number()) return value.get<double>();
  return value == "inf" ? infinity : -infinity;
}

/// What a node clamps its first operand to, if that is all it does.
std::optional<Bounds> clamps(const Rewriter& r, const Node& node) {
  const std::string_view op = node.op->name();
  if (op == "relu") return Bounds{0, infinity};
  if (op == "clip") return Bounds{bound(node, "min"), bound(node, "max")};
  if (op != "max" && op != "min") return std::nullopt;
  const auto c = r.scalar(node.inputs[1]);
  if (!c || std::isnan(*c) || r.type(node.inputs[0]).shape != r.type(node.outputs[0]).shape) return std::nullopt;
  return op == "max" ? Bounds{*c, infinity} : Bounds{-infinity, *c};
}

/// clip(relu(x)), min(max(x, 0), 6), relu(relu(x)) -> one clip; a clip to [0, inf) -> relu; one without bounds -> x
Result clamp_chain(const Site& s) {
  if (!is_float(s.out().dtype)) return std::nullopt;
  Node now = s.node;
  now.inputs = s.in;
  auto outer = clamps(s.r, now);
  if (!outer) return std::nullopt;
  int x = s.in[0];
  bool merged = false;
  // An inner result that others read is needed anyway, and then better read here too.
  if (const Node* inner = s.r.used_once(x) ? s.r.producer(x) : nullptr)
    if (const auto before = clamps(s.r, *inner)) {
      // The outer bounds win where the two do not overlap.
      outer->low = std::clamp(before->low, outer->low, outer->high);
      outer->high = std::clamp(before->high, outer->low, outer->high);
      x = inner->inputs[0];
      merged = true;
    }
  if (outer->low == -infinity && outer->high == infinity) return x;
  if (outer->low == 0 && outer->high == infinity) {
    if (s.is("relu") && !merged) return std::nullopt;
    return s.add("relu", Json::object(), {x});
  }
  if (s.is("clip") && !merged) return std::nullopt;
  return s.add("clip", {{"min", reflect::value_to_json(outer->low)}, {"max", reflect::value_to_json(outer->high)}},
               {x});
}

using Rule = Result (*)(const Site&);
constexpr std::array rules = {nothing_done,       constant_last, sub_constant,
                              div_constant,       pow_constant,  neutral_constant,
                              reshape_of_reshape, transposes,    matmul_of_transposed_constant,
                              clamp_chain};

}  // namespace

/// Before: many ways to say a thing. After: the rules above hold nowhere.
Graph canonicalise(const Graph& graph) {
  const Operators operators;
  Graph result = graph;
  // A rule's result may be another's start; each round shortens something, so a few suffice.
  constexpr int most_rounds = 16;
  bool changed = true;
  for (int round = 0; changed && round < most_rounds; ++round) {
    changed = false;
    result = rewrite_nodes(result, [&](Rewriter& r, const Node& node) -> Result {
      const Site site{r, operators, node, r.operands(node)};
      for (const Rule rule : rules) {
        const Result replacement = rule(site);
        if (!replacement) continue;
        changed = changed || r.may_replace(node, *replacement);
        return replacement;
      }
      return std::nullopt;
    });
  }
  return result;
}

}  // namespace heddle::graph
