#pragma once
#include <cstdint>
#include <string>

namespace heddle {

/// What a schedule needs to know of the machine that it is for.
struct Machine {
  std::string target;  ///< name of the target this came from: "x86-64-linux-avx512"
  int vector_bytes = 32;
  int vector_registers = 16;  ///< architectural, of vector_bytes each
  std::int64_t l1_bytes = 32 << 10;
  std::int64_t l2_bytes = 1 << 20;
  std::int64_t l3_bytes = 16 << 20;
  bool int8_dot = false;  ///< u8 x s8 four-way dot product into i32
  bool bf16_dot = false;

  int lanes(int element_bytes) const { return vector_bytes / element_bytes; }
};

}  // namespace heddle
