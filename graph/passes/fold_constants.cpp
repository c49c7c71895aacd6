#include <algorithm>

#include "graph/arrays.hpp"
#include "graph/passes/passes.hpp"
#include "graph/passes/rewrite.hpp"

namespace heddle::graph {
namespace {

/// References take some nanoseconds an element: beyond this the node is left to run time.
constexpr std::int64_t most_elements = std::int64_t(1) << 24;

/// Rearrangements of weights come in any size and run at memory speed here.
std::optional<Array> rearranged(const Node& node, const std::vector<Array>& operands, const Shape& shape) {
  const std::string_view op = node.op->name();
  if (op == "reshape" || op == "copy" || op == "identity") return operands[0].reshaped(shape);
  if (op == "expand" && operands[0].size() == 1) return filled(operands[0], shape);
  if (op == "transpose") {
    std::vector<int> permutation;
    const auto rank = static_cast<int>(shape.size());
    for (const std::int64_t d : node.attributes.at("perm").get<std::vector<std::int64_t>>())
      permutation.push_back(static_cast<int>(d < 0 ? d + rank : d));
    if (permutation.empty())
      for (int d = rank; d-- > 0;) permutation.push_back(d);
    return transposed(operands[0], permutation);
  }
  return std::nullopt;
}

/// An expanded or filled tensor is cheaper to make at run time than to load.
bool worth_storing(std::int64_t results, std::int64_t operands) {
  constexpr std::int64_t small = 4096;
  return results <= small || results <= 4 * operands;
}

}  // namespace

/// Before: nodes whose operands are all known. After: their results as constants.
Graph fold_constants(const Graph& graph) {
  Rewriter r(graph);
  for (const Node& node : graph.nodes) {
    const std::vector<int> ids = r.operands(node);
    std::vector<Array> operands;
    std::int64_t in = 0, out = 0;
    bool known = true;
    for (const int id : ids) {
      const auto& constant = r.constant(id);
      known = known && constant.has_value();
      if (!known) break;
      operands.push_back(*constant);
      in += constant->size();
    }
    Shape shape;
    for (const int id : node.outputs) {
      const auto count = r.type(id).element_count().constant();
      known = known && count.has_value() && r.type(id).is_static();
      out += count.value_or(0);
    }
    if (!known || node.outputs.size() != 1 || !worth_storing(out, in)) {
      r.keep(node);
      continue;
    }
    for (const Extent& extent : r.type(node.outputs[0]).shape) shape.push_back(extent.value());
    std::optional<Array> result = rearranged(node, operands, shape);
    if (!result && std::max(in, out) <= most_elements) result = node.op->evaluate(node.attributes, operands).at(0);
    if (!result) {
      r.keep(node);
      continue;
    }
    const int id = r.add_constant(std::move(*result), node.name + "~folded");
    if (r.may_replace(node, id)) r.replace(node, id);
    else r.keep(node);
  }
  return r.finish();
}

}  // namespace heddle::graph
