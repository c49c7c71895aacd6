#include "ops/binary.hpp"

#include <cmath>
#include <limits>
#include <memory>

#include <fmt/format.h>

#include "ops/math.hpp"
#include "ops/table.hpp"

namespace heddle::ops {
namespace {

using Halide::Expr;
using Parameters = std::span<const double>;

/// One elementwise function of two operands of one type. The algorithm sees f32 for f16 and bf16.
struct Row {
  std::string name, summary;
  Accepts types;
  std::function<Expr(const Expr& a, const Expr& b, Parameters)> algorithm;
  std::function<double(double a, double b, Parameters)> reference = nullptr;  ///< floats
  std::function<Wide(Wide a, Wide b, Parameters, DType)> integers = nullptr;  ///< integers and booleans
  double ulps = 0;
  std::string reason = "an exact operation";
  std::vector<Parameter> parameters = {};
  std::vector<Json> variations = {};
  std::vector<ValueDomain> domains = {};          ///< floats; by default [-4, 4] with extremes
  std::vector<ValueDomain> integer_domains = {};  ///< by default [-50, 50], [0, 50] for unsigned types
  bool to_boolean = false;
  bool in_f64 = true;              ///< false: its helper is f32's
  bool floats_need_first = false;  ///< floats are taken only where the first parameter is set
  bool broadcast_both = true;      ///< false: b broadcasts to a alone
  OperandErrors operand_errors = OperandErrors::with_values;
};

Expr constant(const Expr& like, double value) { return math::constant(like.type(), value); }

Expr as_boolean(const Expr& x) { return x != constant(x, 0); }

/// Toward zero, as ONNX divides integers; x / 0 is 0. The divisors that trap on x86 never reach the division.
Expr quotient(const Expr& a, const Expr& b) {
  if (a.type().is_float()) return a / b;
  const Expr zero = constant(b, 0);
  if (a.type().is_uint()) return select(b == zero, zero, Halide::div_round_to_zero(a, Halide::max(b, constant(b, 1))));
  const Expr minus_one = constant(b, -1);
  const Halide::Type bits = a.type().with_code(Halide::Type::UInt);
  const Expr negated = cast(a.type(), math::constant(bits, 0) - cast(bits, a));
  const Expr safe = select(b == zero || b == minus_one, constant(b, 1), b);
  return select(b == zero, zero, b == minus_one, negated, Halide::div_round_to_zero(a, safe));
}

/// The divisor's sign as in Python, or with `fmod` the dividend's as in C; x mod 0 is 0.
Expr remainder(const Expr& a, const Expr& b, bool fmod) {
  if (a.type().is_float()) return math::fmod(a, b);
  const Expr zero = constant(b, 0);
  if (a.type().is_uint()) return select(b == zero, zero, Halide::mod_round_to_zero(a, Halide::max(b, constant(b, 1))));
  const Expr safe = select(b == zero || b == constant(b, -1), constant(b, 1), b);
  const Expr truncated = Halide::mod_round_to_zero(a, safe);
  if (fmod) return truncated;
  return select(truncated != zero && (truncated < zero) != (b < zero), truncated + b, truncated);
}

Wide quotient_of(Wide a, Wide b) { return b == 0 ? 0 : a / b; }

Wide remainder_of(Wide a, Wide b, bool fmod) {
  if (b == 0) return 0;
  const Wide truncated = a % b;
  return !fmod && truncated != 0 && (truncated < 0) != (b < 0) ? truncated + b : truncated;
}

/// Repeated squaring over the exponent's six low bits; a larger exponent overflows for every base but -1, 0 and 1,
/// whose powers depend on the lowest bit alone. Wraps on overflow.
Expr integer_power(const Expr& base, const Expr& exponent) {
  const Halide::Type bits = base.type().with_code(Halide::Type::UInt);
  const Expr one = math::constant(bits, 1);
  Expr power = one;
  Expr square = cast(bits, base);
  for (int bit = 0; bit < 6; ++bit) {
    power = select(((exponent >> bit) & 1) != 0, power * square, power);
    if (bit < 5) square = square * square;
  }
  const Expr result = cast(base.type(), power);
  if (base.type().is_uint()) return result;
  // A negative exponent leaves 1 and -1 alone and takes the rest toward zero.
  const Expr odd = (exponent & 1) != 0;
  const Expr inverse = select(base == constant(base, 1), constant(base, 1), base == constant(base, -1),
                              select(odd, constant(base, -1), constant(base, 1)), constant(base, 0));
  return select(exponent < 0, inverse, result);
}

Wide integer_power_of(Wide base, Wide exponent, DType) {
  if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 == 0 ? 1 : -1) : 0;
  Wide power = 1;
  for (Wide i = 0; i < exponent; ++i) power = static_cast<Wide>(static_cast<std::int64_t>(power * base));
  return power;
}

double nan_or(double a, double b, double otherwise) { return std::isnan(a) ? a : std::isnan(b) ? b : otherwise; }

int bits_of(DType type) { return static_cast<int>(8 * size_of(type)); }

std::vector<Row> arithmetic() {
  const double infinity = std::numeric_limits<double>::infinity();
  const std::vector<double> specials = {infinity, -infinity, std::numeric_limits<double>::quiet_NaN(), 0.0, -0.0};
  return {
      {.name = "add",
       .summary = "a + b",
       .types = Accepts::numbers,
       .algorithm = [](const Expr& a, const Expr& b, Parameters) { return a + b; },
       .reference = [](double a, double b, Parameters) { return a + b; },
       .integers = [](Wide a, Wide b, Parameters, DType) { return a + b; },
       .ulps = 1,
       .reason = "the sum is rounded",
       .operand_errors = OperandErrors::whole},
      {.name = "sub",
       .summary = "a - b",
       .types = Accepts::numbers,
       .algorithm = [](const Expr& a, const Expr& b, Parameters) { return a - b; },
       .reference = [](double a, double b, Parameters) { return a - b; },
       .integers = [](Wide a, Wide b, Parameters, DType) { return a - b; },
       .ulps = 1,
       .reason = "the difference is rounded",
       .operand_errors = OperandErrors::whole},
      {.name = "mul",
       .summary = "a b",
       .types = Accepts::numbers,
       .algorithm = [](const Expr& a, const Expr& b, Parameters) { return a * b; },
       .reference = [](double a, double b, Parameters) { return a * b; },
       .integers = [](Wide a, Wide b, Parameters, DType) { return a * b; },
       .ulps = 1,
       .reason = "the product is rounded",
       .operand_errors = OperandErrors::scaled},
      {.name = "div",
       .summary = "a / b; integers toward zero, and 0 for a zero divisor",
       .types = Accepts::numbers,
       .algorithm = [](const Expr& a, const Expr& b, Parameters) { return quotient(a, b); },
       .reference = [](double a, double b, Parameters) { return a / b; },
       .integers = [](Wide a, Wide b, Parameters, DType) { return quotient_of(a, b); },
       .ulps = 1,
       .reason = "the quotient is rounded"},
      {.name = "mod",
       .summary = "the remainder with the divisor's sign, or with fmod the dividend's; floats need fmod",
       .types = Accepts::numbers,
       .algorithm = [](const Expr& a, const Expr& b, Parameters p) { return remainder(a, b, p[0] != 0); },
       .reference = [](double a, double b, Parameters) { return std::fmod(a, b); },
       .integers = [](Wide a, Wide b, Parameters p, DType) { return remainder_of(a, b, p[0] != 0); },
       .ulps = 1,
       .reason = "exact where the quotient is below 2^29, as in the tests",
       .parameters = {{"fmod", 0}},
       .variations = {{{"fmod", 1}}},
       .domains = {ValueDomain{-100, 100, specials}, ValueDomain{-3, 3, specials}},
       .in_f64 = false,
       .floats_need_first = true},
      {.name = "pow",
       .summary = "a to the power b; IEEE's special cases for floats, wrapping for integers",
       .types = Accepts::numbers,
       .algorithm = [](const Expr& a, const Expr& b,
                       Parameters) { return a.type().is_float() ? math::pow(a, b) : integer_power(a, b); },
       .reference = [](double a, double b, Parameters) { return std::pow(a, b); },
       .integers = [](Wide a, Wide b, Parameters, DType type) { return integer_power_of(a, b, type); },
       .ulps = 1,
       .reason = "computed in f64, rounded once",
       .domains = {domain_with_extremes(-0.5, 8), domain_with_extremes(-6, 6)},
       .integer_domains = {domain_of(0, 7), domain_of(0, 9)},
       .in_f64 = false},
      {.name = "max",
       .summary = "the larger of a and b; NaN if either is",
       .types = Accepts::numbers,
       .algorithm = [](const Expr& a, const Expr& b, Parameters) { return math::maximum_of(a, b); },
       .reference = [](double a, double b, Parameters) { return nan_or(a, b, a > b ? a : b); },
       .integers = [](Wide a, Wide b, Parameters, DType) { return a > b ? a : b; },
       .operand_errors = OperandErrors::whole},
      {.name = "min",
       .summary = "the smaller of a and b; NaN if either is",
       .types = Accepts::numbers,
       .algorithm = [](const Expr& a, const Expr& b, Parameters) { return math::minimum_of(a, b); },
       .reference = [](double a, double b, Parameters) { return nan_or(a, b, a < b ? a : b); },
       .integers = [](Wide a, Wide b, Parameters, DType) { return a < b ? a : b; },
       .operand_errors = OperandErrors::whole},
      {.name = "prelu",
       .summary = "a if a >= 0, else a times the slope b; the slope broadcasts to a",
       .types = Accepts::signed_numbers,
       .algorithm = [](const Expr& a, const Expr& b,
                       Parameters) { return select(math::less(a, constant(a, 0)), a * b, a); },
       .reference = [](double a, double b, Parameters) { return a < 0 ? a * b : a; },
       .integers = [](Wide a, Wide b, Parameters, DType) { return a < 0 ? a * b : a; },
       .ulps = 1,
       .reason = "the product is rounded",
       .broadcast_both = false},
  };
}

std::vector<Row> comparisons() {
  return {
      {.name = "equal",
       .summary = "whether a = b",
       .types = Accepts::all,
       .algorithm = [](const Expr& a, const Expr& b, Parameters) { return math::equal(a, b); },
       .reference = [](double a, double b, Parameters) { return a == b ? 1 : 0; },
       .integers = [](Wide a, Wide b, Parameters, DType) { return Wide(a == b ? 1 : 0); },
       .integer_domains = {domain_of(0, 3), domain_of(0, 3)},
       .to_boolean = true},
      {.name = "less",
       .summary = "whether a < b",
       .types = Accepts::numbers,
       .algorithm = [](const Expr& a, const Expr& b, Parameters) { return math::less(a, b); },
       .reference = [](double a, double b, Parameters) { return a < b ? 1 : 0; },
       .integers = [](Wide a, Wide b, Parameters, DType) { return Wide(a < b ? 1 : 0); },
       .to_boolean = true},
      {.name = "less_or_equal",
       .summary = "whether a <= b",
       .types = Accepts::numbers,
       .algorithm = [](const Expr& a, const Expr& b, Parameters) { return math::less_equal(a, b); },
       .reference = [](double a, double b, Parameters) { return a <= b ? 1 : 0; },
       .integers = [](Wide a, Wide b, Parameters, DType) { return Wide(a <= b ? 1 : 0); },
       .to_boolean = true},
      {.name = "greater",
       .summary = "whether a > b",
       .types = Accepts::numbers,
       .algorithm = [](const Expr& a, const Expr& b, Parameters) { return math::less(b, a); },
       .reference = [](double a, double b, Parameters) { return a > b ? 1 : 0; },
       .integers = [](Wide a, Wide b, Parameters, DType) { return Wide(a > b ? 1 : 0); },
       .to_boolean = true},
      {.name = "greater_or_equal",
       .summary = "whether a >= b",
       .types = Accepts::numbers,
       .algorithm = [](const Expr& a, const Expr& b, Parameters) { return math::less_equal(b, a); },
       .reference = [](double a, double b, Parameters) { return a >= b ? 1 : 0; },
       .integers = [](Wide a, Wide b, Parameters, DType) { return Wide(a >= b ? 1 : 0); },
       .to_boolean = true},
  };
}

std::vector<Row> logic() {
  return {
      {.name = "and",
       .summary = "whether a and b hold",
       .types = Accepts::booleans,
       .algorithm = [](const Expr& a, const Expr& b, Parameters) { return as_boolean(a) && as_boolean(b); },
       .integers = [](Wide a, Wide b, Parameters, DType) { return Wide(a != 0 && b != 0 ? 1 : 0); },
       .to_boolean = true},
      {.name = "or",
       .summary = "whether a or b holds",
       .types = Accepts::booleans,
       .algorithm = [](const Expr& a, const Expr& b, Parameters) { return as_boolean(a) || as_boolean(b); },
       .integers = [](Wide a, Wide b, Parameters, DType) { return Wide(a != 0 || b != 0 ? 1 : 0); },
       .to_boolean = true},
      {.name = "xor",
       .summary = "whether one of a and b holds",
       .types = Accepts::booleans,
       .algorithm = [](const Expr& a, const Expr& b, Parameters) { return as_boolean(a) != as_boolean(b); },
       .integers = [](Wide a, Wide b, Parameters, DType) { return Wide((a != 0) != (b != 0) ? 1 : 0); },
       .to_boolean = true},
      {.name = "bitwise_and",
       .summary = "the bits set in a and b",
       .types = Accepts::integers,
       .algorithm = [](const Expr& a, const Expr& b, Parameters) { return a & b; },
       .integers = [](Wide a, Wide b, Parameters, DType) { return a & b; }},
      {.name = "bitwise_or",
       .summary = "the bits set in a or b",
       .types = Accepts::integers,
       .algorithm = [](const Expr& a, const Expr& b, Parameters) { return a | b; },
       .integers = [](Wide a, Wide b, Parameters, DType) { return a | b; }},
      {.name = "bitwise_xor",
       .summary = "the bits set in one of a and b",
       .types = Accepts::integers,
       .algorithm = [](const Expr& a, const Expr& b, Parameters) { return a ^ b; },
       .integers = [](Wide a, Wide b, Parameters, DType) { return a ^ b; }},
      {.name = "bit_shift",
       .summary = "a shifted by b bits; all bits are gone from the type's width on",
       .types = Accepts::integers,
       .algorithm =
           [](const Expr& a, const Expr& b, Parameters p) {
             const Expr last = constant(b, a.type().bits() - 1);
             const Expr amount = Halide::min(b, last);
             const Expr shifted = p[0] == 0 ? a << amount : a >> amount;
             return select(b <= last, shifted, constant(a, 0));
           },
       .integers =
           [](Wide a, Wide b, Parameters p, DType type) {
             if (b >= bits_of(type)) return Wide(0);
             return p[0] == 0 ? a * (Wide(1) << b) : a >> b;
           },
       .parameters = {{"direction", 0, {"LEFT", "RIGHT"}}},
       .variations = {{{"direction", "RIGHT"}}},
       .integer_domains = {domain_of(0, 100), domain_of(0, 10)}},
  };
}

class Binary final : public TableOperator {
 public:
  explicit Binary(Row row) : TableOperator(row.name, row.summary, row.parameters), row_(std::move(row)) {}

