#include "targets/table.hpp"

namespace heddle::targets {

/// 64-bit ARM with NEON and nothing beyond ARMv8.0: every such Linux machine. Caches as on a Cortex-A72.
Target arm_64() {
  const std::string name = "arm-64-linux";
  return {
      .name = name,
      .halide = linux_target(Halide::Target::ARM, {}),
      .machine = {.target = name,
                  .vector_bytes = 16,
                  .vector_registers = 32,
                  .l1_bytes = 32 << 10,
                  .l2_bytes = 1 << 20,
                  .l3_bytes = 4 << 20},
      .architecture = "aarch64",
      .features = {"asimd"},
      .rank = 10,
  };
}

}  // namespace heddle::targets
