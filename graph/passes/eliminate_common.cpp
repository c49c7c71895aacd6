#include <map>

#include <xxhash.h>

#include "graph/passes/passes.hpp"
#include "graph/passes/rewrite.hpp"

namespace heddle::graph {
namespace {

/// The first constant with the same content, for every constant.
std::vector<int> equal_constants(const Graph& graph) {
  std::vector<int> first(graph.values.size());
  std::multimap<std::uint64_t, int> seen;
  for (std::size_t i = 0; i < graph.values.size(); ++i) {
    first[i] = static_cast<int>(i);
    const auto& array = graph.values[i].constant;
    if (!array) continue;
    const std::uint64_t hash = XXH3_64bits(array->data(), array->bytes());
    const auto [begin, end] = seen.equal_range(hash);
    for (auto at = begin; at != end && first[i] == static_cast<int>(i); ++at)
      if (*graph.value(at->second).constant == *array) first[i] = at->second;
    if (first[i] == static_cast<int>(i)) seen.emplace(hash, static_cast<int>(i));
  }
  return first;
}

}  // namespace

/// Before: a = f(x), b = f(x). After: b is a. Constants of equal content become one as well.
Graph eliminate_common(const Graph& source) {
  Graph graph = source;
  const std::vector<int> first = equal_constants(graph);
  for (Node& node : graph.nodes)
    for (int& id : node.inputs) id = first[static_cast<std::size_t>(id)];
  std::map<std::string, int> known;
  return rewrite_nodes(graph, [&](Rewriter& r, const Node& node) -> std::optional<int> {
    std::string key = std::string(node.op->name()) + node.attributes.dump();
    for (const int id : r.operands(node)) key += "," + std::to_string(id);
    const auto [at, fresh] = known.try_emplace(key, node.outputs[0]);
    return fresh ? std::nullopt : std::optional(at->second);
  });
}

}  // namespace heddle::graph