  std::vector<OperandInfo> operands(const Json&, std::span<const TensorType>) const override {
    // A slope is a weight.
    if (!row_.broadcast_both) return {{"a"}, {.role = "b", .constant = true}};
    return {{"a"}, {"b"}};
  }

  std::vector<TensorType> infer(const Json& attributes, std::span<const TensorType> in) const override try {
    const auto p = values(attributes);
    require_operands(in, 2, 2, "a and b");
    require_kernel_types(in);
    for (std::size_t i = 0; i < 2; ++i)
      require(accepts(row_.types, in[i].dtype), "{} must be {}, not {}", i == 0 ? "a" : "b", describe(row_.types),
              to_string(in[i].dtype));
    require(in[0].dtype == in[1].dtype, "a is {} and b is {}; cast one of them", to_string(in[0].dtype),
            to_string(in[1].dtype));
    require(row_.in_f64 || in[0].dtype != DType::f64, "it is not available in f64");
    require(!row_.floats_need_first || !is_float(in[0].dtype) || p[0] != 0, "floats need the attribute {}",
            row_.parameters[0].name);
    auto shape = broadcast_shapes(in);
    if (!row_.broadcast_both)
      require(shape == in[0].shape, "b must broadcast to a, but {} does not to {}", in[1].str(), in[0].str());
    return {tensor(row_.to_boolean ? DType::boolean : in[0].dtype, std::move(shape))};
  } catch (const Error& e) {
    throw e.within("the type rule of " + row_.name);
  }

