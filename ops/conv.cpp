#include "ops/dot.hpp"
#include "ops/reference.hpp"
#include "ops/rules.hpp"
#include "ops/table.hpp"
#include "ops/window.hpp"
#include "ops/winograd.hpp"

namespace heddle::ops {
namespace {

using Halide::Expr;

struct Conv {
  static constexpr auto name = "conv";
  static constexpr auto summary =
      "convolution over 1 to 3 spatial dimensions, grouped, strided and dilated; the bias is optional; 8-bit operands "
      "make 32-bit sums, padded with pad_value";
  static constexpr auto kind = OperatorKind::window;

  struct Attributes {
    /// pad_value: what the padding holds, of 8-bit operands the number that stands for zero.
    BOOST_HANA_DEFINE_STRUCT(Attributes, (std::vector<std::int64_t>, strides), (std::vector<std::int64_t>, pads),
                             (std::vector<std::int64_t>, dilations), (std::int64_t, group), (std::int64_t, pad_value));
    Attributes() : group(1), pad_value(0) {}
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, padded), (Halide::Func, x_rows), (Halide::Func, x_tile),
                             (Halide::Func, w_tile), (Halide::Func, w_sum), (Halide::Func, acc),
                             (Halide::Func, product), (Halide::Func, out_rows), (Halide::Func, out));
  };

  /// tiled: an implicit matrix product. x_tile holds what each output position reads at each tap, padding included,
  /// and w_tile the weights, both in the accumulator's type with positions and output channels innermost; the bias is
  /// added at the end. They can be asked for positions and channels beyond the ends, so that whole tiles of `acc` can
  /// be computed and only `out` needs guards.
  /// winograd2, winograd4: ops/winograd.hpp's F(m x m, 3 x 3) on tiles of results that are counted row by row (t).
  /// x_rows and x_tile are B^T d and B^T d B, `product` what acc has summed over the channels, out_rows A^T times it.
  /// edged: as direct, with `padded` written in parts, see WindowInput: for an operand that is computed in the kernel.
  /// grouped: acc and product have a group's channels for themselves; x_tile is the input in f32 where it is narrower,
  /// widened once for all channels that read it.
  /// pairs, fours: ops/dot.hpp's sums. x_tile holds the input as they want it, channels innermost, w_sum the sums of
  /// the weights where the data are offset.
  static std::vector<std::string> variants(const Attributes& at, std::span<const TensorType> in) {
    std::vector<std::string> names = {"direct", "tiled"};
    if (is_depthwise(at, in[1])) names.emplace_back("edged");
    if (has_groups(at, in)) names.emplace_back("grouped");
    if (takes_winograd(at, in))
      for (const int tile : {2, 4}) names.push_back(winograd_name(tile));
    if (!is_depthwise(at, in[1]))
      for (const Dot& dot : dots(in[0].dtype, in[1].dtype)) names.push_back(dot.name);
    return names;
  }

  /// A few channels a group: neither one filter for everything nor one for each channel.
  static bool has_groups(const Attributes& at, std::span<const TensorType> in) {
    return at.group > 1 && accumulator(halide_type(in[0].dtype)) == Halide::Float(32) && in[1].rank() == 4 &&
           in[1].is_static() && in[1].shape[1] != Extent(1);
  }

  static bool takes_winograd(const Attributes& at, std::span<const TensorType> in) {
    const auto ones = [](const std::vector<std::int64_t>& values) {
      return std::all_of(values.begin(), values.end(), [](std::int64_t v) { return v == 1; });
    };
    return in[0].dtype == DType::f32 && at.group == 1 && in[1].rank() == 4 && in[1].shape[2] == Extent(3) &&
           in[1].shape[3] == Extent(3) && ones(at.strides) && ones(at.dilations);
  }

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

