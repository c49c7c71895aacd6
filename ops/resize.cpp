#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "ops/math.hpp"
#include "ops/reference.hpp"
#include "ops/rules.hpp"

namespace heddle::ops {
namespace {

using Halide::cast;
using Halide::Expr;
using Halide::select;
using Halide::strict_float;

enum class Mode { nearest, linear, cubic };
enum class Coordinates {
  half_pixel,
  half_pixel_symmetric,
  pytorch_half_pixel,
  align_corners,
  asymmetric,
  tf_half_pixel_for_nn,
  tf_crop_and_resize
};
enum class Nearest { round_prefer_floor, round_prefer_ceil, floor, ceil };

std::string_view to_string(Mode mode) {
  constexpr std::array<std::string_view, 3> names = {"nearest", "linear", "cubic"};
  return names[static_cast<std::size_t>(mode)];
}
const std::array<Mode, 3>& enum_values(Mode) {
  static constexpr std::array<Mode, 3> all = {Mode::nearest, Mode::linear, Mode::cubic};
  return all;
}
std::string_view to_string(Coordinates mode) {
  constexpr std::array<std::string_view, 7> names = {
      "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
      "asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize"};
  return names[static_cast<std::size_t>(mode)];
}
const std::array<Coordinates, 7>& enum_values(Coordinates) {
  using enum Coordinates;
  static constexpr std::array<Coordinates, 7> all = {half_pixel,        half_pixel_symmetric, pytorch_half_pixel,
                                                     align_corners,     asymmetric,           tf_half_pixel_for_nn,
                                                     tf_crop_and_resize};
  return all;
}
std::string_view to_string(Nearest mode) {
  constexpr std::array<std::string_view, 4> names = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"};
  return names[static_cast<std::size_t>(mode)];
}
const std::array<Nearest, 4>& enum_values(Nearest) {
  static constexpr std::array<Nearest, 4> all = {Nearest::round_prefer_floor, Nearest::round_prefer_ceil,
                                                 Nearest::floor, Nearest::ceil};
  return all;
}

/// A scale as a fraction of small numbers, if it is exactly one.
struct Fraction {
  std::int64_t numerator = 1, denominator = 1;
};
std::optional<Fraction> small_fraction(double scale) {
  for (std::int64_t q = 1; q <= 64; ++q) {
    const double p = scale * static_cast<double>(q);
    if (p == std::floor(p) && p >= 1 && p <= 4096) return Fraction{static_cast<std::int64_t>(p), q};
  }
  return std::nullopt;
}

struct Resize {
  static constexpr auto name = "resize";
  static constexpr auto summary =
      "resamples to other extents: the nearest element, or linear or cubic interpolation along every resized dimension";
  static constexpr auto kind = OperatorKind::window;

  /// scales or sizes has a value for every dimension of x; sizes may hold symbols. roi (tf_crop_and_resize): all
  /// starts, then all ends, as shares of the extents.
  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (std::vector<double>, scales), (std::vector<Extent>, sizes), (Mode, mode),
                             (Coordinates, coordinate_transformation_mode), (Nearest, nearest_mode),
                             (double, cubic_coeff_a), (bool, exclude_outside), (double, extrapolation_value),
                             (std::vector<double>, roi));
    Attributes()
        : mode(Mode::nearest),
          coordinate_transformation_mode(Coordinates::half_pixel),
          nearest_mode(Nearest::round_prefer_floor),
          cubic_coeff_a(-0.75),
          exclude_outside(false),
          extrapolation_value(0) {}
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) { return {{"x"}}; }

  static bool crops(const Attributes& at) {
    return at.coordinate_transformation_mode == Coordinates::tf_crop_and_resize;
  }