  std::vector<DefinedStage> define(const Json& attributes, Algorithm& a) const override {
    const auto p = values(attributes);
    const auto index = a.index();
    Halide::Func out(row_.name + "_out");
    const Expr value = row_.algorithm(widen(a.in[0].broadcast(index)), widen(a.in[1].broadcast(index)), p);
    out(a.arguments()) = Halide::cast(halide_type(a.out[0].dtype), value);
    return {{"out", out}};
  }

  void reference(const Json& attributes, std::span<const Array> in, std::span<Array> out) const override {
    const auto p = values(attributes);
    const bool floating = is_float(in[0].dtype());
    std::int64_t i = 0;
    for_each(out[0].shape(), [&](const auto& index) {
      const std::int64_t a = flat_broadcast(in[0].shape(), index);
      const std::int64_t b = flat_broadcast(in[1].shape(), index);
      if (floating) out[0].set(i, row_.reference(in[0].at(a), in[1].at(b), p));
      else set_integer(out[0], i, row_.integers(integer_at(in[0], a), integer_at(in[1], b), p, in[0].dtype()));
      ++i;
    });
  }

  Tolerance tolerance(const Json&, std::span<const TensorType> in) const override {
    if (row_.to_boolean) return exact_tolerance("a truth value");
    Tolerance t = float_tolerance(in[0].dtype, row_.ulps, row_.reason);
    t.operand_errors = row_.operand_errors;
    return t;
  }

