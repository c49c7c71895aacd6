#include "targets/table.hpp"

namespace heddle::targets {

/// Skylake servers (2017) and later: 512-bit vectors, 32 registers, masks for every element size.
Target x86_64_avx512() {
  using T = Halide::Target;
  const std::string name = "x86-64-linux-avx512";
  return {
      .name = name,
      .halide = linux_target(T::X86, {T::SSE41, T::AVX, T::AVX2, T::FMA, T::F16C, T::AVX512, T::AVX512_Skylake}),
      .machine = {.target = name,
                  .vector_bytes = 64,
                  .vector_registers = 32,
                  .l1_bytes = 32 << 10,
                  .l2_bytes = 1 << 20,
                  .l3_bytes = 16 << 20},
      .architecture = "x86_64",
      .features = {"sse4_1", "avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "avx512f", "avx512cd", "avx512bw",
                   "avx512dq", "avx512vl"},
      .rank = 30,
  };
}

}  // namespace heddle::targets
