#include "ops/reference.hpp"
#include "ops/rules.hpp"
#include "ops/window.hpp"

namespace heddle::ops {
namespace {

using Halide::Expr;

struct AveragePool {
  static constexpr auto name = "average_pool";
  static constexpr auto summary = "mean of every window, over its elements inside the tensor or over its pads too";
  static constexpr auto kind = OperatorKind::window;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (std::vector<std::int64_t>, kernel_shape),
                             (std::vector<std::int64_t>, strides), (std::vector<std::int64_t>, pads),
                             (std::vector<std::int64_t>, dilations), (bool, ceil_mode), (bool, count_include_pad));
    Attributes() : ceil_mode(false), count_include_pad(false) {}
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
    require(is_float(x.dtype), "x is {}, expected a float", to_string(x.dtype));
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

  /// How many taps of the window at `position` count along one dimension.
  static Expr count(const Attributes& at, const Window& w, std::size_t d, const Expr& position, const Expr& extent) {
    const int kernel = static_cast<int>(w.kernel[d]), dilation = static_cast<int>(w.dilations[d]);
    const int before = static_cast<int>(w.before[d]), after = static_cast<int>(w.after[d]);
    const Expr start = position * static_cast<int>(w.strides[d]) - before;
    const Expr low = at.count_include_pad ? Expr(-before) : Expr(0);
    const Expr high = at.count_include_pad ? extent + after : extent;
    const Expr first = at.count_include_pad ? Expr(0) : Halide::max(0, (low - start + dilation - 1) / dilation);
    return Halide::min(kernel, (high - start + dilation - 1) / dilation) - first;
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    const Window w = window(at);
    const WindowInput x(s.padded, a.in[0], w, a.out[0], 0, "c");
    const auto taps = spatial_names(w.rank(), "k");
    std::vector<Reduction::Dimension> reduced;
    for (std::size_t d = w.rank(); d-- > 0;) reduced.push_back({taps[d], static_cast<int>(w.kernel[d])});
    const Reduction r = a.reduce(reduced);
    std::vector<Expr> tap;
    for (const auto& t : taps) tap.emplace_back(r[t]);

    std::vector<Halide::Var> arguments;
    for (const int dim : innermost_first(a.in[0].type)) arguments.push_back(a.loops[static_cast<std::size_t>(dim)]);
    const std::vector<Expr> position(a.loops.begin() + 2, a.loops.end());
    const Halide::Type type = accumulator(a.in[0].func.type());
    s.acc(arguments) = Halide::cast(type, 0);
    s.acc(arguments) += Halide::cast(type, x.at(a.loops[0], a.loops[1], position, tap));

    int whole = 1;  // taps of the dimensions whose windows are always whole
    Expr cut;       // and of the others
    for (std::size_t d = 0; d < w.rank(); ++d) {
      const bool varies =
          at.count_include_pad ? w.ceil_mode : reads_outside(w, d, a.in[0].type.shape[d + 2], a.out[0].shape[d + 2]);
      if (!varies) {
        whole *= static_cast<int>(w.kernel[d]);
        continue;
      }
      const Expr counted = count(at, w, d, position[d], a.in[0].extents[d + 2]);
      cut = cut.defined() ? cut * counted : counted;
    }
    const Expr mean = cut.defined() ? s.acc(arguments) / Halide::cast(type, cut * whole)
                                    : s.acc(arguments) * Halide::cast(type, Expr(1.0 / whole));
    s.out(a.arguments()) = Halide::cast(a.in[0].func.type(), mean);
  }

  static void reference(const Attributes& a, std::span<const Array> in, Array& out) {
    const Spatial x(in[0]), y(out.shape());
    const auto kernel = spatial(a.kernel_shape, 1), stride = spatial(a.strides, 1), dilation = spatial(a.dilations, 1);
    const auto before = spatial(std::span(a.pads).first(a.pads.size() / 2), 0);
    const auto after = spatial(std::span(a.pads).last(a.pads.size() / 2), 0);
    for_each<5>({y.n, y.c, y.extents[0], y.extents[1], y.extents[2]}, [&](const auto& o) {
      double sum = 0;
      std::int64_t counted = 0;
      for_each<3>(kernel, [&](const auto& k) {
        std::array<std::int64_t, 3> p{};
        bool padded = true;
        for (std::size_t d = 0; d < 3; ++d) {
          p[d] = o[d + 2] * stride[d] + k[d] * dilation[d] - before[d];
          padded = padded && p[d] < x.extents[d] + after[d];
        }
        if (x.contains(p)) sum += x.at(o[0], o[1], p);
        if (x.contains(p) || (a.count_include_pad && padded)) ++counted;
      });
      out.set(y.index(o[0], o[1], {o[2], o[3], o[4]}), sum / static_cast<double>(counted));
    });
  }

  static Extent taps(const Attributes& a) {
    Extent count = 1;
    for (const std::int64_t k : a.kernel_shape) count = count * Extent(k);
    return count;
  }
  static Tolerance tolerance(const Attributes& a, std::span<const TensorType> in) {
    return sum_tolerance(in[0].dtype, taps(a));
  }
  static Extent flops(const Attributes& a, std::span<const TensorType>, std::span<const TensorType> out) {
    return taps(a) * out[0].element_count();
  }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> images = {
        {{"N", 1}, {"H", 2}, {"W", 3}}, {{"N", 2}, {"H", 5}, {"W", 7}}, {{"N", 1}, {"H", 8}, {"W", 13}}};
    return {
        {{{"kernel_shape", {3, 3}}, {"strides", {2, 2}}, {"pads", {1, 1, 1, 1}}}, types({"f32[N,5,H,W]"}), images},
        {{{"kernel_shape", {3, 3}}, {"strides", {2, 2}}, {"pads", {1, 1, 0, 1}}, {"count_include_pad", true}},
         types({"f32[N,5,H,W]"}),
         images},
        {{{"kernel_shape", {2, 2}}, {"strides", {1, 2}}}, types({"f32[N,16,H,W]"}), images},
        {{{"kernel_shape", {3, 2}}, {"strides", {2, 3}}, {"pads", {1, 0, 1, 1}}, {"ceil_mode", true}},
         types({"f32[1,3,H,W]"}),
         images},
        {{{"kernel_shape", {3, 2}},
          {"strides", {2, 3}},
          {"pads", {1, 0, 1, 1}},
          {"ceil_mode", true},
          {"count_include_pad", true}},
         types({"f32[1,3,H,W]"}),
         images},
        {{{"kernel_shape", {3, 2}}, {"dilations", {2, 3}}, {"pads", {2, 1, 1, 2}}}, types({"f32[1,3,H,W]"}), images},
        {{{"kernel_shape", {3}}, {"pads", {2, 0}}}, types({"f32[N,2,W]"}), images},
        {{{"kernel_shape", {2, 2, 2}}, {"pads", {1, 0, 0, 0, 1, 0}}}, types({"f32[1,3,3,4,5]"})},
        {{{"kernel_shape", {3, 3}}, {"pads", {1, 1, 1, 1}}}, types({"f16[1,5,6,7]"})},
    };
  }
};

}  // namespace

const Operator& average_pool() {
  static const Erased<AveragePool> op;
  return op;
}

}  // namespace heddle::ops
