#include "runtime/tensor_view.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::runtime {
namespace {

/// Calls f with an unsigned integer of that many bytes: copying and filling need no more of the type.
template <class F>
void with_element(std::size_t bytes, F&& f) {
  switch (bytes) {
    case 1: return f(std::uint8_t{});
    case 2: return f(std::uint16_t{});
    case 4: return f(std::uint32_t{});
    default: return f(std::uint64_t{});
  }
}

using Loop = CopyPlan::Loop;
using Side = BorderPlan::Side;

std::size_t element_bytes(DType type) {
  if (type == DType::string) throw Error(ErrorCode::unsupported, "string tensors are not supported");
  return size_of(type);
}

/// The loops of a copy between tensors of the same shape, outermost first: extents of 1 dropped, the destination's
/// order, neighbours merged where both sides run on.
std::vector<Loop> copy_loops(const TensorView& from, const TensorView& to) {
  std::vector<Loop> loops;
  for (std::size_t d = 0; d < to.shape.size(); ++d)
    if (to.shape[d] != 1) loops.push_back({to.shape[d], from.strides[d], to.strides[d]});
  std::stable_sort(loops.begin(), loops.end(), [](const Loop& a, const Loop& b) { return a.to > b.to; });
  std::vector<Loop> merged;
  for (const Loop& loop : loops) {
    if (!merged.empty() && merged.back().from == loop.from * loop.extent && merged.back().to == loop.to * loop.extent)
      merged.back() = {merged.back().extent * loop.extent, loop.from, loop.to};
    else merged.push_back(loop);
  }
  return merged;
}

template <class T>
void copy_loop(const T* from, T* to, const std::vector<Loop>& loops, std::size_t level) {
  if (level == loops.size()) {
    *to = *from;
    return;
  }
  const Loop& loop = loops[level];
  if (level + 1 < loops.size()) {
    for (std::int64_t i = 0; i < loop.extent; ++i) copy_loop(from + i * loop.from, to + i * loop.to, loops, level + 1);
  } else if (loop.from == 1 && loop.to == 1) {
    std::memcpy(to, from, static_cast<std::size_t>(loop.extent) * sizeof(T));
  } else {
    for (std::int64_t i = 0; i < loop.extent; ++i) to[i * loop.to] = from[i * loop.from];
  }
}

/// Where the elements lie, in row-major order, one after another.
class Walk {
 public:
  explicit Walk(const TensorView& view) : view_(view), index_(view.shape.size(), 0) {}

  std::int64_t offset() const { return offset_; }

  void next() {
    for (std::size_t d = index_.size(); d-- > 0;) {
      offset_ += view_.strides[d];
      if (++index_[d] < view_.shape[d]) return;
      offset_ -= view_.strides[d] * view_.shape[d];
      index_[d] = 0;
    }
  }

 private:
  const TensorView& view_;
  Shape index_;
  std::int64_t offset_ = 0;
};

/// A border takes as long to write as memory does, so a value of equal bytes, 0 above all, is written by what is
/// fastest.
template <class T>
void fill_run(T* at, std::int64_t count, T value) {
  std::array<unsigned char, sizeof(T)> bytes{};
  std::memcpy(bytes.data(), &value, sizeof(T));
  if (std::all_of(bytes.begin(), bytes.end(), [&](unsigned char b) { return b == bytes[0]; }))
    std::memset(at, bytes[0], static_cast<std::size_t>(count) * sizeof(T));
  else std::fill_n(at, count, value);
}

/// Fills `count` boxes of the dimensions from `level` on, borders included; they are `stride` apart.
template <class T>
void fill_boxes(T* at, std::int64_t count, std::int64_t stride, const std::vector<Side>& sides, std::size_t level,
                T value) {
  const std::int64_t run = level == sides.size() ? 1 : sides[level].run;
  const std::int64_t start = level == sides.size() ? 0 : sides[level].start;
  if (run == stride) return fill_run(at - start, count * run, value);
  for (std::int64_t i = 0; i < count; ++i, at += stride) {
    if (run > 0) {
      fill_run(at - start, run, value);
    } else {
      const Side& side = sides[level];
      fill_boxes(at - side.before * side.stride, side.before + side.extent + side.after, side.stride, sides, level + 1,
                 value);
    }
  }
}

/// `levels`: up to the last one with a border. What lies inside it is the tensor's own, and not to be walked through.
template <class T>
void fill_around(T* at, const std::vector<Side>& sides, std::size_t level, std::size_t levels, T value) {
  if (level >= levels) return;
  const Side& side = sides[level];
  fill_boxes(at - side.before * side.stride, side.before, side.stride, sides, level + 1, value);
  if (level + 1 < levels)
    for (std::int64_t i = 0; i < side.extent; ++i) fill_around(at + i * side.stride, sides, level + 1, levels, value);
  fill_boxes(at + side.extent * side.stride, side.after, side.stride, sides, level + 1, value);
}

}  // namespace

