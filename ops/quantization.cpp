#include <cmath>
#include <limits>

#include "ops/element.hpp"
#include "ops/math.hpp"
#include "ops/table.hpp"

namespace heddle::ops {
namespace {

using Halide::Expr;

bool is_narrow_integer(DType type) {
  return type == DType::u8 || type == DType::i8 || type == DType::u16 || type == DType::i16;
}

/// A step of the sums of a convolution or product of bytes, for tests.
constexpr double sum_step = 4096;

/// What saturates, and quotients half-way between two steps.
std::vector<double> extremes_and_halves() {
  std::vector<double> values = float_extremes();
  for (const double half : {0.5, 1.5, 2.5, -0.5, -1.5, 126.5, 127.5, 254.5, 255.5}) values.push_back(half);
  return values;
}

/// The scale and the zero point stand for all of x, a channel, or whatever else they broadcast from.
void require_parameters(std::span<const TensorType> in, DType integers) {
  require(is_float(in[1].dtype), "the scale must be a float, not {}", to_string(in[1].dtype));
  if (in.size() > 2)
    require(in[2].dtype == integers, "the zero point is {}, but it is a number among the {} that it shifts",
            to_string(in[2].dtype), to_string(integers));
  for (std::size_t i = 1; i < in.size(); ++i) {
    const std::vector<TensorType> both = {in[0], in[i]};
    require(in[i].rank() <= in[0].rank() && broadcast_shapes(both) == in[0].shape,
            "the {} must broadcast to x, but {} does not to {}", i == 1 ? "scale" : "zero point", in[i].str(),
            in[0].str());
  }
}

std::vector<OperandInfo> parameters() {
  return {{"x"}, {.role = "scale", .constant = true}, {.role = "zero", .constant = true}};
}

/// Steps from the zero point (of i32; undefined for 0) as far as the integers of `to` go, as floats, since larger ones
/// than an integer holds convert to anything. NaN becomes the least of them: it fails the first comparison.
Expr limited(const Expr& steps, DType to, const Expr& zero) {
  const auto [least, most] = integer_range(to);
  const Halide::Type type = steps.type();
  Expr low = math::constant(type, static_cast<double>(least)), high = math::constant(type, static_cast<double>(most));
  if (zero.defined()) {
    low = low - Halide::cast(type, zero);
    high = high - Halide::cast(type, zero);
  }
  const Expr above = select(math::less(low, steps), steps, low);
  return select(math::less(above, high), above, high);
}

/// f64 where one of the two is, else f32: 16-bit floats are computed in it and rounded once.
Halide::Type computed_in(DType x, DType scale) {
  return Halide::Float(x == DType::f64 || scale == DType::f64 ? 64 : 32);
}

struct Quantize {
  static constexpr auto name = "quantize";
  static constexpr auto summary =
      "x / scale, or x scale with `inverse`, rounded to the nearest integer (halves to the even one), plus the zero "
      "point, limited to the integers of `to`; NaN becomes the least of them. Scale and zero point broadcast to x";
  static constexpr auto kind = OperatorKind::elementwise;

  struct Attributes {
    /// inverse: the scale holds steps a unit instead of units a step, and x is multiplied.
    BOOST_HANA_DEFINE_STRUCT(Attributes, (DType, to), (bool, inverse));
    Attributes() : to(DType::u8), inverse(false) {}
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) { return parameters(); }

  static TensorType infer(const Attributes& a, std::span<const TensorType> in) {
    require_operands(in, 2, 3, "x, scale and optionally the zero point");
    require(is_narrow_integer(a.to), "floats are quantised to integers of 8 or 16 bits, not {}", to_string(a.to));
    require(is_float(in[0].dtype), "x must be a float, not {}", to_string(in[0].dtype));
    require_parameters(in, a.to);
    return tensor(a.to, in[0].shape);
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    const auto index = a.index();
    const Halide::Type type = computed_in(a.in[0].type.dtype, a.in[1].type.dtype);
    const Expr x = Halide::cast(type, widen(a.in[0].at(index)));
    const Expr scale = Halide::cast(type, widen(a.in[1].broadcast(index)));
    // Strict, or LLVM would divide by multiplying with the inverse, which rounds differently.
    const Expr steps = at.inverse ? x * scale : Halide::strict_float(x / scale);
    const Expr zero = a.in.size() > 2 ? Halide::cast<std::int32_t>(a.in[2].broadcast(index)) : Expr();
    Expr integer = math::nearest_integer(limited(steps, at.to, zero));
    if (zero.defined()) integer += zero;
    // Saturating changes nothing any more. It is one instruction for two vectors where truncating takes shuffles, and
    // the other way round on AVX-512.
    const Halide::Type to = halide_type(at.to);
    s.out(a.arguments()) = select(Halide::target_has_feature(Halide::Target::AVX512_Skylake), Halide::cast(to, integer),
                                  Halide::saturating_cast(to, integer));
  }