  static TensorType infer(const Attributes& at, std::span<const TensorType> in) {
    require_operands(in, 1, 1, "x");
    const TensorType& x = in[0];
    require(at.mode == Mode::nearest || is_float(x.dtype), "x is {}: {} interpolation takes floats", to_string(x.dtype),
            to_string(at.mode));
    require(at.scales.empty() != at.sizes.empty(), "give either scales or sizes");
    const std::size_t given = at.scales.empty() ? at.sizes.size() : at.scales.size();
    require(given == x.shape.size(), "{} has {} values, expected {} for x of rank {}",
            at.scales.empty() ? "sizes" : "scales", given, x.rank(), x.rank());
    require(!crops(at) || at.roi.size() == 2 * x.shape.size(), "roi has {} values, expected {}", at.roi.size(),
            2 * x.rank());
    TensorType out{x.dtype, {}, {}};
    for (std::size_t d = 0; d < x.shape.size(); ++d) {
      if (at.scales.empty()) {
        out.shape.push_back(at.sizes[d]);
      } else {
        const double scale = at.scales[d];
        require(scale > 0 && std::isfinite(scale), "scale {} of dimension {} must be positive", scale, d);
        const auto fraction = small_fraction(scale);
        const auto fixed = x.shape[d].constant();
        require(fixed || fraction,
                "scale {} of dimension {}, whose extent {} is symbolic, is no fraction of small numbers: give sizes, "
                "or fix the extent",
                scale, d, x.shape[d].str());
        // In f32, as the standard's runtimes multiply: 0.7f * 10 is 7 there, and less than 7 in double.
        out.shape.push_back(fraction ? floor_div(x.shape[d] * Extent(fraction->numerator), fraction->denominator)
                                     : Extent(static_cast<std::int64_t>(
                                           std::floor(static_cast<float>(scale) * static_cast<float>(*fixed)))));
      }
      require(out.shape[d].constant().value_or(1) >= 1, "dimension {} of extent {} would become {}", d,
              x.shape[d].str(), out.shape[d].str());
    }
    return out;
  }

  /// True if a dimension stays as it is.
  static bool unchanged(const Attributes& at, std::size_t d, const Extent& in, const Extent& out) {
    if (crops(at)) return at.roi[d] == 0 && at.roi[d + at.roi.size() / 2] == 1 && in == out;
    return at.scales.empty() ? in == out : at.scales[d] == 1;
  }

  /// Where in x an output position lies: exactly, as numerator / denominator (> 0), or as an f32 number.
  struct Coordinate {
    Expr numerator, denominator;  ///< undefined: number
    Expr number;
  };
  static Coordinate coordinate(const Attributes& at, std::size_t d, const Expr& position, const Expr& in,
                               const Expr& out) {
    using enum Coordinates;
    const Coordinates mode = at.coordinate_transformation_mode;
    if (mode == tf_crop_and_resize) {
      const auto start = static_cast<float>(at.roi[d]), end = static_cast<float>(at.roi[d + at.roi.size() / 2]);
      const Expr last = cast<float>(in - 1);
      const Expr step = strict_float(strict_float((end - start) * last) / cast<float>(Halide::max(out - 1, 1)));
      const Expr cropped = strict_float(strict_float(start * last) + strict_float(cast<float>(position) * step));
      return {Expr(), Expr(), select(out > 1, cropped, strict_float(0.5F * (start + end) * last))};
    }
    if (mode == align_corners) {
      // A single element lies on the first.
      return {position * (in - 1), Halide::max(out - 1, 1), Expr()};
    }
    Expr p = out, q = in;  // the scale as a fraction
    if (!at.scales.empty()) {
      const auto fraction = small_fraction(at.scales[d]);
      if (!fraction) return {Expr(), Expr(), inexact_coordinate(at, d, position, in, out)};
      p = static_cast<int>(fraction->numerator);
      q = static_cast<int>(fraction->denominator);
    }
    switch (mode) {
      case asymmetric: return {position * q, p, Expr()};
      case tf_half_pixel_for_nn: return {(2 * position + 1) * q, 2 * p, Expr()};
      case pytorch_half_pixel: return {select(out > 1, (2 * position + 1) * q - p, 0), 2 * p, Expr()};
      case half_pixel_symmetric: return {in * p - out * q + (2 * position + 1) * q - p, 2 * p, Expr()};
      default: return {(2 * position + 1) * q - p, 2 * p, Expr()};
    }
  }

