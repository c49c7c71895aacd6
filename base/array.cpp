#include "base/array.hpp"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>

#include <fmt/format.h>
#include <sys/mman.h>

#include "base/error.hpp"

namespace heddle {
namespace {

constexpr std::size_t alignment = 64;

/// Zero-filled.
std::shared_ptr<std::byte[]> allocate(std::size_t bytes) {
  const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment + alignment;
  // Large ones come zeroed from the system, in huge pages where it has them: a model's weights are hundreds of
  // megabytes, and clearing and faulting them in page by page took longer than reading the file.
  constexpr std::size_t large = std::size_t(4) << 20;
  if (rounded >= large) {
    void* pages = ::mmap(nullptr, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) throw std::bad_alloc();
    ::madvise(pages, rounded, MADV_HUGEPAGE);
    return {static_cast<std::byte*>(pages), [rounded](std::byte* p) { ::munmap(p, rounded); }};
  }
  auto* memory = static_cast<std::byte*>(::operator new(rounded, std::align_val_t(alignment)));
  std::memset(memory, 0, rounded);
  return {memory, [](std::byte* p) { ::operator delete(p, std::align_val_t(alignment)); }};
}

template <class T>
constexpr bool holds(DType type) {
  if constexpr (std::is_same_v<T, float>) return type == DType::f32;
  if constexpr (std::is_same_v<T, double>) return type == DType::f64;
  if constexpr (std::is_same_v<T, std::int8_t>) return type == DType::i8;
  if constexpr (std::is_same_v<T, std::uint8_t>) return type == DType::u8 || type == DType::boolean;
  if constexpr (std::is_same_v<T, std::int16_t>) return type == DType::i16;
  if constexpr (std::is_same_v<T, std::uint16_t>)
    return type == DType::u16 || type == DType::f16 || type == DType::bf16;
  if constexpr (std::is_same_v<T, std::int32_t>) return type == DType::i32;
  if constexpr (std::is_same_v<T, std::uint32_t>) return type == DType::u32;
  if constexpr (std::is_same_v<T, std::int64_t>) return type == DType::i64;
  if constexpr (std::is_same_v<T, std::uint64_t>) return type == DType::u64;
  return false;
}

template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>) return DType::f32;
  else if constexpr (std::is_same_v<T, double>) return DType::f64;
  else if constexpr (std::is_same_v<T, std::int8_t>) return DType::i8;
  else if constexpr (std::is_same_v<T, std::uint8_t>) return DType::u8;
  else if constexpr (std::is_same_v<T, std::int16_t>) return DType::i16;
  else if constexpr (std::is_same_v<T, std::uint16_t>) return DType::u16;
  else if constexpr (std::is_same_v<T, std::int32_t>) return DType::i32;
  else if constexpr (std::is_same_v<T, std::uint32_t>) return DType::u32;
  else if constexpr (std::is_same_v<T, std::int64_t>) return DType::i64;
  else return DType::u64;
}

