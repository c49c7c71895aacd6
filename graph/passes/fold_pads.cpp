#include <algorithm>

#include "graph/attributes.hpp"
#include "graph/passes/passes.hpp"
#include "graph/passes/rewrite.hpp"

namespace heddle::graph {
namespace {

using Ints = std::vector<std::int64_t>;

/// A pad of spatial dimensions alone, beginnings then ends, with its value; nothing if it cuts, mirrors or is symbolic.
struct SpatialPad {
  Ints pads;
  double value;
};

std::optional<SpatialPad> spatial_pad(const Node& node, int rank) {
  const auto pads = node.attributes.at("pads").get<std::vector<Extent>>();
  if (node.attributes.at("mode") != "constant" || rank < 3) return std::nullopt;
  SpatialPad result;
  const Json& value = node.attributes.at("value");
  result.value = value.is_number() ? value.get<double>()
                 : value == "-inf" ? -std::numeric_limits<double>::infinity()
                                   : std::numeric_limits<double>::quiet_NaN();
  for (int i = 0; i < 2 * rank; ++i) {
    const auto fixed = pads[static_cast<std::size_t>(i)].constant();
    if (!fixed || *fixed < 0) return std::nullopt;
    if (i % rank >= 2) result.pads.push_back(*fixed);
    else if (*fixed != 0) return std::nullopt;
  }
  return result;
}

}  // namespace

/// Before: conv(pad(x, the value that it pads with)), max_pool(pad(x, -inf)), average_pool(pad(x, 0)) that counts its
/// pads. After: the window with larger pads, which the producer of x writes as a border at no cost.
Graph fold_pads(const Graph& graph) {
  return rewrite_nodes(graph, [](Rewriter& r, const Node& node) -> std::optional<int> {
    const std::string_view op = node.op->name();
    if (op != "conv" && op != "max_pool" && op != "average_pool") return std::nullopt;
    std::vector<int> in = r.operands(node);
    const Node* pad = r.producer(in[0], "pad");
    if (pad == nullptr) return std::nullopt;
    const auto outer = spatial_pad(*pad, r.type(in[0]).rank());
    if (!outer || outer->value != wanted_border_value(node, r.type(in[0]).dtype)) return std::nullopt;
    Json attributes = node.attributes;
    // A window that sticks out at the end depends on where the padding ends.
    if (attributes.value("ceil_mode", false)) return std::nullopt;
    Ints pads = attributes.at("pads").get<Ints>();
    const bool none = std::all_of(pads.begin(), pads.end(), [](std::int64_t p) { return p == 0; });
    if (op == "average_pool") {
      if (!none && !attributes.at("count_include_pad").get<bool>()) return std::nullopt;
      attributes["count_include_pad"] = true;
    }
    pads.resize(outer->pads.size(), 0);
    for (std::size_t i = 0; i < pads.size(); ++i) pads[i] += outer->pads[i];
    if (op != "conv") {
      // The pooling operators want every window to hold an element.
      const auto kernel = attributes.at("kernel_shape").get<Ints>();
      auto dilations = attributes.at("dilations").get<Ints>();
      dilations.resize(kernel.size(), 1);
      for (std::size_t i = 0; i < pads.size(); ++i)
        if (pads[i] >= (kernel[i % kernel.size()] - 1) * dilations[i % kernel.size()] + 1) return std::nullopt;
    }
    attributes["pads"] = pads;
    in[0] = pad->inputs[0];
    return r.add(*node.op, attributes, in, node.name);
  });
}

}  // namespace heddle::graph
