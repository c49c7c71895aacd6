#include "tests/graph/model_builder.hpp"

#include <cmath>
#include <limits>

#include <fmt/format.h>

namespace heddle::graph {

Array random_array(DType type, const Shape& shape, std::uint32_t& state) {
  Array array(type, shape);
  for (std::int64_t i = 0; i < array.size(); ++i) {
    state = state * 1664525U + 1013904223U;
    const double unit = static_cast<double>(state >> 8) / static_cast<double>(1U << 24);
    array.set(i, is_float(type) ? 2 * unit - 1 : std::floor(unit * 4));
  }
  return array;
}

int ModelBuilder::input(const std::string& name, std::string_view type) {
  Value v;
  v.name = name;
  v.type = TensorType::parse(type);
  const int id = graph.add_value(std::move(v));
  graph.inputs.push_back(id);
  return id;
}

int ModelBuilder::constant(std::string_view type) {
  const TensorType t = TensorType::parse(type);
  Shape shape;
  for (const Extent& extent : t.shape) shape.push_back(extent.value());
  return constant(random_array(t.dtype, shape, state_));
}

int ModelBuilder::constant(Array array) {
  return graph.add_constant(fmt::format("constant_{}", count_++), std::move(array));
}

int ModelBuilder::op(const std::string& name, std::vector<int> inputs, const Json& attributes) {
  const std::string unique = fmt::format("{}_{}", name, count_++);
  const int id = graph.add_node(unique, operators_.get(name), attributes, std::move(inputs), {unique})[0];
  graph.value(id).type.layout = {};
  graph.value(id).origin = unique;
  return id;
}

void ModelBuilder::output(int value, const std::string& name) {
  if (!name.empty()) graph.value(value).name = name;
  graph.outputs.push_back(value);
}

std::vector<Array> random_inputs(const Graph& graph, const SymbolValues& symbols, std::uint32_t seed) {
  std::vector<Array> inputs;
  for (const int v : graph.inputs) {
    Shape shape;
    for (const Extent& extent : graph.value(v).type.shape) shape.push_back(extent.evaluate(symbols));
    inputs.push_back(random_array(graph.value(v).type.dtype, shape, seed));
  }
  return inputs;
}

double difference(const std::vector<Array>& got, const std::vector<Array>& want) {
  constexpr double infinite = std::numeric_limits<double>::infinity();
  if (got.size() != want.size()) return infinite;
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (got[i].shape() != want[i].shape() || got[i].dtype() != want[i].dtype()) return infinite;
    double largest = 1e-30, error = 0;
    for (std::int64_t e = 0; e < want[i].size(); ++e) {
      const double d = std::abs(got[i].at(e) - want[i].at(e));
      if (std::isnan(d)) return infinite;
      error = std::max(error, d);
      largest = std::max(largest, std::abs(want[i].at(e)));
    }
    worst = std::max(worst, error / largest);
  }
  return worst;
}

}  // namespace heddle::graph
