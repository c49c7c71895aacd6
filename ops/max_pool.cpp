#include <cmath>
#include <limits>

#include "ops/reference.hpp"
#include "ops/rules.hpp"
#include "ops/window.hpp"

namespace heddle::ops {
namespace {

using Halide::Expr;

struct MaxPool {
  static constexpr auto name = "max_pool";
  static constexpr auto summary = "largest element of every window; what lies outside the tensor does not count";
  static constexpr auto kind = OperatorKind::window;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (std::vector<std::int64_t>, kernel_shape),
                             (std::vector<std::int64_t>, strides), (std::vector<std::int64_t>, pads),
                             (std::vector<std::int64_t>, dilations), (bool, ceil_mode));
    Attributes() : ceil_mode(false) {}
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, padded), (Halide::Func, acc), (Halide::Func, out));
  };

  static Window window(const Attributes& a) {
    Window w = make_window(a.kernel_shape, a.strides, a.dilations, a.pads);
    w.ceil_mode = a.ceil_mode;
    return w;
  }

  static std::vector<std::string> dimensions(const Attributes&, std::span<const TensorType> in) {
    std::vector<std::string> names = {"n", "c"};
    for (auto& name : spatial_names(in[0].shape.size() - 2)) names.push_back(std::move(name));
    return names;
  }
  static std::vector<OperandInfo> operands(const Attributes& a, std::span<const TensorType> in) {
    return {{"x", dimensions(a, in)}};
  }

  static TensorType infer(const Attributes& a, std::span<const TensorType> in) {
    require_operands(in, 1, 1, "x");
    const TensorType& x = in[0];
    require(x.rank() >= 3 && x.rank() <= 5, "x has rank {}, expected 3 to 5: (n, c, spatial...)", x.rank());
    require(x.dtype != DType::string && x.dtype != DType::boolean, "x is {}, expected numbers", to_string(x.dtype));
    require(a.kernel_shape.size() + 2 == x.shape.size(), "kernel_shape has {} values, expected {} for x of rank {}",
            a.kernel_shape.size(), x.rank() - 2, x.rank());
    const Window w = window(a);
    TensorType out{x.dtype, {x.shape[0], x.shape[1]}, {}};
    for (std::size_t d = 0; d < w.rank(); ++d) {
      require(w.before[d] < w.reach(d) && w.after[d] < w.reach(d),
              "pads {} and {} must be below the window's {}, or a window may hold no element", w.before[d], w.after[d],
              w.reach(d));
      out.shape.push_back(output_extent(w, d, x.shape[d + 2]));
    }
    return out;
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    const Window w = window(at);
    const Halide::Type type = a.in[0].func.type();
    const double least = lowest(a.in[0].type.dtype);
    const WindowInput x(s.padded, a.in[0], w, a.out[0], least, "c");
    const auto taps = spatial_names(w.rank(), "k");
    std::vector<Reduction::Dimension> reduced;
    for (std::size_t d = w.rank(); d-- > 0;) reduced.push_back({taps[d], static_cast<int>(w.kernel[d])});
    const Reduction r = a.reduce(reduced);
    std::vector<Expr> tap;
    for (const auto& t : taps) tap.emplace_back(r[t]);

    std::vector<Halide::Var> arguments;
    for (const int dim : innermost_first(a.in[0].type)) arguments.push_back(a.loops[static_cast<std::size_t>(dim)]);
    const std::vector<Expr> position(a.loops.begin() + 2, a.loops.end());
    s.acc(arguments) = Halide::cast(type, Expr(least));
    s.acc(arguments) = Halide::max(s.acc(arguments), x.at(a.loops[0], a.loops[1], position, tap));
    s.out(a.arguments()) = s.acc(arguments);
  }

  static void reference(const Attributes& a, std::span<const Array> in, Array& out) {
    const Spatial x(in[0]), y(out.shape());
    const auto kernel = spatial(a.kernel_shape, 1), stride = spatial(a.strides, 1), dilation = spatial(a.dilations, 1);
    const auto before = spatial(std::span(a.pads).first(a.pads.size() / 2), 0);
    for_each<5>({y.n, y.c, y.extents[0], y.extents[1], y.extents[2]}, [&](const auto& o) {
      double largest = -std::numeric_limits<double>::infinity();
      for_each<3>(kernel, [&](const auto& k) {
        std::array<std::int64_t, 3> p{};
        for (std::size_t d = 0; d < 3; ++d) p[d] = o[d + 2] * stride[d] + k[d] * dilation[d] - before[d];
        if (!x.contains(p)) return;
        const double value = x.at(o[0], o[1], p);
        if (std::isnan(value) || value > largest) largest = value;
      });
      out.set(y.index(o[0], o[1], {o[2], o[3], o[4]}), largest);
    });
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType> in) {
    if (!is_float(in[0].dtype)) return {.reason = "an element of the input"};
    return {.special_values = SpecialValues::ignored,
            .reason =
                "an element of the input. Infinities are right; a NaN may be dropped, since keeping it triples the "
                "cost of an element"};
  }
  static Extent flops(const Attributes& a, std::span<const TensorType>, std::span<const TensorType> out) {
    Extent taps = 1;
    for (const std::int64_t k : a.kernel_shape) taps = taps * Extent(k);
    return taps * out[0].element_count();
  }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> images = {
        {{"N", 1}, {"H", 2}, {"W", 3}}, {{"N", 2}, {"H", 5}, {"W", 7}}, {{"N", 1}, {"H", 8}, {"W", 13}}};
    const double infinity = std::numeric_limits<double>::infinity();
    const std::vector<ValueDomain> infinite = {{-4, 4, {infinity, -infinity}}};
    return {
        {{{"kernel_shape", {3, 3}}, {"strides", {2, 2}}, {"pads", {1, 1, 1, 1}}},
         types({"f32[N,5,H,W]"}),
         images,
         infinite},
        {{{"kernel_shape", {2, 2}}, {"strides", {2, 2}}}, types({"f32[N,16,H,W]"}), images},
        {{{"kernel_shape", {3, 2}}, {"strides", {2, 3}}, {"pads", {0, 0, 1, 1}}, {"ceil_mode", true}},
         types({"f32[1,3,H,W]"}),
         images},
        {{{"kernel_shape", {2, 2}}, {"dilations", {2, 1}}, {"pads", {1, 0, 1, 1}}}, types({"f32[1,4,H,W]"}), images},
        {{{"kernel_shape", {3}}, {"pads", {2, 0}}}, types({"f32[N,2,W]"}), images},
        {{{"kernel_shape", {2, 2, 2}}, {"pads", {1, 0, 0, 0, 1, 0}}}, types({"f32[1,3,3,4,5]"})},
        {{{"kernel_shape", {3, 3}}, {"pads", {1, 1, 1, 1}}}, types({"i8[1,5,6,7]"})},
        {{{"kernel_shape", {2, 2}}, {"pads", {1, 1, 0, 0}}}, types({"u8[1,3,4,5]"})},
        {{{"kernel_shape", {3, 3}}, {"pads", {1, 1, 1, 1}}}, types({"f16[1,5,6,7]"})},
    };
  }
};

}  // namespace

const Operator& max_pool() {
  static const Erased<MaxPool> op;
  return op;
}

}  // namespace heddle::ops
