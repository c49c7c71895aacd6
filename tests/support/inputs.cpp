#include "tests/support/inputs.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>

namespace heddle::testing {
namespace {

/// Not std::uniform_*: those differ between standard libraries.
double unit(std::mt19937_64& random) { return static_cast<double>(random() >> 11) * 0x1p-53; }

bool moderate(double value) { return std::isfinite(value) && std::abs(value) < 1e30; }

}  // namespace

std::uint64_t seed() {
  const char* text = std::getenv("HEDDLE_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

std::mt19937_64 generator_for(std::uint64_t seed, std::string_view what, std::uint64_t index) {
  std::uint64_t hash = 0xcbf29ce484222325U ^ seed;
  const auto mix = [&](std::uint64_t byte) { hash = (hash ^ byte) * 0x100000001b3U; };
  for (const char c : what) mix(static_cast<unsigned char>(c));
  mix(index & 0xFFU);
  mix(index >> 8);
  return std::mt19937_64(hash);
}

Array draw(DType type, const Shape& shape, const ValueDomain& domain, Extremes extremes, std::mt19937_64& random) {
  std::vector<double> special;
  if (extremes != Extremes::none)
    for (const double value : domain.extremes)
      if (extremes == Extremes::all || moderate(value)) special.push_back(value);
  const bool whole = !is_float(type);
  Array array(type, shape);
  for (std::int64_t i = 0; i < array.size(); ++i) {
    const double at = unit(random);
    if (!special.empty() && random() % 4 == 0) array.set(i, special[random() % special.size()]);
    else if (whole) array.set(i, std::floor(domain.low + at * (domain.high - domain.low + 1)));
    else array.set(i, domain.low + at * (domain.high - domain.low));
  }
  return array;
}

Shape shape_of(const TensorType& type, const SymbolValues& symbols) {
  Shape shape;
  for (const auto& extent : type.shape) shape.push_back(extent.evaluate(symbols));
  return shape;
}

std::vector<Array> draw_inputs(const Case& test, const SymbolValues& symbols, Extremes extremes,
                               std::mt19937_64& random) {
  std::vector<Array> inputs;
  for (std::size_t i = 0; i < test.inputs.size(); ++i) {
    ValueDomain domain = i < test.domains.size() ? test.domains[i] : ValueDomain{};
    const DType type = test.inputs[i].dtype;
    if (type == DType::boolean) domain = {0, 1, {}};
    const bool is_unsigned = type == DType::u8 || type == DType::u16 || type == DType::u32 || type == DType::u64;
    if (is_unsigned) domain.low = std::max(domain.low, 0.0);
    inputs.push_back(draw(type, shape_of(test.inputs[i], symbols), domain, extremes, random));
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
  Composition c = Workload::of(op, test.attributes, test.inputs, {}, threads).composition();
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
