#include <array>

#include "ops/element.hpp"

namespace heddle::ops {
namespace {

struct Expand {
  static constexpr auto name = "expand";
  static constexpr auto summary = "x broadcast together with a shape";
  static constexpr auto kind = OperatorKind::movement;

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
    const std::array<TensorType, 2> both = {in[0], tensor(in[0].dtype, a.shape)};
    return tensor(in[0].dtype, broadcast_shapes(both));
  }

  static void define(const Attributes&, Algorithm& a, Stages& s) {
    s.out(a.arguments()) = a.in[0].broadcast(a.index());
  }

  static void reference(const Attributes&, std::span<const Array> in, Array& out) {
    std::int64_t i = 0;
    for_each(out.shape(),
             [&](const auto& index) { copy_element(out, i++, in[0], flat_broadcast(in[0].shape(), index)); });
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType>) { return moved(); }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> sizes = {{{"N", 1}, {"W", 1}}, {{"N", 3}, {"W", 17}}};
    const std::vector<ValueDomain> floats = {domain_with_extremes(-4, 4)};
    return {
        {{{"shape", {2, "N", "W"}}}, types({"f32[N,1]"}), sizes, floats},
        {{{"shape", {1, 1}}}, types({"f32[N,W]"}), sizes, floats},
        {{{"shape", {"N", 3}}}, types({"i64[]"}), {{{"N", 4}}}},
    };
  }
};

}  // namespace

const Operator& expand() {
  static const Erased<Expand> op;
  return op;
}

}  // namespace heddle::ops
