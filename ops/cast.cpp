#include <cmath>

#include "ops/element.hpp"
#include "ops/math.hpp"

namespace heddle::ops {
namespace {

using Halide::Expr;

struct Cast {
  static constexpr auto name = "cast";
  static constexpr auto summary =
      "x as another element type: floats truncate to integers, integers wrap, everything but 0 is true";
  static constexpr auto kind = OperatorKind::elementwise;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (DType, to));
    Attributes() : to(DType::f32) {}
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) { return {{"x"}}; }

  static TensorType infer(const Attributes& a, std::span<const TensorType> in) {
    require_operands(in, 1, 1, "x");
    require_kernel_types(in);
    require(a.to != DType::string, "kernels work on numbers, not strings; a host operator has to do this");
    return tensor(a.to, in[0].shape);
  }

  static bool truncates(const Attributes& a, std::span<const TensorType> in) {
    return is_float(in[0].dtype) && is_integer(a.to);
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    Expr x = a.in[0].at(a.index());
    const DType from = a.in[0].type.dtype;
    const auto narrow = [](DType type) { return type == DType::f16 || type == DType::bf16; };
    // Narrow floats go through f32, which holds them all.
    if (narrow(from) && at.to != from) x = Halide::cast<float>(x);
    if (narrow(at.to) && at.to != from) x = Halide::cast<float>(x);
    if (at.to == DType::boolean && from != DType::boolean) {
      const Expr zero = math::constant(x.type(), 0);
      x = is_float(from) ? !math::equal(x, zero) : x != zero;
    }
    s.out(a.arguments()) = Halide::cast(halide_type(at.to), x);
  }

  static void reference(const Attributes& a, std::span<const Array> in, Array& out) {
    const bool from_float = is_float(in[0].dtype());
    for (std::int64_t i = 0; i < out.size(); ++i) {
      if (a.to == DType::boolean) out.set(i, in[0].at(i) != 0 ? 1 : 0);
      else if (from_float) out.set(i, is_float(a.to) ? in[0].at(i) : std::trunc(in[0].at(i)));
      else if (is_float(a.to)) out.set(i, static_cast<double>(integer_at(in[0], i)));
      else set_integer(out, i, integer_at(in[0], i));
    }
  }

  static Tolerance tolerance(const Attributes& a, std::span<const TensorType> in) {
    if (truncates(a, in))
      return {.special_values = SpecialValues::ignored,
              .reason = "no integer stands for an infinity or NaN; the rest is exact"};
    if (is_float(a.to) && !is_float(in[0].dtype))
      return {.relative = 2 * unit_roundoff(a.to), .reason = "rounded to f32 first where the result is narrower"};
    if (is_float(a.to) && a.to != in[0].dtype)
      return {.relative = 2 * unit_roundoff(a.to),
              .of_largest = a.to == DType::f16 ? 0x1p-24 : 0,
              .reason = "rounded once or twice"};
    return moved();
  }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> sizes = {{{"N", 1}, {"W", 1}}, {{"N", 3}, {"W", 33}}};
    const std::vector<ValueDomain> floats = {domain_with_extremes(-300, 300)};
    const auto to = [](const char* type) { return Json{{"to", type}}; };
    return {
        {to("i64"), types({"f32[N,W]"}), sizes, {domain_of(-1e6, 1e6)}},
        {to("i32"), types({"f32[N,W]"}), sizes, {domain_of(-1e6, 1e6)}},
        {to("u8"), types({"f32[W]"}), sizes, {domain_of(0, 255)}},
        {to("bool"), types({"f32[W]"}), sizes, {ValueDomain{-1, 1, {0.0, -0.0, std::nan(""), 1e-30}}}},
        {to("f16"), types({"f32[N,W]"}), sizes, floats},
        {to("bf16"), types({"f32[N,W]"}), sizes, floats},
        {to("f32"), types({"f16[N,W]"}), sizes, floats},
        {to("f32"), types({"bf16[N,W]"}), sizes, floats},
        {to("f64"), types({"f32[5]"}), {}, floats},
        {to("f32"), types({"f64[5]"}), {}, floats},
        {to("f32"), types({"i64[N,W]"}), sizes, {ValueDomain{-1e6, 1e6, {9e18, -9e18}}}},
        {to("i32"), types({"i64[N,W]"}), sizes, {domain_of(-5e9, 5e9)}},
        {to("i64"), types({"i32[N,W]"}), sizes, {domain_of(-2e9, 2e9)}},
        {to("u8"), types({"i32[5]"}), {}, {domain_of(-1000, 1000)}},
        {to("bool"), types({"i64[W]"}), sizes, {domain_of(-1, 1)}},
        {to("f32"), types({"bool[N,W]"}), sizes, {domain_of(0, 1)}},
        {to("i64"), types({"bool[W]"}), sizes, {domain_of(0, 1)}},
        {to("f16"), types({"i32[W]"}), sizes, {domain_of(-3000, 3000)}},
    };
  }
};

}  // namespace

const Operator& cast() {
  static const Erased<Cast> op;
  return op;
}

}  // namespace heddle::ops
