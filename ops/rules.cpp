#include "ops/rules.hpp"

#include <cmath>
#include <limits>

namespace heddle::ops {

void require_operands(std::span<const TensorType> in, std::size_t least, std::size_t most, std::string_view roles) {
  const std::string count = least == most ? fmt::format("{}", least) : fmt::format("{} to {}", least, most);
  require(in.size() >= least && in.size() <= most, "expected {} operands ({}), got {}", count, roles, in.size());
}

void require_equal(const Extent& got, const Extent& want, std::string_view what) {
  if (got == want) return;
  const bool fixed = got.is_constant() && want.is_constant();
  require(false, "{} is {}, {} {}", what, got.str(), fixed ? "must be" : "cannot be shown to equal", want.str());
}

int normalized_axis(std::int64_t axis, int rank, std::string_view attribute) {
  require(axis >= -rank && axis < rank, "{} {} is outside a tensor of rank {}: use {} to {}", attribute, axis, rank,
          -rank, rank - 1);
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

Halide::Type accumulator(Halide::Type type) {
  if (type.is_float() || type.is_bfloat()) return type.bits() < 32 ? Halide::Float(32) : type;
  return type.bits() < 32 ? Halide::Int(32) : type;
}

bool is_byte(DType type) { return type == DType::u8 || type == DType::i8; }

IntegerRange integer_range(DType type) {
  const auto of = []<class T>(T) { return IntegerRange{std::numeric_limits<T>::min(), std::numeric_limits<T>::max()}; };
  switch (type) {
    case DType::boolean: return {0, 1};
    case DType::u8: return of(std::uint8_t{});
    case DType::i8: return of(std::int8_t{});
    case DType::u16: return of(std::uint16_t{});
    case DType::i16: return of(std::int16_t{});
    case DType::u32: return of(std::uint32_t{});
    case DType::i32: return of(std::int32_t{});
    case DType::u64: return {0, std::numeric_limits<std::int64_t>::max()};
    default: return of(std::int64_t{});
  }
}

void require_parameter(const TensorType& parameter, DType data, std::string_view what) {
  const bool wider = parameter.dtype == DType::f32 && (data == DType::f16 || data == DType::bf16);
  require(parameter.dtype == data || wider, "{} is {}, expected {}", what, to_string(parameter.dtype), to_string(data));
}

double unit_roundoff(DType type) {
  switch (type) {
    case DType::f64: return std::ldexp(1.0, -53);
    case DType::f32: return std::ldexp(1.0, -24);
    case DType::f16: return std::ldexp(1.0, -11);
    case DType::bf16: return std::ldexp(1.0, -8);
    default: return 0;
  }
}

Tolerance sum_tolerance(DType type, const Extent& terms) {
  if (!is_float(type)) return {.reason = "integers wrap alike in any order"};
  // A symbolic length takes the size of a long one.
  const double length = static_cast<double>(terms.constant().value_or(4096));
  const double sums = type == DType::f64 ? unit_roundoff(type) : unit_roundoff(DType::f32);
  return {.relative = 2 * unit_roundoff(type),
          .of_largest = (32 + 4 * std::sqrt(length) + length / 4) * sums,
          .special_values = SpecialValues::ignored,
          .reason =
              fmt::format("sums of {} terms: 32 + 4 sqrt(length) + length / 4 roundings of the accumulator relative to "
                          "the largest result: the 32 for few results that happen to cancel, the last for terms "
                          "of one sign and size, whose roundings all go the same way; infinities meet in another "
                          "order than in the reference",
                          terms.str())};
}

std::vector<TensorType> types(std::initializer_list<std::string_view> texts) {
  std::vector<TensorType> parsed;
  for (const auto text : texts) parsed.push_back(TensorType::parse(text));
  return parsed;
}

}  // namespace heddle::ops
