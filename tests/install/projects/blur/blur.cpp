// A three-by-three box blur: the example of a kernel built outside Heddle's tree.
#include <heddle/operator.hpp>

namespace {

using namespace heddle;

struct Blur {
  static constexpr auto name = "blur";
  static constexpr auto summary = "mean over three by three elements";
  static constexpr auto kind = OperatorKind::window;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes);
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, rows), (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) { return {{"x"}}; }

  static TensorType infer(const Attributes&, std::span<const TensorType> in) {
    if (in.size() != 1 || in[0].rank() != 2 || in[0].dtype != DType::f32)
      throw Error(ErrorCode::invalid_argument, "blur takes one f32 image of rank 2");
    return tensor(DType::f32, {in[0].shape[0] - 2, in[0].shape[1] - 2});
  }

  static void define(const Attributes&, Algorithm& a, Stages& s) {
    const Halide::Var y = a.loops[0], x = a.loops[1];
    const auto at = [&](const Halide::Expr& dy, const Halide::Expr& dx) { return a.in[0].at({y + dy, x + dx}); };
    s.rows(x, y) = at(0, 0) + at(0, 1) + at(0, 2);
    s.out(x, y) = (s.rows(x, y) + s.rows(x, y + 1) + s.rows(x, y + 2)) / 9.0F;
  }

  static void reference(const Attributes&, std::span<const Array> in, Array& out) {
    const std::int64_t width = in[0].shape()[1];
    for (std::int64_t i = 0; i < out.size(); ++i) {
      const std::int64_t y = i / (width - 2), x = i % (width - 2);
      double sum = 0;
      for (int dy = 0; dy < 3; ++dy)
        for (int dx = 0; dx < 3; ++dx) sum += in[0].at((y + dy) * width + x + dx);
      out.set(i, sum / 9);
    }
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType>) {
    return {.of_largest = 1e-6, .special_values = SpecialValues::ignored, .reason = "nine additions in another order"};
  }

  static std::vector<Case> cases() {
    return {{.inputs = {TensorType::parse("f32[H,W]")}, .bindings = {{{"H", 3}, {"W", 3}}, {{"H", 9}, {"W", 17}}}}};
  }
};

}  // namespace

extern "C" heddle::UserModule heddle_operators() {
  static const Erased<Blur> blur;
  static const Operator* const all[] = {&blur};
  return {.operators = all};
}
