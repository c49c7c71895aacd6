#include "ops/window.hpp"

#include <algorithm>
#include <limits>

#include "ops/rules.hpp"

namespace heddle::ops {
namespace {

using Halide::Expr;

std::vector<std::int64_t> filled(const std::vector<std::int64_t>& given, std::size_t count, std::int64_t otherwise,
                                 const char* attribute) {
  if (given.empty()) return std::vector<std::int64_t>(count, otherwise);
  require(given.size() == count, "{} has {} values, expected {}", attribute, given.size(), count);
  return given;
}

/// The furthest element read behind the last one, as a number that holds for every extent.
std::int64_t read_after(const Window& w, std::size_t d, const Extent& in, const Extent& out) {
  const Extent last = (out - Extent(1)) * Extent(w.strides[d]) + Extent(w.reach(d) - 1 - w.before[d]);
  if (const auto beyond = (last - in + Extent(1)).constant()) return *beyond;
  return w.after[d] + (w.ceil_mode ? w.strides[d] - 1 : 0);
}

/// n, the channel and the spatial dimensions.
std::vector<Halide::Var> window_loops(std::size_t rank, const std::string& channel_name) {
  std::vector<Halide::Var> loops = {Halide::Var("n"), Halide::Var(channel_name)};
  for (const auto& name : spatial_names(rank)) loops.emplace_back(name);
  return loops;
}

template <class T>
std::vector<T> ordered(const std::vector<T>& logical, const std::vector<int>& order) {
  std::vector<T> result;
  for (const int dim : order) result.push_back(logical[static_cast<std::size_t>(dim)]);
  return result;
}

/// Dimensions of (n, c, spatial...), channels innermost.
std::vector<int> channels_first(std::size_t rank) {
  std::vector<int> order = {1};
  for (int dim = static_cast<int>(rank) - 1; dim >= 2; --dim) order.push_back(dim);
  order.push_back(0);
  return order;
}

}  // namespace

Window make_window(const std::vector<std::int64_t>& kernel, const std::vector<std::int64_t>& strides,
                   const std::vector<std::int64_t>& dilations, const std::vector<std::int64_t>& pads) {
  const std::size_t rank = kernel.size();
  require(rank >= 1 && rank <= 3, "a window has 1 to 3 spatial dimensions, not {}", rank);
  Window w{kernel, filled(strides, rank, 1, "strides"), filled(dilations, rank, 1, "dilations"), {}, {}};
  const auto both = filled(pads, 2 * rank, 0, "pads");
  w.before.assign(both.begin(), both.begin() + static_cast<std::ptrdiff_t>(rank));
  w.after.assign(both.begin() + static_cast<std::ptrdiff_t>(rank), both.end());
  const std::int64_t most = std::numeric_limits<std::int32_t>::max();
  for (std::size_t d = 0; d < rank; ++d) {
    require(w.kernel[d] >= 1 && w.kernel[d] <= most, "kernel extent {} must be at least 1", w.kernel[d]);
    require(w.strides[d] >= 1 && w.strides[d] <= most, "stride {} must be at least 1", w.strides[d]);
    require(w.dilations[d] >= 1 && w.dilations[d] <= most, "dilation {} must be at least 1", w.dilations[d]);
    require(w.before[d] >= 0 && w.after[d] >= 0 && w.before[d] <= most && w.after[d] <= most,
            "pads {} and {} must not be negative: slice the operand instead", w.before[d], w.after[d]);
  }
  return w;
}

double lowest(DType type) {
  if (is_float(type)) return -std::numeric_limits<double>::infinity();
  return static_cast<double>(integer_range(type).least);
}

Extent output_extent(const Window& w, std::size_t d, const Extent& in) {
  const Extent room = in + Extent(w.before[d] + w.after[d] - w.reach(d));
  if (const auto c = room.constant())
    require(*c >= 0,
            "a window of {} (kernel {}, dilation {}) does not fit into {} = {} + {} + {} along spatial dimension {}",
            w.reach(d), w.kernel[d], w.dilations[d], *c + w.reach(d), in.str(), w.before[d], w.after[d], d);
  if (!w.ceil_mode) return floor_div(room, w.strides[d]) + Extent(1);
  const Extent windows = ceil_div(room, w.strides[d]) + Extent(1);
  // A window that would start in the padding at the end does not count.
  if (w.after[d] + w.strides[d] <= w.reach(d)) return windows;
  return min(windows, ceil_div(in + Extent(w.before[d]), w.strides[d]));
}

std::vector<std::string> spatial_names(std::size_t rank, const std::string& prefix) {
  static const std::vector<std::string> names = {"z", "y", "x"};
  std::vector<std::string> result;
  for (std::size_t d = names.size() - rank; d < names.size(); ++d) result.push_back(prefix + names[d]);
  return result;
}

bool reads_outside(const Window& w, std::size_t d, const Extent& in, const Extent& out) {
  return w.before[d] > 0 || read_after(w, d, in, out) > 0;
}

std::vector<int> innermost_first(const TensorType& type) {
  auto order = type.order();
  std::reverse(order.begin(), order.end());
  return order;
}

std::vector<bool> WindowInput::guarded(const TensorType& out, double exterior) const {
  std::vector<bool> guarded(window_.rank(), false);
  for (std::size_t d = 0; d < window_.rank(); ++d) {
    const auto dim = d + 2;
    if (!reads_outside(window_, d, x_.type.shape[dim], out.shape[dim])) continue;
    const Border border = x_.border(static_cast<int>(dim));
    const bool covered = border.before >= window_.before[d] &&
                         border.after >= read_after(window_, d, x_.type.shape[dim], out.shape[dim]) &&
                         x_.type.layout.border_value == exterior;
    guarded[d] = !covered;
  }
  return guarded;
}

WindowInput::WindowInput(Halide::Func& padded, const Operand& x, const Window& window, const TensorType& out,
                         double exterior, const std::string& channel_name)
    : x_(x), window_(window) {
  const std::vector<bool> guards = guarded(out, exterior);
  if (std::none_of(guards.begin(), guards.end(), [](bool g) { return g; })) return;

  const std::vector<Halide::Var> logical = window_loops(window.rank(), channel_name);
  Halide::Region inside;  // in the Func's order, last dimension first
  for (std::size_t dim = logical.size(); dim-- > 0;) {
    const bool bounded = dim >= 2 && guards[dim - 2];
    inside.push_back(bounded ? Halide::Range(0, x.extents[dim]) : Halide::Range(Expr(), Expr()));
  }
  const Expr value = Halide::cast(x.func.type(), Expr(exterior));
  const Halide::Func bounded = Halide::BoundaryConditions::constant_exterior(x.func, value, inside);
  argument_order_ = innermost_first(x.type);
  padded(ordered(logical, argument_order_)) = bounded(std::vector<Halide::Var>(logical.rbegin(), logical.rend()));
  padded_ = padded;
}

WindowInput::WindowInput(Halide::Func& padded, Algorithm& a, const Window& window, double exterior,
                         const std::string& channel_name)
    : x_(a.in[0]), window_(window) {
  const std::vector<bool> guards = guarded(a.out[0], exterior);
  const std::vector<Halide::Var> logical = window_loops(window.rank(), channel_name);
  const std::size_t last = logical.size() - 1;
  argument_order_ = channels_first(logical.size());
  const Halide::Type type = x_.func.type();
  const Expr outside = Halide::cast(type, Expr(exterior));
  padded(ordered(logical, argument_order_)) = Halide::undef(type);

  const auto reduced = [&](const std::string& name, const Expr& extent, const Expr& where) {
    const Reduction reduction = a.reduce({{name, extent}});
    Halide::RDom domain = reduction.domain();
    if (where.defined()) domain.where(where);
    return Expr(reduction[name]);
  };
  std::vector<Expr> index(logical.begin(), logical.end()), read = index;
  Expr inside;
  for (std::size_t dim = 2; dim < last; ++dim) {
    if (!guards[dim - 2]) continue;
    read[dim] = Halide::clamp(index[dim], 0, x_.extents[dim] - 1);
    // A comparison from which Halide does not learn the coordinate's range: it would drop the clamp then, but not see
    // everywhere that reads stay in the operand.
    const Expr within = Halide::cast<std::uint32_t>(index[dim]) < Halide::cast<std::uint32_t>(x_.extents[dim]);
    inside = inside.defined() ? inside && within : within;
  }
  index[last] = read[last] = reduced("column", x_.extents[last], inside);
  padded(ordered(index, argument_order_)) = x_.at(read);

  const std::size_t d = window.rank() - 1;
  const auto before = static_cast<int>(guards[d] ? window.before[d] : 0);
  const auto after = static_cast<int>(
      guards[d] ? std::max<std::int64_t>(0, read_after(window, d, x_.type.shape[last], a.out[0].shape[last])) : 0);
  if (before + after > 0) {
    const Expr edge = reduced("edge", before + after, {});
    index[last] = Halide::select(edge < before, edge - before, x_.extents[last] + edge - before);
    padded(ordered(index, argument_order_)) = outside;
  }
  if (inside.defined()) {
    index[last] = reduced("beyond", x_.extents[last] + (before + after), !inside) - before;
    padded(ordered(index, argument_order_)) = outside;
  }
  padded_ = padded;
}

Expr WindowInput::coordinate(std::size_t d, const Expr& position, const Expr& tap) const {
  const auto times = [](const Expr& e, std::int64_t factor) { return factor == 1 ? e : e * static_cast<int>(factor); };
  const Expr from_start = times(position, window_.strides[d]) + times(tap, window_.dilations[d]);
  return window_.before[d] == 0 ? from_start : from_start - static_cast<int>(window_.before[d]);
}

Expr WindowInput::at(const Expr& n, const Expr& c, const std::vector<Expr>& position,
                     const std::vector<Expr>& tap) const {
  std::vector<Expr> coordinates;
  for (std::size_t d = 0; d < window_.rank(); ++d) coordinates.push_back(coordinate(d, position[d], tap[d]));
  return element(n, c, coordinates);
}

Expr WindowInput::element(const Expr& n, const Expr& c, const std::vector<Expr>& coordinates) const {
  std::vector<Expr> index = {n, c};
  index.insert(index.end(), coordinates.begin(), coordinates.end());
  if (!padded_.defined()) return x_.at(index);
  return padded_(ordered(index, argument_order_));
}

}  // namespace heddle::ops
