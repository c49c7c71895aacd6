#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dsl/operator.hpp"

// What the operators of this folder share: element access for references, index arithmetic, checks of type rules.
namespace heddle::ops {

/// Holds every value of every integer dtype, so that references compute exactly and wrap when they store.
__extension__ using Wide = __int128;

Wide integer_at(const Array& array, std::int64_t index);
void set_integer(Array& array, std::int64_t index, Wide value);  ///< wraps around like the machine's integers
void copy_element(Array& to, std::int64_t to_index, const Array& from, std::int64_t from_index);

std::vector<std::int64_t> row_major_strides(const Shape& shape);

/// Calls f(logical index, row-major position) for every element in order.
void for_each_index(const Shape& shape, const std::function<void(std::span<const std::int64_t>, std::int64_t)>& f);

/// Row-major position of the element that broadcasts to `index` of a result with at least as many dimensions.
std::int64_t broadcast_position(const Shape& shape, std::span<const std::int64_t> index);

/// Throws Error{invalid_argument} unless there are exactly `count` operands, or at least one if count is -1.
void require_operands(std::span<const TensorType> in, int count);
void require(bool condition, const std::string& message);  ///< Error{invalid_argument}

/// An axis counted from the end if negative; throws Error{invalid_argument} outside [-rank, rank).
int normal_axis(std::int64_t axis, int rank);

bool is_number(DType type);  ///< integer or floating

/// Relative rounding error of storing into a dtype: half an ulp.
double rounding_of(DType type);

/// `ulps` units in the last place of f32, and the rounding of a narrower result. Exact for integers.
Tolerance float_tolerance(DType type, double ulps, std::string reason, SpecialValues special = SpecialValues::exact);
Tolerance exact_tolerance(std::string reason);

/// Domain without infinities and NaN around the given range, and with them.
ValueDomain domain_of(double low, double high);
ValueDomain domain_with_extremes(double low, double high);

}  // namespace heddle::ops
