#include "targets/table.hpp"

namespace heddle::targets {

/// OpenCL 1.2 C for any device. The code around it, which only computes grids, runs on every x86-64 processor.
Target opencl() {
  using T = Halide::Target;
  const std::string name = "opencl";
  return {
      .name = name,
      .halide = linux_target(T::X86, {T::SSE41, T::OpenCL, T::CLDoubles}),
      .machine = {.target = name, .gpu = Gpu{.api = DeviceApi::opencl, .tile_edge = 8}},
      .architecture = "x86_64",
      .features = {"sse4_1"},
      .rank = 0,
  };
}

}  // namespace heddle::targets
