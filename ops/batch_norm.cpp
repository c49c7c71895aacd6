#include <cmath>

#include "ops/math.hpp"
#include "ops/reference.hpp"
#include "ops/rules.hpp"

namespace heddle::ops {
namespace {

using Halide::Expr;

struct BatchNorm {
  static constexpr auto name = "batch_norm";
  static constexpr auto summary =
      "inference form: (x - mean) / sqrt(variance + epsilon) * scale + b, a value per channel (dimension 1)";
  static constexpr auto kind = OperatorKind::elementwise;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (double, epsilon));
    Attributes() : epsilon(1e-5) {}
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, factor), (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType> in) {
    std::vector<OperandInfo> infos = {{"x", default_dimensions(in[0].rank())}};
    for (const char* role : {"scale", "b", "mean", "variance"}) infos.push_back({role, {"c"}, {}, true});
    return infos;
  }

  static TensorType infer(const Attributes& at, std::span<const TensorType> in) {
    require_operands(in, 5, 5, "x, scale, b, mean and variance");
    require(in[0].rank() >= 2, "x has rank {}, expected at least 2: (n, c, ...)", in[0].rank());
    require(at.epsilon >= 0, "epsilon {} must not be negative", at.epsilon);
    const char* roles[] = {"x", "scale", "b", "mean", "variance"};
    for (std::size_t i = 0; i < in.size(); ++i) {
      require(is_float(in[i].dtype), "{} is {}, expected a float", roles[i], to_string(in[i].dtype));
      if (i == 0) continue;
      require(in[i].rank() == 1, "{} has rank {}, expected 1", roles[i], in[i].rank());
      require_equal(in[i].shape[0], in[0].shape[1], fmt::format("{}'s extent (against x's channels)", roles[i]));
    }
    return {in[0].dtype, in[0].shape, {}};
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    const Halide::Type type = accumulator(a.in[0].func.type());
    const Halide::Var c = a.loops[1];
    const auto value = [&](std::size_t operand, const std::vector<Expr>& index) {
      return Halide::cast(type, a.in[operand].at(index));
    };
    s.factor(c) = value(1, {c}) / Halide::sqrt(value(4, {c}) + math::constant(type, at.epsilon));
    const Expr normalised = (value(0, a.index()) - value(3, {c})) * s.factor(c) + value(2, {c});
    s.out(a.arguments()) = Halide::cast(a.in[0].func.type(), normalised);
  }

  static void reference(const Attributes& at, std::span<const Array> in, Array& out) {
    const Shape& shape = in[0].shape();
    const std::int64_t pixels = element_count(Shape(shape.begin() + 2, shape.end()));
    for (std::int64_t i = 0; i < in[0].size(); ++i) {
      const std::int64_t c = i / pixels % shape[1];
      out.set(i, (in[0].at(i) - in[3].at(c)) / std::sqrt(in[4].at(c) + at.epsilon) * in[1].at(c) + in[2].at(c));
    }
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType> in) {
    const double own = in[0].dtype == DType::f64 ? unit_roundoff(DType::f64) : unit_roundoff(DType::f32);
    return {.relative = 2 * unit_roundoff(in[0].dtype),
            .of_largest = 64 * own,
            .special_values = SpecialValues::ignored,
            .reason = "six roundings, and x - mean or + b may cancel; differences of the largest numbers overflow"};
  }
  static Extent flops(const Attributes&, std::span<const TensorType>, std::span<const TensorType> out) {
    return Extent(3) * out[0].element_count();
  }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> images = {
        {{"N", 1}, {"C", 1}, {"W", 1}}, {{"N", 2}, {"C", 7}, {"W", 5}}, {{"N", 1}, {"C", 33}, {"W", 3}}};
    const std::vector<ValueDomain> domains = {{}, {}, {}, {}, {0.1, 4, {}}};
    return {
        {Json::object(), types({"f32[N,C,3,W]", "f32[C]", "f32[C]", "f32[C]", "f32[C]"}), images, domains},
        {{{"epsilon", 0.5}},
         types({"f32[N,C]", "f32[C]", "f32[C]", "f32[C]", "f32[C]"}),
         {{{"N", 1}, {"C", 1}}, {{"N", 3}, {"C", 17}}},
         domains},
        {Json::object(), types({"f32[2,3,2,3,2]", "f32[3]", "f32[3]", "f32[3]", "f32[3]"}), {}, domains},
        {Json::object(), types({"f16[2,3,5]", "f16[3]", "f16[3]", "f32[3]", "f32[3]"}), {}, domains},
    };
  }
};

}  // namespace

const Operator& batch_norm() {
  static const Erased<BatchNorm> op;
  return op;
}

}  // namespace heddle::ops