  static std::vector<OperandInfo> operands(const Attributes& at, std::span<const TensorType> in) {
    const std::size_t rank = in[0].shape.size() - 2;
    OperandInfo x{"x", {"n", "ci"}};
    OperandInfo w{"w", {"co", "ci"}, {"ci"}, true};
    for (auto& name : spatial_names(rank)) x.dimensions.push_back(std::move(name));
    const auto taps = spatial_names(rank, "k");
    w.dimensions.insert(w.dimensions.end(), taps.begin(), taps.end());
    w.packing_order.insert(w.packing_order.end(), taps.rbegin(), taps.rend());
    w.packing_order.push_back("co");
    if (takes_winograd(at, in)) w.forms = {winograd_weights(2), winograd_weights(4)};
    if (!dots(in[0].dtype, in[1].dtype).empty()) w.forms = {widened_operand(w, in[1].dtype)};
    if (has_groups(at, in)) w.forms.push_back(weights_by_group(at.group));
    return {x, w, {"b", {"co"}, {"co"}, true}};
  }

  static TensorType infer(const Attributes& a, std::span<const TensorType> in) {
    require_operands(in, 2, 3, "x, w and optionally b");
    const TensorType& x = in[0];
    const TensorType& w = in[1];
    require(x.rank() >= 3 && x.rank() <= 5, "x has rank {}, expected 3 to 5: (n, ci, spatial...)", x.rank());
    require(w.rank() == x.rank(), "w has rank {}, expected {} like x", w.rank(), x.rank());
    const bool bytes = is_byte(x.dtype) && is_byte(w.dtype);
    require(bytes || (is_float(x.dtype) && w.dtype == x.dtype),
            "x is {} and w {}: both must be the same float, or 8-bit integers", to_string(x.dtype), to_string(w.dtype));
    TensorType out{bytes ? DType::i32 : x.dtype, {x.shape[0], w.shape[0]}, {}};
    require(a.group >= 1, "group {} must be at least 1", a.group);
    const auto [least, most] = bytes ? integer_range(x.dtype) : IntegerRange{0, 0};
    require(a.pad_value >= least && a.pad_value <= most,
            "pad_value {} is outside of {} to {}, which {} can be padded with", a.pad_value, least, most,
            to_string(x.dtype));
    require_equal(x.shape[1], w.shape[1] * Extent(a.group),
                  fmt::format("x's channels (against w's {} in {} groups)", w.shape[1].str(), a.group));
    require(mod(w.shape[0], a.group) == Extent(0), "w's {} output channels do not divide into {} groups",
            w.shape[0].str(), a.group);
    if (in.size() > 2) {
      require_parameter(in[2], out.dtype, "b");
      require(in[2].rank() == 1, "b has rank {}, expected 1", in[2].rank());
      require_equal(in[2].shape[0], w.shape[0], "b's extent");
    }
    const Window sliding = window(a, w);
    for (std::size_t d = 0; d < sliding.rank(); ++d) out.shape.push_back(output_extent(sliding, d, x.shape[d + 2]));
    return out;
  }

