#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "base/device_api.hpp"

namespace heddle {

/// What a schedule needs to know of a GPU. The defaults are what every device of the last ten years offers, so that
/// one package runs on all of them.
struct Gpu {
  DeviceApi api = DeviceApi::opencl;
  int block_threads = 256;      ///< threads in a block at most
  int shared_bytes = 32 << 10;  ///< shared (local) memory of a block at most
  int subgroup = 32;            ///< threads that step together
  int processors = 128;         ///< blocks that fill the device once
  int tile_edge = 8;            ///< accumulators of a thread along each side of a register tile: more spill
};

/// What a schedule needs to know of the machine that it is for.
struct Machine {
  std::string target;  ///< name of the target this came from: "x86-64-linux-avx512"
  int vector_bytes = 32;
  int vector_registers = 16;  ///< architectural, of vector_bytes each
  std::int64_t l1_bytes = 32 << 10;
  std::int64_t l2_bytes = 1 << 20;
  std::int64_t l3_bytes = 16 << 20;
  bool int8_dot = false;  ///< u8 x s8 four-way dot product into i32
  bool bf16_dot = false;  ///< bf16 two-way dot product into f32
  /// Products of tiles in registers of their own, 16 rows x 64 bytes (AMX): u8 x s8 into i32 and bf16 into f32.
  bool matrix_tiles = false;
  std::optional<Gpu> gpu = {};  ///< present: kernels run there, and the members above describe nothing

  int lanes(int element_bytes) const { return vector_bytes / element_bytes; }
};

}  // namespace heddle
