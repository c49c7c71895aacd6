#include "tests/support/inputs.hpp"

#include <algorithm>
#include <cstdlib>
#include <numeric>

namespace heddle::testing {

std::uint64_t seed() {
  const char* text = std::getenv("HEDDLE_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

std::vector<Array> draw_inputs(const Case& test, const SymbolValues& symbols, Extremes extremes,
                               std::mt19937_64& random) {
  std::vector<Array> inputs;
  for (std::size_t i = 0; i < test.inputs.size(); ++i) {
    const ValueDomain domain = i < test.domains.size() ? test.domains[i] : ValueDomain{};
    inputs.push_back(draw(test.inputs[i].dtype, shape_of(test.inputs[i], symbols), domain, extremes, random));
  }
  return inputs;
}

SymbolRanges ranges_of(const Case& test) {
  SymbolRanges ranges;
  for (const auto& binding : test.bindings)
    for (const auto& [name, value] : binding) {
      const auto [at, fresh] = ranges.emplace(name, Range{value, value});
      at->second = {std::min(at->second.min, value), std::max(at->second.max, value)};
    }
  return ranges;
}

Case bind(const Case& test, const Operator& op, const SymbolValues& symbols) {
  std::map<std::string, Extent> replacements;
  for (const auto& [name, value] : symbols) replacements[name] = value;
  Case bound = test;
  bound.attributes = op.bind(op.canonical(test.attributes), replacements);
  for (auto& type : bound.inputs) type = type.substitute(replacements);
  bound.bindings.clear();
  return bound;
}

Workload channels_last_form(const Operator& op, const Case& test, int threads) {
  Composition c = Workload::of(op, test.attributes, test.inputs, ranges_of(test), threads).composition();
  for (auto& input : c.inputs)
    if (!input.constant && input.type.rank() >= 3) input.type.layout.order = channels_last(input.type.rank());
  const auto pads = test.attributes.value("pads", std::vector<std::int64_t>{});
  TensorType& x = c.inputs[0].type;
  if (op.name() == "conv" && static_cast<int>(pads.size()) == 2 * (x.rank() - 2)) {
    x.layout.border.resize(x.shape.size());
    for (std::size_t d = 0; d < pads.size() / 2; ++d) x.layout.border[d + 2] = {pads[d], pads[d + pads.size() / 2]};
  }
  Layout out;
  out.order = channels_last(Workload(c).output_types()[0].rank());
  if (out.order.size() >= 3) c.output_layouts = {out};
  return Workload(std::move(c));
}

Layout random_layout(int rank, std::mt19937_64& random) {
  Layout layout;
  layout.order.resize(static_cast<std::size_t>(rank));
  std::iota(layout.order.begin(), layout.order.end(), 0);
  for (std::size_t i = layout.order.size(); i > 1; --i) std::swap(layout.order[i - 1], layout.order[random() % i]);
  for (int d = 0; d < rank; ++d)
    layout.border.push_back({static_cast<std::int64_t>(random() % 3), static_cast<std::int64_t>(random() % 3)});
  return layout;
}

}  // namespace heddle::testing
