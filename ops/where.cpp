#include <array>

#include "ops/element.hpp"
#include "ops/table.hpp"

namespace heddle::ops {
namespace {

struct Where {
  static constexpr auto name = "where";
  static constexpr auto summary = "a where the condition holds, else b; all three broadcast";
  static constexpr auto kind = OperatorKind::elementwise;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes);
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) {
    return {{"condition"}, {"a"}, {"b"}};
  }

  static TensorType infer(const Attributes&, std::span<const TensorType> in) {
    require_operands(in, 3, 3, "condition, a and b");
    require_kernel_types(in);
    require(in[0].dtype == DType::boolean, "the condition must be boolean, not {}", to_string(in[0].dtype));
    require(in[1].dtype == in[2].dtype, "a is {} and b is {}; cast one of them", to_string(in[1].dtype),
            to_string(in[2].dtype));
    return tensor(in[1].dtype, broadcast_shapes(in));
  }

  static void define(const Attributes&, Algorithm& a, Stages& s) {
    const auto index = a.index();
    Halide::Expr x = a.in[1].broadcast(index), y = a.in[2].broadcast(index);
    // One of them may not be rounded yet.
    if (x.type() != y.type()) x = widen(x), y = widen(y);
    s.out(a.arguments()) = select(a.in[0].broadcast(index) != Halide::cast<std::uint8_t>(0), x, y);
  }

  static void reference(const Attributes&, std::span<const Array> in, Array& out) {
    std::int64_t i = 0;
    for_each(out.shape(), [&](const auto& index) {
      const Array& from = in[0].at(flat_broadcast(in[0].shape(), index)) != 0 ? in[1] : in[2];
      copy_element(out, i++, from, flat_broadcast(from.shape(), index));
    });
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType>) { return moved(); }

  static std::vector<Case> cases() {
    const std::vector<ValueDomain> floats = {domain_of(0, 1), domain_with_extremes(-4, 4), domain_with_extremes(-4, 4)};
    const std::vector<ValueDomain> integers = {domain_of(0, 1), domain_of(0, 100), domain_of(0, 100)};
    const std::vector<SymbolValues> sizes = {{{"N", 1}, {"W", 1}}, {{"N", 3}, {"W", 17}}};
    return {
        {Json::object(), types({"bool[N,W]", "f32[N,W]", "f32[N,W]"}), sizes, floats},
        {Json::object(), types({"bool[N,1,1]", "f32[W]", "f32[]"}), sizes, floats},
        {Json::object(), types({"bool[W]", "i64[N,1]", "i64[1]"}), sizes, integers},
        {Json::object(), types({"bool[5]", "u8[5]", "u8[5]"}), {}, integers},
    };
  }
};

}  // namespace

const Operator& where() {
  static const Erased<Where> op;
  return op;
}

}  // namespace heddle::ops