  std::vector<Case> cases() const override;

 private:
  Row row_;
};

std::vector<Case> Binary::cases() const {
  const Extent n = Extent::symbol("N"), w = Extent::symbol("W");
  const std::vector<SymbolValues> sizes = {{{"N", 1}, {"W", 1}}, {{"N", 3}, {"W", 17}}, {{"N", 2}, {"W", 70}}};
  const auto domains = !row_.domains.empty() ? row_.domains : std::vector<ValueDomain>(2, domain_with_extremes(-4, 4));
  std::vector<Json> attributes = {Json::object()};
  attributes.insert(attributes.end(), row_.variations.begin(), row_.variations.end());
  std::vector<Case> all;
  for (const auto& a : attributes) {
    if (accepts(row_.types, DType::f32) && (!row_.floats_need_first || values(a)[0] != 0)) {
      const auto f32 = [](std::vector<Extent> shape) { return tensor(DType::f32, std::move(shape)); };
      all.push_back({a, {f32({n, w}), f32({n, w})}, sizes, domains});
      all.push_back({a, {f32({2, n, 3, w}), f32({n, 1, 1})}, sizes, domains});
      all.push_back({a, {f32({5}), f32({})}, {}, domains});
      if (row_.broadcast_both) all.push_back({a, {f32({w}), f32({n, 1})}, sizes, domains});
      all.push_back({a, {tensor(DType::f16, {3, 5}), tensor(DType::f16, {1, 5})}, {}, domains});
    }
    if (!row_.integers) continue;
    for (const DType type : {DType::i64, DType::i32, DType::u8, DType::boolean}) {
      if (!accepts(row_.types, type)) continue;
      const bool is_unsigned = type == DType::u8 || type == DType::boolean;
      auto integers = row_.integer_domains;
      if (type == DType::boolean) integers.assign(2, domain_of(0, 1));
      else if (integers.empty()) integers.assign(2, domain_of(is_unsigned ? 0 : -50, 50));
      all.push_back({a, {tensor(type, {n, w}), tensor(type, {w})}, sizes, integers});
    }
  }
  return all;
}

}  // namespace

std::span<const Operator* const> binary() {
  static const auto table = [] {
    std::vector<std::unique_ptr<const Binary>> owned;
    for (auto& rows : {arithmetic(), comparisons(), logic()})
      for (const auto& row : rows) owned.push_back(std::make_unique<const Binary>(row));
    return owned;
  }();
  static const auto operators = [] {
    std::vector<const Operator*> all;
    for (const auto& op : table) all.push_back(op.get());
    return all;
  }();
  return operators;
}

}  // namespace heddle::ops
