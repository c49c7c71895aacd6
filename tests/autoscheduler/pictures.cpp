#include "tests/autoscheduler/pictures.hpp"

#include <algorithm>

#include "ops/rules.hpp"

namespace heddle::testing {
namespace {

struct Mosaic {
  static constexpr auto name = "mosaic";
  static constexpr auto summary = "a picture woven from planes of half the size";
  static constexpr auto kind = OperatorKind::window;
  static constexpr auto layout = LayoutPreference::row_major;
  static constexpr std::int64_t border = 4;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (bool, repeat_edge));
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, even), (Halide::Func, odd), (Halide::Func, between),
                             (Halide::Func, woven), (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) { return {{"x"}}; }
  static TensorType infer(const Attributes&, std::span<const TensorType> in) {
    ops::require_operands(in, 1, 1, "x");
    return {in[0].dtype, {Extent(3), in[0].shape[0] - Extent(border), in[0].shape[1] - Extent(border)}, {}};
  }

  static void define(const Attributes& attributes, Algorithm& a, Stages& s) {
    using namespace Halide;
    const Var c = a.loops[0], y = a.loops[1], x = a.loops[2];
    const auto in = [&](const Expr& row, const Expr& column) {
      const auto& extents = a.in[0].extents;
      if (!attributes.repeat_edge) return a.in[0].at({row, column});
      return a.in[0].at({clamp(row, 0, extents[0] - 1), clamp(column, 0, extents[1] - 1)});
    };
    s.even(x, y) = in(2 * y, 2 * x) * 2.0F;
    s.odd(x, y) = in(2 * y + 1, 2 * x + 1) - in(2 * y, 2 * x + 1);
    s.between(x, y) = s.even(x, y) + 0.25F * s.odd(x, y);
    const Expr even = s.even(x / 2, y / 2), odd = s.odd(x / 2, y / 2), between = s.between(x / 2, y / 2);
    s.woven(x, y, c) =
        select(y % 2 == 0, select(x % 2 == 0, mux(c, {even, odd, between}), mux(c, {odd, between, even})),
               select(x % 2 == 0, mux(c, {between, even, odd}), mux(c, {even, between, odd})));
    s.out(x, y, c) = mux(c, {s.woven(x, y, 0) - s.woven(x + 1, y, 1), s.woven(x, y + 1, 2), s.woven(x + 1, y + 1, 1)});
  }

  static double woven(const Array& in, std::int64_t x, std::int64_t y, int c) {
    const std::int64_t width = in.shape()[1], left = x / 2 * 2, top = y / 2 * 2;
    const auto at = [&](std::int64_t column, std::int64_t row) { return in.at(row * width + column); };
    const double even = 2 * at(left, top), odd = at(left + 1, top + 1) - at(left + 1, top), between = even + odd / 4;
    const double values[4][3] = {
        {even, odd, between}, {odd, between, even}, {between, even, odd}, {even, between, odd}};
    return values[y % 2 * 2 + x % 2][c];
  }
  static void reference(const Attributes&, std::span<const Array> in, Array& out) {
    const std::int64_t height = out.shape()[1], width = out.shape()[2];
    for (std::int64_t i = 0; i < height * width; ++i) {
      const std::int64_t x = i % width, y = i / width;
      out.set(i, woven(in[0], x, y, 0) - woven(in[0], x + 1, y, 1));
      out.set(i + height * width, woven(in[0], x, y + 1, 2));
      out.set(i + 2 * height * width, woven(in[0], x + 1, y + 1, 1));
    }
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType>) {
    return {.relative = 0x1p-20, .of_largest = 0x1p-20, .special_values = SpecialValues::ignored, .reason = "sums"};
  }
  static std::vector<Case> cases() {
    const Json repeat_edge = {{"repeat_edge", true}};
    return {{Json::object(), ops::types({"f32[5,5]"})},
            {repeat_edge, ops::types({"f32[5,6]"})},
            {repeat_edge, ops::types({"f32[11,43]"})},
            {repeat_edge, ops::types({"f32[36,132]"})},
            {Json::object(), ops::types({"f32[36,132]"})}};
  }
};

struct ColumnHistogram {
  static constexpr auto name = "column_histogram";
  static constexpr auto summary = "how often each level occurs in each column";
  static constexpr auto kind = OperatorKind::reduction;
  static constexpr auto layout = LayoutPreference::row_major;
  static constexpr int levels = 8;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes);
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, counts), (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) { return {{"x"}}; }
  static TensorType infer(const Attributes&, std::span<const TensorType> in) {
    ops::require_operands(in, 1, 1, "x");
    return {in[0].dtype, {Extent(levels), in[0].shape[1]}, {}};
  }

  static void define(const Attributes&, Algorithm& a, Stages& s) {
    using namespace Halide;
    const Var level = a.loops[0], x = a.loops[1];
    const Reduction rows = a.reduce({{"rows", a.in[0].extents[0]}});
    const Expr of_pixel = clamp(cast<int>(a.in[0].at({rows["rows"], x}) * 2.0F + 4.0F), 0, levels - 1);
    s.counts(x, level) = 0.0F;
    s.counts(x, of_pixel) += 1.0F;
    s.out(x, level) = 0.5F * s.counts(x, level);
  }

  static void reference(const Attributes&, std::span<const Array> in, Array& out) {
    const std::int64_t height = in[0].shape()[0], width = in[0].shape()[1];
    for (std::int64_t i = 0; i < out.size(); ++i) out.set(i, 0);
    for (std::int64_t i = 0; i < height * width; ++i) {
      const auto level = static_cast<std::int64_t>(
          std::clamp(static_cast<int>(static_cast<float>(in[0].at(i)) * 2.0F + 4.0F), 0, levels - 1));
      const std::int64_t place = level * width + i % width;
      out.set(place, out.at(place) + 0.5);
    }
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType>) {
    return {.special_values = SpecialValues::ignored, .reason = "counts"};
  }
  static std::vector<Case> cases() {
    return {{Json::object(), ops::types({"f32[3,1]"})},
            {Json::object(), ops::types({"f32[7,37]"})},
            {Json::object(), ops::types({"f32[24,160]"})}};
  }
};

}  // namespace

const Operator& mosaic() {
  static const Erased<Mosaic> op;
  return op;
}

const Operator& column_histogram() {
  static const Erased<ColumnHistogram> op;
  return op;
}

}  // namespace heddle::testing
