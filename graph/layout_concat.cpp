#include <algorithm>
#include <set>

#include "graph/layout.hpp"
#include "ops/catalog.hpp"
#include "ops/rules.hpp"

namespace heddle::graph {
namespace {

/// Of a concatenation of rank 3 or more along one of the first two dimensions, which no window pads: a border there
/// can mean nothing else than other operands.
std::optional<std::size_t> joinable_axis(const Graph& g, const Node& node) {
  if (node.op->name() != "concat" || node.inputs.size() < 2) return std::nullopt;
  const TensorType& out = g.value(node.outputs[0]).type;
  const int axis = ops::normalized_axis(node.attributes.at("axis").get<std::int64_t>(), out.rank());
  if (out.rank() < 3 || axis > 1) return std::nullopt;
  for (const int v : node.inputs)
    if (!g.value(v).type.shape[static_cast<std::size_t>(axis)].is_constant()) return std::nullopt;
  return static_cast<std::size_t>(axis);
}

/// The types of the operands as parts of the result.
std::vector<TensorType> parts(const Graph& g, const Node& node, std::size_t axis) {
  const TensorType& whole = g.value(node.outputs[0]).type;
  std::int64_t before = 0;
  std::vector<TensorType> all;
  for (const int v : node.inputs) {
    TensorType part = g.value(v).type;
    const std::int64_t extent = part.shape[axis].value();
    part.layout = whole.layout;
    part.layout.border.resize(whole.shape.size());
    Border& border = part.layout.border[axis];
    border.before += before;
    border.after += whole.shape[axis].value() - before - extent;
    before += extent;
    part.layout = canonical_layout(part, true);
    all.push_back(std::move(part));
  }
  return all;
}

}  // namespace

bool is_join(const Graph& graph, const Node& node) {
  const auto axis = joinable_axis(graph, node);
  if (!axis) return false;
  const auto wanted = parts(graph, node, *axis);
  for (std::size_t i = 0; i < wanted.size(); ++i)
    if (!same_memory(graph.value(node.inputs[i]).type, wanted[i])) return false;
  return true;
}

Graph join_operands(Graph graph) {
  const auto producer = graph.producer();
  const auto consumers = graph.consumers();
  std::set<int> joined;
  OperandTypes copies;
  // Of concatenations in concatenations the outer one comes first: it says where the inner one lies.
  for (std::size_t n = graph.nodes.size(); n-- > 0;) {
    const auto axis = joinable_axis(graph, graph.nodes[n]);
    if (!axis) continue;
    const std::vector<int> operands = graph.nodes[n].inputs;
    const auto wanted = parts(graph, graph.nodes[n], *axis);
    std::vector<bool> writes_into(operands.size());
    for (std::size_t i = 0; i < operands.size(); ++i) {
      const int v = operands[i];
      const TensorType& type = graph.value(v).type;
      TensorType dense = wanted[i];
      dense.layout.border.clear();
      const int maker = producer[static_cast<std::size_t>(v)];
      writes_into[i] = !joined.contains(v) && !type.has_border() && same_memory(type, dense) &&
                       may_have_border(graph, v, producer, consumers) &&
                       // Products want their rows dense: all of them are one matrix then.
                       graph.nodes[static_cast<std::size_t>(maker)].op->kind() != OperatorKind::contraction &&
                       std::count(operands.begin(), operands.end(), v) == 1;
    }
    if (std::none_of(writes_into.begin(), writes_into.end(), [](bool w) { return w; })) continue;
    for (std::size_t i = 0; i < operands.size(); ++i) {
      if (writes_into[i]) {
        graph.value(operands[i]).type = wanted[i];
        joined.insert(operands[i]);
      } else {
        copies.emplace(std::pair(n, i), wanted[i]);
      }
    }
  }
  return with_copies(std::move(graph), copies);
}

}  // namespace heddle::graph