template <class T>
T saturate(double value) {
  if (std::isnan(value)) return 0;
  const double rounded = std::nearbyint(value);
  if (rounded <= static_cast<double>(std::numeric_limits<T>::min())) return std::numeric_limits<T>::min();
  if (rounded >= static_cast<double>(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
  return static_cast<T>(rounded);
}

/// Calls f with a typed pointer to the bytes; 16-bit floats come as f16/bf16 tags.
template <class F>
auto dispatch(DType type, F&& f) {
  switch (type) {
    case DType::f32: return f(float{});
    case DType::f64: return f(double{});
    case DType::i8: return f(std::int8_t{});
    case DType::u8:
    case DType::boolean: return f(std::uint8_t{});
    case DType::i16: return f(std::int16_t{});
    case DType::u16:
    case DType::f16:
    case DType::bf16: return f(std::uint16_t{});
    case DType::i32: return f(std::int32_t{});
    case DType::u32: return f(std::uint32_t{});
    case DType::i64: return f(std::int64_t{});
    case DType::u64: return f(std::uint64_t{});
    case DType::string: break;
  }
  throw Error(ErrorCode::unsupported, "string tensors have no numeric elements");
}

}  // namespace

std::int64_t element_count(const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return count;
}

std::string to_string(const Shape& shape) {
  return shape.empty() ? "scalar" : fmt::format("{}", fmt::join(shape, "x"));
}

Array::Array(DType type, Shape shape) : type_(type), shape_(std::move(shape)) {
  if (type == DType::string) throw Error(ErrorCode::unsupported, "an Array holds numbers, not strings");
  for (const std::int64_t extent : shape_)
    if (extent < 0)
      throw Error(ErrorCode::invalid_argument, fmt::format("negative extent in shape {}", to_string(shape_)));
  storage_ = allocate(bytes());
}

template <class T>
Array Array::of(Shape shape, std::vector<T> values) {
  if (element_count(shape) != static_cast<std::int64_t>(values.size()))
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} values do not fill shape {}", values.size(), to_string(shape)));
  Array a(dtype_of<T>(), std::move(shape));
  std::copy(values.begin(), values.end(), reinterpret_cast<T*>(a.storage_.get()));
  return a;
}

void* Array::mutable_data() {
  if (storage_.use_count() > 1) {
    auto copy = allocate(bytes());
    std::memcpy(copy.get(), storage_.get(), bytes());
    storage_ = std::move(copy);
  }
  return storage_.get();
}

template <class T>
std::span<const T> Array::as() const {
  if (!holds<T>(type_))
    throw Error(ErrorCode::internal, fmt::format("array of {} read as another type", to_string(type_)));
  return {reinterpret_cast<const T*>(storage_.get()), static_cast<std::size_t>(size())};
}

template <class T>
std::span<T> Array::as() {
  if (!holds<T>(type_))
    throw Error(ErrorCode::internal, fmt::format("array of {} read as another type", to_string(type_)));
  return {static_cast<T*>(mutable_data()), static_cast<std::size_t>(size())};
}

double Array::at(std::int64_t index) const {
  return dispatch(type_, [&](auto tag) -> double {
    using T = decltype(tag);
    const T element = reinterpret_cast<const T*>(storage_.get())[index];
    if constexpr (std::is_same_v<T, std::uint16_t>) {
      if (type_ == DType::f16) return f16_to_f32(element);
      if (type_ == DType::bf16) return bf16_to_f32(element);
    }
    return static_cast<double>(element);
  });
}

void Array::set(std::int64_t index, double value) {
  auto* memory = static_cast<std::byte*>(mutable_data());
  dispatch(type_, [&](auto tag) {
    using T = decltype(tag);
    T& element = reinterpret_cast<T*>(memory)[index];
    if constexpr (std::is_floating_point_v<T>) {
      element = static_cast<T>(value);
    } else {
      if (type_ == DType::f16) element = static_cast<T>(f32_to_f16(static_cast<float>(value)));
      else if (type_ == DType::bf16) element = static_cast<T>(f32_to_bf16(static_cast<float>(value)));
      else if (type_ == DType::boolean) element = static_cast<T>(value != 0.0);
      else element = saturate<T>(value);
    }
  });
}

Array Array::reshaped(Shape shape) const {
  if (element_count(shape) != size())
    throw Error(ErrorCode::invalid_argument,
                fmt::format("shape {} cannot become {}", to_string(shape_), to_string(shape)));
  Array a = *this;
  a.shape_ = std::move(shape);
  return a;
}

