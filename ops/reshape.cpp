#include "ops/element.hpp"
#include "ops/index.hpp"

namespace heddle::ops {
namespace {

struct Reshape {
  static constexpr auto name = "reshape";
  static constexpr auto summary = "the same elements in row-major order under another shape";
  static constexpr auto kind = OperatorKind::movement;
  static constexpr auto layout = LayoutPreference::row_major;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (std::vector<Extent>, shape));
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) { return {{"x"}}; }

  static TensorType infer(const Attributes& a, std::span<const TensorType> in) {
    require_operands(in, 1, 1, "x");
    require_kernel_types(in);
    const TensorType out = tensor(in[0].dtype, a.shape);
    // Symbolic counts that are not the same expression may still be equal; the kernel's entry checks the extents.
    const auto from = in[0].element_count().constant(), to = out.element_count().constant();
    require(!from || !to || *from == *to, "{} elements of {} cannot become {}", in[0].element_count().str(),
            in[0].str(), out.str());
    return out;
  }

  static void define(const Attributes&, Algorithm& a, Stages& s) {
    s.out(a.arguments()) = a.in[0].at(reshaped_index(a, a.in[0].type.shape, a.out[0].shape, a.index()));
  }

  static void reference(const Attributes&, std::span<const Array> in, Array& out) {
    for (std::int64_t i = 0; i < out.size(); ++i) copy_element(out, i, in[0], i);
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType>) { return moved(); }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> sizes = {{{"N", 1}, {"W", 1}}, {{"N", 3}, {"W", 17}}};
    const std::vector<ValueDomain> floats = {domain_with_extremes(-4, 4)};
    return {
        {{{"shape", {"N", "6*W"}}}, types({"f32[N,2,3,W]"}), sizes, floats},
        {{{"shape", {"N", 2, 3, "W"}}}, types({"f32[N,6*W]"}), sizes, floats},
        {{{"shape", {"N", "W", 2, 6}}}, types({"f32[N,W,12]"}), sizes, floats},
        {{{"shape", {"N*W"}}}, types({"f32[N,W,1]"}), sizes, floats},
        {{{"shape", {1, "W", "N"}}}, types({"f32[N,W]"}), sizes, floats},
        {{{"shape", {4, 6}}}, types({"f32[2,3,4]"}), {}, floats},
        {{{"shape", {2, 9}}}, types({"f32[1,3,2,3]{0,2,3,1}"}), {}, floats},
        {{{"shape", {1, 1, 1}}}, types({"i64[]"})},
        {{{"shape", Json::array()}}, types({"f32[1]"}), {}, floats},
    };
  }
};

}  // namespace

const Operator& reshape() {
  static const Erased<Reshape> op;
  return op;
}

}  // namespace heddle::ops
