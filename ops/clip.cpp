#include <cmath>
#include <limits>

#include "ops/element.hpp"
#include "ops/math.hpp"
#include "ops/table.hpp"

namespace heddle::ops {
namespace {

using Halide::Expr;

struct Clip {
  static constexpr auto name = "clip";
  static constexpr auto summary = "x limited to [min, max]; NaN stays";
  static constexpr auto kind = OperatorKind::elementwise;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (double, min), (double, max));
    Attributes() : min(-std::numeric_limits<double>::infinity()), max(std::numeric_limits<double>::infinity()) {}
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) { return {{"x"}}; }

  static TensorType infer(const Attributes& a, std::span<const TensorType> in) {
    require_operands(in, 1, 1, "x");
    require(is_number(in[0].dtype), "x must be integers or floats, not {}", to_string(in[0].dtype));
    require(!std::isnan(a.min) && !std::isnan(a.max), "the bounds must be numbers");
    return tensor(in[0].dtype, in[0].shape);
  }

  static void define(const Attributes& a, Algorithm& algorithm, Stages& s) {
    Expr x = widen(algorithm.in[0].at(algorithm.index()));
    const Halide::Type type = x.type();
    // A bound outside of an integer type is no bound, or leaves one value.
    const double lowest = type.is_float()  ? -std::numeric_limits<double>::infinity()
                          : type.is_uint() ? 0
                                           : -std::ldexp(1, type.bits() - 1);
    const double highest = type.is_float() ? std::numeric_limits<double>::infinity()
                                           : std::ldexp(1, type.bits() - (type.is_uint() ? 0 : 1));
    if (a.min > lowest) x = math::maximum(a.min < highest ? math::constant(type, a.min) : type.max(), x);
    if (a.max < highest) x = math::minimum(a.max > lowest ? math::constant(type, a.max) : type.min(), x);
    s.out(algorithm.arguments()) = Halide::cast(halide_type(algorithm.out[0].dtype), x);
  }

  static void reference(const Attributes& a, std::span<const Array> in, Array& out) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      const double x = in[0].at(i);
      if (x < a.min || x > a.max) out.set(i, x < a.min ? std::min(a.min, a.max) : a.max);
      else copy_element(out, i, in[0], i);
    }
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType> in) {
    return {.relative = 2 * unit_roundoff(in[0].dtype),
            .operand_errors = OperandErrors::whole,
            .reason = "the bounds are rounded to the element type"};
  }

  static std::vector<Case> cases() {
    const std::vector<ValueDomain> floats = {domain_with_extremes(-8, 8)};
    const std::vector<SymbolValues> sizes = {{{"N", 1}, {"W", 1}}, {{"N", 3}, {"W", 17}}};
    return {
        {{{"min", 0.0}, {"max", 6.0}}, types({"f32[N,W]"}), sizes, floats},
        {{{"min", -1.5}}, types({"f32[N,W]"}), sizes, floats},
        {{{"max", 0.1}}, types({"f16[7]"}), {}, floats},
        {Json::object(), types({"f64[7]"}), {}, floats},
        {{{"min", -3}, {"max", 5}}, types({"i64[N,W]"}), sizes, {domain_of(-20, 20)}},
        {{{"min", -3}, {"max", 5}}, types({"u8[N,W]"}), sizes, {domain_of(0, 20)}},
    };
  }
};

}  // namespace

const Operator& clip() {
  static const Erased<Clip> op;
  return op;
}

}  // namespace heddle::ops