Array Array::cast(DType type) const {
  if (type == type_) return *this;
  Array result(type, shape_);
  if (type_ == DType::i64 && type == DType::i32) {
    const auto from = as<std::int64_t>();
    auto to = result.as<std::int32_t>();
    for (std::size_t i = 0; i < from.size(); ++i) to[i] = static_cast<std::int32_t>(from[i]);
    return result;
  }
  const std::int64_t n = size();
  // ONNX's Cast truncates floats toward zero; set() would round.
  const bool truncate = is_float(type_) && is_integer(type);
  for (std::int64_t i = 0; i < n; ++i) result.set(i, truncate ? std::trunc(at(i)) : at(i));
  return result;
}

bool Array::operator==(const Array& other) const {
  return type_ == other.type_ && shape_ == other.shape_ &&
         (bytes() == 0 || std::memcmp(storage_.get(), other.storage_.get(), bytes()) == 0);
}

float f16_to_f32(std::uint16_t bits) {
  const std::uint32_t sign = std::uint32_t(bits & 0x8000U) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1FU;
  const std::uint32_t mantissa = bits & 0x3FFU;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000U | (mantissa << 13));
  if (exponent == 0) {
    const float magnitude = std::ldexp(static_cast<float>(mantissa), -24);
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

std::uint16_t f32_to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  if (std::isnan(value)) return sign | 0x7E00U;
  const float magnitude = std::fabs(value);
  if (magnitude >= 65520.0F) return sign | 0x7C00U;
  if (magnitude < 6.103515625e-05F) return sign | static_cast<std::uint16_t>(std::nearbyint(std::ldexp(magnitude, 24)));
  const std::uint32_t shifted = (bits & 0x7FFFFFFFU) - (112U << 23);
  const std::uint32_t rounded = shifted + 0xFFFU + ((shifted >> 13) & 1U);
  return sign | static_cast<std::uint16_t>(rounded >> 13);
}

float bf16_to_f32(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t(bits) << 16); }

std::uint16_t f32_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

// No macros: every element type is instantiated by name.
template Array Array::of<float>(Shape, std::vector<float>);
template std::span<const float> Array::as<float>() const;
template std::span<float> Array::as<float>();
template Array Array::of<double>(Shape, std::vector<double>);
template std::span<const double> Array::as<double>() const;
template std::span<double> Array::as<double>();
template Array Array::of<std::int8_t>(Shape, std::vector<std::int8_t>);
template std::span<const std::int8_t> Array::as<std::int8_t>() const;
template std::span<std::int8_t> Array::as<std::int8_t>();
template Array Array::of<std::uint8_t>(Shape, std::vector<std::uint8_t>);
template std::span<const std::uint8_t> Array::as<std::uint8_t>() const;
template std::span<std::uint8_t> Array::as<std::uint8_t>();
template Array Array::of<std::int16_t>(Shape, std::vector<std::int16_t>);
template std::span<const std::int16_t> Array::as<std::int16_t>() const;
template std::span<std::int16_t> Array::as<std::int16_t>();
template Array Array::of<std::uint16_t>(Shape, std::vector<std::uint16_t>);
template std::span<const std::uint16_t> Array::as<std::uint16_t>() const;
template std::span<std::uint16_t> Array::as<std::uint16_t>();
template Array Array::of<std::int32_t>(Shape, std::vector<std::int32_t>);
template std::span<const std::int32_t> Array::as<std::int32_t>() const;
template std::span<std::int32_t> Array::as<std::int32_t>();
template Array Array::of<std::uint32_t>(Shape, std::vector<std::uint32_t>);
template std::span<const std::uint32_t> Array::as<std::uint32_t>() const;
template std::span<std::uint32_t> Array::as<std::uint32_t>();
template Array Array::of<std::int64_t>(Shape, std::vector<std::int64_t>);
template std::span<const std::int64_t> Array::as<std::int64_t>() const;
template std::span<std::int64_t> Array::as<std::int64_t>();
template Array Array::of<std::uint64_t>(Shape, std::vector<std::uint64_t>);
template std::span<const std::uint64_t> Array::as<std::uint64_t>() const;
template std::span<std::uint64_t> Array::as<std::uint64_t>();

}  // namespace heddle
