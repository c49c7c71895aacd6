#include <algorithm>
#include <numeric>

#include "graph/layout.hpp"

namespace heddle::graph {
namespace {

// First-level caches of x86-64 have 64 sets of lines of 64 bytes, and 8 or 12 lines a set.
constexpr std::int64_t line_bytes = 64;
constexpr std::int64_t bytes_between_same_sets = 64 * line_bytes;
constexpr std::int64_t lines_of_a_set = 8;
constexpr std::int64_t rows_of_a_tile = 14;  ///< as many as register tiles commonly have at most

/// A node whose register tiles read many rows of its first operand side by side: pixels of a convolution, rows of a
/// matrix.
struct RowReader {
  int along, across;      ///< dimensions: of a row's elements, and from row to row
  std::int64_t step = 1;  ///< from a row to the next that is read
};

std::optional<RowReader> row_reader(const Graph& g, const Node& node) {
  const int rank = g.value(node.inputs[0]).type.rank();
  if (node.op->name() == "conv" && node.attributes.value("group", std::int64_t{1}) == 1) {
    const auto strides = node.attributes.value("strides", std::vector<std::int64_t>{});
    return RowReader{1, rank - 1, strides.empty() ? 1 : strides.back()};
  }
  if (node.op->name() != "matmul" || node.attributes.value("transpose_a", false) || rank < 2) return std::nullopt;
  // Of several matrices of weights, the rows of the first operand are several matrices' too.
  const Value& b = g.value(node.inputs[1]);
  if (!b.constant || b.type.rank() != 2) return std::nullopt;
  return RowReader{rank - 1, rank - 2};
}

bool rows_share_a_set(const Graph& g, const Node& node) {
  const auto reader = row_reader(g, node);
  if (!reader) return false;
  const TensorType& in = g.value(node.inputs[0]).type;
  const auto across = in.strides()[static_cast<std::size_t>(reader->across)].constant();
  if (!across || in.innermost() != reader->along || in.border(reader->along) != Border{}) return false;
  const auto distance = *across * reader->step * static_cast<std::int64_t>(size_of(in.dtype));
  std::int64_t rows = 1;
  const TensorType& out = g.value(node.outputs[0]).type;
  for (int d = 0; d < out.rank(); ++d)
    if (d != reader->along) rows *= out.shape[static_cast<std::size_t>(d)].constant().value_or(rows_of_a_tile);
  // The other half of a set is for the weights that pass by.
  const std::int64_t sets = bytes_between_same_sets / std::gcd(distance, bytes_between_same_sets);
  return std::min(rows, rows_of_a_tile) > sets * lines_of_a_set / 2;
}

/// Whether rows of the value may lie further apart than they are long. A concatenation's operands belong side by side
/// instead.
bool may_have_gaps(const Graph& g, int v, const std::vector<int>& producer,
                   const std::vector<std::vector<int>>& consumers) {
  return may_have_border(g, v, producer, consumers, [&](const Node& node) {
    if (node.op->name() == "concat") return false;
    if (node.op->kind() != OperatorKind::contraction) return true;
    return row_reader(g, node) && node.inputs[0] == v && std::count(node.inputs.begin(), node.inputs.end(), v) == 1;
  });
}

}  // namespace

Graph with_gaps(Graph graph) {
  const auto producer = graph.producer();
  const auto consumers = graph.consumers();
  for (const Node& node : graph.nodes) {
    if (!rows_share_a_set(graph, node) || !may_have_gaps(graph, node.inputs[0], producer, consumers)) continue;
    TensorType& type = graph.value(node.inputs[0]).type;
    type.layout.border.resize(type.shape.size());
    type.layout.border[static_cast<std::size_t>(row_reader(graph, node)->along)].after =
        line_bytes / static_cast<std::int64_t>(size_of(type.dtype));
    type.layout = canonical_layout(type, true);
  }
  return graph;
}

}  // namespace heddle::graph