  static bool is_depthwise(const Attributes& at, const TensorType& w) {
    return at.group > 1 && w.shape[1] == Extent(1);
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    if (a.variant == "tiled") return define_tiled(at, a, s);
    if (a.variant == "grouped") return define_grouped(at, a, s);
    for (const int tile : {2, 4})
      if (a.variant == winograd_name(tile)) return define_winograd(at, a, s, winograd(tile));
    if (const Dot* dot = dot_of(a.variant, a.in[0].type.dtype, a.in[1].type.dtype)) return define_dot(at, a, s, *dot);
    const Operand& w = a.in[1];
    const Window sliding = window(at, w.type);
    const auto exterior = static_cast<double>(at.pad_value);
    const WindowInput x = a.variant == "edged" ? WindowInput(s.padded, a, sliding, exterior, "ci")
                                               : WindowInput(s.padded, a.in[0], sliding, a.out[0], exterior, "ci");
    const Halide::Var n = a.loops[0], co = a.loops[1];
    const std::vector<Expr> position(a.loops.begin() + 2, a.loops.end());

    // One input channel a group needs no reduction over ci: the input's channel then follows co, densely if there is
    // one output channel a group too.
    const bool depthwise = is_depthwise(at, w.type);
    const auto taps = spatial_names(sliding.rank(), "k");
    std::vector<Reduction::Dimension> reduced;
    if (!depthwise) reduced.push_back({"ci", w.extents[1]});
    for (std::size_t d = sliding.rank(); d-- > 0;) reduced.push_back({taps[d], w.extents[d + 2]});
    const Reduction r = a.reduce(reduced);

    const Expr ci = depthwise ? Expr(0) : Expr(r["ci"]);
    Expr channel = ci;
    if (at.group > 1) {
      const Extent outputs = floor_div(w.type.shape[0], at.group);
      const Expr in_group = outputs == Extent(1) ? Expr(co) : co / a.extent(outputs);
      channel = depthwise ? in_group : in_group * w.extents[1] + ci;
    }
    std::vector<Expr> tap, weight = {co, ci};
    for (const auto& t : taps) tap.emplace_back(r[t]);
    weight.insert(weight.end(), tap.begin(), tap.end());

    // Channels come first, so that the accumulators of a register tile are whole vectors of channels.
    std::vector<Halide::Var> arguments = {co};
    arguments.insert(arguments.end(), a.loops.rbegin(), a.loops.rend() - 2);
    arguments.push_back(n);
    const Halide::Type type = accumulator(a.in[0].func.type());
    s.acc(arguments) = a.in.size() > 2 ? Halide::cast(type, a.in[2].at({co})) : Halide::cast(type, 0);
    s.acc(arguments) += Halide::cast(type, w.at(weight)) * Halide::cast(type, x.at(n, channel, position, tap));
    s.out(a.arguments()) =
        type.is_float() ? Halide::cast(a.in[0].func.type(), s.acc(arguments)) : Expr(s.acc(arguments));
  }

  static void define_tiled(const Attributes& at, Algorithm& a, Stages& s) {
    const Operand& x = a.in[0];
    const Operand& w = a.in[1];
    const Window sliding = window(at, w.type);
    const Halide::Var n = a.loops[0], co = a.loops[1], ci("ci"), group("group");
    const std::vector<Halide::Var> position(a.loops.begin() + 2, a.loops.end());
    const Halide::Type type = accumulator(x.func.type());
    const bool depthwise = is_depthwise(at, w.type);
    const Extent outputs = floor_div(w.type.shape[0], at.group);
    const Expr in_group = at.group == 1 ? Expr(0) : outputs == Extent(1) ? Expr(co) : co / a.extent(outputs);

    const auto names = spatial_names(sliding.rank(), "k");
    std::vector<Halide::Var> taps(names.begin(), names.end());
    std::vector<Reduction::Dimension> reduced;
    if (!depthwise) reduced.push_back({"ci", w.extents[1]});
    for (std::size_t d = sliding.rank(); d-- > 0;) reduced.push_back({names[d], w.extents[d + 2]});
    const Reduction r = a.reduce(reduced);

    // What positions beyond the end read does not matter: it need only lie in x.
    std::vector<Expr> read = {n, depthwise ? in_group : at.group == 1 ? Expr(ci) : group * w.extents[1] + ci};
    Expr inside;
    for (std::size_t d = 0; d < sliding.rank(); ++d) {
      const int stride = static_cast<int>(sliding.strides[d]), dilation = static_cast<int>(sliding.dilations[d]);
      const Expr at_d = position[d] * stride + taps[d] * dilation - static_cast<int>(sliding.before[d]);
      read.push_back(at_d);
      if (!reads_outside(sliding, d, x.type.shape[d + 2], a.out[0].shape[d + 2])) continue;
      const Expr within = at_d >= 0 && at_d < x.extents[d + 2];
      inside = inside.defined() ? inside && within : within;
    }
    const Expr value = Halide::cast(type, x.nearest(read));

    std::vector<Halide::Var> x_arguments(position.rbegin(), position.rend());
    x_arguments.insert(x_arguments.end(), {n, depthwise ? co : ci});
    x_arguments.insert(x_arguments.end(), taps.rbegin(), taps.rend());
    std::vector<Expr> x_index(x_arguments.begin(), x_arguments.end());
    if (!depthwise) x_index[sliding.rank() + 1] = r["ci"];
    for (std::size_t d = 0; d < sliding.rank(); ++d) x_index[x_index.size() - 1 - d] = r[names[d]];
    if (at.group > 1 && !depthwise) {
      x_arguments.push_back(group);
      x_index.push_back(in_group);
    }
    s.x_tile(x_arguments) =
        inside.defined() ? Halide::select(inside, value, Halide::cast(type, static_cast<int>(at.pad_value))) : value;

    std::vector<Halide::Var> w_arguments = {co};
    std::vector<Expr> weight = {co, depthwise ? Expr(0) : Expr(ci)}, w_index = {co};
    weight.insert(weight.end(), taps.begin(), taps.end());
    if (!depthwise) {
      w_arguments.push_back(ci);
      w_index.push_back(r["ci"]);
    }
    for (std::size_t d = sliding.rank(); d-- > 0;) {
      w_arguments.push_back(taps[d]);
      w_index.push_back(r[names[d]]);
    }
    s.w_tile(w_arguments) = Halide::cast(type, w.nearest(weight));

    std::vector<Halide::Var> arguments = {co};
    arguments.insert(arguments.end(), position.rbegin(), position.rend());
    arguments.push_back(n);
    s.acc(arguments) = Halide::cast(type, 0);
    s.acc(arguments) += s.w_tile(w_index) * s.x_tile(x_index);
    Expr result = s.acc(arguments);
    if (a.in.size() > 2) result += Halide::cast(type, a.in[2].at({co}));
    s.out(a.arguments()) = type.is_float() ? Halide::cast(x.func.type(), result) : result;
  }

