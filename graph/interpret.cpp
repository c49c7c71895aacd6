#include "graph/interpret.hpp"

#include <fmt/format.h>

#include "base/error.hpp"
#include "dsl/workload.hpp"

namespace heddle::graph {
namespace {

SymbolValues bind_inputs(const Graph& graph, std::span<const Array> inputs) {
  if (inputs.size() != graph.inputs.size())
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} inputs given, {} expected", inputs.size(), graph.inputs.size()));
  std::vector<TensorType> types;
  std::vector<Shape> shapes;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Value& v = graph.value(graph.inputs[i]);
    if (inputs[i].dtype() != v.type.dtype)
      throw Error(ErrorCode::invalid_argument, fmt::format("input '{}' is {}, expected {}", v.name,
                                                           to_string(inputs[i].dtype()), to_string(v.type.dtype)));
    types.push_back(v.type);
    shapes.push_back(inputs[i].shape());
  }
  return bind_symbols(types, shapes);
}

/// Runs every node; `release` frees values after their last use.
std::vector<Array> run(const Graph& graph, std::span<const Array> inputs, bool release) {
  const SymbolValues symbols = bind_inputs(graph, inputs);
  std::vector<Array> values(graph.values.size());
  for (std::size_t i = 0; i < graph.values.size(); ++i)
    if (graph.values[i].constant) values[i] = *graph.values[i].constant;
  for (std::size_t i = 0; i < inputs.size(); ++i) values[static_cast<std::size_t>(graph.inputs[i])] = inputs[i];
  std::vector<std::size_t> last(graph.values.size(), 0);
  for (std::size_t n = 0; n < graph.nodes.size(); ++n)
    for (const int id : graph.nodes[n].inputs) last[static_cast<std::size_t>(id)] = n;
  for (const int id : graph.outputs) last[static_cast<std::size_t>(id)] = graph.nodes.size();
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    std::vector<Array> operands;
    for (const int id : node.inputs) operands.push_back(values[static_cast<std::size_t>(id)]);
    std::vector<Array> results = evaluate_node(graph, node, operands, symbols);
    for (std::size_t i = 0; i < results.size(); ++i)
      values[static_cast<std::size_t>(node.outputs[i])] = std::move(results[i]);
    if (!release) continue;
    for (const int id : node.inputs)
      if (last[static_cast<std::size_t>(id)] == n) values[static_cast<std::size_t>(id)] = Array();
  }
  return values;
}

}  // namespace

std::vector<Array> evaluate_node(const Graph& graph, const Node& node, std::span<const Array> operands,
                                 const SymbolValues& symbols) {
  std::vector<Array> results;
  for (const int id : node.outputs) {
    Shape shape;
    for (const Extent& extent : graph.value(id).type.shape) shape.push_back(extent.evaluate(symbols));
    results.emplace_back(graph.value(id).type.dtype, std::move(shape));
  }
  try {
    node.op->reference(node.attributes, operands, results);
  } catch (const Error& e) {
    throw e.within(fmt::format("node '{}' ({})", node.name, node.op->name()));
  }
  return results;
}

std::vector<Array> interpret(const Graph& graph, std::span<const Array> inputs) {
  const std::vector<Array> values = run(graph, inputs, true);
  std::vector<Array> outputs;
  for (const int id : graph.outputs) outputs.push_back(values[static_cast<std::size_t>(id)]);
  return outputs;
}

std::vector<Array> interpret_all(const Graph& graph, std::span<const Array> inputs) {
  return run(graph, inputs, false);
}

}  // namespace heddle::graph
