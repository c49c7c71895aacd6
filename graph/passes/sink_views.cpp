#include <algorithm>

#include "graph/passes/passes.hpp"
#include "graph/passes/rewrite.hpp"

namespace heddle::graph {
namespace {

bool is_view(const Node& node) { return node.op->name() == "reshape" || node.op->name() == "transpose"; }

bool is_one(const Extent& extent) { return extent == Extent(1); }

std::vector<Extent> without_ones(const std::vector<Extent>& shape) {
  std::vector<Extent> result;
  std::copy_if(shape.begin(), shape.end(), std::back_inserter(result), [](const Extent& e) { return !is_one(e); });
  return result;
}

std::optional<Shape> fixed(const std::vector<Extent>& shape) {
  Shape result;
  for (const Extent& extent : shape) {
    if (!extent.is_constant()) return std::nullopt;
    result.push_back(extent.value());
  }
  return result;
}

/// Elementwise in the strict sense: nothing in its attributes says which dimension is which.
bool commutes_with_views(const Node& node) {
  if (node.op->kind() != OperatorKind::elementwise || node.op->name() == "batch_norm") return false;
  return std::none_of(node.attributes.items().begin(), node.attributes.items().end(), [](const auto& item) {
    return item.key() == "axis" || item.key() == "axes" || item.key() == "shape";
  });
}

class Sink {
 public:
  Sink(Rewriter& r, const Node& node, const std::vector<Extent>& shape) : r_(r), node_(node), shape_(shape) {}

  /// The node on these operands, with a view above it moved below; nothing if there is none.
  std::optional<int> run(const std::vector<int>& operands) {
    for (std::size_t i = 0; i < operands.size(); ++i) {
      const Node* view = r_.producer(operands[i]);
      if (view == nullptr || !is_view(*view) || !r_.used_once(operands[i])) continue;
      if (r_.type(operands[i]).shape != shape_ || !comes_from_kernel(*view)) continue;
      const Node above = *view;  // adding nodes moves it
      const auto before = operands_before(operands, i, above);
      if (!before) continue;
      const std::vector<Extent> shape = r_.type(above.inputs[0]).shape;
      const auto deeper = Sink(r_, node_, shape).run(*before);
      const int result = deeper ? *deeper : r_.add(*node_.op, node_.attributes, *before, node_.name);
      return r_.add(*above.op, above.attributes, {result}, above.name);
    }
    return std::nullopt;
  }

 private:
  bool comes_from_kernel(const Node& view) const {
    const Node* node = &view;
    while (node != nullptr && is_view(*node)) node = r_.producer(node->inputs[0]);
    return node != nullptr;
  }

  /// What the node reads where it stands before the view instead of after.
  std::optional<std::vector<int>> operands_before(const std::vector<int>& operands, std::size_t viewed,
                                                  const Node& view) {
    const TensorType from = r_.type(view.inputs[0]);
    const TensorType to = r_.type(operands[viewed]);
    std::vector<int> result = operands;
    std::vector<std::optional<Shape>> reshaped(operands.size());
    // First see whether all of it works: what is added to the graph stays.
    for (std::size_t i = 0; i < operands.size(); ++i) {
      if (operands[i] == operands[viewed]) {
        result[i] = view.inputs[0];
        continue;
      }
      const TensorType& type = r_.type(operands[i]);
      const auto significant = without_ones(type.shape);
      if (significant.empty()) {
        if (type.rank() <= from.rank()) continue;
        if (!r_.constant(operands[i])) return std::nullopt;
        reshaped[i] = Shape{};
      } else if (view.op->name() != "reshape") {
        return std::nullopt;
      } else if (significant.size() == 1 && is_row(type, significant[0]) && is_row(from, significant[0]) &&
                 is_row(to, significant[0])) {
        if (type.rank() == 1) continue;
        reshaped[i] = fixed(significant);
        if (!r_.constant(operands[i]) || !reshaped[i]) return std::nullopt;
      } else if (type.shape == to.shape) {
        const Node* same = r_.producer(operands[i], "reshape");
        const bool is_same = same != nullptr && r_.type(same->inputs[0]).shape == from.shape;
        // A reshape that only moves ones around is free in every layout; another might cost a copy.
        if (!is_same && without_ones(from.shape) != without_ones(to.shape)) return std::nullopt;
        if (is_same) result[i] = same->inputs[0];
        else reshaped[i] = fixed(from.shape);
        if (!is_same && r_.constant(operands[i]) && !reshaped[i]) return std::nullopt;
        if (!is_same && !r_.constant(operands[i])) result[i] = -1;  // a reshape of its own
      } else {
        return std::nullopt;
      }
    }
    for (std::size_t i = 0; i < operands.size(); ++i) {
      if (result[i] == -1) {
        Json shape = Json::array();
        for (const Extent& extent : from.shape) shape.push_back(extent);
        result[i] = r_.add(*view.op, {{"shape", shape}}, {operands[i]}, view.name);
      } else if (reshaped[i]) {
        const Array constant = *r_.constant(operands[i]);
        result[i] = r_.add_constant(constant.reshaped(*reshaped[i]), r_.value(operands[i]).name);
      }
    }
    return result;
  }

  /// Whether the last dimension has that extent, which is not 1.
  static bool is_row(const TensorType& type, const Extent& extent) {
    return type.rank() > 0 && type.shape.back() == extent;
  }

  Rewriter& r_;
  const Node& node_;
  std::vector<Extent> shape_;
};

}  // namespace

/// Before: y = relu(reshape(matmul(a, b))), y = mul(transpose(matmul(a, b)), 0.125)
/// After: y = reshape(relu(matmul(a, b))), y = transpose(mul(matmul(a, b), 0.125)): the matrix product's kernel does
/// the rest on the way, and scales that are constants can become part of its weights.
Graph sink_views(const Graph& graph) {
  return rewrite_nodes(graph, [](Rewriter& r, const Node& node) -> std::optional<int> {
    if (!commutes_with_views(node)) return std::nullopt;
    return Sink(r, node, r.type(node.outputs[0]).shape).run(r.operands(node));
  });
}

}  // namespace heddle::graph
