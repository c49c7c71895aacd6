#include "ops/unary.hpp"

#include <cmath>
#include <limits>
#include <memory>
#include <numbers>

#include <fmt/format.h>

#include "ops/math.hpp"
#include "ops/table.hpp"

namespace heddle::ops {
namespace {

using Halide::Expr;
using Parameters = std::span<const double>;

/// One elementwise function of one operand. The algorithm sees f32 for f16 and bf16.
struct Row {
  std::string name, summary;
  Accepts types;
  std::function<Expr(const Expr& x, Parameters)> algorithm;
  std::function<double(double x, Parameters)> reference;
  std::function<Wide(Wide x)> integers = nullptr;  ///< the reference where x is an integer or boolean
  double ulps = 0;                                 ///< error in units of the last place of the result
  double absolute_ulps = 0;                        ///< further error, relative to the largest result: cancellation
  std::string reason = "an exact operation";
  std::vector<Parameter> parameters = {};
  std::vector<Json> variations = {};  ///< attributes to test besides the defaults
  double low = -4, high = 4;
  std::vector<double> extremes = float_extremes();
  bool to_boolean = false;
  OperandErrors operand_errors = OperandErrors::with_values;
};

Expr constant(const Expr& like, double value) { return math::constant(like.type(), value); }

Expr sign_of(const Expr& x) {
  const Expr zero = constant(x, 0);
  if (x.type().is_uint()) return select(x == zero, zero, constant(x, 1));
  return select(math::less(zero, x), constant(x, 1), math::less(x, zero), constant(x, -1), x);
}

Expr elu_of(const Expr& x, double alpha, double gamma) {
  const Expr below = constant(x, gamma * alpha) * math::expm1(x);
  return select(math::less(x, constant(x, 0)), below, gamma == 1 ? x : constant(x, gamma) * x);
}

double elu_of(double x, double alpha, double gamma) { return gamma * (x < 0 ? alpha * std::expm1(x) : x); }

Expr softplus_of(const Expr& x) { return math::maximum(constant(x, 0), x) + math::log1p(math::exp(-Halide::abs(x))); }

double softplus_of(double x) { return (x > 0 ? x : std::isnan(x) ? x : 0) + std::log1p(std::exp(-std::fabs(x))); }

/// tanh(softplus(x)) = n / (n + 2) with n = e^x (e^x + 2); it is 1 from 20 on.
Expr mish_of(const Expr& x) {
  const Expr e = math::exp(math::minimum(constant(x, 20), x));
  const Expr n = e * (e + 2.0F);
  // Strict, since LLVM would multiply first, which overflows for large x.
  return x * Halide::strict_float(n / (n + 2.0F));
}

double clamp_of(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

constexpr double gelu_linear = 0.044715;
const double gelu_scale = std::sqrt(2 / std::numbers::pi);

Expr gelu_of(const Expr& x, Parameters p) {
  // Halved before x comes in: the largest x, doubled, is none.
  if (p[0] == 0) return x * (0.5F + 0.5F * math::erf(x * float(std::numbers::sqrt2 / 2)));
  // (1 + tanh(u)) / 2 is sigmoid(2u), which loses nothing where tanh comes close to -1.
  const float scale = float(2 * gelu_scale);
  return x * math::sigmoid(x * (scale + float(2 * gelu_scale * gelu_linear) * (x * x)));
}

double gelu_of(double x, Parameters p) {
  if (p[0] == 0) return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2));
  return 0.5 * x * (1 + std::tanh(gelu_scale * (x + gelu_linear * x * x * x)));
}

bool infinite(double x, Parameters p) { return std::isinf(x) && (x > 0 ? p[1] : p[0]) != 0; }

std::vector<Row> activations() {
  const double selu_alpha = 1.67326319217681884765625, selu_gamma = 1.05070102214813232421875;
  std::vector<Row> rows = {
      {.name = "relu",
       .summary = "max(x, 0)",
       .types = Accepts::signed_numbers,
       // A comparison that NaN fails, so that NaN passes; still one instruction.
       .algorithm = [](const Expr& x, Parameters) { return math::maximum(constant(x, 0), x); },
       .reference = [](double x, Parameters) { return x < 0 ? 0 : x; },
       .integers = [](Wide x) { return x < 0 ? Wide(0) : x; }},
      {.name = "leaky_relu",
       .summary = "x if x >= 0, else alpha x",
       .types = Accepts::floats,
       .algorithm = [](const Expr& x,
                       Parameters p) { return select(math::less(x, constant(x, 0)), x * constant(x, p[0]), x); },
       .reference = [](double x, Parameters p) { return x < 0 ? p[0] * x : x; },
       .ulps = 2,
       .reason = "alpha and the product are rounded",
       .parameters = {{"alpha", 0.01}},
       .variations = {{{"alpha", 0.25}}}},
      {.name = "thresholded_relu",
       .summary = "x if x > alpha, else 0",
       .types = Accepts::floats,
       .algorithm = [](const Expr& x,
                       Parameters p) { return select(math::less(constant(x, p[0]), x), x, constant(x, 0)); },
       .reference = [](double x, Parameters p) { return x > p[0] ? x : 0; },
       .parameters = {{"alpha", 1}}},
      {.name = "elu",
       .summary = "x if x >= 0, else alpha (e^x - 1)",
       .types = Accepts::narrow_floats,
       .algorithm = [](const Expr& x, Parameters p) { return elu_of(x, p[0], 1); },
       .reference = [](double x, Parameters p) { return elu_of(x, p[0], 1); },
       .ulps = 6,
       .reason = "expm1 to 4 ulp, alpha and the product rounded",
       .parameters = {{"alpha", 1}},
       .variations = {{{"alpha", 1.5}}}},
      {.name = "selu",
       .summary = "gamma (x if x >= 0, else alpha (e^x - 1))",
       .types = Accepts::narrow_floats,
       .algorithm = [](const Expr& x, Parameters p) { return elu_of(x, p[0], p[1]); },
       .reference = [](double x, Parameters p) { return elu_of(x, p[0], p[1]); },
       .ulps = 6,
       .reason = "expm1 to 4 ulp, the factors and products rounded",
       .parameters = {{"alpha", selu_alpha}, {"gamma", selu_gamma}}},
      {.name = "celu",
       .summary = "x if x >= 0, else alpha (e^(x / alpha) - 1)",
       .types = Accepts::narrow_floats,
       .algorithm =
           [](const Expr& x, Parameters p) {
             const Expr below = constant(x, p[0]) * math::expm1(x * constant(x, 1 / p[0]));
             return select(math::less(x, constant(x, 0)), below, x);
           },
       .reference = [](double x, Parameters p) { return x < 0 ? p[0] * std::expm1(x / p[0]) : x; },
       .ulps = 8,
       .reason = "expm1 to 4 ulp, alpha, the quotient and the product rounded",
       .parameters = {{"alpha", 1}},
       .variations = {{{"alpha", 0.7}}}},
      {.name = "sigmoid",
       .summary = "1 / (1 + e^-x)",
       .types = Accepts::narrow_floats,
       .algorithm = [](const Expr& x, Parameters) { return math::sigmoid(x); },
       .reference = [](double x, Parameters) { return 1 / (1 + std::exp(-x)); },
       .ulps = 4,
       .reason = "exp to 2 ulp, a sum and a quotient rounded",
       .low = -20,
       .high = 20},
      {.name = "hard_sigmoid",
       .summary = "alpha x + beta, clamped to [0, 1]",
       .types = Accepts::floats,
       .algorithm = [](const Expr& x,
                       Parameters p) { return math::clamp(x * constant(x, p[0]) + constant(x, p[1]), 0, 1); },
       .reference = [](double x, Parameters p) { return clamp_of(p[0] * x + p[1], 0, 1); },
       .ulps = 2,
       .absolute_ulps = 2,
       .reason = "alpha x and beta are rounded and may cancel",
       .parameters = {{"alpha", 0.2}, {"beta", 0.5}},
       .variations = {{{"alpha", 1.0 / 6}}}},
      {.name = "hard_swish",
       .summary = "x times (x / 6 + 1 / 2 clamped to [0, 1])",
       .types = Accepts::floats,
       // x + 3 is exact where it cancels; strict, since x times 6 may overflow.
       .algorithm =
           [](const Expr& x, Parameters) {
             return x * Halide::strict_float(math::clamp(x + constant(x, 3), 0, 6) * constant(x, 1.0 / 6));
           },
       .reference = [](double x, Parameters) { return x * (clamp_of(x + 3, 0, 6) / 6); },
       .ulps = 3,
       .reason = "a sum, a factor and two products are rounded"},
      {.name = "swish",
       .summary = "x sigmoid(alpha x)",
       .types = Accepts::narrow_floats,
       .algorithm = [](const Expr& x,
                       Parameters p) { return x * math::sigmoid(p[0] == 1 ? x : x * constant(x, p[0])); },
       .reference = [](double x, Parameters p) { return x / (1 + std::exp(-p[0] * x)); },
       .ulps = 40,
       .reason = "e^(alpha x) magnifies the rounding of alpha x by |alpha x|, 34 in the tests",
       .parameters = {{"alpha", 1}},
       .variations = {{{"alpha", 1.702}}},
       .low = -20,
       .high = 20},
      {.name = "mish",
       .summary = "x tanh(log(1 + e^x))",
       .types = Accepts::narrow_floats,
       .algorithm = [](const Expr& x, Parameters) { return mish_of(x); },
       .reference = [](double x, Parameters) { return x * std::tanh(softplus_of(x)); },
       .ulps = 10,
       .reason = "exp to 2 ulp squared, four operations rounded",
       .low = -20,
       .high = 20},
      {.name = "gelu",
       .summary = "x times the normal distribution's mass below x; approximate by tanh if asked",
       .types = Accepts::narrow_floats,
       .algorithm = [](const Expr& x, Parameters p) { return gelu_of(x, p); },
       .reference = [](double x, Parameters p) { return gelu_of(x, p); },
       .ulps = 8,
       .absolute_ulps = 24,
       .reason = "1 + erf(x) cancels for negative x: what erf is off, 2 ulp of 1 where quotients are off as much, is "
                 "multiplied by x / 2, and results may all be below 0.2",
       .parameters = {{"approximate", 0, {"none", "tanh"}}},
       .variations = {{{"approximate", "tanh"}}}},
      {.name = "softplus",
       .summary = "log(1 + e^x)",
       .types = Accepts::narrow_floats,
       .algorithm = [](const Expr& x, Parameters) { return softplus_of(x); },
       .reference = [](double x, Parameters) { return softplus_of(x); },
       .ulps = 8,
       .reason = "exp to 2 ulp, log1p to 4, a sum rounded",
       .low = -20,
       .high = 20},
      {.name = "softsign",
       .summary = "x / (1 + |x|)",
       .types = Accepts::floats,
       .algorithm = [](const Expr& x, Parameters) { return x / (constant(x, 1) + Halide::abs(x)); },
       .reference = [](double x, Parameters) { return x / (1 + std::fabs(x)); },
       .ulps = 2,
       .reason = "a sum and a quotient are rounded"},
      {.name = "shrink",
       .summary = "x + bias if x < -lambd, x - bias if x > lambd, else 0",
       .types = Accepts::floats,
       .algorithm =
           [](const Expr& x, Parameters p) {
             const Expr bias = constant(x, p[0]);
             return select(math::less(x, constant(x, -p[1])), x + bias, math::less(constant(x, p[1]), x), x - bias,
                           constant(x, 0));
           },
       .reference = [](double x, Parameters p) { return x < -p[1]  ? x + p[0]
                                                        : x > p[1] ? x - p[0]
                                                                   : 0; },
       .ulps = 1,
       .absolute_ulps = 1,
       .reason = "the bias is rounded and may cancel",
       .parameters = {{"bias", 0}, {"lambd", 0.5}},
       .variations = {{{"bias", 0.3}, {"lambd", 0.75}}}},
  };
  for (Row& row : rows) row.operand_errors = OperandErrors::whole;
  return rows;
}

std::vector<Row> arithmetic() {
  return {
      {.name = "identity",
       .summary = "x",
       .types = Accepts::all,
       .algorithm = [](const Expr& x, Parameters) { return x; },
       .reference = [](double x, Parameters) { return x; },
       .integers = [](Wide x) { return x; }},
      {.name = "abs",
       .summary = "|x|",
       .types = Accepts::numbers,
       .algorithm = [](const Expr& x, Parameters) { return x.type().is_uint() ? x : cast(x.type(), Halide::abs(x)); },
       .reference = [](double x, Parameters) { return std::fabs(x); },
       .integers = [](Wide x) { return x < 0 ? -x : x; }},
      {.name = "neg",
       .summary = "-x",
       .types = Accepts::signed_numbers,
       .algorithm = [](const Expr& x, Parameters) { return -x; },
       .reference = [](double x, Parameters) { return -x; },
       .integers = [](Wide x) { return -x; }},
      {.name = "sign",
       .summary = "-1, 0 or 1; NaN for NaN",
       .types = Accepts::numbers,
       .algorithm = [](const Expr& x, Parameters) { return sign_of(x); },
       .reference = [](double x, Parameters) { return x > 0   ? 1
                                                      : x < 0 ? -1
                                                              : x; },
       .integers = [](Wide x) { return Wide(x > 0   ? 1
                                            : x < 0 ? -1
                                                    : 0); }},
      {.name = "floor",
       .summary = "the largest integer that is not above x",
       .types = Accepts::floats,
       .algorithm = [](const Expr& x, Parameters) { return Halide::floor(x); },
       .reference = [](double x, Parameters) { return std::floor(x); }},
      {.name = "ceil",
       .summary = "the smallest integer that is not below x",
       .types = Accepts::floats,
       .algorithm = [](const Expr& x, Parameters) { return Halide::ceil(x); },
       .reference = [](double x, Parameters) { return std::ceil(x); }},
      {.name = "round",
       .summary = "the nearest integer, halves to the even one",
       .types = Accepts::floats,
       .algorithm = [](const Expr& x, Parameters) { return Halide::round(x); },
       .reference = [](double x, Parameters) { return std::nearbyint(x); }},
      {.name = "reciprocal",
       .summary = "1 / x",
       .types = Accepts::floats,
       .algorithm = [](const Expr& x, Parameters) { return constant(x, 1) / x; },
       .reference = [](double x, Parameters) { return 1 / x; },
       .ulps = 1,
       .reason = "the quotient is rounded"},
      {.name = "sqrt",
       .summary = "square root",
       .types = Accepts::floats,
       .algorithm = [](const Expr& x, Parameters) { return Halide::sqrt(x); },
       .reference = [](double x, Parameters) { return std::sqrt(x); },
       .ulps = 1,
       .reason = "the root is rounded"},
      {.name = "rsqrt",
       .summary = "1 / square root",
       .types = Accepts::floats,
       .algorithm = [](const Expr& x, Parameters) { return constant(x, 1) / Halide::sqrt(x); },
       .reference = [](double x, Parameters) { return 1 / std::sqrt(x); },
       .ulps = 2,
       .reason = "the root and the quotient are rounded",
       .low = 0.01},
      {.name = "exp",
       .summary = "e^x",
       .types = Accepts::narrow_floats,
       .algorithm = [](const Expr& x, Parameters) { return math::exp(x); },
       .reference = [](double x, Parameters) { return std::exp(x); },
       .ulps = 2,
       .reason = "a polynomial of degree 6 in f32",
       .low = -80,
       .high = 90},
      {.name = "log",
       .summary = "natural logarithm",
       .types = Accepts::narrow_floats,
       .algorithm = [](const Expr& x, Parameters) { return math::log(x); },
       .reference = [](double x, Parameters) { return std::log(x); },
       .ulps = 2,
       .reason = "a polynomial of degree 10 in f32",
       .low = -0.5},
      {.name = "erf",
       .summary = "error function",
       .types = Accepts::narrow_floats,
       .algorithm = [](const Expr& x, Parameters) { return math::erf(x); },
       .reference = [](double x, Parameters) { return std::erf(x); },
       .ulps = 6,
       .reason = "a rational function with eleven products in f32",
       .operand_errors = OperandErrors::whole},
  };
}

std::vector<Row> trigonometry() {
  const auto row = [](std::string name, std::string summary, Expr (*algorithm)(const Expr&),
                      double (*reference)(double), double ulps, double low, double high) {
    return Row{.name = std::move(name),
               .summary = std::move(summary),
               .types = Accepts::narrow_floats,
               .algorithm = [algorithm](const Expr& x, Parameters) { return algorithm(x); },
               .reference = [reference](double x, Parameters) { return reference(x); },
               .ulps = ulps,
               .reason = "the error that ops/math.hpp states",
               .low = low,
               .high = high};
  };
  // Those of slope 1 at most.
  const auto flat = [](Row r) {
    r.operand_errors = OperandErrors::whole;
    return r;
  };
  const auto periodic = [&](std::string name, std::string summary, Expr (*algorithm)(const Expr&),
                            double (*reference)(double), double ulps) {
    Row r = row(std::move(name), std::move(summary), algorithm, reference, ulps, -100, 100);
    // The largest floats are multiples of the period as far as a float can tell.
    std::erase_if(r.extremes, [](double value) { return std::isfinite(value) && std::fabs(value) > 1e9; });
    return r;
  };
  return {
      flat(row("tanh", "hyperbolic tangent", math::tanh, std::tanh, 6, -10, 10)),
      flat(periodic("sin", "sine", math::sin, std::sin, 2)),
      flat(periodic("cos", "cosine", math::cos, std::cos, 2)),
      periodic("tan", "tangent", math::tan, std::tan, 4),
      row("asin", "inverse sine; NaN outside [-1, 1]", math::asin, std::asin, 1, -1, 1),
      row("acos", "inverse cosine; NaN outside [-1, 1]", math::acos, std::acos, 1, -1, 1),
      flat(row("atan", "inverse tangent", math::atan, std::atan, 1, -10, 10)),
      row("sinh", "hyperbolic sine", math::sinh, std::sinh, 1, -10, 10),
      row("cosh", "hyperbolic cosine", math::cosh, std::cosh, 1, -10, 10),
      flat(row("asinh", "inverse hyperbolic sine", math::asinh, std::asinh, 1, -10, 10)),
      row("acosh", "inverse hyperbolic cosine; NaN below 1", math::acosh, std::acosh, 1, 1, 100),
      row("atanh", "inverse hyperbolic tangent; NaN outside [-1, 1]", math::atanh, std::atanh, 1, -1, 1),
  };
}

std::vector<Row> predicates() {
  return {
      {.name = "is_nan",
       .summary = "whether x is NaN",
       .types = Accepts::floats,
       .algorithm = [](const Expr& x, Parameters) { return Halide::is_nan(x); },
       .reference = [](double x, Parameters) { return std::isnan(x) ? 1 : 0; },
       .to_boolean = true},
      {.name = "is_inf",
       .summary = "whether x is an infinity of a sign that is asked for",
       .types = Accepts::floats,
       .algorithm =
           [](const Expr& x, Parameters p) {
             const double infinity = std::numeric_limits<double>::infinity();
             if (p[0] != 0 && p[1] != 0) return Halide::is_inf(x);
             if (p[0] == 0 && p[1] == 0) return Halide::Internal::const_false();
             return math::equal(x, constant(x, p[1] != 0 ? infinity : -infinity));
           },
       .reference = [](double x, Parameters p) { return infinite(x, p) ? 1 : 0; },
       .parameters = {{"detect_negative", 1}, {"detect_positive", 1}},
       .variations = {{{"detect_negative", 0}}, {{"detect_positive", 0}}},
       .to_boolean = true},
      {.name = "not",
       .summary = "1 where x is 0, else 0",
       .types = Accepts::booleans,
       .algorithm = [](const Expr& x, Parameters) { return x == constant(x, 0); },
       .reference = [](double x, Parameters) { return x == 0 ? 1 : 0; },
       .integers = [](Wide x) { return Wide(x == 0 ? 1 : 0); },
       .to_boolean = true},
      {.name = "bitwise_not",
       .summary = "every bit flipped",
       .types = Accepts::integers,
       .algorithm = [](const Expr& x, Parameters) { return ~x; },
       .reference = [](double x, Parameters) { return x; },
       .integers = [](Wide x) { return -x - 1; }},
  };
}

class Unary final : public TableOperator {
 public:
  explicit Unary(Row row) : TableOperator(row.name, row.summary, row.parameters), row_(std::move(row)) {}

