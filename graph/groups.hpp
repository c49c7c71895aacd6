#pragma once
#include <string>

#include "graph/compile.hpp"

namespace heddle::graph {

/// For people: the anchor's node and the operators composed: "conv_3 (conv+add+relu)".
std::string label(const Group& group, const Graph& graph);

}  // namespace heddle::graph