  /// In f32 with every step rounded, which is how the standard's runtimes compute: at the edge between two elements the
  /// rounding decides.
  static Expr inexact_coordinate(const Attributes& at, std::size_t d, const Expr& position, const Expr& in,
                                 const Expr& out) {
    using enum Coordinates;
    const Expr scale = static_cast<float>(at.scales[d]);
    const Expr x = cast<float>(position);
    const Expr half = strict_float(strict_float(strict_float(x + 0.5F) / scale) - 0.5F);
    switch (at.coordinate_transformation_mode) {
      case asymmetric: return strict_float(x / scale);
      case tf_half_pixel_for_nn: return strict_float(strict_float(x + 0.5F) / scale);
      case pytorch_half_pixel: return select(out > 1, half, 0.0F);
      case half_pixel_symmetric: {
        const Expr adjustment = strict_float(cast<float>(out) / strict_float(scale * cast<float>(in)));
        const Expr offset = strict_float(strict_float(cast<float>(in) * 0.5F) * strict_float(1.0F - adjustment));
        return strict_float(offset + half);
      }
      default: return half;
    }
  }

  static Expr nearest_index(const Attributes& at, const Coordinate& c) {
    if (!c.number.defined()) {
      const Expr &n = c.numerator, &m = c.denominator;
      switch (at.nearest_mode) {
        case Nearest::floor: return n / m;
        case Nearest::ceil: return (n + m - 1) / m;
        case Nearest::round_prefer_ceil: return (2 * n + m) / (2 * m);
        case Nearest::round_prefer_floor: return (2 * n + m - 1) / (2 * m);
      }
    }
    switch (at.nearest_mode) {
      case Nearest::floor: return cast<int>(Halide::floor(c.number));
      case Nearest::ceil: return cast<int>(Halide::ceil(c.number));
      case Nearest::round_prefer_ceil: return cast<int>(Halide::floor(strict_float(c.number + 0.5F)));
      default: return cast<int>(Halide::ceil(strict_float(c.number - 0.5F)));
    }
  }

