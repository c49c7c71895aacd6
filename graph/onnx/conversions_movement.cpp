#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/error.hpp"
#include "graph/onnx/conversions.hpp"

namespace heddle::graph::onnx_import {
namespace {

using Ints = std::vector<std::int64_t>;

int reshape(OnnxNode& n, int x, const std::vector<Extent>& shape) {
  if (n.type_of(x).shape == shape) return x;
  return n.op("reshape", {{"shape", n.shape_attribute(shape)}}, {x});
}

/// 0 keeps a dimension (unless allowzero), -1 takes what is left.
void convert_reshape(OnnxNode& n) {
  const int x = n.input(0);
  const std::vector<Extent> from = n.type(0).shape;
  std::vector<Extent> to;
  if (n.has("shape"))
    for (const std::int64_t extent : n.integers("shape")) to.emplace_back(extent);
  else to = n.extents(1, "the new shape");
  const bool allow_zero = n.integer("allowzero", 0) != 0;
  std::optional<std::size_t> open;
  Extent known = 1;
  for (std::size_t d = 0; d < to.size(); ++d) {
    if (to[d] == Extent(0) && !allow_zero) {
      if (d >= from.size())
        throw Error(ErrorCode::invalid_argument,
                    fmt::format("dimension {} of the new shape copies one that {} has not", d, n.type(0).str()));
      to[d] = from[d];
    }
    if (to[d] == Extent(-1)) {
      if (open) throw Error(ErrorCode::invalid_argument, "the new shape has two dimensions of -1");
      open = d;
    } else {
      known = known * to[d];
    }
  }
  if (open) {
    const Extent count = n.type(0).element_count();
    if (known == Extent(0))
      throw Error(ErrorCode::invalid_argument, "a dimension of -1 beside one of 0 is not determined");
    to[*open] = floor_div(count, known);
    known = known * to[*open];
  }
  n.require_equal(known, n.type(0).element_count(), "elements after and before the reshape");
  n.set_result(reshape(n, x, to));
}

void convert_flatten(OnnxNode& n) {
  const auto& shape = n.type(0).shape;
  const int rank = n.rank(0);
  std::int64_t axis = n.integer("axis", 1);
  axis = axis == rank ? rank : n.normal_axis(axis, std::max(rank, 1));
  Extent rows = 1, columns = 1;
  for (int d = 0; d < rank; ++d)
    (d < axis ? rows : columns) = (d < axis ? rows : columns) * shape[static_cast<std::size_t>(d)];
  n.set_result(reshape(n, n.input(0), {rows, columns}));
}

void convert_squeeze(OnnxNode& n) {
  const auto& shape = n.type(0).shape;
  std::vector<bool> removed(shape.size(), false);
  if (const auto axes = n.axes(1)) {
    for (const std::int64_t axis : *axes) removed[static_cast<std::size_t>(n.normal_axis(axis, n.rank(0)))] = true;
  } else {
    for (std::size_t d = 0; d < shape.size(); ++d) removed[d] = shape[d] == Extent(1);
  }
  std::vector<Extent> to;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (!removed[d]) to.push_back(shape[d]);
    else if (!(shape[d] == Extent(1)))
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("dimension {} of {} is squeezed, but it is not 1", d, n.type(0).str()));
  }
  n.set_result(reshape(n, n.input(0), to));
}

void convert_unsqueeze(OnnxNode& n) {
  const auto axes = n.axes(1);
  if (!axes) throw Error(ErrorCode::corrupt, "the axes are missing");
  const int rank = n.rank(0) + static_cast<int>(axes->size());
  std::vector<bool> added(static_cast<std::size_t>(rank), false);
  for (const std::int64_t axis : *axes) added[static_cast<std::size_t>(n.normal_axis(axis, rank))] = true;
  std::vector<Extent> to;
  auto from = n.type(0).shape.begin();
  for (const bool one : added) {
    if (!one && from == n.type(0).shape.end()) throw Error(ErrorCode::invalid_argument, "an axis is added twice");
    to.push_back(one ? Extent(1) : *from++);
  }
  n.set_result(reshape(n, n.input(0), to));
}

void convert_transpose(OnnxNode& n) {
  const int rank = n.rank(0);
  Ints perm;
  for (int d = rank; d-- > 0;) perm.push_back(d);
  perm = n.integers("perm", perm);
  for (std::int64_t& d : perm) d = n.normal_axis(d, rank);
  n.set_result(n.op("transpose", {{"perm", perm}}, {n.input(0)}));
}

void convert_concat(OnnxNode& n) {
  std::vector<int> parts;
  for (int i = 0; i < n.input_count(); ++i) parts.push_back(n.input(i));
  if (parts.empty()) throw Error(ErrorCode::corrupt, "it has no operands");
  if (parts.size() == 1) return n.set_result(parts[0]);
  n.set_result(n.op("concat", {{"axis", n.normal_axis(n.integer("axis", 1), n.rank(0))}}, parts));
}

