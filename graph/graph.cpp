#include "graph/graph.hpp"

#include <algorithm>
#include <iterator>
#include <unordered_set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.hpp"

namespace heddle::graph {
namespace {

[[noreturn]] void broken(const std::string& what) { throw Error(ErrorCode::internal, "broken graph: " + what); }

bool same_shape_and_dtype(const TensorType& a, const TensorType& b) { return a.dtype == b.dtype && a.shape == b.shape; }

/// Long constants are cut: the text is for people.
std::string print_constant(const Array& array) {
  constexpr std::int64_t shown = 8;
  std::vector<std::string> elements;
  for (std::int64_t i = 0; i < std::min(array.size(), shown); ++i) elements.push_back(fmt::format("{:g}", array.at(i)));
  return fmt::format("[{}{}]", fmt::join(elements, ", "), array.size() > shown ? ", ..." : "");
}

}  // namespace

int Graph::add_value(Value v) {
  const auto taken = [&](const std::string& candidate) {
    return std::any_of(values.begin(), values.end(), [&](const Value& other) { return other.name == candidate; });
  };
  if (v.name.empty()) v.name = "value";
  if (taken(v.name)) {
    // A suffix that no source model is likely to use keeps the loop short.
    for (int i = 1;; ++i) {
      std::string candidate = fmt::format("{}~{}", v.name, i);
      if (taken(candidate)) continue;
      v.name = std::move(candidate);
      break;
    }
  }
  values.push_back(std::move(v));
  return static_cast<int>(values.size()) - 1;
}

int Graph::add_constant(std::string constant_name, Array array) {
  Value v;
  v.name = std::move(constant_name);
  v.type = types_of(std::span(&array, 1))[0];
  v.constant = std::move(array);
  return add_value(std::move(v));
}

std::vector<int> Graph::add_node(std::string node_name, const Operator& op, const Json& attributes,
                                 std::vector<int> node_inputs, std::vector<std::string> output_names) {
  std::vector<TensorType> types;
  types.reserve(node_inputs.size());
  for (const int id : node_inputs) types.push_back(value(id).type);
  std::vector<int> ids;
  try {
    Node node;
    node.attributes = op.canonical(attributes);
    const std::vector<TensorType> inferred = op.infer(node.attributes, types);
    for (std::size_t i = 0; i < inferred.size(); ++i) {
      Value v;
      v.name = i < output_names.size() && !output_names[i].empty() ? output_names[i] : node_name;
      v.type = inferred[i];
      ids.push_back(add_value(std::move(v)));
    }
    node.name = node_name;
    node.op = &op;
    node.inputs = std::move(node_inputs);
    node.outputs = ids;
    nodes.push_back(std::move(node));
  } catch (const Error& e) {
    throw e.within(fmt::format("node '{}' ({})", node_name, op.name()));
  }
  return ids;
}

std::vector<int> Graph::producer() const {
  std::vector<int> result(values.size(), -1);
  for (std::size_t n = 0; n < nodes.size(); ++n)
    for (const int id : nodes[n].outputs) result.at(static_cast<std::size_t>(id)) = static_cast<int>(n);
  return result;
}

std::vector<std::vector<int>> Graph::consumers() const {
  std::vector<std::vector<int>> result(values.size());
  for (std::size_t n = 0; n < nodes.size(); ++n)
    for (const int id : nodes[n].inputs) {
      auto& readers = result.at(static_cast<std::size_t>(id));
      if (readers.empty() || readers.back() != static_cast<int>(n)) readers.push_back(static_cast<int>(n));
    }
  return result;
}

std::string Graph::print() const {
  std::string text = fmt::format("graph {}\n", name);
  for (const auto& [symbol, range] : symbols)
    text += fmt::format("symbol {} in [{}, {}]\n", symbol, range.min, range.max);
  for (const int id : inputs) text += fmt::format("input %{} {}: {}\n", id, value(id).name, value(id).type.str());
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i].constant)
      text += fmt::format("constant %{} {}: {} = {}\n", i, values[i].name, values[i].type.str(),
                          print_constant(*values[i].constant));
  for (const Node& node : nodes) {
    std::vector<std::string> results, operands;
    for (const int id : node.outputs)
      results.push_back(fmt::format("%{} {}: {}", id, value(id).name, value(id).type.str()));
    for (const int id : node.inputs) operands.push_back(fmt::format("%{}", id));
    text += fmt::format("{} = {}({})", fmt::join(results, ", "), node.op->name(), fmt::join(operands, ", "));
    // Defaults say nothing.
    const Json defaults = node.op->canonical(Json::object());
    Json shown = Json::object();
    for (const auto& [key, attribute] : node.attributes.items())
      if (!defaults.contains(key) || defaults[key] != attribute) shown[key] = attribute;
    if (!shown.empty()) text += " " + shown.dump();
    text += "\n";
  }
  for (const int id : outputs) text += fmt::format("output %{} {}: {}\n", id, value(id).name, value(id).type.str());
  return text;
}

