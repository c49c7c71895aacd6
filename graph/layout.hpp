#pragma once
#include <functional>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "graph/graph.hpp"

// Layouts say how a value lies in memory; algorithms never see them, since they index logically.
namespace heddle::graph {

/// Where a padded convolution finds the padding.
enum class Padding {
  in_memory,  ///< a border around its operand, which the producer's buffer has room for: processors
  in_kernel,  ///< tested by the kernel, values are dense: on devices a border costs a launch, and the test next to none
};

/// Gives every value its memory order and border. Before: all row-major. After: channels last between operators that
/// work best so, views (transposes, reshapes) in whatever order makes them free, borders where a padded convolution
/// reads (unless kernels pad), gaps between rows that would share a cache's sets and concatenations' operands in their
/// place (both likewise), and `copy` nodes (at most one a value and layout) where a consumer needs what its operand is
/// not. The graph's inputs and outputs stay row-major without border.
Graph assign_layouts(const Graph& graph, Padding padding = Padding::in_memory);

/// Whether the node only looks at its operand's bytes differently: a transpose or reshape whose result's layout is the
/// operand's, seen through it. Decided from the values' layouts alone.
bool is_view(const Graph& graph, const Node& node);

/// Whether the node is a concatenation that finds its operands side by side in its result's bytes: they were written
/// there. Decided from the values' layouts alone.
bool is_join(const Graph& graph, const Node& node);

/// Lets operands of concatenations be written where the result has them. Before: dense operands, which the
/// concatenation copies. After: operands whose border is the rest of the result, and copies into such where an operand
/// cannot have a border (a view's or a caller's bytes, a part of another concatenation).
Graph join_operands(Graph graph);

/// Puts a cache line's width between rows that a register tile reads side by side and that a set of the first-level
/// cache would have to hold all at once: those a multiple of 2 KiB apart, such as pixels of 512 channels. Before: rows
/// without gaps. After: a border behind the innermost dimension of such operands where all readers go by strides.
/// Nobody reads what it holds. Cascade Lake: 1x1 convolutions of 1024 channels take 1.4 times as long without.
Graph with_gaps(Graph graph);

/// Whether the bytes of a value may have a border: a kernel makes it, and those who read it step over borders.
/// `producer` and `consumers`: the graph's.
bool may_have_border(const Graph& graph, int value, const std::vector<int>& producer,
                     const std::vector<std::vector<int>>& consumers);

/// The same of a border that readers of other kinds step over too: `steps_over` says of a reader that neither looks at
/// the bytes differently nor wants them row-major whether it does.
bool may_have_border(const Graph& graph, int value, const std::vector<int>& producer,
                     const std::vector<std::vector<int>>& consumers,
                     const std::function<bool(const Node&)>& steps_over);

/// Types by the number of a node and of its operand.
using OperandTypes = std::map<std::pair<std::size_t, std::size_t>, TensorType>;

/// The graph with copies of those operands into those types, one a value and type, before the first node that reads it.
Graph with_copies(Graph graph, const OperandTypes& wanted);

/// Dimensions in memory order, outermost first, without those whose position is of no consequence (extent 1, no
/// border).
std::vector<int> significant_order(const TensorType& type);

/// Whether both types (of one shape) put every element at the same place.
bool same_memory(const TensorType& a, const TensorType& b);

bool is_row_major(const TensorType& type);  ///< as good as: extents of 1 anywhere, no border

/// The same bytes, said in the simplest way: row-major if it is as good as that, else channels last if it is that, else
/// with the extents of 1 outermost. With `channels_last_first`, channels last is tried before row-major.
Layout canonical_layout(const TensorType& type, bool channels_last_first = false);

/// Memory order of `to`, seen over the bytes of a tensor of shape `from` in `order`; nothing if no order can say it.
std::optional<std::vector<int>> reshaped_order(const std::vector<Extent>& from, const std::vector<int>& order,
                                               const std::vector<Extent>& to);

/// Memory order of a transpose's result over its operand's bytes: result dimension i is operand dimension
/// permutation[i].
std::vector<int> transposed_order(const std::vector<int>& order, const std::vector<int>& permutation);

/// The inverse: the operand's order that gives the result `order`.
std::vector<int> untransposed_order(const std::vector<int>& order, const std::vector<int>& permutation);

}  // namespace heddle::graph