  std::vector<OperandInfo> operands(const Json&, std::span<const TensorType>) const override { return {{"x"}}; }

  std::vector<TensorType> infer(const Json& attributes, std::span<const TensorType> in) const override try {
    values(attributes);  // throws where they do not fit
    require_operands(in, 1, 1, "x");
    require_kernel_types(in);
    require(accepts(row_.types, in[0].dtype), "x must be {}, not {}", describe(row_.types), to_string(in[0].dtype));
    return {tensor(row_.to_boolean ? DType::boolean : in[0].dtype, in[0].shape)};
  } catch (const Error& e) {
    throw e.within("the type rule of " + row_.name);
  }

  std::vector<DefinedStage> define(const Json& attributes, Algorithm& a) const override {
    const auto p = values(attributes);
    Halide::Func out(row_.name + "_out");
    out(a.arguments()) = Halide::cast(halide_type(a.out[0].dtype), row_.algorithm(widen(a.in[0].at(a.index())), p));
    return {{"out", out}};
  }

  void reference(const Json& attributes, std::span<const Array> in, std::span<Array> out) const override {
    const auto p = values(attributes);
    const std::int64_t count = in[0].size();
    const bool floating = is_float(in[0].dtype());
    for (std::int64_t i = 0; i < count; ++i)
      if (floating) out[0].set(i, row_.reference(in[0].at(i), p));
      else set_integer(out[0], i, row_.integers(integer_at(in[0], i)));
  }