std::vector<std::int64_t> row_major_strides(const Shape& shape) {
  std::vector<std::int64_t> strides(shape.size());
  std::int64_t stride = 1;
  for (std::size_t d = shape.size(); d-- > 0;) {
    strides[d] = stride;
    stride *= shape[d];
  }
  return strides;
}

bool TensorView::row_major() const {
  const auto none = [](const std::vector<std::int64_t>& border) {
    return std::all_of(border.begin(), border.end(), [](std::int64_t n) { return n == 0; });
  };
  if (!none(border_before) || !none(border_after)) return false;
  std::int64_t stride = 1;
  for (std::size_t d = shape.size(); d-- > 0;) {
    if (shape[d] != 1 && strides[d] != stride) return false;
    stride *= shape[d];
  }
  return true;
}

TensorView view_of(Array& array) {
  return {.dtype = array.dtype(),
          .data = static_cast<std::byte*>(array.mutable_data()),
          .shape = array.shape(),
          .strides = row_major_strides(array.shape())};
}

CopyPlan::CopyPlan(const TensorView& from, const TensorView& to) {
  if (from.dtype != to.dtype || from.size() != to.size())
    throw Error(ErrorCode::internal, fmt::format("cannot copy {} {} to {} {}", to_string(from.dtype),
                                                 to_string(from.shape), to_string(to.dtype), to_string(to.shape)));
  if (to.size() == 0) return;
  element_ = element_bytes(to.dtype);
  if (from.shape == to.shape) {
    loops_ = copy_loops(from, to);
  } else if (from.row_major() && to.row_major()) {
    loops_ = {{to.size(), 1, 1}};
  } else {
    walks_ = true;
    from_ = from;
    to_ = to;
  }
}

void CopyPlan::run(const std::byte* from, std::byte* to) const {
  if (element_ == 0) return;
  with_element(element_, [&](auto tag) {
    using T = decltype(tag);
    const auto* source = reinterpret_cast<const T*>(from);
    auto* target = reinterpret_cast<T*>(to);
    if (!walks_) return copy_loop(source, target, loops_, 0);
    Walk source_walk(from_), target_walk(to_);
    for (std::int64_t i = to_.size(); i > 0; --i, source_walk.next(), target_walk.next())
      target[target_walk.offset()] = source[source_walk.offset()];
  });
}

void copy_elements(const TensorView& from, const TensorView& to) { CopyPlan(from, to).run(from.data, to.data); }

BorderPlan::BorderPlan(const TensorView& to, double value) : element_(element_bytes(to.dtype)) {
  for (std::size_t d = 0; d < to.shape.size(); ++d)
    sides_.push_back({to.shape[d], to.strides[d], to.border_before.empty() ? 0 : to.border_before[d],
                      to.border_after.empty() ? 0 : to.border_after[d]});
  std::stable_sort(sides_.begin(), sides_.end(), [](const Side& a, const Side& b) { return a.stride > b.stride; });
  std::int64_t run = 1, start = 0;
  for (auto side = sides_.rbegin(); side != sides_.rend(); ++side) {
    const std::int64_t allocated = side->before + side->extent + side->after;
    const bool dense = side->stride == run || allocated == 1;
    start += side->before * side->stride;
    run = dense ? run * allocated : 0;
    side->run = run;
    side->start = start;
  }
  Array converted(to.dtype, {1});
  converted.set(0, value);
  std::memcpy(&pattern_, converted.data(), element_);
}

void BorderPlan::run(std::byte* to) const {
  if (element_ == 0) return;
  std::size_t levels = sides_.size();
  while (levels > 0 && sides_[levels - 1].before == 0 && sides_[levels - 1].after == 0) --levels;
  with_element(element_, [&](auto tag) {
    using T = decltype(tag);
    T element{};
    std::memcpy(&element, &pattern_, sizeof(T));
    fill_around(reinterpret_cast<T*>(to), sides_, 0, levels, element);
  });
}

}  // namespace heddle::runtime