  static void define_dot(const Attributes& at, Algorithm& a, Stages& s, const Dot& dot) {
    const Operand& w = a.in[1];
    const Window sliding = window(at, w.type);
    const WindowInput x(s.padded, a.in[0], sliding, a.out[0], static_cast<double>(at.pad_value), "ci");
    const Halide::Var n = a.loops[0], co = a.loops[1], ci("ci"), group("group");
    const std::vector<Halide::Var> position(a.loops.begin() + 2, a.loops.end());
    const auto names = spatial_names(sliding.rank(), "k");
    const Extent& channels = w.type.shape[1];
    std::vector<Reduction::Dimension> reduced = {{"k", dot.factor}, {"ci", a.extent(ceil_div(channels, dot.factor))}};
    for (std::size_t d = sliding.rank(); d-- > 0;) reduced.push_back({names[d], w.extents[d + 2]});
    const Reduction r = a.reduce(reduced);
    const Expr depth = r["ci"] * dot.factor + r["k"];

    // Where windows reach beyond their first tap x_tile follows the input, which they share; else it follows the
    // results, whose strides it need not hold.
    std::vector<Expr> coordinates, taps;
    std::vector<Halide::Var> x_arguments = {ci};
    std::vector<Expr> x_index = {depth};
    for (std::size_t d = 0; d < sliding.rank(); ++d) {
      taps.emplace_back(r[names[d]]);
      coordinates.push_back(sliding.kernel[d] > 1 ? Expr(position[d]) : x.coordinate(d, position[d], 0));
    }
    for (std::size_t d = sliding.rank(); d-- > 0;) {
      x_arguments.push_back(position[d]);
      x_index.push_back(sliding.kernel[d] > 1 ? x.coordinate(d, position[d], taps[d]) : Expr(position[d]));
    }
    x_arguments.push_back(n);
    x_index.emplace_back(n);
    if (at.group > 1) {
      x_arguments.push_back(group);
      x_index.push_back(co / a.extent(floor_div(w.type.shape[0], at.group)));
    }
    s.x_tile(x_arguments) = dot_element(dot, ci, channels, w.extents[1], [&](const Expr& c) {
      return x.element(n, at.group > 1 ? group * w.extents[1] + c : c, coordinates);
    });

    std::vector<Halide::Var> arguments = {co};
    arguments.insert(arguments.end(), position.rbegin(), position.rend());
    arguments.push_back(n);
    std::vector<Expr> weight = {co, depth};
    weight.insert(weight.end(), taps.begin(), taps.end());
    const Halide::Type type = dot.sum;
    // A bias that is not padded to whole blocks is added where only results that exist are.
    const bool has_bias = a.in.size() > 2, bias_is_padded = has_bias && is_blocked(a.in[2], 0);
    Expr start = bias_is_padded ? Halide::cast(type, a.in[2].at({co})) : Halide::cast(type, 0);
    if (is_offset(dot, a.in[0].type.dtype)) {
      std::vector<Reduction::Dimension> summed(reduced.begin() + 1, reduced.end());
      summed[0].extent = w.extents[1];
      const Reduction all = a.reduce(summed);
      std::vector<Expr> each = {co, all["ci"]};
      for (const auto& name : names) each.emplace_back(all[name]);
      s.w_sum(co) = 0;
      s.w_sum(co) += Halide::cast(type, w.at(each));
      start -= 128 * s.w_sum(co);
    }
    s.acc(arguments) = start;
    s.acc(arguments) +=
        Halide::cast(type, dot_weight(w, weight, 1, 0, dot.factor)) * Halide::cast(type, s.x_tile(x_index));
    const Expr sum = s.acc(arguments);
    s.out(a.arguments()) = Halide::cast(halide_type(a.out[0].dtype),
                                        has_bias && !bias_is_padded ? sum + Halide::cast(type, a.in[2].at({co})) : sum);
  }

