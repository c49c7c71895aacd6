#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/vulkan/physical.hpp"

namespace heddle::runtime::gpu::vulkan {

/// What the runtime must know of a SPIR-V module. A driver is given only well-formed ones: most crash on others.
struct SpirvModule {
  std::vector<std::uint32_t> words;
  /// Of the block; 0 where it comes with the launch.
  std::array<std::uint32_t, 3> threads = {0, 0, 0};
  /// Scalars of the uniform block at set 0, binding 0, in order.
  struct Scalar {
    std::uint32_t offset = 0, bytes = 0;
  };
  std::vector<Scalar> scalars;
};

/// Throws Error{corrupt} for what is not a module with the entry, Error{unsupported} naming what the device lacks.
SpirvModule read_spirv(std::string_view code, const std::string& entry, const Physical& device);

}  // namespace heddle::runtime::gpu::vulkan
