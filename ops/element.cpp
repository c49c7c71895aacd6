#include "ops/element.hpp"

#include <cstring>

#include <fmt/format.h>

namespace heddle::ops {
namespace {

/// Calls f with a value of the C++ type that holds an integer or boolean dtype.
template <class F>
auto visit_integer(DType type, F f) {
  switch (type) {
    case DType::i8: return f(std::int8_t{});
    case DType::u8:
    case DType::boolean: return f(std::uint8_t{});
    case DType::i16: return f(std::int16_t{});
    case DType::u16: return f(std::uint16_t{});
    case DType::i32: return f(std::int32_t{});
    case DType::u32: return f(std::uint32_t{});
    case DType::i64: return f(std::int64_t{});
    case DType::u64: return f(std::uint64_t{});
    default: throw Error(ErrorCode::internal, fmt::format("{} is not an integer type", to_string(type)));
  }
}

}  // namespace

Wide integer_at(const Array& array, std::int64_t index) {
  return visit_integer(array.dtype(), [&](auto tag) {
    using T = decltype(tag);
    return static_cast<Wide>(static_cast<const T*>(array.data())[index]);
  });
}

void set_integer(Array& array, std::int64_t index, Wide value) {
  void* memory = array.mutable_data();
  visit_integer(array.dtype(), [&](auto tag) {
    using T = decltype(tag);
    static_cast<T*>(memory)[index] = static_cast<T>(value);
  });
}

void copy_element(Array& to, std::int64_t to_index, const Array& from, std::int64_t from_index) {
  const std::size_t size = size_of(to.dtype());
  std::memcpy(static_cast<std::byte*>(to.mutable_data()) + static_cast<std::size_t>(to_index) * size,
              static_cast<const std::byte*>(from.data()) + static_cast<std::size_t>(from_index) * size, size);
}

bool is_number(DType type) { return is_float(type) || is_integer(type); }

bool is_signed(DType type) {
  return is_float(type) || type == DType::i8 || type == DType::i16 || type == DType::i32 || type == DType::i64;
}

void require_kernel_types(std::span<const TensorType> in) {
  for (const auto& type : in)
    require(type.dtype != DType::string, "kernels work on numbers, not strings; a host operator has to do this");
}

Tolerance float_tolerance(DType type, double ulps, std::string reason) {
  if (!is_float(type)) return exact_tolerance("integers are exact");
  Tolerance tolerance;
  const bool narrow = type == DType::f16 || type == DType::bf16;
  const double ulp = type == DType::f64 ? 0x1p-52 : 0x1p-23;
  // An exact result is stored as it is; what is computed is rounded once more when it is narrowed.
  tolerance.relative = ulps == 0 ? 0 : ulps * ulp + (narrow ? 2 * unit_roundoff(type) : 0);
  // Results that are no normal numbers may be flushed to zero or have few bits: 2^-24 in f16, 2^-124 otherwise.
  tolerance.of_largest = ulps == 0 ? 0 : type == DType::f16 ? 0x1p-20 : 0x1p-120;
  tolerance.reason = std::move(reason);
  return tolerance;
}

Tolerance exact_tolerance(std::string reason) { return {.reason = std::move(reason)}; }

Tolerance moved() { return exact_tolerance("elements are moved, not computed"); }

ValueDomain domain_of(double low, double high) { return {low, high, {}}; }

ValueDomain domain_with_extremes(double low, double high) { return {low, high, float_extremes()}; }

}  // namespace heddle::ops
