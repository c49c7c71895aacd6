#include <cmath>
#include <limits>

#include "ops/math.hpp"
#include "ops/reference.hpp"
#include "ops/rules.hpp"
#include "ops/window.hpp"

namespace heddle::ops {
namespace {

using Halide::Expr;

struct Softmax {
  static constexpr auto name = "softmax";
  static constexpr auto summary = "exponentials along one axis divided by their sum; log: the logarithm of that";
  static constexpr auto kind = OperatorKind::reduction;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (std::int64_t, axis), (bool, log));
    Attributes() : axis(-1), log(false) {}
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, max), (Halide::Func, exp), (Halide::Func, sum),
                             (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) { return {{"x"}}; }

  static TensorType infer(const Attributes& at, std::span<const TensorType> in) {
    require_operands(in, 1, 1, "x");
    require(is_float(in[0].dtype), "x is {}, expected a float", to_string(in[0].dtype));
    require(in[0].rank() >= 1, "x is a scalar: there is no axis to sum along");
    normalized_axis(at.axis, in[0].rank());
    return {in[0].dtype, in[0].shape, {}};
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    const Operand& x = a.in[0];
    const Halide::Type type = accumulator(x.func.type());
    const bool wide = type.bits() == 64;
    const auto axis = static_cast<std::size_t>(normalized_axis(at.axis, x.type.rank()));
    const auto names = default_dimensions(x.type.rank());
    const Reduction r = a.reduce({{"r" + names[axis], x.extents[axis]}});
    auto along = a.index();
    along[axis] = r["r" + names[axis]];

    std::vector<Halide::Var> all, kept;
    for (const int dim : innermost_first(x.type)) {
      all.push_back(a.loops[static_cast<std::size_t>(dim)]);
      if (dim != static_cast<int>(axis)) kept.push_back(all.back());
    }
    std::vector<Expr> all_along;
    for (const int dim : innermost_first(x.type)) all_along.push_back(along[static_cast<std::size_t>(dim)]);

    // The largest element is subtracted, or large arguments would overflow. A NaN that `max` drops comes back through
    // exp; an infinite maximum makes it inf - inf.
    s.max(kept) = type.min();
    s.max(kept) = Halide::max(s.max(kept), Halide::cast(type, x.at(along)));
    const Expr difference = Halide::cast(type, x.at(a.index())) - s.max(kept);
    s.exp(all) = wide ? Halide::exp(difference) : math::exp_of_nonpositive(difference);
    s.sum(kept) = Halide::cast(type, 0);
    s.sum(kept) += s.exp(all_along);
    const Expr value = !at.log ? s.exp(all) * (Halide::cast(type, 1) / s.sum(kept))
                               : difference - (wide ? Halide::log(s.sum(kept)) : math::log(s.sum(kept)));
    s.out(a.arguments()) = Halide::cast(x.func.type(), value);
  }

  static void reference(const Attributes& at, std::span<const Array> in, Array& out) {
    const Shape& shape = in[0].shape();
    const auto axis = at.axis < 0 ? at.axis + static_cast<std::int64_t>(shape.size()) : at.axis;
    const std::int64_t length = shape[static_cast<std::size_t>(axis)];
    const std::int64_t inner = element_count(Shape(shape.begin() + axis + 1, shape.end()));
    for (std::int64_t i = 0; i < in[0].size(); ++i) {
      const std::int64_t first = i - i / inner % length * inner;
      double largest = -std::numeric_limits<double>::infinity(), sum = 0;
      for (std::int64_t k = 0; k < length; ++k) largest = std::fmax(largest, in[0].at(first + k * inner));
      for (std::int64_t k = 0; k < length; ++k) sum += std::exp(in[0].at(first + k * inner) - largest);
      const double difference = in[0].at(i) - largest;
      out.set(i, at.log ? difference - std::log(sum) : std::exp(difference) / sum);
    }
  }

  static Tolerance tolerance(const Attributes& at, std::span<const TensorType> in) {
    const bool wide = in[0].dtype == DType::f64;
    const double own = wide ? unit_roundoff(DType::f64) : unit_roundoff(DType::f32);
    const auto length = static_cast<double>(
        in[0].shape.at(static_cast<std::size_t>(normalized_axis(at.axis, in[0].rank()))).constant().value_or(4096));
    // The difference is rounded to 2^-24 of the largest argument, which exp turns into a relative error: 32 roundings
    // cover arguments up to 30 apart.
    return {.relative = 2 * unit_roundoff(in[0].dtype) + (at.log ? 8 : 64 + std::sqrt(length)) * own,
            .of_largest = (at.log ? 64 + std::sqrt(length) : 1) * own,
            .special_values = wide ? SpecialValues::ignored : SpecialValues::exact,
            .reason =
                "the argument's rounding, exp within 2 ulp, a sum of positive terms, one division; f64 calls Halide's "
                "exp, which assumes finite arguments"};
  }
  static Extent flops(const Attributes&, std::span<const TensorType>, std::span<const TensorType> out) {
    return Extent(5) * out[0].element_count();
  }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> rows = {{{"N", 1}, {"W", 1}}, {{"N", 3}, {"W", 7}}, {{"N", 2}, {"W", 37}}};
    // The domain is wide enough that exponentials without the maximum subtracted would overflow.
    const std::vector<ValueDomain> wide = {{-100, 100, {}}};
    return {
        {Json::object(), types({"f32[N,W]"}), rows, wide},
        {{{"axis", 1}}, types({"f32[2,W,5,N]"}), rows},
        {{{"axis", 0}}, types({"f32[W,N]"}), rows},
        {{{"log", true}}, types({"f32[N,W]"}), rows, wide},
        {{{"axis", 1}, {"log", true}}, types({"f32[N,W,3]"}), rows},
        {Json::object(), types({"f16[3,5]"})},
        {Json::object(), types({"f64[3,5]"})},
    };
  }
};

}  // namespace

const Operator& softmax() {
  static const Erased<Softmax> op;
  return op;
}

}  // namespace heddle::ops
