#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.hpp"
#include "ops/catalog.hpp"

namespace heddle::graph {

/// Writes graphs for tests: types as text, random constants, results named after their operator.
class ModelBuilder {
 public:
  explicit ModelBuilder(SymbolRanges symbols = {}) { graph.symbols = std::move(symbols); }

  int input(const std::string& name, std::string_view type);
  int constant(std::string_view type);  ///< random in [-1, 1]
  int constant(Array array);
  int op(const std::string& name, std::vector<int> inputs, const Json& attributes = Json::object());
  void output(int value, const std::string& name = "");

  Graph graph;

 private:
  Operators operators_;
  std::uint32_t state_ = 1;
  int count_ = 0;
};

/// Uniform in [-1, 1], the same for the same seed.
Array random_array(DType type, const Shape& shape, std::uint32_t& state);

/// Inputs for a graph whose symbols have the given values.
std::vector<Array> random_inputs(const Graph& graph, const SymbolValues& symbols = {}, std::uint32_t seed = 7);

/// The largest difference between two lists of results, relative to the largest element of each; a shape that differs
/// counts as infinite.
double difference(const std::vector<Array>& got, const std::vector<Array>& want);

}  // namespace heddle::graph
