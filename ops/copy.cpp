#include "ops/element.hpp"

namespace heddle::ops {
namespace {

struct Copy {
  static constexpr auto name = "copy";
  static constexpr auto summary = "x, whose result may lie in memory in another layout: how layouts are converted";
  static constexpr auto kind = OperatorKind::movement;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes);
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) { return {{"x"}}; }

  static TensorType infer(const Attributes&, std::span<const TensorType> in) {
    require_operands(in, 1, 1, "x");
    require_kernel_types(in);
    return tensor(in[0].dtype, in[0].shape);
  }

  static void define(const Attributes&, Algorithm& a, Stages& s) { s.out(a.arguments()) = a.in[0].at(a.index()); }

  static void reference(const Attributes&, std::span<const Array> in, Array& out) {
    for (std::int64_t i = 0; i < out.size(); ++i) copy_element(out, i, in[0], i);
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType>) { return moved(); }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> sizes = {{{"N", 1}, {"C", 1}, {"H", 1}, {"W", 1}},
                                             {{"N", 2}, {"C", 5}, {"H", 3}, {"W", 7}}};
    const std::vector<ValueDomain> floats = {domain_with_extremes(-4, 4)};
    return {
        {Json::object(), types({"f32[N,C,H,W]"}), sizes, floats},
        {Json::object(), types({"f32[N,C,H,W]{0,2,3,1}"}), sizes, floats},
        {Json::object(), types({"f32[2,3,5,7]{|2:1+1,3:1+2}"}), {}, floats},
        {Json::object(), types({"f32[2,3,5,7]{0,2,3,1|2:1+1,3:1+2=-4}"}), {}, floats},
        {Json::object(), types({"u8[N,W]"}), sizes, {domain_of(0, 255)}},
        {Json::object(), types({"f32[]"}), {}, floats},
    };
  }
};

}  // namespace

const Operator& copy() {
  static const Erased<Copy> op;
  return op;
}

}  // namespace heddle::ops
