#pragma once
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <Halide.h>
#include <fmt/format.h>

#include "base/error.hpp"
#include "dsl/operator.hpp"

// What operators' type rules, tolerances and tests have in common.
namespace heddle::ops {

/// Throws Error{invalid_argument} with the message unless `ok`.
template <class... Arguments>
void require(bool ok, fmt::format_string<Arguments...> message, Arguments&&... arguments) {
  if (!ok) throw Error(ErrorCode::invalid_argument, fmt::format(message, std::forward<Arguments>(arguments)...));
}

/// The operator takes `least` to `most` operands; names the roles in the message.
void require_operands(std::span<const TensorType> in, std::size_t least, std::size_t most, std::string_view roles);

/// Both extents are the same for every value of the symbols.
void require_equal(const Extent& got, const Extent& want, std::string_view what);

/// A dimension counted from the end if negative, as a dimension of a tensor of that rank.
int normalized_axis(std::int64_t axis, int rank, std::string_view attribute = "axis");

/// What sums of this type are kept in: f32 for narrower floats, i32 for narrower integers, otherwise the type itself.
Halide::Type accumulator(Halide::Type type);

bool is_byte(DType type);  ///< u8 or i8

struct IntegerRange {
  std::int64_t least, most;
};

/// What integers of the type hold, as far as i64 reaches.
IntegerRange integer_range(DType type);

/// A bias or scale is of the data's type or, beside narrow floats, f32: there are few, and sums are f32 too.
void require_parameter(const TensorType& parameter, DType data, std::string_view what);

/// Half the distance between 1 and the next number; 0 for integers.
double unit_roundoff(DType type);

/// For sums of `terms` products in the accumulator of `type`, stored as `type`. Rounding errors of a sum grow with the
/// square root of its length and scale with the terms, hence with the largest results, not with the result itself.
Tolerance sum_tolerance(DType type, const Extent& terms);

/// `{"f32[1,8,H,W]", ...}`
std::vector<TensorType> types(std::initializer_list<std::string_view> texts);

}  // namespace heddle::ops
