#pragma once
#include <string>
#include <string_view>

#include "graph/compile.hpp"

namespace heddle::graph {

std::string_view name_of(Group::Kind kind);

/// For people: the anchor's node and the operators composed: "conv_3 (conv+add+relu)".
std::string label(const Group& group, const Graph& graph);

}  // namespace heddle::graph
