#pragma once
#include <string>
#include <vector>

#include "graph/graph.hpp"

namespace heddle::graph {

/// The pass keeps the graph sound, its inputs and outputs by name and type, and what it computes.
Graph checked(const Graph& graph, Graph (*pass)(const Graph&), const SymbolValues& symbols = {},
              double tolerance = 2e-6);

/// Of every node, in order.
std::vector<std::string> operator_names(const Graph& graph);

}  // namespace heddle::graph