void Graph::check() const {
  const auto known = [&](int id) { return id >= 0 && static_cast<std::size_t>(id) < values.size(); };
  std::unordered_set<std::string_view> names;
  for (const Value& v : values) {
    if (!names.insert(v.name).second) broken(fmt::format("two values are called '{}'", v.name));
    if (v.constant &&
        (v.constant->dtype() != v.type.dtype || types_of(std::span(&*v.constant, 1))[0].shape != v.type.shape))
      broken(fmt::format("constant '{}' is not of its type {}", v.name, v.type.str()));
    for (const Extent& extent : v.type.shape)
      for (const std::string& symbol : extent.symbols())
        if (!symbols.contains(symbol)) broken(fmt::format("symbol '{}' of value '{}' has no range", symbol, v.name));
  }
  std::vector<bool> ready(values.size(), false);
  for (std::size_t i = 0; i < values.size(); ++i) ready[i] = values[i].constant.has_value();
  for (const int id : inputs) {
    if (!known(id)) broken(fmt::format("input {} does not exist", id));
    if (ready[static_cast<std::size_t>(id)])
      broken(fmt::format("input '{}' is a constant or listed twice", value(id).name));
    ready[static_cast<std::size_t>(id)] = true;
  }
  for (const Node& node : nodes) {
    std::vector<TensorType> types;
    for (const int id : node.inputs) {
      if (!known(id)) broken(fmt::format("node '{}' reads value {}, which does not exist", node.name, id));
      if (!ready[static_cast<std::size_t>(id)])
        broken(fmt::format("node '{}' reads '{}' before it is written", node.name, value(id).name));
      types.push_back(value(id).type);
    }
    const std::vector<TensorType> inferred = node.op->infer(node.attributes, types);
    if (inferred.size() != node.outputs.size())
      broken(fmt::format("node '{}' has {} outputs instead of {}", node.name, node.outputs.size(), inferred.size()));
    for (std::size_t i = 0; i < inferred.size(); ++i) {
      const int id = node.outputs[i];
      if (!known(id)) broken(fmt::format("node '{}' writes value {}, which does not exist", node.name, id));
      if (ready[static_cast<std::size_t>(id)]) broken(fmt::format("'{}' is written twice", value(id).name));
      if (!same_shape_and_dtype(inferred[i], value(id).type))
        broken(fmt::format("'{}' is {}, but {} gives {}", value(id).name, value(id).type.str(), node.op->name(),
                           inferred[i].str()));
      ready[static_cast<std::size_t>(id)] = true;
    }
  }
  for (const int id : outputs)
    if (!known(id) || !ready[static_cast<std::size_t>(id)]) broken(fmt::format("output {} is never written", id));
}

Graph compact(const Graph& graph) {
  std::vector<bool> live(graph.values.size(), false);
  const auto mark = [&](const std::vector<int>& ids) {
    for (const int id : ids) live[static_cast<std::size_t>(id)] = true;
  };
  mark(graph.outputs);
  mark(graph.inputs);
  std::vector<bool> needed(graph.nodes.size(), false);
  for (std::size_t n = graph.nodes.size(); n-- > 0;) {
    const Node& node = graph.nodes[n];
    needed[n] = std::any_of(node.outputs.begin(), node.outputs.end(),
                            [&](int id) { return live[static_cast<std::size_t>(id)]; });
    if (!needed[n]) continue;
    mark(node.inputs);
    mark(node.outputs);
  }
  Graph result;
  result.name = graph.name;
  result.symbols = graph.symbols;
  std::vector<int> renumbered(graph.values.size(), -1);
  for (std::size_t i = 0; i < graph.values.size(); ++i) {
    if (!live[i]) continue;
    renumbered[i] = static_cast<int>(result.values.size());
    result.values.push_back(graph.values[i]);
  }
  const auto renumber = [&](const std::vector<int>& ids) {
    std::vector<int> to;
    to.reserve(ids.size());
    for (const int id : ids) to.push_back(renumbered[static_cast<std::size_t>(id)]);
    return to;
  };
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    if (!needed[n]) continue;
    Node node = graph.nodes[n];
    node.inputs = renumber(node.inputs);
    node.outputs = renumber(node.outputs);
    result.nodes.push_back(std::move(node));
  }
  result.inputs = renumber(graph.inputs);
  result.outputs = renumber(graph.outputs);
  return result;
}

}  // namespace heddle::graph
