#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/array.hpp"
#include "dsl/operator.hpp"
#include "dsl/tensor.hpp"

namespace heddle::graph {

/// A typed SSA value.
struct Value {
  std::string name;  ///< unique in the graph
  TensorType type;
  std::optional<Array> constant;  ///< known at compile time
  /// Elements of a small integer tensor as expressions of the symbolic extents (shape arithmetic), row-major.
  std::optional<std::vector<Extent>> extents;
  /// The source model's tensor that this holds, element for element in logical order; empty if none does (a folded
  /// batch norm's convolution takes the batch norm's name). Tests compare by it.
  std::string origin;
};

/// One application of a catalog operator. An operand that the operator declares optional is left out at the end.
struct Node {
  std::string name;  ///< of the source's node, for messages
  const Operator* op = nullptr;
  Json attributes;          ///< canonical
  std::vector<int> inputs;  ///< values
  std::vector<int> outputs;
};

/// A graph in SSA form: nodes in dependence order, each value written once. A value type: passes take and return it.
struct Graph {
  std::string name;
  std::vector<Value> values;
  std::vector<Node> nodes;
  std::vector<int> inputs, outputs;
  SymbolRanges symbols;

  const Value& value(int id) const { return values.at(static_cast<std::size_t>(id)); }
  Value& value(int id) { return values.at(static_cast<std::size_t>(id)); }

  int add_value(Value v);
  int add_constant(std::string name, Array array);
  /// Appends a node; infers its outputs' types; returns the outputs' ids.
  std::vector<int> add_node(std::string name, const Operator& op, const Json& attributes, std::vector<int> inputs,
                            std::vector<std::string> output_names);

  std::vector<int> producer() const;                ///< node that writes each value; -1 for inputs and constants
  std::vector<std::vector<int>> consumers() const;  ///< nodes that read each value
  std::string print() const;                        ///< one line a node, with types
  void check() const;  ///< SSA, order, types agree with the type rules; throws Error{internal}
};

/// Removes nodes and values that no output needs and renumbers.
Graph compact(const Graph& graph);

}  // namespace heddle::graph
