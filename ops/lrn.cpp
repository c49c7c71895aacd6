#include <algorithm>
#include <cmath>

#include "ops/math.hpp"
#include "ops/reference.hpp"
#include "ops/rules.hpp"
#include "ops/window.hpp"

namespace heddle::ops {
namespace {

using Halide::Expr;

struct Lrn {
  static constexpr auto name = "lrn";
  static constexpr auto summary =
      "local response normalisation: x / (bias + alpha / size * sum of squares of the nearby channels) ^ beta";
  static constexpr auto kind = OperatorKind::window;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (std::int64_t, size), (double, alpha), (double, beta), (double, bias));
    Attributes() : size(1), alpha(1e-4), beta(0.75), bias(1) {}
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, acc), (Halide::Func, out));
  };

  static std::vector<std::string> dimensions(const Attributes&, std::span<const TensorType> in) {
    std::vector<std::string> names = {"n", "c"};
    if (in[0].rank() <= 5)
      for (auto& name : spatial_names(in[0].shape.size() - 2)) names.push_back(std::move(name));
    return names;
  }
  static std::vector<OperandInfo> operands(const Attributes& at, std::span<const TensorType> in) {
    return {{"x", dimensions(at, in)}};
  }

  static TensorType infer(const Attributes& at, std::span<const TensorType> in) {
    require_operands(in, 1, 1, "x");
    require(in[0].rank() >= 2 && in[0].rank() <= 5, "x has rank {}, expected 2 to 5: (n, c, spatial...)", in[0].rank());
    require(is_float(in[0].dtype), "x is {}, expected a float", to_string(in[0].dtype));
    require(at.size >= 1 && at.size < (1 << 20), "size {} must be at least 1", at.size);
    return {in[0].dtype, in[0].shape, {}};
  }

  /// base ^ -beta, by square roots where they suffice: AlexNet's 0.75 is two of them.
  static Expr negative_power(const Expr& base, double beta) {
    if (beta == 1) return 1 / base;
    if (beta == 0.5) return 1 / Halide::sqrt(base);
    if (beta == 0.75) {
      const Expr root = Halide::sqrt(base);
      return 1 / (root * Halide::sqrt(root));
    }
    if (base.type().bits() == 64) return Halide::exp(Halide::log(base) * math::constant(base.type(), -beta));
    return math::exp(math::log(base) * math::constant(base.type(), -beta));
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    const Operand& x = a.in[0];
    const Halide::Type type = accumulator(x.func.type());
    const Reduction r = a.reduce({{"k", static_cast<int>(at.size)}});
    auto nearby = a.index();
    const Expr channel = a.loops[1] + r["k"] - static_cast<int>((at.size - 1) / 2);
    const Expr last = x.extents[1] - 1;
    nearby[1] = Halide::clamp(channel, 0, last);
    const Expr value =
        Halide::select(channel >= 0 && channel <= last, Halide::cast(type, x.at(nearby)), Halide::cast(type, 0));

    std::vector<Halide::Var> arguments;
    for (const int dim : innermost_first(x.type)) arguments.push_back(a.loops[static_cast<std::size_t>(dim)]);
    s.acc(arguments) = Halide::cast(type, 0);
    s.acc(arguments) += value * value;
    const Expr base = math::constant(type, at.bias) +
                      math::constant(type, at.alpha / static_cast<double>(at.size)) * s.acc(arguments);
    s.out(a.arguments()) =
        Halide::cast(x.func.type(), Halide::cast(type, x.at(a.index())) * negative_power(base, at.beta));
  }

  static void reference(const Attributes& at, std::span<const Array> in, Array& out) {
    const Shape& shape = in[0].shape();
    const std::int64_t channels = shape[1];
    const std::int64_t pixels = element_count(Shape(shape.begin() + 2, shape.end()));
    const std::int64_t before = (at.size - 1) / 2, after = at.size / 2;
    const auto x = to_doubles(in[0]);
    for (std::int64_t i = 0; i < in[0].size(); ++i) {
      const std::int64_t c = i / pixels % channels;
      double squares = 0;
      for (std::int64_t k = std::max<std::int64_t>(0, c - before); k <= std::min(channels - 1, c + after); ++k)
        squares += std::pow(x[static_cast<std::size_t>(i + (k - c) * pixels)], 2);
      out.set(i, x[static_cast<std::size_t>(i)] /
                     std::pow(at.bias + at.alpha / static_cast<double>(at.size) * squares, at.beta));
    }
  }

  static Tolerance tolerance(const Attributes& at, std::span<const TensorType> in) {
    const double own = in[0].dtype == DType::f64 ? unit_roundoff(DType::f64) : unit_roundoff(DType::f32);
    // Sums of positive terms lose nothing to cancellation; the power scales their relative error by beta.
    const double relative =
        2 * unit_roundoff(in[0].dtype) + (static_cast<double>(at.size) * std::abs(at.beta) + 32) * own;
    return {.relative = relative,
            .special_values = SpecialValues::ignored,
            .reason =
                "size positive terms, the power by square roots or exp and log within 32 roundings; squares of large "
                "numbers overflow"};
  }
  static Extent flops(const Attributes& at, std::span<const TensorType>, std::span<const TensorType> out) {
    return Extent(2 * at.size + 4) * out[0].element_count();
  }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> images = {
        {{"N", 1}, {"C", 1}, {"W", 1}}, {{"N", 2}, {"C", 7}, {"W", 5}}, {{"N", 1}, {"C", 33}, {"W", 3}}};
    return {
        {{{"size", 5}, {"alpha", 0.5}, {"beta", 0.75}, {"bias", 2.0}}, types({"f32[N,C,3,W]"}), images},
        {{{"size", 4}, {"alpha", 0.1}, {"beta", 0.6}}, types({"f32[N,C,2,W]"}), images},
        {{{"size", 3}, {"alpha", 1.0}, {"beta", 0.5}}, types({"f32[N,C,W]"}), images},
        {{{"size", 3}, {"alpha", 1.0}, {"beta", 1.0}}, types({"f16[2,5,3,2]"})},
    };
  }
};

}  // namespace

const Operator& lrn() {
  static const Erased<Lrn> op;
  return op;
}

}  // namespace heddle::ops