  Tolerance tolerance(const Json&, std::span<const TensorType> in) const override {
    if (row_.to_boolean) return exact_tolerance("a truth value");
    Tolerance t = float_tolerance(in[0].dtype, row_.ulps, row_.reason);
    if (is_float(in[0].dtype)) t.of_largest += row_.absolute_ulps * 0x1p-23;
    t.operand_errors = row_.operand_errors;
    return t;
  }

  std::vector<Case> cases() const override {
    const Extent n = Extent::symbol("N"), w = Extent::symbol("W");
    std::vector<Case> all;
    std::vector<Json> attributes = {Json::object()};
    attributes.insert(attributes.end(), row_.variations.begin(), row_.variations.end());
    const ValueDomain floats = {row_.low, row_.high, row_.extremes};
    // An error relative to the largest result says nothing where there is one result.
    const std::int64_t several = row_.absolute_ulps > 0 ? 7 : 1;
    for (const auto& a : attributes) {
      if (!accepts(row_.types, DType::f32)) break;
      all.push_back({a,
                     {tensor(DType::f32, {n, w})},
                     {{{"N", 1}, {"W", several}}, {{"N", 7}, {"W", 1}}, {{"N", 2}, {"W", 500}}},
                     {floats}});
    }
    if (accepts(row_.types, DType::f32)) all.push_back({Json::object(), {tensor(DType::f16, {3, 1, 5})}, {}, {floats}});
    if (accepts(row_.types, DType::f64)) all.push_back({Json::object(), {tensor(DType::f64, {7})}, {}, {floats}});
    if (row_.integers)
      for (const DType type : {DType::i64, DType::i32, DType::u8, DType::boolean})
        if (accepts(row_.types, type))
          all.push_back({Json::object(),
                         {tensor(type, {5, w})},
                         {{{"W", 1}}, {{"W", 33}}},
                         {domain_of(type == DType::u8        ? 0
                                    : type == DType::boolean ? 0
                                                             : -100,
                                    type == DType::boolean ? 1 : 100)}});
    return all;
  }

 private:
  Row row_;
};

}  // namespace

std::span<const Operator* const> unary() {
  static const auto table = [] {
    std::vector<std::unique_ptr<const Unary>> owned;
    for (auto& rows : {activations(), arithmetic(), trigonometry(), predicates()})
      for (const auto& row : rows) owned.push_back(std::make_unique<const Unary>(row));
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
