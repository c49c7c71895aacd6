#include "targets/table.hpp"

namespace heddle::targets {

/// Zen 4 (2022), and what shares its instructions: dot products of bytes (VNNI) and of bfloat16.
Target x86_64_avx512_zen4() {
  using T = Halide::Target;
  const std::string name = "x86-64-linux-avx512_zen4";
  return {
      .name = name,
      .halide = linux_target(T::X86, {T::SSE41, T::AVX, T::AVX2, T::FMA, T::F16C, T::AVX512, T::AVX512_Skylake,
                                      T::AVX512_Cannonlake, T::AVX512_Zen4}),
      .machine = {.target = name,
                  .vector_bytes = 64,
                  .vector_registers = 32,
                  .l1_bytes = 32 << 10,
                  .l2_bytes = 1 << 20,
                  .l3_bytes = 32 << 20,
                  .int8_dot = true,
                  .bf16_dot = true},
      .architecture = "x86_64",
      .features = {"sse4_1", "avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "avx512f", "avx512cd", "avx512bw",
                   "avx512dq", "avx512vl", "avx512ifma", "avx512vbmi", "avx512_vbmi2", "avx512_vnni", "avx512_bitalg",
                   "avx512_vpopcntdq", "avx512_bf16"},
      .rank = 40,
  };
}

}  // namespace heddle::targets
