#include "tests/graph/pass_check.hpp"

#include <catch2/catch.hpp>

#include "graph/interpret.hpp"
#include "tests/graph/model_builder.hpp"

namespace heddle::graph {

Graph checked(const Graph& graph, Graph (*pass)(const Graph&), const SymbolValues& symbols, double tolerance) {
  Graph result = pass(graph);
  result.check();
  REQUIRE(result.inputs.size() == graph.inputs.size());
  REQUIRE(result.outputs.size() == graph.outputs.size());
  for (std::size_t i = 0; i < graph.inputs.size(); ++i)
    CHECK(result.value(result.inputs[i]).name == graph.value(graph.inputs[i]).name);
  for (std::size_t i = 0; i < graph.outputs.size(); ++i) {
    CHECK(result.value(result.outputs[i]).name == graph.value(graph.outputs[i]).name);
    CHECK(result.value(result.outputs[i]).type.str() == graph.value(graph.outputs[i]).type.str());
  }
  const auto inputs = random_inputs(graph, symbols);
  CHECK(difference(interpret(result, inputs), interpret(graph, inputs)) < tolerance);
  return result;
}

std::vector<std::string> operator_names(const Graph& graph) {
  std::vector<std::string> names;
  for (const Node& node : graph.nodes) names.emplace_back(node.op->name());
  return names;
}

}  // namespace heddle::graph
