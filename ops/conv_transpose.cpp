#include "ops/reference.hpp"
#include "ops/rules.hpp"
#include "ops/window.hpp"

namespace heddle::ops {
namespace {

using Halide::Expr;

struct ConvTranspose {
  static constexpr auto name = "conv_transpose";
  static constexpr auto summary =
      "transposed convolution: every input element adds its window of weights to the output";
  static constexpr auto kind = OperatorKind::window;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (std::vector<std::int64_t>, strides), (std::vector<std::int64_t>, pads),
                             (std::vector<std::int64_t>, dilations), (std::vector<std::int64_t>, output_padding),
                             (std::int64_t, group));
    Attributes() : group(1) {}
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, padded), (Halide::Func, acc), (Halide::Func, out));
  };

  static Window window(const Attributes& a, const TensorType& w) {
    std::vector<std::int64_t> kernel;
    for (int d = 2; d < w.rank(); ++d) kernel.push_back(w.shape[static_cast<std::size_t>(d)].value());
    return make_window(kernel, a.strides, a.dilations, a.pads);
  }

  static std::vector<std::string> dimensions(const Attributes&, std::span<const TensorType> in) {
    std::vector<std::string> names = {"n", "co"};
    for (auto& name : spatial_names(in[0].shape.size() - 2)) names.push_back(std::move(name));
    return names;
  }

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType> in) {
    const std::size_t rank = in[0].shape.size() - 2;
    OperandInfo x{"x", {"n", "ci"}};
    OperandInfo w{"w", {"ci", "co"}, {"ci"}, true};
    for (auto& name : spatial_names(rank)) x.dimensions.push_back(std::move(name));
    const auto taps = spatial_names(rank, "k");
    w.dimensions.insert(w.dimensions.end(), taps.begin(), taps.end());
    w.packing_order.insert(w.packing_order.end(), taps.rbegin(), taps.rend());
    w.packing_order.push_back("co");
    return {x, w, {"b", {"co"}, {"co"}, true}};
  }

  static TensorType infer(const Attributes& a, std::span<const TensorType> in) {
    require_operands(in, 2, 3, "x, w and optionally b");
    const TensorType& x = in[0];
    const TensorType& w = in[1];
    require(x.rank() >= 3 && x.rank() <= 5, "x has rank {}, expected 3 to 5: (n, ci, spatial...)", x.rank());
    require(w.rank() == x.rank(), "w has rank {}, expected {} like x", w.rank(), x.rank());
    require(is_float(x.dtype) && w.dtype == x.dtype, "x is {} and w {}: both must be the same float",
            to_string(x.dtype), to_string(w.dtype));
    require(a.group >= 1, "group {} must be at least 1", a.group);
    require_equal(x.shape[1], w.shape[0], "x's channels (against w's first extent)");
    require(mod(x.shape[1], a.group) == Extent(0), "x's {} channels do not divide into {} groups", x.shape[1].str(),
            a.group);
    TensorType out{x.dtype, {x.shape[0], w.shape[1] * Extent(a.group)}, {}};
    if (in.size() > 2) {
      require_parameter(in[2], x.dtype, "b");
      require(in[2].rank() == 1, "b has rank {}, expected 1", in[2].rank());
      require_equal(in[2].shape[0], out.shape[1], "b's extent");
    }
    const Window slid = window(a, w);
    require(a.output_padding.empty() || a.output_padding.size() == slid.rank(),
            "output_padding has {} values, expected {}", a.output_padding.size(), slid.rank());
    for (std::size_t d = 0; d < slid.rank(); ++d) {
      const std::int64_t extra = a.output_padding.empty() ? 0 : a.output_padding[d];
      require(extra >= 0 && extra < std::max(slid.strides[d], slid.dilations[d]),
              "output_padding {} must be below the stride {} or the dilation {}", extra, slid.strides[d],
              slid.dilations[d]);
      const Extent extent = (x.shape[d + 2] - Extent(1)) * Extent(slid.strides[d]) +
                            Extent(slid.reach(d) + extra - slid.before[d] - slid.after[d]);
      require(extent.constant().value_or(1) >= 1,
              "pads {} and {} leave nothing of spatial dimension {}: its extent would be {}", slid.before[d],
              slid.after[d], d, extent.str());
      out.shape.push_back(extent);
    }
    return out;
  }

  /// Where along one dimension an output element finds its terms. Undilated: output y takes every stride-th tap,
  /// starting with the phase (y + before) % stride, so the reduction runs over those taps alone. Dilated: over all
  /// taps, of which those that meet an input element count.
  struct Taps {
    Expr kernel;    ///< tap of w
    Expr position;  ///< of x
    Expr counts;    ///< undefined if every term does
  };
  /// Extent of the reduction.
  static int steps(const Window& w, std::size_t d) {
    const std::int64_t taps = w.dilations[d] == 1 ? (w.kernel[d] + w.strides[d] - 1) / w.strides[d] : w.kernel[d];
    return static_cast<int>(taps);
  }
  static Taps taps(const Window& w, std::size_t d, const Expr& y, const Expr& step) {
    const int stride = static_cast<int>(w.strides[d]), kernel = static_cast<int>(w.kernel[d]);
    const int dilation = static_cast<int>(w.dilations[d]);
    const Expr from_start = w.before[d] == 0 ? y : y + static_cast<int>(w.before[d]);
    if (dilation == 1) {
      const Expr tap = from_start % stride + step * stride;
      if (kernel % stride == 0) return {tap, from_start / stride - step, Expr()};
      return {Halide::min(tap, kernel - 1), from_start / stride - step, tap < kernel};
    }
    const Expr offset = from_start - step * dilation;
    return {step, offset / stride, offset % stride == 0};
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    const Operand& x = a.in[0];
    const Operand& w = a.in[1];
    const Window slid = window(at, w.type);
    const Halide::Var n = a.loops[0], co = a.loops[1];
    const std::size_t rank = slid.rank();

    // Beyond x there is nothing to add.
    const auto names = spatial_names(rank);
    std::vector<Halide::Var> logical = {Halide::Var("n"), Halide::Var("ci")};
    for (const auto& dimension : names) logical.emplace_back(dimension);
    Halide::Region inside;
    for (std::size_t dim = rank + 2; dim-- > 0;)
      inside.push_back(dim >= 2 ? Halide::Range(0, x.extents[dim]) : Halide::Range(Expr(), Expr()));
    const Halide::Func bounded =
        Halide::BoundaryConditions::constant_exterior(x.func, Halide::cast(x.func.type(), 0), inside);
    const auto stored = innermost_first(x.type);
    std::vector<Halide::Var> stored_arguments;
    for (const int dim : stored) stored_arguments.push_back(logical[static_cast<std::size_t>(dim)]);

    const Extent outputs = w.type.shape[1];
    const Extent inputs = floor_div(w.type.shape[0], at.group);
    const bool depthwise = at.group > 1 && inputs == Extent(1);
    const auto names_of_taps = spatial_names(rank, "k");
    std::vector<Reduction::Dimension> reduced;
    if (!depthwise) reduced.push_back({"ci", a.extent(inputs)});
    for (std::size_t d = rank; d-- > 0;) reduced.push_back({names_of_taps[d], steps(slid, d)});
    const Reduction r = a.reduce(reduced);

    const Expr group = at.group == 1 ? Expr(0) : outputs == Extent(1) ? Expr(co) : co / a.extent(outputs);
    const Expr within_group = at.group == 1 ? Expr(co) : outputs == Extent(1) ? Expr(0) : co % a.extent(outputs);
    const Expr ci = depthwise ? group : at.group == 1 ? Expr(r["ci"]) : group * a.extent(inputs) + r["ci"];

    std::vector<Expr> weight = {ci, within_group}, index = {n, ci};
    Expr counts;
    bool outside = false;
    for (std::size_t d = 0; d < rank; ++d) {
      const Taps t = taps(slid, d, a.loops[d + 2], r[names_of_taps[d]]);
      weight.push_back(t.kernel);
      index.push_back(t.position);
      if (t.counts.defined()) counts = counts.defined() ? counts && t.counts : t.counts;
      // With one tap a phase and nothing cut off or added, every output element has its input element.
      const bool exact = slid.kernel[d] == slid.strides[d] && slid.dilations[d] == 1 &&
                         (at.output_padding.empty() || at.output_padding[d] == 0);
      outside = outside || !exact;
    }
    Expr value;
    if (outside) {
      s.padded(stored_arguments) = bounded(std::vector<Halide::Var>(logical.rbegin(), logical.rend()));
      std::vector<Expr> arguments;
      for (const int dim : stored) arguments.push_back(index[static_cast<std::size_t>(dim)]);
      value = s.padded(arguments);
    } else {
      value = x.at(index);
    }

    std::vector<Halide::Var> arguments = {co};
    arguments.insert(arguments.end(), a.loops.rbegin(), a.loops.rend() - 2);
    arguments.push_back(n);
    const Halide::Type type = accumulator(x.func.type());
    Expr term = Halide::cast(type, w.at(weight)) * Halide::cast(type, value);
    if (counts.defined()) term = Halide::select(counts, term, Halide::cast(type, 0));
    s.acc(arguments) = a.in.size() > 2 ? Halide::cast(type, a.in[2].at({co})) : Halide::cast(type, 0);
    s.acc(arguments) += term;
    s.out(a.arguments()) = Halide::cast(x.func.type(), s.acc(arguments));
  }

  /// Scatters, where the algorithm gathers.
  static void reference(const Attributes& a, std::span<const Array> in, Array& out) {
    const Spatial x(in[0]), w(in[1]);
    Spatial y(out.shape());
    const auto stride = spatial(a.strides, 1), dilation = spatial(a.dilations, 1);
    const auto before = spatial(std::span(a.pads).first(a.pads.size() / 2), 0);
    const std::int64_t inputs = x.c / a.group;
    if (in.size() > 2)
      for (std::size_t i = 0; i < y.values.size(); ++i) {
        const auto pixels = y.extents[0] * y.extents[1] * y.extents[2];
        y.values[i] = in[2].at(static_cast<std::int64_t>(i) / pixels % y.c);
      }
    for_each<5>({x.n, x.c, x.extents[0], x.extents[1], x.extents[2]}, [&](const auto& i) {
      const double value = x.at(i[0], i[1], {i[2], i[3], i[4]});
      for (std::int64_t co = 0; co < w.c; ++co)
        for_each<3>(w.extents, [&](const auto& k) {
          std::array<std::int64_t, 3> p{};
          for (std::size_t d = 0; d < 3; ++d) p[d] = i[d + 2] * stride[d] + k[d] * dilation[d] - before[d];
          if (y.contains(p))
            y.values[static_cast<std::size_t>(y.index(i[0], i[1] / inputs * w.c + co, p))] += value * w.at(i[1], co, k);
        });
    });
    for (std::size_t i = 0; i < y.values.size(); ++i) out.set(static_cast<std::int64_t>(i), y.values[i]);
  }

  static Extent terms(const Attributes& a, const TensorType& w) {
    Extent count = floor_div(w.shape[0], a.group);
    for (std::size_t d = 2; d < w.shape.size(); ++d) count = count * w.shape[d];
    return count;
  }
  static Tolerance tolerance(const Attributes& a, std::span<const TensorType> in) {
    return sum_tolerance(in[0].dtype, terms(a, in[1]));
  }
  static Extent flops(const Attributes&, std::span<const TensorType> in, std::span<const TensorType>) {
    Extent window = 1;  // what one input element meets
    for (std::size_t d = 1; d < in[1].shape.size(); ++d) window = window * in[1].shape[d];
    return Extent(2) * window * in[0].element_count();
  }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> images = {{{"H", 1}, {"W", 1}}, {{"H", 2}, {"W", 5}}, {{"H", 7}, {"W", 4}}};
    const std::vector<SymbolValues> larger = {{{"H", 2}, {"W", 3}}, {{"H", 5}, {"W", 4}}};
    return {
        {{{"strides", {2, 2}}}, types({"f32[1,6,H,W]", "f32[6,5,2,2]", "f32[5]"}), images},
        {{{"strides", {2, 2}}, {"pads", {1, 1, 1, 1}}, {"output_padding", {1, 1}}},
         types({"f32[2,3,H,W]", "f32[3,4,3,3]", "f32[4]"}),
         images},
        {Json::object(), types({"f32[1,3,H,W]", "f32[3,4,3,2]"}), images},
        {{{"strides", {3, 2}}, {"pads", {1, 0, 0, 1}}, {"group", 2}}, types({"f32[1,4,H,W]", "f32[4,3,4,3]"}), larger},
        {{{"strides", {2, 2}}, {"pads", {1, 1, 1, 1}}, {"group", 5}},
         types({"f32[1,5,H,W]", "f32[5,1,4,4]", "f32[5]"}),
         larger},
        {{{"strides", {2, 1}}, {"dilations", {2, 3}}, {"pads", {1, 0, 0, 2}}, {"output_padding", {1, 0}}},
         types({"f32[1,2,H,W]", "f32[2,3,3,2]"}),
         larger},
        {{{"strides", {2}}, {"pads", {0, 1}}}, types({"f32[2,3,W]", "f32[3,2,5]"}), {{{"W", 1}}, {{"W", 6}}}},
        {{{"strides", {1, 2, 2}}}, types({"f32[1,2,2,3,2]", "f32[2,3,2,3,2]", "f32[3]"})},
        {{{"strides", {2, 2}}}, types({"f16[1,3,4,5]", "f16[3,2,2,2]"})},
    };
  }
};

}  // namespace

const Operator& conv_transpose() {
  static const Erased<ConvTranspose> op;
  return op;
}

}  // namespace heddle::ops
