#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "graph/graph.hpp"
#include "ops/catalog.hpp"

namespace heddle::graph {

/// Builds a pass's result while the pass walks over the source's nodes in order: each node is kept or its result is
/// replaced by another value. Nodes that nothing needs any more are dropped at the end, so a pattern is rewritten at
/// its last node and its inside goes away by itself.
///
/// Values keep their numbers; new ones come behind. Patterns are matched on the result so far: what an earlier step of
/// the same pass made is seen by the next.
class Rewriter {
 public:
  explicit Rewriter(const Graph& from);

  const Graph& graph() const { return to_; }  ///< the result so far
  const Value& value(int id) const { return to_.value(id); }
  const TensorType& type(int id) const { return to_.value(id).type; }

  int now(int source_value) const { return current_[static_cast<std::size_t>(source_value)]; }  ///< what stands for it
  std::vector<int> operands(const Node& source_node) const;  ///< what stands for a node's inputs

  const Node* producer(int id) const;                       ///< null for inputs and constants
  const Node* producer(int id, std::string_view op) const;  ///< null unless it is that operator
  int uses(int id) const;                                   ///< by nodes and as an output, together
  bool used_once(int id) const { return uses(id) == 1; }
  bool is_output(int id) const;  ///< of the source graph

  const std::optional<Array>& constant(int id) const { return to_.value(id).constant; }
  std::optional<double> scalar(int id) const;  ///< of a constant of one element

  /// An output needs bytes of its own: it cannot become an input, a constant or another output.
  bool may_replace(const Node& source_node, int replacement) const;
  void keep(const Node& source_node);  ///< as it is, with operands that stand for its own
  /// `replacement` holds exactly what the node's only result held. A new value takes its name and origin.
  void replace(const Node& source_node, int replacement);
  int add(const Operator& op, const Json& attributes, std::vector<int> inputs, const std::string& name);
  int add_constant(Array array, const std::string& name);

  bool changed() const { return changed_; }
  Graph finish();

 private:
  Graph to_;
  std::vector<int> source_outputs_;
  std::vector<int> current_;   ///< by source value
  std::vector<int> producer_;  ///< by value of to_
  std::vector<int> uses_;      ///< by value of to_, those still to come included
  std::vector<bool> named_;    ///< new values that took a source value's name
  bool changed_ = false;
};

/// Walks over a graph: `rewrite` returns what replaces a node's result, or nothing to keep it.
template <class F>
Graph rewrite_nodes(const Graph& graph, F rewrite) {
  Rewriter r(graph);
  for (const Node& node : graph.nodes) {
    std::optional<int> replacement;
    if (node.outputs.size() == 1) replacement = rewrite(r, node);
    if (replacement && r.may_replace(node, *replacement)) r.replace(node, *replacement);
    else r.keep(node);
  }
  return r.finish();
}

/// What replaces a node's result; nothing: it stays.
using Result = std::optional<int>;

/// What a rule sees: the node with its operands as they are now.
struct Site {
  Rewriter& r;
  const Operators& operators;
  const Node& node;
  std::vector<int> in;

  std::string_view op() const { return node.op->name(); }
  bool is(std::string_view name) const { return op() == name; }
  const TensorType& out() const { return r.type(node.outputs[0]); }
  bool same_type_as_out(int id) const { return r.type(id).dtype == out().dtype && r.type(id).shape == out().shape; }
  int add(std::string_view name, const Json& attributes, std::vector<int> inputs) const {
    return r.add(operators.get(name), attributes, std::move(inputs), node.name);
  }
  int constant(Array array, std::string_view suffix = "~constant") const {
    return r.add_constant(std::move(array), node.name + std::string(suffix));
  }
  Json attribute(const char* name) const { return node.attributes.at(name); }
};

/// x of `op(x, c)` or, where op commutes, of `op(c, x)` with the constant of one element near `c` (relative 1e-5).
std::optional<int> operand_beside(const Rewriter& r, int id, std::string_view op, double c);
/// x and c of the same where c is any constant of one element.
struct BesideScalar {
  int x;
  double scalar;
};
std::optional<BesideScalar> operand_beside_scalar(const Rewriter& r, int id, std::string_view op);
bool near(double a, double b);  ///< to 1e-5, relative

}  // namespace heddle::graph
