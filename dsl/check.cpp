#include "dsl/check.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace heddle {
namespace {

/// Not std::uniform_*: those differ between standard libraries.
double unit(std::mt19937_64& random) { return static_cast<double>(random() >> 11) * 0x1p-53; }

bool moderate(double value) { return std::isfinite(value) && std::abs(value) < 1e30; }

/// The domain of an operand: of a case with these attributes if there is one, else of one with this element type.
ValueDomain stated_domain(const Operator& op, const Json& attributes, std::size_t operand, DType type) {
  ValueDomain found;
  bool some = false;
  for (const Case& test : op.cases()) {
    if (operand >= test.inputs.size() || test.inputs[operand].dtype != type) continue;
    const bool same = op.canonical(test.attributes) == attributes;
    if (some && !same) continue;
    found = operand < test.domains.size() ? test.domains[operand] : ValueDomain{};
    some = true;
    if (same) break;
  }
  return found;
}

}  // namespace

std::mt19937_64 generator_for(std::uint64_t seed, std::string_view what, std::uint64_t index) {
  std::uint64_t hash = 0xcbf29ce484222325U ^ seed;
  const auto mix = [&](std::uint64_t byte) { hash = (hash ^ byte) * 0x100000001b3U; };
  for (const char c : what) mix(static_cast<unsigned char>(c));
  mix(index & 0xFFU);
  mix(index >> 8);
  return std::mt19937_64(hash);
}

Array draw(DType type, const Shape& shape, ValueDomain domain, Extremes extremes, std::mt19937_64& random) {
  if (type == DType::boolean) domain = {0, 1, {}};
  const bool is_unsigned = type == DType::u8 || type == DType::u16 || type == DType::u32 || type == DType::u64;
  if (is_unsigned) domain.low = std::max(domain.low, 0.0);
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

std::vector<Array> draw_inputs(const Workload& workload, const SymbolValues& symbols, Extremes extremes,
                               std::mt19937_64& random) {
  const Composition& c = workload.composition();
  std::vector<Array> inputs;
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    const TensorType& type = c.inputs[i].type;
    ValueDomain domain;
    for (const auto& node : c.nodes) {
      const auto operand = std::find(node.operands.begin(), node.operands.end(), static_cast<int>(i));
      if (operand == node.operands.end()) continue;
      domain = stated_domain(*node.op, node.attributes, static_cast<std::size_t>(operand - node.operands.begin()),
                             type.dtype);
      break;
    }
    inputs.push_back(draw(type.dtype, shape_of(type, symbols), domain, extremes, random));
  }
  return inputs;
}

std::string difference(const Workload& workload, std::span<const Array> outputs, const Expectation& expected,
                       std::string_view variant) {
  const Tolerance tolerance = workload.tolerance(variant);
  const std::vector<Array>& want = expected.outputs;
  for (std::size_t i = 0; i < want.size(); ++i) {
    std::string found = mismatch(outputs[i], want[i], tolerance, expected.largest[i]);
    // Through double, integers beyond 2^53 would look alike.
    const bool exact = tolerance.relative == 0 && tolerance.of_largest == 0 && !is_float(want[i].dtype());
    if (found.empty() && exact && !(outputs[i] == want[i]))
      found = "integers differ in bits that a double does not hold";
    if (!found.empty()) return fmt::format("output {}: {}", i, found);
  }
  return "";
}

}  // namespace heddle