  /// [co, ci, ky, kx] as [g, co of the group, ci, ky, kx]: the same elements in the same order.
  static OperandForm weights_by_group(std::int64_t groups) {
    const auto shape = [groups](const std::vector<Extent>& plain) {
      return std::vector<Extent>{groups, floor_div(plain[0], groups), plain[1], plain[2], plain[3]};
    };
    const auto compute = [groups](const Array& plain) {
      const Shape& s = plain.shape();
      return plain.reshaped({groups, s[0] / groups, s[1], s[2], s[3]});
    };
    return {"grouped", {"g", "co", "ci", "ky", "kx"}, {"ci", "kx", "ky", "co", "g"}, shape, compute};
  }

  static void define_grouped(const Attributes& at, Algorithm& a, Stages& s) {
    const Operand& w = a.in[1];
    require(w.type.rank() == 5, "variant grouped needs its form of the weights: pack w grouped");
    TensorType kernel = w.type;
    kernel.shape.erase(kernel.shape.begin());
    const Window sliding = window(at, kernel);
    const WindowInput x(s.padded, a.in[0], sliding, a.out[0], 0, "ci");
    const Halide::Var n = a.loops[0], out_channel = a.loops[1], vy = a.loops[2], vx = a.loops[3], co("co"), g("g");
    const Reduction r = a.reduce({{"ci", w.extents[2]}, {"kx", w.extents[4]}, {"ky", w.extents[3]}});
    s.acc(co, vx, vy, g, n) = 0.0f;
    const Expr channel = g * w.extents[2] + r["ci"];
    Expr element;
    if (a.in[0].type.dtype == DType::f32) {
      element = x.at(n, channel, {vy, vx}, {r["ky"], r["kx"]});
    } else {
      const Halide::Var ci("ci");
      s.x_tile(ci, vx, vy, n) = widen(x.element(n, ci, {vy, vx}));
      element = s.x_tile(channel, x.coordinate(1, vx, r["kx"]), x.coordinate(0, vy, r["ky"]), n);
    }
    s.acc(co, vx, vy, g, n) += widen(w.at({g, co, r["ci"], r["ky"], r["kx"]})) * element;
    s.product(co, vx, vy, g, n) = s.acc(co, vx, vy, g, n);
    Expr result = s.product(out_channel % w.extents[1], vx, vy, out_channel / w.extents[1], n);
    if (a.in.size() > 2) result += widen(a.in[2].at({out_channel}));
    s.out(a.arguments()) = Halide::cast(halide_type(a.out[0].dtype), result);
  }

