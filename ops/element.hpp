#pragma once
#include <cstdint>
#include <string>

#include "dsl/operator.hpp"
#include "ops/reference.hpp"
#include "ops/rules.hpp"

// Elements of arrays for references, and tolerances and domains of operators that compute them one by one.
namespace heddle::ops {

/// Holds every value of every integer dtype, so that references compute exactly and wrap when they store.
__extension__ using Wide = __int128;

Wide integer_at(const Array& array, std::int64_t index);
void set_integer(Array& array, std::int64_t index, Wide value);  ///< wraps around like the machine's integers
void copy_element(Array& to, std::int64_t to_index, const Array& from, std::int64_t from_index);

bool is_number(DType type);  ///< integer or floating
bool is_signed(DType type);  ///< floats too

/// Kernels hold no strings; throws Error{invalid_argument} naming the host.
void require_kernel_types(std::span<const TensorType> in);

/// `ulps` units in the last place of f32 (f64's for f64), and the rounding of a narrower result. Exact for integers.
Tolerance float_tolerance(DType type, double ulps, std::string reason);
Tolerance exact_tolerance(std::string reason);
Tolerance moved();  ///< of operators that only move elements

ValueDomain domain_of(double low, double high);
ValueDomain domain_with_extremes(double low, double high);  ///< with infinities, NaN and the like

}  // namespace heddle::ops
