#include "graph/onnx/shape_data.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numeric>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::graph::onnx_import {
namespace {

[[noreturn]] void unsupported(const std::string& what) {
  throw Error(ErrorCode::unsupported, what + "; fix the symbolic dimension that it depends on (--dim NAME=SIZE)");
}

Fraction reduced(Fraction f) {
  while (f.denominator > 1) {
    std::int64_t divisor = f.denominator;
    for (const auto& term : f.numerator.terms()) divisor = std::gcd(divisor, term.second);
    if (divisor == 1) break;
    f = {floor_div(f.numerator, divisor), f.denominator / divisor};
  }
  return f;
}

Fraction add(const Fraction& a, const Fraction& b, int sign) {
  return reduced(
      {a.numerator * b.denominator + b.numerator * a.denominator * Extent(sign), a.denominator * b.denominator});
}

Fraction multiply(const Fraction& a, const Fraction& b) {
  return reduced({a.numerator * b.numerator, a.denominator * b.denominator});
}

/// a / b where that is a polynomial over an integer.
Fraction divide(const Fraction& a, const Fraction& b) {
  const Extent numerator = a.numerator * b.denominator;
  const Extent denominator = b.numerator * a.denominator;
  if (const auto fixed = denominator.constant()) {
    if (*fixed == 0) throw Error(ErrorCode::invalid_argument, "a shape is divided by zero");
    return reduced({*fixed < 0 ? numerator * Extent(-1) : numerator, std::abs(*fixed)});
  }
  const Extent quotient = floor_div(numerator, denominator);
  if (!(quotient * denominator == numerator))
    unsupported(fmt::format("{} / {} is not a whole number for every size", numerator.str(), denominator.str()));
  return {quotient, 1};
}

Fraction floor_of(const Fraction& f) { return {floor_div(f.numerator, f.denominator), 1}; }
Fraction ceil_of(const Fraction& f) { return {ceil_div(f.numerator, f.denominator), 1}; }

bool at_least_zero(const Extent& e, const SymbolRanges& symbols) { return tight_bounds(e, symbols).min >= 0; }

/// Conversion to integers and integer division round toward zero, which is the floor of what is not negative.
Fraction truncated(const Fraction& f, const SymbolRanges& symbols) {
  if (f.denominator == 1) return f;
  if (at_least_zero(f.numerator, symbols)) return floor_of(f);
  if (at_least_zero(f.numerator * Extent(-1), symbols)) return ceil_of(f);
  unsupported(fmt::format("({}) / {} may be negative, so its rounding is not known", f.numerator.str(), f.denominator));
}

Fraction integer_divide(const Fraction& a, const Fraction& b, const SymbolRanges& symbols) {
  if (const auto fixed = b.numerator.constant()) {
    if (*fixed == 0) throw Error(ErrorCode::invalid_argument, "a shape is divided by zero");
    return truncated(divide(a, b), symbols);
  }
  if (!at_least_zero(a.numerator, symbols) || b.numerator.bounds(symbols).min <= 0)
    unsupported(
        fmt::format("{} / {} may be negative, so its rounding is not known", a.numerator.str(), b.numerator.str()));
  return {floor_div(a.numerator, b.numerator), 1};
}

Fraction compare(const Fraction& a, const Fraction& b, const SymbolRanges& symbols,
                 const std::function<std::optional<bool>(const Range&)>& decide) {
  const Fraction difference = add(a, b, -1);
  if (const auto known = decide(tight_bounds(difference.numerator, symbols))) return {*known ? 1 : 0, 1};
  unsupported(
      fmt::format("whether {} and {} are equal or ordered depends on the size", a.numerator.str(), b.numerator.str()));
}

std::optional<bool> decide_equal(const Range& difference) {
  if (difference.min == 0 && difference.max == 0) return true;
  if (difference.min > 0 || difference.max < 0) return false;
  return std::nullopt;
}
std::optional<bool> decide_less(const Range& difference) {
  if (difference.max < 0) return true;
  if (difference.min >= 0) return false;
  return std::nullopt;
}
std::optional<bool> decide_less_or_equal(const Range& difference) {
  if (difference.max <= 0) return true;
  if (difference.min > 0) return false;
  return std::nullopt;
}

using Binary = std::function<Fraction(const Fraction&, const Fraction&)>;

/// NumPy's broadcasting on small static shapes.
ShapeData elementwise(const ShapeData& a, const ShapeData& b, DType dtype, const Binary& f) {
  Shape shape(std::max(a.shape.size(), b.shape.size()), 1);
  for (const ShapeData* operand : {&a, &b})
    for (std::size_t d = 0; d < operand->shape.size(); ++d) {
      auto& to = shape[shape.size() - operand->shape.size() + d];
      const std::int64_t from = operand->shape[d];
      if (to == 1) to = from;
      else if (from != 1 && from != to)
        throw Error(ErrorCode::invalid_argument,
                    fmt::format("shapes {} and {} do not broadcast", to_string(a.shape), to_string(b.shape)));
    }
  ShapeData result{dtype, shape, {}};
  const std::int64_t count = element_count(shape);
  const auto source = [&](const ShapeData& operand, std::int64_t flat) {
    std::int64_t index = 0, stride = 1;
    for (std::size_t d = shape.size(); d-- > 0;) {
      const std::int64_t at = flat % shape[d];
      flat /= shape[d];
      const std::size_t skipped = shape.size() - operand.shape.size();
      if (d < skipped) continue;
      const std::int64_t extent = operand.shape[d - skipped];
      if (extent != 1) index += at * stride;
      stride *= extent;
    }
    return static_cast<std::size_t>(index);
  };
  for (std::int64_t i = 0; i < count; ++i)
    result.elements.push_back(f(a.elements[source(a, i)], b.elements[source(b, i)]));
  return result;
}

std::size_t normal_axis(std::int64_t axis, std::size_t rank) {
  const auto r = static_cast<std::int64_t>(rank);
  if (axis < -r || axis >= std::max<std::int64_t>(r, 1))
    throw Error(ErrorCode::invalid_argument, fmt::format("axis {} is outside of rank {}", axis, rank));
  return static_cast<std::size_t>(axis < 0 ? axis + r : axis);
}

const ShapeData& operand(const ShapeCall& call, std::size_t i) {
  if (i >= call.operands.size() || !call.operands[i])
    throw Error(ErrorCode::invalid_argument, fmt::format("input {} is missing", i));
  return *call.operands[i];
}

void require_rank_at_most_1(const ShapeData& data, std::string_view op_type) {
  if (data.shape.size() > 1)
    unsupported(fmt::format("{} of a computed shape of rank {} is not supported", op_type, data.shape.size()));
}

std::int64_t fixed_element(const ShapeData& data, std::size_t i) {
  const auto value = data.elements.at(i).constant();
  if (!value) unsupported(fmt::format("index {} depends on the size", data.elements[i].numerator.str()));
  return static_cast<std::int64_t>(*value);
}

ShapeData cast(const ShapeCall& call) {
  ShapeData data = operand(call, 0);
  const bool truncates = is_float(data.dtype) && is_integer(call.to);
  if (call.to == DType::boolean && data.dtype != DType::boolean)
    for (Fraction& f : data.elements) {
      const auto zero = decide_equal(f.numerator.bounds(call.symbols));
      if (!zero) unsupported(fmt::format("whether {} is zero depends on the size", f.numerator.str()));
      f = {*zero ? 0 : 1, 1};
    }
  data.dtype = call.to;
  if (truncates)
    for (Fraction& f : data.elements) f = truncated(f, call.symbols);
  return data;
}

ShapeData gather(const ShapeCall& call) {
  const ShapeData& data = operand(call, 0);
  const ShapeData& indices = operand(call, 1);
  require_rank_at_most_1(data, call.op_type);
  ShapeData result{data.dtype, indices.shape, {}};
  for (std::size_t i = 0; i < indices.elements.size(); ++i)
    result.elements.push_back(data.elements[normal_axis(fixed_element(indices, i), data.elements.size())]);
  return result;
}

ShapeData slice(const ShapeCall& call) {
  const ShapeData& data = operand(call, 0);
  require_rank_at_most_1(data, call.op_type);
  ShapeData result{data.dtype, {}, {}};
  const auto count = static_cast<std::int64_t>(data.elements.size());
  const std::int64_t step = call.steps.empty() ? 1 : call.steps.at(0);
  if (step == 0) throw Error(ErrorCode::invalid_argument, "a slice's step is 0");
  const auto clamp = [&](std::int64_t at) {
    if (at < 0) at += count;
    return step > 0 ? std::clamp<std::int64_t>(at, 0, count) : std::clamp<std::int64_t>(at, -1, count - 1);
  };
  const std::int64_t start = clamp(call.starts.at(0));
  // With a negative step an end below -count means "before element 0".
  const std::int64_t end = step < 0 && call.ends.at(0) < -count ? -1 : clamp(call.ends.at(0));
  for (std::int64_t i = start; step > 0 ? i < end : i > end; i += step)
    result.elements.push_back(data.elements[static_cast<std::size_t>(i)]);
  result.shape = {static_cast<std::int64_t>(result.elements.size())};
  return result;
}

ShapeData concat(const ShapeCall& call) {
  ShapeData result{operand(call, 0).dtype, {}, {}};
  for (std::size_t i = 0; i < call.operands.size(); ++i) {
    const ShapeData& part = operand(call, i);
    if (part.shape.size() != 1) unsupported("only vectors of sizes can be concatenated");
    result.elements.insert(result.elements.end(), part.elements.begin(), part.elements.end());
  }
  result.shape = {static_cast<std::int64_t>(result.elements.size())};
  return result;
}

ShapeData unsqueeze(const ShapeCall& call) {
  ShapeData data = operand(call, 0);
  const std::size_t rank = data.shape.size() + call.axes.size();
  std::vector<bool> added(rank, false);
  for (const std::int64_t axis : call.axes) added[normal_axis(axis, rank)] = true;
  Shape shape;
  std::size_t from = 0;
  for (std::size_t d = 0; d < rank; ++d) shape.push_back(added[d] ? 1 : data.shape.at(from++));
  data.shape = shape;
  return data;
}

ShapeData squeeze(const ShapeCall& call) {
  ShapeData data = operand(call, 0);
  std::vector<bool> removed(data.shape.size(), false);
  for (std::size_t d = 0; d < data.shape.size(); ++d) removed[d] = call.axes.empty() && data.shape[d] == 1;
  for (const std::int64_t axis : call.axes) removed[normal_axis(axis, data.shape.size())] = true;
  Shape shape;
  for (std::size_t d = 0; d < data.shape.size(); ++d)
    if (!removed[d]) shape.push_back(data.shape[d]);
  data.shape = shape;
  return data;
}

ShapeData reshape(const ShapeCall& call) {
  ShapeData data = operand(call, 0);
  const ShapeData& to = operand(call, 1);
  Shape shape;
  std::int64_t known = 1;
  std::optional<std::size_t> open;
  for (std::size_t i = 0; i < to.elements.size(); ++i) {
    std::int64_t extent = fixed_element(to, i);
    if (extent == 0) extent = data.shape.at(i);
    if (extent == -1) open = i;
    else known *= extent;
    shape.push_back(extent);
  }
  const auto count = static_cast<std::int64_t>(data.elements.size());
  if (open) shape[*open] = known == 0 ? 0 : count / known;
  if (element_count(shape) != count)
    throw Error(ErrorCode::invalid_argument, fmt::format("{} elements cannot become {}", count, to_string(shape)));
  data.shape = shape;
  return data;
}

ShapeData expand(const ShapeCall& call) {
  const ShapeData& data = operand(call, 0);
  const ShapeData& to = operand(call, 1);
  Shape shape;
  for (std::size_t i = 0; i < to.elements.size(); ++i) shape.push_back(fixed_element(to, i));
  if (element_count(shape) > ShapeData::most_elements) unsupported("a computed shape is expanded to a large tensor");
  const ShapeData ones{data.dtype, shape,
                       std::vector<Fraction>(static_cast<std::size_t>(element_count(shape)), Fraction{1, 1})};
  return elementwise(data, ones, data.dtype, [](const Fraction& a, const Fraction&) { return a; });
}

ShapeData reduce(const ShapeCall& call, const Binary& f, const Fraction& start) {
  const ShapeData& data = operand(call, 0);
  require_rank_at_most_1(data, call.op_type);
  Fraction total = start;
  for (std::size_t i = 0; i < data.elements.size(); ++i) total = i == 0 ? data.elements[0] : f(total, data.elements[i]);
  return {data.dtype, call.keep_dims ? Shape{1} : Shape{}, {total}};
}

ShapeData where(const ShapeCall& call) {
  const ShapeData& condition = operand(call, 0);
  const ShapeData& a = operand(call, 1);
  const ShapeData& b = operand(call, 2);
  // Two steps, since broadcasting here takes two operands: number the choice, then look it up.
  const ShapeData chosen = elementwise(condition, a, a.dtype, [&](const Fraction& c, const Fraction& x) {
    const auto known = c.constant();
    if (!known) unsupported("a condition depends on the size");
    return *known != 0 ? x : Fraction{0, 0};
  });
  return elementwise(chosen, b, a.dtype,
                     [](const Fraction& x, const Fraction& y) { return x.denominator == 0 ? y : x; });
}

std::vector<ShapeData> split(const ShapeCall& call) {
  const ShapeData& data = operand(call, 0);
  require_rank_at_most_1(data, call.op_type);
  std::vector<ShapeData> parts;
  std::size_t at = 0;
  for (const std::int64_t size : call.sizes) {
    ShapeData part{data.dtype, {size}, {}};
    for (std::int64_t i = 0; i < size; ++i) part.elements.push_back(data.elements.at(at++));
    parts.push_back(std::move(part));
  }
  return parts;
}

ShapeData map_elements(const ShapeCall& call, const std::function<Fraction(const Fraction&)>& f) {
  ShapeData data = operand(call, 0);
  for (Fraction& element : data.elements) element = f(element);
  return data;
}

ShapeData binary(const ShapeCall& call, DType dtype, const Binary& f) {
  return elementwise(operand(call, 0), operand(call, 1), dtype, f);
}

/// Of whole numbers only: neither minimum nor maximum of fractions occurs.
Extent whole(const Fraction& f) {
  if (f.denominator != 1) unsupported("the minimum or maximum of fractions of a size is not supported");
  return f.numerator;
}

std::vector<ShapeData> one(ShapeData data) {
  std::vector<ShapeData> list;
  list.push_back(std::move(data));
  return list;
}

struct Row {
  std::string_view op_type;
  std::vector<ShapeData> (*evaluate)(const ShapeCall&);
};

Fraction divide_as(const ShapeCall& call, const Fraction& a, const Fraction& b) {
  return is_float(operand(call, 0).dtype) ? divide(a, b) : integer_divide(a, b, call.symbols);
}

const std::array rows = {
    Row{"Identity", [](const ShapeCall& c) { return one(operand(c, 0)); }},
    Row{"Cast", [](const ShapeCall& c) { return one(cast(c)); }},
    Row{"Gather", [](const ShapeCall& c) { return one(gather(c)); }},
    Row{"Slice", [](const ShapeCall& c) { return one(slice(c)); }},
    Row{"Concat", [](const ShapeCall& c) { return one(concat(c)); }},
    Row{"Unsqueeze", [](const ShapeCall& c) { return one(unsqueeze(c)); }},
    Row{"Squeeze", [](const ShapeCall& c) { return one(squeeze(c)); }},
    Row{"Reshape", [](const ShapeCall& c) { return one(reshape(c)); }},
    Row{"Expand", [](const ShapeCall& c) { return one(expand(c)); }},
    Row{"Split", [](const ShapeCall& c) { return split(c); }},
    Row{"Where", [](const ShapeCall& c) { return one(where(c)); }},
    Row{"Add",
        [](const ShapeCall& c) {
          return one(binary(c, operand(c, 0).dtype, [](const Fraction& a, const Fraction& b) { return add(a, b, 1); }));
        }},
    Row{"Sub",
        [](const ShapeCall& c) {
          return one(
              binary(c, operand(c, 0).dtype, [](const Fraction& a, const Fraction& b) { return add(a, b, -1); }));
        }},
    Row{"Mul", [](const ShapeCall& c) { return one(binary(c, operand(c, 0).dtype, multiply)); }},
    Row{"Div",
        [](const ShapeCall& c) {
          return one(
              binary(c, operand(c, 0).dtype, [&](const Fraction& a, const Fraction& b) { return divide_as(c, a, b); }));
        }},
    Row{"Mod",
        [](const ShapeCall& c) {
          return one(binary(c, operand(c, 0).dtype,
                            [](const Fraction& a, const Fraction& b) { return Fraction{mod(whole(a), whole(b)), 1}; }));
        }},
    Row{"Min",
        [](const ShapeCall& c) {
          return one(binary(c, operand(c, 0).dtype,
                            [](const Fraction& a, const Fraction& b) { return Fraction{min(whole(a), whole(b)), 1}; }));
        }},
    Row{"Max",
        [](const ShapeCall& c) {
          return one(binary(c, operand(c, 0).dtype,
                            [](const Fraction& a, const Fraction& b) { return Fraction{max(whole(a), whole(b)), 1}; }));
        }},
    Row{"Neg",
        [](const ShapeCall& c) {
          return one(map_elements(c, [](const Fraction& f) { return multiply(f, {-1, 1}); }));
        }},
    Row{"Floor", [](const ShapeCall& c) { return one(map_elements(c, floor_of)); }},
    Row{"Ceil", [](const ShapeCall& c) { return one(map_elements(c, ceil_of)); }},
    Row{"Equal",
        [](const ShapeCall& c) {
          return one(binary(c, DType::boolean, [&](const Fraction& a, const Fraction& b) {
            return compare(a, b, c.symbols, decide_equal);
          }));
        }},
    Row{"Less",
        [](const ShapeCall& c) {
          return one(binary(c, DType::boolean, [&](const Fraction& a, const Fraction& b) {
            return compare(a, b, c.symbols, decide_less);
          }));
        }},
    Row{"Greater",
        [](const ShapeCall& c) {
          return one(binary(c, DType::boolean, [&](const Fraction& a, const Fraction& b) {
            return compare(b, a, c.symbols, decide_less);
          }));
        }},
    Row{"LessOrEqual",
        [](const ShapeCall& c) {
          return one(binary(c, DType::boolean, [&](const Fraction& a, const Fraction& b) {
            return compare(a, b, c.symbols, decide_less_or_equal);
          }));
        }},
    Row{"GreaterOrEqual",
        [](const ShapeCall& c) {
          return one(binary(c, DType::boolean, [&](const Fraction& a, const Fraction& b) {
            return compare(b, a, c.symbols, decide_less_or_equal);
          }));
        }},
    Row{"Not",
        [](const ShapeCall& c) { return one(map_elements(c, [](const Fraction& f) { return add({1, 1}, f, -1); })); }},
    Row{"And", [](const ShapeCall& c) { return one(binary(c, DType::boolean, multiply)); }},
    Row{"ReduceProd", [](const ShapeCall& c) { return one(reduce(c, multiply, {1, 1})); }},
    Row{"ReduceSum",
        [](const ShapeCall& c) {
          return one(reduce(c, [](const Fraction& a, const Fraction& b) { return add(a, b, 1); }, {0, 1}));
        }},
    Row{"ReduceMin",
        [](const ShapeCall& c) {
          return one(reduce(
              c, [](const Fraction& a, const Fraction& b) { return Fraction{min(whole(a), whole(b)), 1}; }, {0, 1}));
        }},
    Row{"ReduceMax",
        [](const ShapeCall& c) {
          return one(reduce(
              c, [](const Fraction& a, const Fraction& b) { return Fraction{max(whole(a), whole(b)), 1}; }, {0, 1}));
        }},
};

const Row* find_row(std::string_view op_type) {
  const auto found = std::find_if(rows.begin(), rows.end(), [&](const Row& row) { return row.op_type == op_type; });
  return found == rows.end() ? nullptr : &*found;
}

}  // namespace