  /// One element along one dimension and its share of the result; an undefined share is 1.
  struct Tap {
    Expr index, share;
  };
  static std::vector<Tap> taps(const Attributes& at, const Coordinate& c, const Expr& extent, Halide::Type type) {
    const Expr last = extent - 1;
    if (at.mode == Mode::nearest) return {{Halide::clamp(nearest_index(at, c), 0, last), Expr()}};
    const bool exact = !c.number.defined();
    const Expr base = exact ? c.numerator / c.denominator : cast<int>(Halide::floor(c.number));
    const Expr t = exact ? cast(type, c.numerator % c.denominator) / cast(type, c.denominator)
                         : cast(type, c.number - Halide::floor(c.number));
    const Expr one = cast(type, 1);
    if (at.mode == Mode::linear)
      return {{Halide::clamp(base, 0, last), one - t}, {Halide::clamp(base + 1, 0, last), t}};
    // Keys' kernel: |s| <= 1 for the two inner taps, 1 < |s| < 2 for the outer ones.
    const Expr k = math::constant(type, at.cubic_coeff_a);
    const auto inner = [&](const Expr& s) { return ((k + 2) * s - (k + 3)) * s * s + 1; };
    const auto outer = [&](const Expr& s) { return ((k * s - 5 * k) * s + 8 * k) * s - 4 * k; };
    std::vector<Tap> four = {
        {base - 1, outer(t + 1)}, {base, inner(t)}, {base + 1, inner(one - t)}, {base + 2, outer(2 - t)}};
    if (at.exclude_outside) {
      Expr sum = cast(type, 0);
      for (auto& tap : four) {
        tap.share = select(tap.index >= 0 && tap.index <= last, tap.share, cast(type, 0));
        sum += tap.share;
      }
      for (auto& tap : four) tap.share /= sum;
    }
    for (auto& tap : four) tap.index = Halide::clamp(tap.index, 0, last);
    return four;
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    const Operand& x = a.in[0];
    const Halide::Type given = x.func.type();
    const Halide::Type type = at.mode == Mode::nearest ? given : accumulator(given);
    std::vector<std::vector<Tap>> dimensions;
    Expr outside;
    for (std::size_t d = 0; d < a.loops.size(); ++d) {
      if (unchanged(at, d, x.type.shape[d], a.out[0].shape[d])) {
        dimensions.push_back({{a.loops[d], Expr()}});
        continue;
      }
      const Coordinate c = coordinate(at, d, a.loops[d], x.extents[d], a.extent(a.out[0].shape[d]));
      dimensions.push_back(taps(at, c, x.extents[d], type));
      if (crops(at)) {
        const Expr beyond = c.number < 0.0F || c.number > cast<float>(x.extents[d] - 1);
        outside = outside.defined() ? outside || beyond : beyond;
      }
    }
    // Dimension by dimension, the first outermost: rows are interpolated before they are blended.
    std::vector<Expr> index(a.loops.size());
    const auto blend = [&](const auto& self, std::size_t d) -> Expr {
      if (d == dimensions.size()) return cast(type, x.at(index));
      Expr total;
      for (const auto& tap : dimensions[d]) {
        index[d] = tap.index;
        const Expr inner = self(self, d + 1);
        const Expr term = tap.share.defined() ? tap.share * inner : inner;
        total = total.defined() ? total + term : term;
      }
      return total;
    };
    Expr value = blend(blend, 0);
    if (outside.defined()) value = select(outside, math::constant(type, at.extrapolation_value), value);
    s.out(a.arguments()) = cast(given, value);
  }

  // The reference works in real numbers as far as double goes, with the same f32 steps where a scale is no fraction.
  static double reference_coordinate(const Attributes& at, std::size_t d, std::int64_t position, std::int64_t in,
                                     std::int64_t out) {
    using enum Coordinates;
    const auto x = static_cast<double>(position), length = static_cast<double>(in), resized = static_cast<double>(out);
    if (crops(at)) {
      const auto start = static_cast<float>(at.roi[d]), end = static_cast<float>(at.roi[d + at.roi.size() / 2]);
      const auto last = static_cast<float>(in - 1);
      if (out == 1) return 0.5F * (start + end) * last;
      const float step = (end - start) * last / static_cast<float>(out - 1);
      const float offset = static_cast<float>(position) * step;
      return start * last + offset;
    }
    if (at.coordinate_transformation_mode == align_corners) return out == 1 ? 0 : x * (length - 1) / (resized - 1);
    if (!at.scales.empty() && !small_fraction(at.scales[d])) {
      const auto scale = static_cast<float>(at.scales[d]), f = static_cast<float>(position);
      const float centre = (f + 0.5F) / scale;
      switch (at.coordinate_transformation_mode) {
        case asymmetric: return f / scale;
        case tf_half_pixel_for_nn: return centre;
        case pytorch_half_pixel: return out > 1 ? centre - 0.5F : 0;
        case half_pixel_symmetric: {
          const float whole = scale * static_cast<float>(in);
          const float adjustment = static_cast<float>(out) / whole;
          const float half = centre - 0.5F;
          return static_cast<float>(in) * 0.5F * (1.0F - adjustment) + half;
        }
        default: return centre - 0.5F;
      }
    }
    // Multiplied first, so that a coordinate on an edge comes out exactly.
    const double p = at.scales.empty() ? resized : at.scales[d], q = at.scales.empty() ? length : 1;
    switch (at.coordinate_transformation_mode) {
      case asymmetric: return x * q / p;
      case tf_half_pixel_for_nn: return (x + 0.5) * q / p;
      case pytorch_half_pixel: return out > 1 ? (x + 0.5) * q / p - 0.5 : 0;
      case half_pixel_symmetric: return length / 2 + (x + 0.5 - resized / 2) * q / p - 0.5;
      default: return (x + 0.5) * q / p - 0.5;
    }
  }

