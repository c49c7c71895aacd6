#pragma once
#include <span>
#include <vector>

#include "base/array.hpp"
#include "graph/graph.hpp"

namespace heddle::graph {

/// Runs a graph by its operators' references, node by node: slow, exact, independent of every kernel and schedule. The
/// oracle for passes, none of which may change its results. `inputs` in the order of Graph::inputs; symbolic extents
/// are bound by their shapes. Throws Error{invalid_argument} where an input does not fit its type.
std::vector<Array> interpret(const Graph& graph, std::span<const Array> inputs);

/// The same with every value of the graph, indexed by value id; those of dead nodes included.
std::vector<Array> interpret_all(const Graph& graph, std::span<const Array> inputs);

/// One node's results from its operands, where the symbols have the given values.
std::vector<Array> evaluate_node(const Graph& graph, const Node& node, std::span<const Array> operands,
                                 const SymbolValues& symbols);

}  // namespace heddle::graph
