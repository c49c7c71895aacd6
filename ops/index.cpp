#include "ops/index.hpp"

#include <algorithm>

namespace heddle::ops {
namespace {

using Halide::Expr;

/// Runs [begin, end) of dimensions of both shapes that hold the same number of elements.
struct Run {
  std::size_t in_begin, in_end, out_begin, out_end;
};

Run next_run(const std::vector<Extent>& in, const std::vector<Extent>& out, std::size_t i, std::size_t o) {
  const std::size_t in_left = in.size() - i, out_left = out.size() - o;
  for (std::size_t total = 1; total <= in_left + out_left; ++total)
    for (std::size_t from_in = total > out_left ? total - out_left : 0; from_in <= std::min(total, in_left);
         ++from_in) {
      Extent in_product = 1, out_product = 1;
      for (std::size_t d = 0; d < from_in; ++d) in_product = in_product * in[i + d];
      for (std::size_t d = 0; d < total - from_in; ++d) out_product = out_product * out[o + d];
      if (in_product == out_product) return {i, i + from_in, o, o + total - from_in};
    }
  return {i, in.size(), o, out.size()};
}

}  // namespace

Expr wrapped_index(const Expr& value, const Expr& extent) {
  const Halide::Type type = value.type().is_uint() || value.type().bits() < 32 ? Halide::Int(64) : value.type();
  const Expr position = Halide::cast(type, value);
  const Expr count = Halide::cast(type, extent);
  const Expr from_start = select(position < 0, position + count, position);
  return Halide::clamp(Halide::cast<int>(Halide::clamp(from_start, Halide::cast(type, 0), count - 1)), 0, extent - 1);
}

std::int64_t wrapped_index(std::int64_t value, std::int64_t extent) {
  return std::clamp<std::int64_t>(value < 0 ? value + extent : value, 0, std::max<std::int64_t>(extent - 1, 0));
}

std::vector<Expr> reshaped_index(const Algorithm& a, const std::vector<Extent>& in, const std::vector<Extent>& out,
                                 const std::vector<Expr>& index) {
  std::vector<Expr> source(in.size(), Expr(0));
  std::size_t i = 0, o = 0;
  while (i < in.size() || o < out.size()) {
    const Run run = next_run(in, out, i, o);
    i = run.in_end;
    o = run.out_end;
    if (run.in_end == run.in_begin) continue;  // extents of 1 in the result alone
    Expr linear = 0;
    for (std::size_t d = run.out_begin; d < run.out_end; ++d) linear = linear * a.extent(out[d]) + index[d];
    for (std::size_t d = run.in_end; d-- > run.in_begin;) {
      const Expr extent = a.extent(in[d]);
      source[d] = d == run.in_begin ? linear : linear % extent;
      linear = linear / extent;
    }
  }
  return source;
}

}  // namespace heddle::ops