std::optional<double> Fraction::constant() const {
  if (const auto fixed = numerator.constant()) return static_cast<double>(*fixed) / static_cast<double>(denominator);
  return std::nullopt;
}

std::optional<Fraction> Fraction::of(double value) {
  constexpr std::int64_t most = std::int64_t(1) << 20;
  if (!std::isfinite(value) || std::fabs(value) > 1e15) return std::nullopt;
  for (std::int64_t denominator = 1; denominator <= most; denominator *= 2) {
    const double numerator = value * static_cast<double>(denominator);
    if (numerator == std::nearbyint(numerator) && std::fabs(numerator) < 9e15)
      return Fraction{static_cast<std::int64_t>(numerator), denominator};
  }
  return std::nullopt;
}

std::optional<ShapeData> ShapeData::of(const Array& array) {
  if (array.size() > most_elements) return std::nullopt;
  ShapeData data{array.dtype(), array.shape(), {}};
  for (std::int64_t i = 0; i < array.size(); ++i) {
    if (array.dtype() == DType::i64) {
      data.elements.push_back({array.as<std::int64_t>()[static_cast<std::size_t>(i)], 1});
      continue;
    }
    const auto fraction = Fraction::of(array.at(i));
    if (!fraction) return std::nullopt;
    data.elements.push_back(*fraction);
  }
  return data;
}

