#include "base/dtype.hpp"

#include <array>
#include <vector>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle {
namespace {

struct Row {
  DType type;
  std::string_view name;
  std::size_t bytes;
};

constexpr std::array rows = {
    Row{DType::f32, "f32", 4},      Row{DType::f64, "f64", 8},       Row{DType::f16, "f16", 2},
    Row{DType::bf16, "bf16", 2},    Row{DType::i8, "i8", 1},         Row{DType::u8, "u8", 1},
    Row{DType::i16, "i16", 2},      Row{DType::u16, "u16", 2},       Row{DType::i32, "i32", 4},
    Row{DType::u32, "u32", 4},      Row{DType::i64, "i64", 8},       Row{DType::u64, "u64", 8},
    Row{DType::boolean, "bool", 1}, Row{DType::string, "string", 0},
};

const Row& row(DType type) { return rows[static_cast<std::size_t>(type)]; }

}  // namespace

std::string_view to_string(DType type) { return row(type).name; }

std::size_t size_of(DType type) { return row(type).bytes; }

bool is_float(DType type) {
  return type == DType::f32 || type == DType::f64 || type == DType::f16 || type == DType::bf16;
}

bool is_integer(DType type) { return !is_float(type) && type != DType::boolean && type != DType::string; }

DType dtype_from_string(std::string_view name) {
  std::vector<std::string> names;
  for (const auto& r : rows) {
    if (r.name == name) return r.type;
    names.emplace_back(r.name);
  }
  throw Error(ErrorCode::invalid_argument, fmt::format("unknown element type '{}'{}; one of {}", name,
                                                       did_you_mean(name, names), fmt::join(names, ", ")));
}

}  // namespace heddle
