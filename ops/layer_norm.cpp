#include <cmath>

#include "ops/math.hpp"
#include "ops/reference.hpp"
#include "ops/rules.hpp"
#include "ops/window.hpp"

namespace heddle::ops {
namespace {

using Halide::Expr;

struct LayerNorm {
  static constexpr auto name = "layer_norm";
  static constexpr auto summary =
      "(x - mean) / sqrt(variance + epsilon) * scale + b over the dimensions from axis on; b is optional";
  static constexpr auto kind = OperatorKind::reduction;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (std::int64_t, axis), (double, epsilon));
    Attributes() : axis(-1), epsilon(1e-5) {}
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, sum), (Halide::Func, squares), (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) {
    return {{"x"}, {"scale", {}, {}, true}, {"b", {}, {}, true}};
  }

  static TensorType infer(const Attributes& at, std::span<const TensorType> in) {
    require_operands(in, 2, 3, "x, scale and optionally b");
    require(at.epsilon >= 0, "epsilon {} must not be negative", at.epsilon);
    const char* roles[] = {"x", "scale", "b"};
    for (std::size_t i = 0; i < in.size(); ++i) {
      if (i == 0) {
        require(is_float(in[i].dtype), "x is {}, expected a float", to_string(in[i].dtype));
        continue;
      }
      require_parameter(in[i], in[0].dtype, roles[i]);
      require(in[i].rank() <= in[0].rank(), "{} has rank {}, more than x's {}", roles[i], in[i].rank(), in[0].rank());
      const std::vector<TensorType> both = {in[0], in[i]};
      const auto shape = broadcast_shapes(both);
      for (std::size_t d = 0; d < shape.size(); ++d)
        require_equal(shape[d], in[0].shape[d],
                      fmt::format("{} ({}) broadcast to x: dimension {}", roles[i], in[i].str(), d));
    }
    require(in[0].rank() >= 1, "x is a scalar: there is nothing to normalise over");
    normalized_axis(at.axis, in[0].rank());
    return {in[0].dtype, in[0].shape, {}};
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    const Operand& x = a.in[0];
    const Halide::Type type = accumulator(x.func.type());
    const auto axis = static_cast<std::size_t>(normalized_axis(at.axis, x.type.rank()));
    const auto names = default_dimensions(x.type.rank());

    std::vector<Halide::Var> kept;
    std::vector<Reduction::Dimension> reduced;
    Extent count = 1;
    for (const int dim : innermost_first(x.type)) {
      const auto d = static_cast<std::size_t>(dim);
      if (d < axis) kept.push_back(a.loops[d]);
      else reduced.push_back({"r" + names[d], x.extents[d]});
    }
    for (std::size_t d = axis; d < x.type.shape.size(); ++d) count = count * x.type.shape[d];
    // Both sums run over the same dimensions, and each has its own variables of the same names.
    const auto along = [&](const Reduction& r) {
      auto index = a.index();
      for (std::size_t d = axis; d < index.size(); ++d) index[d] = r["r" + names[d]];
      return index;
    };
    const Expr share = 1 / Halide::cast(type, a.extent(count));
    const auto value = [&](const std::vector<Expr>& index) { return Halide::cast(type, x.at(index)); };

    // Two passes: the mean of squares less the square of the mean would cancel where the mean is large.
    const Reduction first = a.reduce(reduced);
    s.sum(kept) = Halide::cast(type, 0);
    s.sum(kept) += value(along(first));
    const Expr mean = s.sum(kept) * share;
    const Reduction second = a.reduce(reduced);
    const Expr deviation = value(along(second)) - mean;
    s.squares(kept) = Halide::cast(type, 0);
    s.squares(kept) += deviation * deviation;

    const Expr factor = 1 / Halide::sqrt(s.squares(kept) * share + math::constant(type, at.epsilon));
    Expr result = (value(a.index()) - mean) * factor * Halide::cast(type, a.in[1].broadcast(a.index()));
    if (a.in.size() > 2) result += Halide::cast(type, a.in[2].broadcast(a.index()));
    s.out(a.arguments()) = Halide::cast(x.func.type(), result);
  }

  static void reference(const Attributes& at, std::span<const Array> in, Array& out) {
    const Shape& shape = in[0].shape();
    const auto axis = at.axis < 0 ? at.axis + static_cast<std::int64_t>(shape.size()) : at.axis;
    const std::int64_t length = element_count(Shape(shape.begin() + axis, shape.end()));
    std::int64_t i = 0;
    for_each(shape, [&](const std::vector<std::int64_t>& index) {
      const std::int64_t first = i / length * length;
      double mean = 0, variance = 0;
      for (std::int64_t k = 0; k < length; ++k) mean += in[0].at(first + k);
      mean /= static_cast<double>(length);
      for (std::int64_t k = 0; k < length; ++k) variance += std::pow(in[0].at(first + k) - mean, 2);
      variance /= static_cast<double>(length);
      const double b = in.size() > 2 ? in[2].at(flat_broadcast(in[2].shape(), index)) : 0;
      out.set(
          i,
          (in[0].at(i) - mean) / std::sqrt(variance + at.epsilon) * in[1].at(flat_broadcast(in[1].shape(), index)) + b);
      ++i;
    });
  }

  static Tolerance tolerance(const Attributes& at, std::span<const TensorType> in) {
    Extent length = 1;
    for (auto d = static_cast<std::size_t>(normalized_axis(at.axis, in[0].rank())); d < in[0].shape.size(); ++d)
      length = length * in[0].shape[d];
    Tolerance t = sum_tolerance(in[0].dtype, length);
    t.reason = "two sums along the row and the square root: " + t.reason;
    return t;
  }
  static Extent flops(const Attributes&, std::span<const TensorType>, std::span<const TensorType> out) {
    return Extent(8) * out[0].element_count();
  }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> rows = {{{"N", 1}, {"W", 2}}, {{"N", 3}, {"W", 7}}, {{"N", 2}, {"W", 37}}};
    const std::vector<ValueDomain> shifted = {{90, 110, {}}};  // a mean far from 0
    return {
        {Json::object(), types({"f32[N,W]", "f32[W]", "f32[W]"}), rows},
        {{{"epsilon", 1e-3}}, types({"f32[N,5,W]", "f32[W]"}), rows},
        {{{"axis", 1}}, types({"f32[N,3,W]", "f32[3,W]", "f32[W]"}), rows},
        {{{"axis", 0}}, types({"f32[N,W]", "f32[1,W]", "f32[N,1]"}), rows},
        {Json::object(), types({"f32[4,24]", "f32[24]", "f32[24]"}), {}, shifted},
        {Json::object(), types({"f32[3,1]", "f32[1]", "f32[1]"})},
        {Json::object(), types({"f16[3,9]", "f16[9]", "f16[9]"})},
        {Json::object(), types({"bf16[3,9]", "f32[9]", "f32[9]"})},
    };
  }
};

}  // namespace

const Operator& layer_norm() {
  static const Erased<LayerNorm> op;
  return op;
}

}  // namespace heddle::ops