  static void define_winograd(const Attributes& at, Algorithm& a, Stages& s, const Winograd& matrices) {
    const Operand& w = a.in[1];
    require(w.type.shape[2] == Extent(matrices.edge()), "variant {} needs its form of the weights: pack w {}",
            a.variant, a.variant);
    TensorType kernel = w.type;
    kernel.shape[2] = kernel.shape[3] = 3;
    const Window sliding = window(at, kernel);
    const WindowInput input(s.padded, a.in[0], sliding, a.out[0], 0, "ci");
    const Halide::Var n = a.loops[0], co = a.loops[1], y = a.loops[2], x = a.loops[3];
    const Halide::Var ci("ci"), t("t"), ka("ka"), kb("kb"), j("j"), i("i");
    const int m = matrices.tile, edge = matrices.edge();
    const Extent across = ceil_div(a.out[0].shape[3], m);
    const Expr tiles_x = a.extent(across);

    // The last tiles read on behind what the results need: any element there will do.
    const auto position = [&](const Expr& tile, const Expr& offset, std::size_t dim) {
      const Extent& results = a.out[0].shape[dim];
      const Expr at_offset = tile * m + offset;
      return mod(results, m) == Extent(0) ? at_offset : Expr(Halide::min(at_offset, a.extent(results + Extent(1))));
    };
    // Halide does not bound a division by what it does not know.
    const Expr tile_y = Halide::unsafe_promise_clamped(t / tiles_x, 0, a.extent(ceil_div(a.out[0].shape[2], m)) - 1);
    const Expr tile_x = Halide::unsafe_promise_clamped(t % tiles_x, 0, tiles_x - 1);
    const auto element = [&](const Expr& row, const Expr& column) { return input.at(n, ci, {row, column}, {0, 0}); };
    std::vector<Expr> values;
    for (int k = 0; k < edge; ++k)
      values.push_back(combination(matrices.input[static_cast<std::size_t>(k)],
                                   [&](int l) { return element(position(tile_y, l, 2), position(tile_x, j, 3)); }));
    s.x_rows(ci, j, ka, t, n) = Halide::mux(ka, values);
    values.clear();
    for (int k = 0; k < edge; ++k)
      values.push_back(
          combination(matrices.input[static_cast<std::size_t>(k)], [&](int l) { return s.x_rows(ci, l, ka, t, n); }));
    s.x_tile(ci, t, n, kb, ka) = Halide::mux(kb, values);

    const Reduction r = a.reduce({{"ci", w.extents[1]}});
    s.acc(co, t, n, kb, ka) = 0.0f;
    s.acc(co, t, n, kb, ka) += w.at({co, r["ci"], ka, kb}) * s.x_tile(r["ci"], t, n, kb, ka);
    s.product(co, t, n, kb, ka) = s.acc(co, t, n, kb, ka);

    values.clear();
    for (int k = 0; k < m; ++k)
      values.push_back(
          combination(matrices.output[static_cast<std::size_t>(k)], [&](int l) { return s.product(co, t, n, kb, l); }));
    s.out_rows(co, kb, i, t, n) = Halide::mux(i, values);
    values.clear();
    for (int k = 0; k < m; ++k)
      values.push_back(combination(matrices.output[static_cast<std::size_t>(k)],
                                   [&](int l) { return s.out_rows(co, l, y % m, y / m * tiles_x + x / m, n); }));
    Expr result = Halide::mux(x % m, values);
    if (a.in.size() > 2) result += a.in[2].at({co});
    s.out(a.arguments()) = result;
  }

