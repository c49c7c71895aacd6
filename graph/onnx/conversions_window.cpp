#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/error.hpp"
#include "graph/onnx/conversions.hpp"
#include "graph/onnx/quantization.hpp"

namespace heddle::graph::onnx_import {
namespace {

using Ints = std::vector<std::int64_t>;

/// The window of a convolution or a pooling, from ONNX's attributes.
struct Window {
  Ints kernel, strides, dilations, pads;
};

std::size_t spatial_rank(const OnnxNode& n) {
  if (n.rank(0) < 3)
    throw Error(ErrorCode::invalid_argument, fmt::format("needs spatial dimensions, got {}", n.type(0).str()));
  return static_cast<std::size_t>(n.rank(0) - 2);
}

Ints sized(Ints values, std::size_t count, std::string_view name) {
  if (values.size() != count)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'{}' has {} values, expected {}", name, values.size(), count));
  return values;
}

/// The kernel's extents: an attribute, or those of the weights.
Ints kernel_of(const OnnxNode& n, std::size_t rank, int weights) {
  if (n.has("kernel_shape")) return sized(n.integers("kernel_shape"), rank, "kernel_shape");
  Ints kernel;
  for (std::size_t d = 0; d < rank; ++d) kernel.push_back(n.type(weights).shape.at(d + 2).value());
  return kernel;
}

/// SAME_UPPER and SAME_LOWER pad so that the output has ceil(input / stride) elements, the odd one behind or before.
void resolve_same_padding(const OnnxNode& n, Window& w, bool upper) {
  const std::size_t rank = w.kernel.size();
  w.pads.assign(2 * rank, 0);
  for (std::size_t d = 0; d < rank; ++d) {
    const Extent in = n.type(0).shape[d + 2];
    const std::int64_t reach = (w.kernel[d] - 1) * w.dilations[d] + 1;
    const Extent needed = (ceil_div(in, w.strides[d]) - Extent(1)) * Extent(w.strides[d]) + Extent(reach) - in;
    const auto fixed = needed.constant();
    if (!fixed)
      n.fail(
          fmt::format("auto_pad of a symbolic dimension {} with stride {} gives another padding for every size; fix "
                      "the dimension or give it as a multiple of the stride (--dim NAME=MIN:MAX:{})",
                      in.str(), w.strides[d], w.strides[d]));
    const std::int64_t total = std::max<std::int64_t>(*fixed, 0);
    w.pads[d] = upper ? total / 2 : total - total / 2;
    w.pads[d + rank] = total - w.pads[d];
  }
}

Window window_of(const OnnxNode& n, int weights = 1) {
  const std::size_t rank = spatial_rank(n);
  Window w;
  w.kernel = kernel_of(n, rank, weights);
  w.strides = sized(n.integers("strides", Ints(rank, 1)), rank, "strides");
  w.dilations = sized(n.integers("dilations", Ints(rank, 1)), rank, "dilations");
  w.pads = sized(n.integers("pads", Ints(2 * rank, 0)), 2 * rank, "pads");
  const std::string auto_pad = n.text("auto_pad", "NOTSET");
  if (auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER") resolve_same_padding(n, w, auto_pad == "SAME_UPPER");
  else if (auto_pad == "VALID") w.pads.assign(2 * rank, 0);
  else if (auto_pad != "NOTSET" && !auto_pad.empty()) n.fail(fmt::format("auto_pad '{}' is unknown", auto_pad));
  return w;
}

void check_kernel(const OnnxNode& n, const Window& w, int weights = 1) {
  for (std::size_t d = 0; d < w.kernel.size(); ++d)
    if (!(n.type(weights).shape.at(d + 2) == Extent(w.kernel[d])))
      throw Error(ErrorCode::invalid_argument, fmt::format("kernel_shape {} does not fit the weights {}",
                                                           fmt::join(w.kernel, "x"), n.type(weights).str()));
}

std::vector<int> inputs_of(const OnnxNode& n, int count) {
  std::vector<int> inputs;
  for (int i = 0; i < count; ++i)
    if (n.has_input(i)) inputs.push_back(n.input(i));
  return inputs;
}

Json conv_attributes(const OnnxNode& n, int weights = 1) {
  const Window w = window_of(n, weights);
  check_kernel(n, w, weights);
  return {{"strides", w.strides}, {"pads", w.pads}, {"dilations", w.dilations}, {"group", n.integer("group", 1)}};
}

void convert_conv(OnnxNode& n) { n.set_result(n.op("conv", conv_attributes(n), inputs_of(n, 3))); }

/// The bias has no scale of its own: it is added to sums of products.
void convert_qlinear_conv(OnnxNode& n) {
  const Json attributes = conv_attributes(n, 3);
  const Quantization of_x = quantization(n, 1, 2, 1), of_w = quantization(n, 4, 5, 0);
  std::vector<int> inputs = {dequantized(n, n.input(0), of_x), dequantized(n, n.input(3), of_w)};
  if (n.has_input(8)) {
    const int scale = n.op("mul", Json::object(), {of_x.scale, of_w.scale});
    inputs.push_back(dequantized(n, n.input(8), {scale, std::nullopt, 0, 0}));
  }
  n.set_result(quantized(n, n.op("conv", attributes, inputs), quantization(n, 6, 7, 1)));
}

/// With zero points: in f64, which holds every sum exactly.
void convert_conv_integer(OnnxNode& n) {
  const Json attributes = conv_attributes(n);
  const auto zero = [&](int i) { return n.has_input(i) ? std::optional(n.input(i)) : std::nullopt; };
  if (!zero(2) && !zero(3)) return n.set_result(n.op("conv", attributes, {n.input(0), n.input(1)}));
  const int x = shifted(n, n.input(0), zero(2), 1, DType::f64), w = shifted(n, n.input(1), zero(3), 0, DType::f64);
  n.set_result(n.op("cast", {{"to", "i32"}}, {n.op("conv", attributes, {x, w})}));
}

void convert_conv_transpose(OnnxNode& n) {
  const std::size_t rank = spatial_rank(n);
  Window w;
  w.kernel = kernel_of(n, rank, 1);
  w.strides = sized(n.integers("strides", Ints(rank, 1)), rank, "strides");
  w.dilations = sized(n.integers("dilations", Ints(rank, 1)), rank, "dilations");
  w.pads = sized(n.integers("pads", Ints(2 * rank, 0)), 2 * rank, "pads");
  check_kernel(n, w);
  const Ints extra = sized(n.integers("output_padding", Ints(rank, 0)), rank, "output_padding");
  const std::string auto_pad = n.text("auto_pad", "NOTSET");
  const bool same = auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER";
  if (auto_pad == "VALID") w.pads.assign(2 * rank, 0);
  if (same || n.has("output_shape")) {
    // Some exporters write all dimensions, batch and channels first.
    Ints wanted = n.integers("output_shape");
    if (wanted.size() == rank + 2) wanted.erase(wanted.begin(), wanted.begin() + 2);
    for (std::size_t d = 0; d < rank; ++d) {
      const Extent in = n.type(0).shape[d + 2];
      const Extent out = wanted.empty() ? in * Extent(w.strides[d]) : Extent(sized(wanted, rank, "output_shape")[d]);
      const Extent uncut =
          (in - Extent(1)) * Extent(w.strides[d]) + Extent(extra[d] + (w.kernel[d] - 1) * w.dilations[d] + 1);
      const auto total = (uncut - out).constant();
      if (!total)
        n.fail(fmt::format("the padding for an output of {} depends on the symbolic dimension {}; fix it", out.str(),
                           in.str()));
      if (*total < 0) n.fail(fmt::format("an output of {} is larger than what {} elements give", out.str(), in.str()));
      w.pads[d] = auto_pad == "SAME_UPPER" ? *total / 2 : *total - *total / 2;
      w.pads[d + rank] = *total - w.pads[d];
    }
  }
  n.set_result(n.op("conv_transpose",
                    {{"strides", w.strides},
                     {"pads", w.pads},
                     {"dilations", w.dilations},
                     {"output_padding", extra},
                     {"group", n.integer("group", 1)}},
                    inputs_of(n, 3)));
}

void convert_max_pool(OnnxNode& n) {
  if (n.proto().output_size() > 1 && !n.proto().output(1).empty())
    n.fail("its second output (indices) is not supported");
  const Window w = window_of(n);
  n.set_result(n.op("max_pool",
                    {{"kernel_shape", w.kernel},
                     {"strides", w.strides},
                     {"pads", w.pads},
                     {"dilations", w.dilations},
                     {"ceil_mode", n.integer("ceil_mode", 0) != 0}},
                    {n.input(0)}));
}

void convert_average_pool(OnnxNode& n) {
  const Window w = window_of(n);
  n.set_result(n.op("average_pool",
                    {{"kernel_shape", w.kernel},
                     {"strides", w.strides},
                     {"pads", w.pads},
                     {"dilations", w.dilations},
                     {"ceil_mode", n.integer("ceil_mode", 0) != 0},
                     {"count_include_pad", n.integer("count_include_pad", 0) != 0}},
                    {n.input(0)}));
}

/// Values for some axes as values for all of them. `twice`: beginnings, then ends.
template <class T>
std::vector<T> for_all_axes(const OnnxNode& n, const std::vector<T>& given, const std::optional<Ints>& axes,
                            std::size_t rank, const std::vector<T>& otherwise, bool twice, std::string_view name) {
  const std::size_t per_axis = twice ? 2 : 1;
  const std::size_t count = axes ? axes->size() : rank;
  if (given.size() != per_axis * count)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} has {} values, expected {}", name, given.size(), per_axis * count));
  std::vector<T> all = otherwise;
  for (std::size_t i = 0; i < count; ++i) {
    const auto d = axes ? static_cast<std::size_t>(n.normal_axis((*axes)[i], static_cast<int>(rank))) : i;
    all[d] = given[i];
    if (twice) all[d + rank] = given[i + count];
  }
  return all;
}

void convert_pad(OnnxNode& n) {
  const auto rank = static_cast<std::size_t>(n.rank(0));
  std::vector<Extent> pads;
  std::optional<Ints> axes;
  double value = n.real("value", 0.0);
  if (n.version() < 11) {
    for (const std::int64_t pad : n.integers(n.has("pads") ? "pads" : "paddings")) pads.emplace_back(pad);
  } else {
    pads = n.extents(1, "the pads");
    if (n.has_input(2)) value = n.constant_scalar(2, "the value to pad with");
    if (n.has_input(3)) axes = n.constant_integers(3, "the axes");
  }
  pads = for_all_axes<Extent>(n, pads, axes, rank, std::vector<Extent>(2 * rank, 0), true, "the pads");
  if (std::all_of(pads.begin(), pads.end(), [](const Extent& e) { return e == Extent(0); }))
    return n.set_result(n.input(0));
  n.set_result(n.op("pad",
                    {{"pads", n.shape_attribute(pads)},
                     {"mode", n.text("mode", "constant")},
                     {"value", reflect::value_to_json(value)}},
                    {n.input(0)}));
}

std::vector<double> numbers_of(const OnnxNode& n, int i, std::string_view what) {
  std::vector<double> values;
  const auto array = n.constant(i);
  if (!array) n.fail(fmt::format("{} must be known at compile time", what));
  for (std::int64_t k = 0; k < array->size(); ++k) values.push_back(array->at(k));
  return values;
}

bool has_elements(const OnnxNode& n, int i) { return n.has_input(i) && !(n.type(i).element_count() == Extent(0)); }

/// Upsample, and Resize of version 10: scales alone, positions counted from the corner. Where it shrinks, the nearest
/// element is the next one, as the first runtimes had it.
void convert_upsample(OnnxNode& n) {
  std::vector<double> scales = n.reals("scales");
  if (scales.empty()) scales = numbers_of(n, 1, "the scales");
  const bool grows = std::all_of(scales.begin(), scales.end(), [](double s) { return s >= 1; });
  const bool shrinks = std::all_of(scales.begin(), scales.end(), [](double s) { return s <= 1; });
  if (!grows && !shrinks)
    n.fail("it grows one dimension and shrinks another, for which this version does not say what is nearest");
  std::string mode = n.text("mode", "nearest");
  if (mode == "bilinear") mode = "linear";
  n.set_result(n.op("resize",
                    {{"scales", scales},
                     {"mode", mode},
                     {"coordinate_transformation_mode", "asymmetric"},
                     {"nearest_mode", grows ? "floor" : "ceil"}},
                    {n.input(0)}));
}

void convert_resize(OnnxNode& n) {
  if (n.version() < 11) return convert_upsample(n);
  const auto rank = static_cast<std::size_t>(n.rank(0));
  if (n.integer("antialias", 0) != 0) n.fail("antialias is not supported");
  if (n.text("keep_aspect_ratio_policy", "stretch") != "stretch")
    n.fail("a keep_aspect_ratio_policy other than 'stretch' is not supported");
  std::optional<Ints> axes;
  if (n.has("axes")) axes = n.integers("axes");
  Json attributes = {{"mode", n.text("mode", "nearest")},
                     {"coordinate_transformation_mode", n.text("coordinate_transformation_mode", "half_pixel")},
                     {"nearest_mode", n.text("nearest_mode", "round_prefer_floor")},
                     {"cubic_coeff_a", n.real("cubic_coeff_a", -0.75)},
                     {"exclude_outside", n.integer("exclude_outside", 0) != 0},
                     {"extrapolation_value", n.real("extrapolation_value", 0.0)}};
  if (attributes["coordinate_transformation_mode"] == "tf_crop_and_resize") {
    std::vector<double> whole(2 * rank, 0.0);
    std::fill(whole.begin() + static_cast<std::ptrdiff_t>(rank), whole.end(), 1.0);
    attributes["roi"] = for_all_axes(n, numbers_of(n, 1, "the region of interest"), axes, rank, whole, true, "roi");
  }
  if (has_elements(n, 3)) {
    attributes["sizes"] =
        n.shape_attribute(for_all_axes(n, n.extents(3, "the sizes"), axes, rank, n.type(0).shape, false, "sizes"));
  } else if (has_elements(n, 2)) {
    attributes["scales"] =
        for_all_axes(n, numbers_of(n, 2, "the scales"), axes, rank, std::vector<double>(rank, 1.0), false, "scales");
  } else {
    throw Error(ErrorCode::invalid_argument, "it has neither scales nor sizes");
  }
  n.set_result(n.op("resize", attributes, {n.input(0)}));
}

constexpr std::array rows = {
    Conversion{"AveragePool", 1, newest_version, convert_average_pool},
    Conversion{"Conv", 1, newest_version, convert_conv},
    Conversion{"ConvInteger", 10, newest_version, convert_conv_integer},
    Conversion{"ConvTranspose", 1, newest_version, convert_conv_transpose},
    Conversion{"MaxPool", 1, newest_version, convert_max_pool},
    Conversion{"Pad", 1, newest_version, convert_pad},
    Conversion{"QLinearConv", 10, newest_version, convert_qlinear_conv},
    Conversion{"Resize", 10, newest_version, convert_resize},
    Conversion{"Upsample", 7, 9, convert_upsample},
};

}  // namespace

std::span<const Conversion> window_conversions() { return rows; }

}  // namespace heddle::graph::onnx_import