std::optional<Array> ShapeData::constant() const {
  Array array(dtype, shape);
  for (std::size_t i = 0; i < elements.size(); ++i) {
    const auto numerator = elements[i].numerator.constant();
    if (!numerator) return std::nullopt;
    if (dtype == DType::i64) array.as<std::int64_t>()[i] = *numerator / elements[i].denominator;
    else
      array.set(static_cast<std::int64_t>(i),
                static_cast<double>(*numerator) / static_cast<double>(elements[i].denominator));
  }
  return array;
}

std::optional<std::vector<Extent>> ShapeData::extents() const {
  std::vector<Extent> list;
  for (const Fraction& f : elements) {
    if (f.denominator != 1) return std::nullopt;
    list.push_back(f.numerator);
  }
  return list;
}

Range tight_bounds(const Extent& extent, const SymbolRanges& symbols) {
  Range range = extent.bounds(symbols);
  for (const auto& [monomial, k] : extent.terms()) {
    if (monomial.size() != 1 || monomial[0]->kind != Extent::Atom::Kind::div) continue;
    const auto c = monomial[0]->rhs.constant();
    if (!c || *c <= 0) continue;
    // c div(a, c) = a - r with 0 <= r < c, so c e = (c (e - k div(a, c)) + k a) - k r.
    const Extent rest = extent - Extent(k) * Extent::of(monomial[0]);
    const Range scaled = tight_bounds(Extent(*c) * rest + Extent(k) * monomial[0]->lhs, symbols);
    const std::int64_t spread = k * (*c - 1);
    const std::int64_t low = scaled.min - std::max<std::int64_t>(spread, 0),
                       high = scaled.max - std::min<std::int64_t>(spread, 0);
    range.min = std::max(range.min, ceil_div(low, *c).value());
    range.max = std::min(range.max, floor_div(Extent(high), *c).value());
    break;  // the recursion takes the other quotients
  }
  return range;
}

bool is_shape_operator(std::string_view op_type) { return find_row(op_type) != nullptr; }

std::vector<ShapeData> evaluate_shape(const ShapeCall& call) {
  const Row* row = find_row(call.op_type);
  if (row == nullptr) unsupported(fmt::format("{} of a shape is not supported", call.op_type));
  return row->evaluate(call);
}

}  // namespace heddle::graph::onnx_import