  static void reference(const Attributes& a, std::span<const Array> in, Array& out) {
    const Spatial x(in[0]), w(in[1]);
    Spatial y(out.shape());
    const auto stride = spatial(a.strides, 1), dilation = spatial(a.dilations, 1);
    const auto before = spatial(std::span(a.pads).first(a.pads.size() / 2), 0);
    const std::int64_t outputs = y.c / a.group, width = y.extents[2];
    // One tap after the other over rows of results: a search waits for this, and rows are many times faster than taps
    // of one result after another.
    for_each<2>({y.n, y.c}, [&](const auto& image) {
      const auto [n, co] = image;
      double* plane = &y.values[static_cast<std::size_t>(y.index(n, co, {}))];
      std::fill_n(plane, y.extents[0] * y.extents[1] * width, in.size() > 2 ? in[2].at(co) : 0.0);
      for_each<4>({w.c, w.extents[0], w.extents[1], w.extents[2]}, [&](const auto& tap) {
        const double weight = w.at(co, tap[0], {tap[1], tap[2], tap[3]});
        const std::int64_t left = tap[3] * dilation[2] - before[2];
        const std::int64_t first = std::clamp<std::int64_t>((stride[2] - 1 - left) / stride[2], 0, width);
        for_each<2>({y.extents[0], y.extents[1]}, [&](const auto& at) {
          const std::array<std::int64_t, 3> from = {at[0] * stride[0] + tap[1] * dilation[0] - before[0],
                                                    at[1] * stride[1] + tap[2] * dilation[1] - before[1], 0};
          double* row = plane + (at[0] * y.extents[1] + at[1]) * width;
          std::int64_t begin = width, end = width;  // of the results whose tap lies in the input
          if (x.contains(from)) {
            begin = first;
            end = std::clamp<std::int64_t>((x.extents[2] - left + stride[2] - 1) / stride[2], begin, width);
            const double* source = &x.values[static_cast<std::size_t>(x.index(n, co / outputs * w.c + tap[0], from))];
            for (std::int64_t o = begin; o < end; ++o) row[o] += weight * source[o * stride[2] + left];
          }
          if (a.pad_value == 0) return;
          const double padding = weight * static_cast<double>(a.pad_value);
          for (std::int64_t o = 0; o < begin; ++o) row[o] += padding;
          for (std::int64_t o = end; o < width; ++o) row[o] += padding;
        });
      });
    });
    for (std::int64_t i = 0; i < out.size(); ++i) out.set(i, y.values[static_cast<std::size_t>(i)]);
  }