  template <class T>
  static double steps(const Attributes& at, double x, double scale) {
    const T value = static_cast<T>(x), unit = static_cast<T>(scale);
    return static_cast<double>(at.inverse ? value * unit : value / unit);
  }

  static void reference(const Attributes& at, std::span<const Array> in, Array& out) {
    const auto [least, most] = integer_range(at.to);
    const bool wide = computed_in(in[0].dtype(), in[1].dtype()).bits() == 64;
    std::int64_t i = 0;
    for_each(out.shape(), [&](const auto& index) {
      const double scale = in[1].at(flat_broadcast(in[1].shape(), index));
      const double zero = in.size() > 2 ? in[2].at(flat_broadcast(in[2].shape(), index)) : 0;
      // The quotient as the algorithm rounds it: a half is a half on both sides.
      const double exact = wide ? steps<double>(at, in[0].at(i), scale) : steps<float>(at, in[0].at(i), scale);
      const double rounded = std::nearbyint(exact) + zero;
      const double low = static_cast<double>(least), high = static_cast<double>(most);
      out.set(i++, std::isnan(rounded) || rounded < low ? low : rounded > high ? high : rounded);
    });
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType>) {
    return {.reason = "the quotient is rounded as the reference rounds it, the rest is exact"};
  }
  static Extent flops(const Attributes&, std::span<const TensorType>, std::span<const TensorType> out) {
    return Extent(2) * out[0].element_count();
  }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> sizes = {{{"N", 1}, {"W", 1}}, {{"N", 3}, {"W", 17}}, {{"N", 2}, {"W", 70}}};
    // Halves, as quotients of scale 1 and 2, beside what saturates. A scale is at most twice another: an error of a
    // step is then at most two of the next.
    const std::vector<double> halves = extremes_and_halves();
    const auto domains = [&](double low, double high, double least, double most) {
      return std::vector<ValueDomain>{{low, high, halves}, {1, 2, {1.0, 2.0}}, {least, most, {}}};
    };
    // Behind a convolution of bytes: its sums are some dozens of such steps.
    std::vector<double> extremes = float_extremes();
    for (const double value : halves)
      if (std::isfinite(value) && std::abs(value) < 300) extremes.push_back(value * sum_step);
    const auto sums = [&](bool inverse, double least, double most) {
      const double low = inverse ? 0.5 / sum_step : sum_step, high = 2 * low;
      return std::vector<ValueDomain>{
          {-600 * sum_step, 600 * sum_step, extremes}, {low, high, {low, high}}, {least, most, {}}};
    };
    const auto bytes = domains(-300, 300, 0, 255);
    return {
        {Json::object(), types({"f32[N,W]", "f32[]", "u8[]"}), sizes, sums(false, 0, 255)},
        {Json::object(), types({"f32[N,W]", "f32[1]"}), sizes, bytes},
        {{{"to", "i8"}}, types({"f32[N,W]", "f32[N,1]", "i8[N,1]"}), sizes, sums(false, -128, 127)},
        {{{"to", "i8"}}, types({"f32[2,N,3,W]", "f32[N,1,1]"}), sizes, domains(-300, 300, -128, 127)},
        {{{"inverse", true}}, types({"f32[N,W]", "f32[]", "u8[]"}), sizes, sums(true, 0, 255)},
        {{{"inverse", true}}, types({"f32[2,W,7]", "f32[W,1]"}), {{{"W", 1}}, {{"W", 33}}}, bytes},
        {{{"inverse", true}, {"to", "i8"}}, types({"f32[N,W]", "f32[W]", "i8[W]"}), sizes, sums(true, -128, 127)},
        {{{"to", "u16"}}, types({"f32[N,W]", "f32[]", "u16[]"}), sizes, domains(-70000, 70000, 0, 65535)},
        {{{"to", "i16"}}, types({"f32[N,W]", "f32[W]", "i16[W]"}), sizes, domains(-70000, 70000, -32768, 32767)},
        {Json::object(), types({"f16[3,5]", "f16[]", "u8[]"}), {}, bytes},
        {{{"to", "i8"}}, types({"bf16[3,5]", "f32[3,1]"}), {}, domains(-300, 300, -128, 127)},
        {Json::object(), types({"f64[7]", "f32[]", "u8[]"}), {}, bytes},
    };
  }
};

struct Dequantize {
  static constexpr auto name = "dequantize";
  static constexpr auto summary = "(x - zero point) scale, a float like the scale. Scale and zero point broadcast to x";
  static constexpr auto kind = OperatorKind::elementwise;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes);
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) { return parameters(); }

  static TensorType infer(const Attributes&, std::span<const TensorType> in) {
    require_operands(in, 2, 3, "x, scale and optionally the zero point");
    require(is_narrow_integer(in[0].dtype) || in[0].dtype == DType::i32,
            "x must be integers of 8 or 16 bits or i32, not {}", to_string(in[0].dtype));
    require_parameters(in, in[0].dtype);
    return tensor(in[1].dtype, in[0].shape);
  }

  static void define(const Attributes&, Algorithm& a, Stages& s) {
    const auto index = a.index();
    const Halide::Type type = computed_in(DType::f32, a.in[1].type.dtype);
    Expr difference = a.in[0].at(index);
    if (a.in.size() > 2) {
      // The difference of two i32 need not be one.
      const Halide::Type exact = a.in[0].type.dtype == DType::i32 ? Halide::Int(64) : Halide::Int(32);
      difference = Halide::cast(exact, difference) - Halide::cast(exact, a.in[2].broadcast(index));
    } else if (difference.type().bits() < 32) {
      difference = Halide::cast<std::int32_t>(difference);
    }
    const Expr scale = Halide::cast(type, widen(a.in[1].broadcast(index)));
    s.out(a.arguments()) = Halide::cast(halide_type(a.out[0].dtype), Halide::cast(type, difference) * scale);
  }

  static void reference(const Attributes&, std::span<const Array> in, Array& out) {
    std::int64_t i = 0;
    for_each(out.shape(), [&](const auto& index) {
      const double zero = in.size() > 2 ? in[2].at(flat_broadcast(in[2].shape(), index)) : 0;
      out.set(i, (in[0].at(i) - zero) * in[1].at(flat_broadcast(in[1].shape(), index)));
      ++i;
    });
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType> in) {
    // 8- and 16-bit differences are f32s; an i32 is rounded to one.
    const bool wide = in[0].dtype == DType::i32;
    return float_tolerance(in[1].dtype, wide ? 2 : 1,
                           wide ? "x and the product are rounded" : "the product is rounded");
  }
  static Extent flops(const Attributes&, std::span<const TensorType>, std::span<const TensorType> out) {
    return Extent(2) * out[0].element_count();
  }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> sizes = {{{"N", 1}, {"W", 1}}, {{"N", 3}, {"W", 17}}, {{"N", 2}, {"W", 70}}};
    const auto domains = [&](double least, double most, double scale = 1) {
      std::vector<double> extremes = float_extremes();
      extremes.insert(extremes.end(), {scale, 2 * scale});
      return std::vector<ValueDomain>{{least, most, {}}, {scale, 2 * scale, extremes}, {least, most, {}}};
    };
    // As what is added to the sums of a convolution of bytes.
    const auto residual = domains(0, 255, sum_step);
    const auto u8 = domains(0, 255), i8 = domains(-128, 127), i32 = domains(-2e9, 2e9);
    return {
        {Json::object(), types({"u8[N,W]", "f32[]", "u8[]"}), sizes, residual},
        {Json::object(), types({"u8[N,W]", "f32[1,1]"}), sizes, u8},
        {Json::object(), types({"i8[2,N,3,W]", "f32[N,1,1]", "i8[N,1,1]"}), sizes, i8},
        {Json::object(), types({"i8[N,W]", "f32[W]"}), sizes, i8},
        {Json::object(), types({"i32[N,W]", "f32[N,1]"}), sizes, i32},
        {Json::object(), types({"i32[N,W]", "f32[]", "i32[]"}), sizes, i32},
        {Json::object(), types({"u16[5]", "f32[]", "u16[]"}), {}, domains(0, 65535)},
        {Json::object(), types({"i16[5]", "f32[]", "i16[]"}), {}, domains(-32768, 32767)},
        {Json::object(), types({"u8[3,5]", "f16[]", "u8[]"}), {}, u8},
        {Json::object(), types({"i8[3,5]", "bf16[3,1]"}), {}, i8},
        {Json::object(), types({"i32[5]", "f64[]"}), {}, i32},
    };
  }
};