/// Where a slice begins and ends along one dimension, as ONNX clamps them.
Extent clamped(const OnnxNode& n, const Extent& at, const Extent& extent, std::int64_t lowest, const Extent& highest) {
  const SymbolRanges& symbols = n.symbols();
  Extent from = at;
  // "To the end" is written as the largest or smallest integer, with which nothing may be added.
  constexpr std::int64_t far = std::int64_t(1) << 40;
  if (const auto fixed = at.constant()) from = std::clamp(*fixed, -far, far);
  const Range bounds = tight_bounds(from, symbols);
  if (bounds.max < 0) from = from + extent;
  else if (bounds.min < 0) n.fail(fmt::format("whether {} is negative depends on the size", at.str()));
  // Extents are compared by the bounds of their difference; where they may cross, minimum and maximum stay.
  const Range above = tight_bounds(from - highest, symbols);
  if (above.min >= 0) return highest;
  if (above.max > 0) from = min(from, highest);
  const Range below = tight_bounds(from - Extent(lowest), symbols);
  if (below.max <= 0) return lowest;
  return below.min < 0 ? max(from, lowest) : from;
}

void convert_slice(OnnxNode& n) {
  const int x = n.input(0);
  const std::vector<Extent> shape = n.type(0).shape;
  const int rank = n.rank(0);
  std::vector<Extent> starts, ends;
  Ints axes, steps;
  if (n.has("starts")) {
    for (const std::int64_t at : n.integers("starts")) starts.emplace_back(at);
    for (const std::int64_t at : n.integers("ends")) ends.emplace_back(at);
    axes = n.integers("axes");
  } else {
    starts = n.extents(1, "the start");
    ends = n.extents(2, "the end");
    if (n.has_input(3)) axes = n.constant_integers(3, "the axes");
    if (n.has_input(4)) steps = n.constant_integers(4, "the steps");
  }
  if (axes.empty())
    for (std::size_t i = 0; i < starts.size(); ++i) axes.push_back(static_cast<std::int64_t>(i));
  if (steps.empty()) steps.assign(starts.size(), 1);
  if (ends.size() != starts.size() || axes.size() != starts.size() || steps.size() != starts.size())
    throw Error(ErrorCode::invalid_argument, "starts, ends, axes and steps differ in length");
  std::vector<Extent> firsts, lasts;
  bool whole = true;
  for (std::size_t i = 0; i < starts.size(); ++i) {
    axes[i] = n.normal_axis(axes[i], rank);
    const Extent& extent = shape[static_cast<std::size_t>(axes[i])];
    const bool forward = steps[i] > 0;
    if (steps[i] == 0) throw Error(ErrorCode::invalid_argument, "a step is 0");
    // An end so negative that no size reaches it means "down to and including element 0".
    const bool all = !forward && ends[i].constant().value_or(0) < -(std::int64_t(1) << 31);
    const std::int64_t lowest = forward ? 0 : -1;
    const Extent highest = forward ? extent : extent - Extent(1);
    const Extent first = clamped(n, starts[i], extent, forward ? 0 : -1, highest);
    Extent last = all ? Extent(-1) : clamped(n, ends[i], extent, lowest, highest);
    // Nothing is left where the end comes first.
    const Range length = tight_bounds(forward ? last - first : first - last, n.symbols());
    if (length.max <= 0) last = first;
    else if (length.min < 0) last = forward ? max(first, last) : min(first, last);
    whole = whole && steps[i] == 1 && first == Extent(0) && last == extent;
    firsts.push_back(first);
    lasts.push_back(last);
  }
  if (whole) return n.set_result(x);
  n.set_result(n.op(
      "slice",
      {{"starts", n.shape_attribute(firsts)}, {"ends", n.shape_attribute(lasts)}, {"axes", axes}, {"steps", steps}},
      {x}));
}

/// One slice a part.
void convert_split(OnnxNode& n) {
  const int x = n.input(0);
  const std::vector<Extent> shape = n.type(0).shape;
  const auto axis = static_cast<std::size_t>(n.normal_axis(n.integer("axis", 0), n.rank(0)));
  const int parts = n.proto().output_size();
  std::vector<Extent> sizes;
  if (n.has("split"))
    for (const std::int64_t size : n.integers("split")) sizes.emplace_back(size);
  else if (n.has_input(1)) sizes = n.extents(1, "the sizes");
  if (sizes.empty()) {
    const Extent each = ceil_div(shape[axis], parts);
    for (int i = 0; i + 1 < parts; ++i) sizes.push_back(each);
    sizes.push_back(shape[axis] - each * Extent(parts - 1));
  }
  if (sizes.size() != static_cast<std::size_t>(parts))
    throw Error(ErrorCode::invalid_argument, "the sizes do not match the outputs");
  Extent at = 0;
  for (int i = 0; i < parts; ++i) {
    const Extent end = at + sizes[static_cast<std::size_t>(i)];
    n.set_result(
        i, n.op("slice", {{"starts", n.shape_attribute({at})}, {"ends", n.shape_attribute({end})}, {"axes", {axis}}},
                {x}));
    at = end;
  }
  n.require_equal(at, shape[axis], "the parts together and the dimension");
}