  static double weight(double a, double distance) {
    const double s = std::abs(distance);
    if (s <= 1) return (a + 2) * s * s * s - (a + 3) * s * s + 1;
    return s < 2 ? a * s * s * s - 5 * a * s * s + 8 * a * s - 4 * a : 0;
  }

  static std::vector<std::pair<std::int64_t, double>> reference_taps(const Attributes& at, double c,
                                                                     std::int64_t extent) {
    const auto clamped = [&](double index) {
      return std::clamp<std::int64_t>(static_cast<std::int64_t>(index), 0, extent - 1);
    };
    switch (at.mode) {
      case Mode::nearest: {
        double index = std::floor(c);
        if (at.nearest_mode == Nearest::ceil) index = std::ceil(c);
        if (at.nearest_mode == Nearest::round_prefer_ceil) index = std::floor(c + 0.5);
        if (at.nearest_mode == Nearest::round_prefer_floor) index = std::ceil(c - 0.5);
        return {{clamped(index), 1}};
      }
      case Mode::linear: {
        const double t = c - std::floor(c);
        return {{clamped(std::floor(c)), 1 - t}, {clamped(std::floor(c) + 1), t}};
      }
      case Mode::cubic: break;
    }
    std::vector<std::pair<std::int64_t, double>> result;
    double sum = 0;
    for (int k = -1; k <= 2; ++k) {
      const double index = std::floor(c) + k;
      const bool excluded = at.exclude_outside && (index < 0 || index > static_cast<double>(extent - 1));
      result.emplace_back(clamped(index), excluded ? 0 : weight(at.cubic_coeff_a, c - index));
      sum += result.back().second;
    }
    if (at.exclude_outside)
      for (auto& tap : result) tap.second /= sum;
    return result;
  }

  static void reference(const Attributes& at, std::span<const Array> in, Array& out) {
    const Shape &from = in[0].shape(), &to = out.shape();
    const std::size_t rank = from.size();
    const auto element = size_of(out.dtype());
    std::int64_t position = 0;
    for_each(to, [&](const std::vector<std::int64_t>& o) {
      std::vector<std::vector<std::pair<std::int64_t, double>>> dimensions;
      bool outside = false;
      for (std::size_t d = 0; d < rank; ++d) {
        if (unchanged(at, d, from[d], to[d])) {
          dimensions.push_back({{o[d], 1}});
          continue;
        }
        const double c = reference_coordinate(at, d, o[d], from[d], to[d]);
        outside = outside || (crops(at) && (c < 0 || c > static_cast<double>(from[d] - 1)));
        dimensions.push_back(reference_taps(at, c, from[d]));
      }
      Shape counts, index(rank);
      for (const auto& d : dimensions) counts.push_back(static_cast<std::int64_t>(d.size()));
      double value = 0;
      std::int64_t source = 0;
      for_each(counts, [&](const std::vector<std::int64_t>& choice) {
        double share = 1;
        for (std::size_t d = 0; d < rank; ++d) {
          const auto& [i, s] = dimensions[d][static_cast<std::size_t>(choice[d])];
          index[d] = i;
          share *= s;
        }
        source = flat(from, index);
        value += share * in[0].at(source);
      });
      if (outside) out.set(position, at.extrapolation_value);
      else if (at.mode == Mode::nearest)  // bytes: neither 64-bit integers nor NaN survive double unchanged
        std::copy_n(static_cast<const std::byte*>(in[0].data()) + static_cast<std::size_t>(source) * element, element,
                    static_cast<std::byte*>(out.mutable_data()) + static_cast<std::size_t>(position) * element);
      else out.set(position, value);
      ++position;
    });
  }

