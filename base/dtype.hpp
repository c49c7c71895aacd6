#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace heddle {

/// Element types of tensors. `boolean` is one byte, 0 or 1.
enum class DType : std::uint8_t { f32, f64, f16, bf16, i8, u8, i16, u16, i32, u32, i64, u64, boolean, string };

std::string_view to_string(DType type);
DType dtype_from_string(std::string_view name);  ///< throws Error{invalid_argument} naming the near ones

/// Bytes of one element; 0 for string, which has no fixed size.
std::size_t size_of(DType type);

bool is_float(DType type);
bool is_integer(DType type);  ///< signed or unsigned; boolean is not

}  // namespace heddle
