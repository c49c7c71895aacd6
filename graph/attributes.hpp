#pragma once
#include <optional>
#include <set>
#include <vector>

#include "graph/graph.hpp"

// What the layout and group passes read from operators' attributes. Everything else they know of an operator is its
// kind and its preference.
namespace heddle::graph {

/// Result dimension i is operand dimension permutation[i]; nothing if the node is no transpose.
std::optional<std::vector<int>> transpose_permutation(const Node& node, const Graph& graph);

/// Whether the result is the operand's elements in their row-major order, under another shape.
bool is_reshape(const Node& node);

/// The border that lets the node read its first operand without testing indices: the pads of a convolution or of
/// pooling, per dimension; nothing if it has none.
std::optional<std::vector<Border>> wanted_border(const Node& node);

/// What that border holds, for an operand of that type.
double wanted_border_value(const Node& node, DType type);

/// Whether the order of the first operand is of no consequence: a convolution of an image's one or three channels
/// broadcasts every element it reads, so bringing them next to one another gains nothing.
bool reads_any_order(const Node& node, const Graph& graph);

/// The dimension that a contraction's vectors run along in an operand: it has to lie innermost. Nothing where any order
/// will do, and for constants that are packed anyway.
std::optional<int> vector_dimension(const Node& node, std::size_t operand, const Graph& graph);

/// The dimensions of the first operand that a reduction without keep_dims drops; nothing for other operators.
std::optional<std::set<int>> removed_dimensions(const Node& node, const Graph& graph);

}  // namespace heddle::graph
