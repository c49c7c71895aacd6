#pragma once
#include <vector>

#include "dsl/operator.hpp"

// Index arithmetic that movement operators share.
namespace heddle::ops {

/// A position that is counted from the end if negative, brought into [0, extent): what lies outside would read other
/// memory, so it is taken as the first or last element. `value` has any integer type; the result is an index.
Halide::Expr wrapped_index(const Halide::Expr& value, const Halide::Expr& extent);

/// The same in a reference.
std::int64_t wrapped_index(std::int64_t value, std::int64_t extent);

/// Where element `index` of the `out` shape lies in the `in` shape when both hold the same elements in row-major order.
/// Dimensions are matched in the smallest runs of equal product, so that [N, C, H, W] -> [N, C, H * W] divides by W
/// alone and leaves N and C as they are.
std::vector<Halide::Expr> reshaped_index(const Algorithm& a, const std::vector<Extent>& in,
                                         const std::vector<Extent>& out, const std::vector<Halide::Expr>& index);

}  // namespace heddle::ops
