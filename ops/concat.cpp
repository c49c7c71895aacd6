#include "ops/element.hpp"

namespace heddle::ops {
namespace {

using Halide::Expr;

struct Concat {
  static constexpr auto name = "concat";
  static constexpr auto summary = "its operands one after the other along an axis";
  static constexpr auto kind = OperatorKind::movement;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (std::int64_t, axis));
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType> in) {
    std::vector<OperandInfo> roles;
    for (std::size_t i = 0; i < in.size(); ++i) roles.push_back({fmt::format("x{}", i)});
    return roles;
  }

  static TensorType infer(const Attributes& a, std::span<const TensorType> in) {
    require(!in.empty(), "expected at least one operand");
    require_kernel_types(in);
    const auto axis = static_cast<std::size_t>(normalized_axis(a.axis, in[0].rank()));
    TensorType out = tensor(in[0].dtype, in[0].shape);
    for (std::size_t i = 1; i < in.size(); ++i) {
      require(in[i].dtype == out.dtype, "operand {} is {}, expected {}", i, to_string(in[i].dtype),
              to_string(out.dtype));
      require(in[i].rank() == out.rank(), "operand {} has rank {}, expected {}", i, in[i].rank(), out.rank());
      for (std::size_t d = 0; d < out.shape.size(); ++d)
        if (d != axis) require_equal(in[i].shape[d], out.shape[d], fmt::format("extent {} of operand {}", d, i));
      out.shape[axis] = out.shape[axis] + in[i].shape[axis];
    }
    return out;
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    const auto axis = static_cast<std::size_t>(normalized_axis(at.axis, a.out[0].rank()));
    const auto index = a.index();
    std::vector<Expr> elements, ends;
    Expr begin = 0;
    for (const auto& operand : a.in) {
      if (operand.type.shape[axis] == Extent(0)) continue;
      // Every operand is read at every position and one result kept, so positions outside are brought inside.
      auto at_operand = index;
      at_operand[axis] = Halide::clamp(Halide::likely(index[axis] - begin), 0, operand.extents[axis] - 1);
      elements.push_back(operand.at(at_operand));
      begin = begin + operand.extents[axis];
      ends.push_back(begin);
    }
    if (elements.empty()) elements.push_back(Halide::cast(a.in[0].func.type(), 0));
    Expr value = elements.back();
    for (std::size_t i = elements.size() - 1; i-- > 0;) value = select(index[axis] < ends[i], elements[i], value);
    s.out(a.arguments()) = value;
  }

  static void reference(const Attributes& a, std::span<const Array> in, Array& out) {
    const auto axis = static_cast<std::size_t>(normalized_axis(a.axis, static_cast<int>(out.shape().size())));
    std::int64_t begin = 0;
    for (const auto& operand : in) {
      std::int64_t i = 0;
      for_each(operand.shape(), [&](const auto& index) {
        auto to = index;
        to[axis] += begin;
        copy_element(out, flat(out.shape(), to), operand, i++);
      });
      begin += operand.shape()[axis];
    }
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType>) { return moved(); }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> sizes = {{{"N", 1}, {"W", 1}}, {{"N", 3}, {"W", 17}}};
    const std::vector<ValueDomain> floats(3, domain_with_extremes(-4, 4));
    return {
        {{{"axis", 1}}, types({"f32[N,W]", "f32[N,3]"}), sizes, floats},
        {{{"axis", -1}}, types({"f32[N,W]", "f32[N,W]", "f32[N,1]"}), sizes, floats},
        {{{"axis", 0}}, types({"f32[N,W]", "f32[2,W]", "f32[1,W]"}), sizes, floats},
        {{{"axis", 1}}, types({"f32[2,3,4,5]{0,2,3,1}", "f32[2,2,4,5]{0,2,3,1}"}), {}, floats},
        {{{"axis", 0}}, types({"i64[2]", "i64[1]"}), {}, {}},
        {{{"axis", 0}}, types({"f32[W]"}), sizes, floats},
    };
  }
};

}  // namespace

const Operator& concat() {
  static const Erased<Concat> op;
  return op;
}

}  // namespace heddle::ops