/// Dimensions broadcast both ways.
void convert_expand(OnnxNode& n) {
  const std::vector<Extent> from = n.type(0).shape;
  std::vector<Extent> to = n.extents(1, "the new shape");
  if (to.size() < from.size()) to.insert(to.begin(), from.size() - to.size(), Extent(1));
  for (std::size_t d = 0; d < from.size(); ++d) {
    Extent& extent = to[to.size() - from.size() + d];
    if (extent == Extent(1)) extent = from[d];
  }
  if (to == from) return n.set_result(n.input(0));
  n.set_result(n.op("expand", {{"shape", n.shape_attribute(to)}}, {n.input(0)}));
}

void convert_tile(OnnxNode& n) {
  const std::vector<Extent> repeats = n.extents(1, "the repeats");
  int x = n.input(0);
  const std::vector<Extent> shape = n.type(0).shape;
  if (repeats.size() != shape.size()) throw Error(ErrorCode::invalid_argument, "one repeat a dimension is needed");
  // (a, b) -> (1, a, 1, b) -> (r, a, s, b) -> (ra, sb)
  std::vector<Extent> apart, expanded, joined;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    apart.insert(apart.end(), {1, shape[d]});
    expanded.insert(expanded.end(), {repeats[d], shape[d]});
    joined.push_back(repeats[d] * shape[d]);
  }
  if (joined == shape) return n.set_result(x);
  x = n.op("expand", {{"shape", n.shape_attribute(expanded)}}, {reshape(n, x, apart)});
  n.set_result(reshape(n, x, joined));
}

void convert_gather(OnnxNode& n) {
  n.set_result(n.op("gather", {{"axis", n.normal_axis(n.integer("axis", 0), n.rank(0))}}, {n.input(0), n.input(1)}));
}

void convert_gather_elements(OnnxNode& n) {
  n.set_result(
      n.op("gather_elements", {{"axis", n.normal_axis(n.integer("axis", 0), n.rank(0))}}, {n.input(0), n.input(1)}));
}

void convert_gather_nd(OnnxNode& n) {
  n.set_result(n.op("gather_nd", {{"batch_dims", n.integer("batch_dims", 0)}}, {n.input(0), n.input(1)}));
}

/// Blocks of channels become pixels, or the other way round: both are a transpose between two reshapes.
void convert_depth_space(OnnxNode& n) {
  const auto& s = n.type(0).shape;
  if (s.size() != 4)
    throw Error(ErrorCode::invalid_argument, fmt::format("needs 4 dimensions, got {}", n.type(0).str()));
  const Extent b = n.integer("blocksize", 1);
  const int x = n.input(0);
  if (n.op_type() == "SpaceToDepth") {
    const Extent h = floor_div(s[2], b), w = floor_div(s[3], b);
    const std::vector<Extent> apart{s[0], s[1], h, b, w, b}, joined{s[0], s[1] * b * b, h, w};
    const int moved = n.op("transpose", {{"perm", Ints{0, 3, 5, 1, 2, 4}}}, {reshape(n, x, apart)});
    return n.set_result(reshape(n, moved, joined));
  }
  const Extent c = floor_div(s[1], b * b);
  const bool column_row = n.text("mode", "DCR") == "CRD";
  const std::vector<Extent> apart =
      column_row ? std::vector<Extent>{s[0], c, b, b, s[2], s[3]} : std::vector<Extent>{s[0], b, b, c, s[2], s[3]};
  const Ints perm = column_row ? Ints{0, 1, 4, 2, 5, 3} : Ints{0, 3, 4, 1, 5, 2};
  const std::vector<Extent> joined{s[0], c, s[2] * b, s[3] * b};
  n.set_result(reshape(n, n.op("transpose", {{"perm", perm}}, {reshape(n, x, apart)}), joined));
}

constexpr std::array rows = {
    Conversion{"Concat", 1, newest_version, convert_concat},
    Conversion{"DepthToSpace", 1, newest_version, convert_depth_space},
    Conversion{"Expand", 8, newest_version, convert_expand},
    Conversion{"Flatten", 1, newest_version, convert_flatten},
    Conversion{"Gather", 1, newest_version, convert_gather},
    Conversion{"GatherElements", 11, newest_version, convert_gather_elements},
    Conversion{"GatherND", 11, newest_version, convert_gather_nd},
    Conversion{"Reshape", 1, newest_version, convert_reshape},
    Conversion{"Slice", 1, newest_version, convert_slice},
    Conversion{"SpaceToDepth", 1, newest_version, convert_depth_space},
    Conversion{"Split", 1, newest_version, convert_split},
    Conversion{"Squeeze", 1, newest_version, convert_squeeze},
    Conversion{"Tile", 6, newest_version, convert_tile},
    Conversion{"Transpose", 1, newest_version, convert_transpose},
    Conversion{"Unsqueeze", 1, newest_version, convert_unsqueeze},
};

}  // namespace

std::span<const Conversion> movement_conversions() { return rows; }

}  // namespace heddle::graph::onnx_import