/// What dequantize makes of what quantize makes, without integers in between.
struct FakeQuantize {
  static constexpr auto name = "fake_quantize";
  static constexpr auto summary =
      "(quantize(x, inverse, zero) - zero) scale: x in whole steps, as far as the integers of `to` go. `inverse` holds "
      "steps a unit, the scale units a step; all broadcast to x";
  static constexpr auto kind = OperatorKind::elementwise;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (DType, to));
    Attributes() : to(DType::u8) {}
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) {
    return {{"x"},
            {.role = "inverse", .constant = true},
            {.role = "scale", .constant = true},
            {.role = "zero", .constant = true}};
  }

  static TensorType infer(const Attributes& a, std::span<const TensorType> in) {
    require_operands(in, 3, 4, "x, the inverse scale, the scale and optionally the zero point");
    require(is_narrow_integer(a.to), "floats are quantised to integers of 8 or 16 bits, not {}", to_string(a.to));
    for (std::size_t i = 0; i < 3; ++i)
      require(in[i].dtype == DType::f32, "x and the scales must be f32, not {}", to_string(in[i].dtype));
    for (std::size_t scale = 1; scale < 3; ++scale) {
      std::vector<TensorType> parameters = {in[0], in[scale]};
      if (in.size() > 3) parameters.push_back(in[3]);
      require_parameters(parameters, a.to);
    }
    return tensor(DType::f32, in[0].shape);
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    const auto index = a.index();
    const Expr steps = a.in[0].at(index) * a.in[1].broadcast(index);
    const Expr zero = a.in.size() > 3 ? Halide::cast<std::int32_t>(a.in[3].broadcast(index)) : Expr();
    s.out(a.arguments()) = math::nearest(limited(steps, at.to, zero)) * a.in[2].broadcast(index);
  }

  static void reference(const Attributes& at, std::span<const Array> in, Array& out) {
    std::vector<Array> parameters = {in[0], in[1]};
    if (in.size() > 3) parameters.push_back(in[3]);
    Quantize::Attributes quantized;
    quantized.to = at.to;
    quantized.inverse = true;
    Array integers(at.to, in[0].shape());
    Quantize::reference(quantized, parameters, integers);
    parameters[0] = integers;
    parameters[1] = in[2];
    Dequantize::reference({}, parameters, out);
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType>) {
    return float_tolerance(DType::f32, 1, "the steps are exact, their product with the scale is rounded");
  }
  static Extent flops(const Attributes&, std::span<const TensorType>, std::span<const TensorType> out) {
    return Extent(4) * out[0].element_count();
  }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> sizes = {{{"N", 1}, {"W", 1}}, {{"N", 3}, {"W", 17}}, {{"N", 2}, {"W", 70}}};
    const std::vector<double> halves = extremes_and_halves();
    const auto domains = [&](double least, double most) {
      return std::vector<ValueDomain>{
          {-300, 300, halves}, {0.5, 1, {0.5, 1.0}}, {0.01, 100, {}}, {least, most, {least, most}}};
    };
    return {
        {Json::object(), types({"f32[N,W]", "f32[]", "f32[]", "u8[]"}), sizes, domains(0, 255)},
        {{{"to", "i8"}}, types({"f32[N,W]", "f32[N,1]", "f32[N,1]", "i8[N,1]"}), sizes, domains(-128, 127)},
        {{{"to", "i16"}}, types({"f32[3,5]", "f32[]", "f32[5]"}), {}, domains(0, 0)},
    };
  }
};

}  // namespace

const Operator& quantize() {
  static const Erased<Quantize> op;
  return op;
}

const Operator& fake_quantize() {
  static const Erased<FakeQuantize> op;
  return op;
}

const Operator& dequantize() {
  static const Erased<Dequantize> op;
  return op;
}

}  // namespace heddle::ops
