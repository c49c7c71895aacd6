#include <array>

#include "ops/element.hpp"
#include "ops/math.hpp"

namespace heddle::ops {

/// What stands outside of the operand.
enum class PadMode { constant, reflect, edge, wrap };

static const std::array<PadMode, 4>& enum_values(PadMode) {
  static const std::array<PadMode, 4> all = {PadMode::constant, PadMode::reflect, PadMode::edge, PadMode::wrap};
  return all;
}

static std::string_view to_string(PadMode mode) {
  constexpr std::array<std::string_view, 4> names = {"constant", "reflect", "edge", "wrap"};
  return names[static_cast<std::size_t>(mode)];
}

namespace {

using Halide::Expr;

struct Pad {
  static constexpr auto name = "pad";
  static constexpr auto summary =
      "x with elements before and after it: a value, its mirror image without the edge, its edge or itself again";
  static constexpr auto kind = OperatorKind::movement;

  /// pads: elements before each dimension, then after each; negative ones cut off.
  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (std::vector<Extent>, pads), (PadMode, mode), (double, value));
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) { return {{"x"}}; }

  static TensorType infer(const Attributes& a, std::span<const TensorType> in) {
    require_operands(in, 1, 1, "x");
    require_kernel_types(in);
    const std::size_t rank = in[0].shape.size();
    require(a.pads.size() == 2 * rank, "a tensor of rank {} needs {} pads, not {}", rank, 2 * rank, a.pads.size());
    TensorType out = tensor(in[0].dtype, in[0].shape);
    for (std::size_t d = 0; d < rank; ++d) {
      const Extent& extent = in[0].shape[d];
      for (const Extent& pad : {a.pads[d], a.pads[d + rank]})
        require(a.mode != PadMode::reflect || !pad.is_constant() || !extent.is_constant() ||
                    pad.value() < extent.value() || pad.value() <= 0,
                "a mirror image of {} elements is too short to pad with {}", extent.str(), pad.str());
      out.shape[d] = extent + a.pads[d] + a.pads[d + rank];
      require(!out.shape[d].is_constant() || out.shape[d].value() >= 0,
              "the pads cut more than extent {} of dimension {}", extent.str(), d);
    }
    return out;
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    const std::size_t rank = a.in[0].type.shape.size();
    auto index = a.index();
    Expr inside = Halide::Internal::const_true();
    for (std::size_t d = 0; d < rank; ++d) {
      if (at.pads[d] == Extent(0) && at.pads[d + rank] == Extent(0)) continue;
      const Expr extent = a.in[0].extents[d];
      const Expr position = index[d] - a.extent(at.pads[d]);
      if (at.mode == PadMode::constant) inside = inside && position >= 0 && position < extent;
      if (at.mode == PadMode::reflect)
        index[d] = extent - 1 - Halide::abs(extent - 1 - Halide::cast<int>(Halide::abs(position)));
      else if (at.mode == PadMode::wrap) index[d] = position % extent;
      else index[d] = position;
      // `likely` lets Halide split the interior, which needs no test, from the edges.
      index[d] = Halide::clamp(Halide::likely(index[d]), 0, extent - 1);
    }
    const Expr element = a.in[0].at(index);
    if (at.mode != PadMode::constant) s.out(a.arguments()) = element;
    else s.out(a.arguments()) = select(inside, element, math::constant(element.type(), at.value));
  }

  static void reference(const Attributes& a, std::span<const Array> in, Array& out) {
    const Shape& shape = in[0].shape();
    const std::size_t rank = shape.size();
    std::int64_t i = 0;
    for_each(out.shape(), [&](const auto& index) {
      auto from = index;
      bool inside = true;
      for (std::size_t d = 0; d < rank; ++d) {
        std::int64_t p = index[d] - a.pads[d].value();
        const bool outside = p < 0 || p >= shape[d];
        inside = inside && !outside;
        if (outside && a.mode == PadMode::edge) p = p < 0 ? 0 : shape[d] - 1;
        if (outside && a.mode == PadMode::wrap) p = (p % shape[d] + shape[d]) % shape[d];
        if (outside && a.mode == PadMode::reflect) p = p < 0 ? -p : 2 * (shape[d] - 1) - p;
        from[d] = p;
      }
      if (a.mode == PadMode::constant && !inside) out.set(i, a.value);
      else copy_element(out, i, in[0], flat(shape, from));
      ++i;
    });
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType> in) {
    return {.relative = 2 * unit_roundoff(in[0].dtype),
            .reason = "elements are moved, the value is rounded to their type"};
  }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> sizes = {{{"N", 1}, {"W", 1}}, {{"N", 3}, {"W", 17}}};
    const std::vector<SymbolValues> wide = {{{"N", 1}, {"W", 4}}, {{"N", 3}, {"W", 17}}};
    const std::vector<ValueDomain> floats = {domain_with_extremes(-4, 4)};
    return {
        {{{"pads", {0, 1, 2, 3}}}, types({"f32[N,W]"}), sizes, floats},
        {{{"pads", {1, 0, 0, 3}}, {"value", "-inf"}}, types({"f32[N,W]"}), sizes, floats},
        {{{"pads", {0, -1, 1, -2}}, {"value", 2.5}}, types({"f32[N,W]"}), wide, floats},
        {{{"pads", {0, "W", 0, 1}}, {"value", 1}}, types({"i64[N,W]"}), sizes},
        {{{"pads", {0, 3, 0, 2}}, {"mode", "reflect"}}, types({"f32[N,W]"}), wide, floats},
        {{{"pads", {2, 3, 1, 2}}, {"mode", "edge"}}, types({"f32[N,W]"}), sizes, floats},
        {{{"pads", {1, 3, 1, 2}}, {"mode", "wrap"}}, types({"f32[N,W]"}), sizes, floats},
        {{{"pads", {0, 0, 1, 1, 0, 0, 1, 1}}}, types({"f32[2,3,4,5]{0,2,3,1}"}), {}, floats},
    };
  }
};

}  // namespace

const Operator& pad() {
  static const Erased<Pad> op;
  return op;
}

}  // namespace heddle::ops
