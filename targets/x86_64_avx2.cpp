#include "targets/table.hpp"

namespace heddle::targets {

/// Haswell (2013) and Zen 1 to 3: 256-bit vectors with fused multiply-add, 16 registers.
Target x86_64_avx2() {
  using T = Halide::Target;
  const std::string name = "x86-64-linux-avx2";
  return {
      .name = name,
      .halide = linux_target(T::X86, {T::SSE41, T::AVX, T::AVX2, T::FMA, T::F16C}),
      .machine = {.target = name,
                  .vector_bytes = 32,
                  .vector_registers = 16,
                  .l1_bytes = 32 << 10,
                  .l2_bytes = 256 << 10,
                  .l3_bytes = 16 << 20},
      .architecture = "x86_64",
      // Halide has LLVM compile for `haswell`, which also brings the bit manipulation instructions.
      .features = {"sse4_1", "avx", "avx2", "fma", "f16c", "bmi1", "bmi2"},
      .rank = 20,
  };
}

}  // namespace heddle::targets
