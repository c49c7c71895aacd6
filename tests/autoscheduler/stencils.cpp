#include "tests/autoscheduler/stencils.hpp"

#include "ops/rules.hpp"

namespace heddle::testing {
namespace {

struct Stencils {
  static constexpr auto name = "stencils";
  static constexpr auto summary = "stencils of stencils";
  static constexpr auto kind = OperatorKind::window;
  static constexpr auto layout = LayoutPreference::row_major;
  static constexpr std::int64_t border = 8;  // two of each stencil

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes);
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, first), (Halide::Func, second), (Halide::Func, third),
                             (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) { return {{"x"}}; }
  static TensorType infer(const Attributes&, std::span<const TensorType> in) {
    ops::require_operands(in, 1, 1, "x");
    return {in[0].dtype, {in[0].shape[0] - Extent(border), in[0].shape[1] - Extent(border)}, {}};
  }

  template <class Read>
  static auto stencil(const Read& at) {
    auto sum = at(0, 0);
    for (int y = 0; y < 3; ++y)
      for (int x = 0; x < 3; ++x)
        if (x + y > 0) sum = sum + at(x, y) * static_cast<float>(1 + x + 2 * y);
    return sum * 0.0625F;
  }

  static void define(const Attributes&, Algorithm& a, Stages& s) {
    const Halide::Var y = a.loops[0], x = a.loops[1];
    const Operand& in = a.in[0];
    s.first(x, y) = stencil([&](int dx, int dy) -> Halide::Expr { return in.at({y + dy, x + dx}); });
    s.second(x, y) = stencil([&](int dx, int dy) -> Halide::Expr { return s.first(x + dx, y + dy); });
    s.third(x, y) = stencil([&](int dx, int dy) -> Halide::Expr { return s.second(x + dx, y + dy); });
    s.out(x, y) =
        stencil([&](int dx, int dy) -> Halide::Expr { return s.third(x + dx, y + dy); }) - s.second(x + 2, y + 2);
  }

  static void reference(const Attributes&, std::span<const Array> in, Array& out) {
    struct Image {
      std::int64_t width, height;
      std::vector<double> values;
      double at(std::int64_t x, std::int64_t y) const { return values[static_cast<std::size_t>(y * width + x)]; }
    };
    Image image{in[0].shape()[1], in[0].shape()[0], {}};
    for (std::int64_t i = 0; i < in[0].size(); ++i) image.values.push_back(in[0].at(i));
    std::vector<Image> images = {image};
    for (int stage = 0; stage < 4; ++stage) {
      const Image& before = images.back();
      Image next{before.width - 2, before.height - 2, {}};
      for (std::int64_t y = 0; y < next.height; ++y)
        for (std::int64_t x = 0; x < next.width; ++x)
          next.values.push_back(stencil([&](int dx, int dy) { return before.at(x + dx, y + dy); }));
      images.push_back(std::move(next));
    }
    for (std::int64_t i = 0; i < out.size(); ++i) {
      const std::int64_t x = i % images[4].width, y = i / images[4].width;
      out.set(i, images[4].at(x, y) - images[2].at(x + 2, y + 2));
    }
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType>) {
    return {.relative = 0x1p-20, .of_largest = 0x1p-16, .special_values = SpecialValues::ignored, .reason = "sums"};
  }
  static std::vector<Case> cases() {
    return {{Json::object(), ops::types({"f32[9,9]"})},
            {Json::object(), ops::types({"f32[27,45]"})},
            {Json::object(), ops::types({"f32[40,72]"})},
            {Json::object(), ops::types({"f32[72,264]"})}};
  }
};

}  // namespace

const Operator& stencils() {
  static const Erased<Stencils> op;
  return op;
}

}  // namespace heddle::testing