  static Tolerance tolerance(const Attributes& at, std::span<const TensorType> in) {
    if (at.mode == Mode::nearest) return {.reason = "an element of the input"};
    return {.relative = 2 * unit_roundoff(in[0].dtype),
            .of_largest = 64 * unit_roundoff(in[0].dtype == DType::f64 ? DType::f64 : DType::f32),
            .special_values = SpecialValues::ignored,
            .reason = "shares rounded to f32 and a sum of 2 or 4 terms a dimension; a share of 0 times infinity"};
  }
  static Extent flops(const Attributes& at, std::span<const TensorType> in, std::span<const TensorType> out) {
    std::int64_t taps = at.mode == Mode::nearest ? 0 : 1;
    for (std::size_t d = 0; d < in[0].shape.size(); ++d)
      if (!unchanged(at, d, in[0].shape[d], out[0].shape[d])) taps *= at.mode == Mode::linear ? 2 : 4;
    return Extent(2 * taps) * out[0].element_count();
  }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> images = {{{"H", 1}, {"W", 1}}, {{"H", 2}, {"W", 5}}, {{"H", 7}, {"W", 4}}};
    const auto mode = [](const char* interpolation, const char* coordinates) {
      return Json{{"mode", interpolation}, {"coordinate_transformation_mode", coordinates}};
    };
    const auto with = [](Json attributes, const Json& more) {
      attributes.update(more);
      return attributes;
    };
    return {
        {with(mode("nearest", "asymmetric"), {{"scales", {1, 1, 2, 2}}, {"nearest_mode", "floor"}}),
         types({"f32[1,5,H,W]"}), images},
        {with(mode("nearest", "half_pixel"), {{"scales", {1, 1, 1.5, 3}}}), types({"f32[2,3,H,W]"}), images},
        {with(mode("nearest", "half_pixel"), {{"sizes", {"1", "2", "5", "7"}}, {"nearest_mode", "round_prefer_ceil"}}),
         types({"f32[1,2,3,4]"})},
        {with(mode("nearest", "asymmetric"),
              {{"scales", {1, 1, 0.6000000238418579, 0.699999988079071}}, {"nearest_mode", "ceil"}}),
         types({"f32[1,2,9,10]"})},
        {with(mode("nearest", "tf_half_pixel_for_nn"), {{"scales", {1, 1, 0.5, 2}}, {"nearest_mode", "floor"}}),
         types({"i64[1,2,6,5]"})},
        {with(mode("linear", "half_pixel"), {{"scales", {1, 1, 2, 2}}}), types({"f32[1,5,H,W]"}), images},
        {with(mode("linear", "align_corners"), {{"sizes", {"1", "3", "2*H", "W + 3"}}}), types({"f32[1,3,H,W]"}),
         images},
        {with(mode("linear", "pytorch_half_pixel"), {{"sizes", {"2", "2", "1", "9"}}}), types({"f32[2,2,4,5]"})},
        {with(mode("linear", "half_pixel_symmetric"), {{"scales", {1, 1, 1.2999999523162842, 0.75}}}),
         types({"f32[1,2,5,7]"})},
        {with(mode("linear", "tf_crop_and_resize"), {{"sizes", {"1", "2", "4", "3"}},
                                                     {"roi", {0, 0, 0.2, -0.25, 1, 1, 0.9, 0.75}},
                                                     {"extrapolation_value", 9}}),
         types({"f32[1,2,5,6]"})},
        {with(mode("cubic", "half_pixel"), {{"scales", {1, 1, 2, 0.5}}}), types({"f32[1,2,5,8]"})},
        {with(mode("cubic", "half_pixel"),
              {{"scales", {1, 1, 2, 0.5}}, {"exclude_outside", true}, {"cubic_coeff_a", -0.5}}),
         types({"f32[1,2,5,8]"})},
        {with(mode("linear", "half_pixel"), {{"scales", {1, 1, 3}}}), types({"f16[1,2,5]"})},
    };
  }
};

}  // namespace

const Operator& resize() {
  static const Erased<Resize> op;
  return op;
}

}  // namespace heddle::ops
