#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.hpp"

namespace heddle {

using Shape = std::vector<std::int64_t>;

std::int64_t element_count(const Shape& shape);
std::string to_string(const Shape& shape);  ///< "1x3x224x224"; "scalar" for rank 0

/// A dense row-major tensor in host memory: constants, reference inputs and outputs, files. A value type; copies share
/// the bytes until one of them is written. 64-byte aligned.
class Array {
 public:
  Array() = default;
  Array(DType type, Shape shape);  ///< zero-filled; strings are not supported here

  template <class T>
  static Array of(Shape shape, std::vector<T> values);  ///< throws Error{invalid_argument} if the counts differ

  DType dtype() const { return type_; }
  const Shape& shape() const { return shape_; }
  std::int64_t size() const { return element_count(shape_); }
  std::size_t bytes() const { return static_cast<std::size_t>(size()) * size_of(type_); }

  const void* data() const { return storage_.get(); }
  void* mutable_data();

  template <class T>
  std::span<const T> as() const;  ///< throws Error{internal} if T is not the dtype's C++ type
  template <class T>
  std::span<T> as();

  /// Elements through double (f16 and bf16 are widened; i64 beyond 2^53 loses bits, use as<int64_t>).
  double at(std::int64_t index) const;
  void set(std::int64_t index, double value);  ///< rounds to the dtype; integers saturate, NaN becomes 0

  Array reshaped(Shape shape) const;  ///< same elements, shares bytes; throws if the counts differ
  Array cast(DType type) const;

  bool operator==(const Array& other) const;  ///< same type, shape and bytes

 private:
  DType type_ = DType::f32;
  Shape shape_{0};
  std::shared_ptr<std::byte[]> storage_;
};

/// IEEE half and bfloat16 conversions, round to nearest even.
float f16_to_f32(std::uint16_t bits);
std::uint16_t f32_to_f16(float value);
float bf16_to_f32(std::uint16_t bits);
std::uint16_t f32_to_bf16(float value);

}  // namespace heddle