  static Extent terms(const TensorType& w) {
    Extent count = 1;
    for (std::size_t d = 1; d < w.shape.size(); ++d) count = count * w.shape[d];
    return count;
  }
  static Tolerance tolerance(const Attributes&, std::span<const TensorType> in) {
    return sum_tolerance(in[0].dtype, terms(in[1]));
  }
  static Tolerance tolerance_of(std::string_view variant, const Attributes& at, std::span<const TensorType> in) {
    Tolerance t = tolerance(at, in);
    for (const int tile : {2, 4})
      if (variant == winograd_name(tile)) {
        // Against double, over 8 to 512 channels of uniform data: F(2) errs by a third of what the plain sum of f32
        // does, F(4) by up to 8 times as much, 1.2e-5 of the largest result. Results that cancel are worse off, since
        // what the transforms magnify (by 100 in F(4)) is as large as the data.
        const int times = tile == 2 ? 2 : 8;
        t.of_largest *= times;
        t.reason += fmt::format("; times {}: what {}'s transforms magnify before it cancels", times, variant);
      }
    return t;
  }
  static Extent flops(const Attributes&, std::span<const TensorType> in, std::span<const TensorType> out) {
    return Extent(2) * terms(in[1]) * out[0].element_count();
  }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> images = {
        {{"N", 1}, {"H", 1}, {"W", 1}}, {{"N", 2}, {"H", 5}, {"W", 7}}, {{"N", 1}, {"H", 8}, {"W", 13}}};
    const std::vector<SymbolValues> larger = {{{"H", 5}, {"W", 6}}, {{"H", 9}, {"W", 7}}, {{"H", 12}, {"W", 17}}};
    return {
        {{{"pads", {1, 1, 1, 1}}}, types({"f32[N,5,H,W]", "f32[7,5,3,3]", "f32[7]"}), images},
        {{{"strides", {2, 2}}, {"pads", {0, 1, 1, 0}}}, types({"f32[1,4,H,W]", "f32[9,4,3,3]"}), larger},
        {Json::object(), types({"f32[N,16,H,W]", "f32[8,16,1,1]", "f32[8]"}), images},
        {{{"strides", {2, 3}}}, types({"f32[1,3,H,W]", "f32[4,3,1,1]"}), larger},
        {{{"pads", {1, 1, 1, 1}}, {"group", 19}}, types({"f32[N,19,H,W]", "f32[19,1,3,3]", "f32[19]"}), images},
        {{{"strides", {2, 2}}, {"pads", {2, 2, 2, 2}}, {"group", 6}}, types({"f32[1,6,H,W]", "f32[12,1,5,5]"}), larger},
        {{{"dilations", {2, 1}}, {"pads", {2, 0, 1, 1}}, {"group", 3}},
         types({"f32[1,6,H,W]", "f32[9,2,3,2]", "f32[9]"}),
         larger},
        {{{"strides", {2}}, {"pads", {2, 2}}}, types({"f32[N,3,W]", "f32[5,3,5]", "f32[5]"}), images},
        {{{"pads", {1, 0, 1, 0, 1, 1}}}, types({"f32[1,2,4,5,6]", "f32[3,2,2,3,3]"})},
        over_all_bytes({{{"pads", {1, 1, 1, 1}}}, types({"u8[N,5,H,W]", "i8[6,5,3,3]", "i32[6]"}), images}),
        over_all_bytes({{{"pads", {1, 1, 1, 1}}}, types({"i8[N,6,H,W]", "i8[19,6,3,3]"}), images}),
        over_all_bytes({{{"strides", {2, 3}}}, types({"u8[1,3,H,W]", "u8[9,3,1,1]", "i32[9]"}), larger}),
        over_all_bytes({Json::object(), types({"i8[N,20,H,W]", "u8[24,20,1,1]", "i32[24]"}), images}),
        over_all_bytes({{{"pads", {1, 1, 1, 1}}, {"group", 2}}, types({"u8[1,10,H,W]", "i8[32,5,3,3]"}), larger}),
        over_all_bytes(
            {{{"pads", {1, 1, 1, 1}}, {"group", 19}}, types({"u8[N,19,H,W]", "i8[19,1,3,3]", "i32[19]"}), images}),
        over_all_bytes({{{"dilations", {2, 1}}, {"strides", {2, 2}}, {"pads", {2, 1, 1, 1}}},
                        types({"u8[1,4,H,W]", "i8[8,4,3,3]", "i32[8]"}),
                        larger}),
        over_all_bytes({{{"strides", {2}}, {"pads", {2, 2}}}, types({"i8[N,3,W]", "i8[5,3,5]"}), images}),
        over_all_bytes(
            {{{"pads", {1, 2, 0, 1}}, {"strides", {2, 1}}, {"pad_value", 113}}, types({"u8[2,5,6,7]", "i8[9,5,3,3]"})}),
        over_all_bytes({{{"pads", {1, 1, 1, 1}}, {"pad_value", -5}, {"group", 6}},
                        types({"i8[1,6,6,7]", "i8[6,1,3,3]", "i32[6]"})}),
        {{{"pads", {1, 1, 1, 1}}}, types({"f16[1,3,5,6]", "f16[4,3,3,3]", "f16[4]"})},
        {{{"pads", {1, 1, 1, 1}}}, types({"bf16[1,3,5,6]", "bf16[4,3,3,3]", "f32[4]"})},
        {{{"pads", {1, 1, 1, 1}}, {"group", 2}}, types({"bf16[1,6,5,6]", "bf16[8,3,3,3]", "f32[8]"})},
        {{{"strides", {2, 1}}}, types({"f64[2,3,5,6]", "f64[4,3,3,3]"})},
    };
  }
};

}  // namespace

const Operator& conv() {
  static const Erased<Conv> op;
  return op;
}

}  // namespace heddle::ops
