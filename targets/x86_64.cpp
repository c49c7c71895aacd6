#include "targets/table.hpp"

namespace heddle::targets {

/// What every x86-64 processor since 2008 runs: the floor below the other ones in a package for unknown machines.
Target x86_64() {
  const std::string name = "x86-64-linux";
  return {
      .name = name,
      .halide = linux_target(Halide::Target::X86, {Halide::Target::SSE41}),
      .machine = {.target = name,
                  .vector_bytes = 16,
                  .vector_registers = 16,
                  .l1_bytes = 32 << 10,
                  .l2_bytes = 256 << 10,
                  .l3_bytes = 8 << 20},
      .architecture = "x86_64",
      .features = {"sse4_1"},
      .rank = 10,
  };
}

}  // namespace heddle::targets
