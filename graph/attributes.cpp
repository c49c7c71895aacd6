#include "graph/attributes.hpp"

#include <algorithm>

#include "ops/window.hpp"

namespace heddle::graph {
namespace {

using Integers = std::vector<std::int64_t>;

Integers integers(const Json& attributes, const char* name) {
  const auto found = attributes.find(name);
  return found == attributes.end() ? Integers{} : found->get<Integers>();
}

}  // namespace

std::optional<std::vector<int>> transpose_permutation(const Node& node, const Graph& graph) {
  if (node.op->name() != "transpose") return std::nullopt;
  const auto rank = static_cast<int>(graph.value(node.inputs[0]).type.shape.size());
  std::vector<int> permutation;
  for (const std::int64_t d : integers(node.attributes, "perm"))
    permutation.push_back(static_cast<int>(d < 0 ? d + rank : d));
  if (permutation.empty())
    for (int d = rank; d-- > 0;) permutation.push_back(d);
  return permutation;
}

bool is_reshape(const Node& node) { return node.op->name() == "reshape"; }

std::optional<std::vector<Border>> wanted_border(const Node& node) {
  const std::string_view op = node.op->name();
  if (op != "conv" && op != "max_pool" && op != "average_pool") return std::nullopt;
  const Integers pads = integers(node.attributes, "pads");
  if (std::all_of(pads.begin(), pads.end(), [](std::int64_t pad) { return pad == 0; })) return std::nullopt;
  const std::size_t spatial = pads.size() / 2;
  std::vector<Border> border(spatial + 2);
  for (std::size_t d = 0; d < spatial; ++d) border[d + 2] = {pads[d], pads[d + spatial]};
  return border;
}

double wanted_border_value(const Node& node, DType type) {
  if (node.op->name() == "max_pool") return ops::lowest(type);
  return static_cast<double>(node.attributes.value("pad_value", std::int64_t{0}));
}

bool reads_any_order(const Node& node, const Graph& graph) {
  if (node.op->name() != "conv" || node.attributes.value("group", std::int64_t{1}) != 1) return false;
  const auto channels = graph.value(node.inputs[0]).type.shape[1].constant();
  return channels && (*channels == 1 || *channels == 3);
}

std::optional<int> vector_dimension(const Node& node, std::size_t operand, const Graph& graph) {
  const Value& value = graph.value(node.inputs[operand]);
  const auto& shape = value.type.shape;
  const int last = value.type.rank() - 1;
  if (node.op->name() == "attention") {
    // Vectors of a mask run along the query rows. The keys are read element by element.
    const bool varies = last >= 1 && shape[static_cast<std::size_t>(last - 1)] != Extent(1) &&
                        shape[static_cast<std::size_t>(last)] != Extent(1);
    if (operand == 3) return varies ? std::optional(last - 1) : std::nullopt;
    return operand == 1 ? std::nullopt : std::optional(last);
  }
  if (operand != 1 || value.constant) return std::nullopt;
  return node.attributes.value("transpose_b", false) ? last - 1 : last;
}

std::optional<std::set<int>> removed_dimensions(const Node& node, const Graph& graph) {
  if (node.op->kind() != OperatorKind::reduction || !node.attributes.contains("axes")) return std::nullopt;
  const int rank = graph.value(node.inputs[0]).type.rank();
  if (graph.value(node.outputs[0]).type.rank() == rank) return std::nullopt;
  std::set<int> removed;
  for (const std::int64_t d : integers(node.attributes, "axes")) removed.insert(static_cast<int>(d < 0 ? d + rank : d));
  if (removed.empty())
    for (int d = 0; d < rank; ++d) removed.insert(d);
  return removed;
}

}  // namespace heddle::graph
