#include "targets/table.hpp"

namespace heddle::targets {

/// SPIR-V 1.6 for Vulkan 1.3 compute. Larger register tiles spill in NVIDIA's compiler for SPIR-V.
Target vulkan() {
  using T = Halide::Target;
  const std::string name = "vulkan";
  return {
      .name = name,
      .halide = linux_target(T::X86, {T::SSE41, T::Vulkan, T::VulkanV13, T::VulkanInt8, T::VulkanInt16, T::VulkanInt64,
                                      T::VulkanFloat16, T::VulkanFloat64}),
      .machine = {.target = name, .gpu = Gpu{.api = DeviceApi::vulkan, .tile_edge = 4}},
      .architecture = "x86_64",
      .features = {"sse4_1"},
      .rank = 0,
  };
}

}  // namespace heddle::targets
