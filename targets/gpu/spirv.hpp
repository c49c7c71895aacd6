#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "targets/gpu/device_code.hpp"

// What Halide's back end for Vulkan makes: SPIR-V modules of one entry each, and the container that it packs them in.
namespace heddle::targets {

using SpirvWords = std::vector<std::uint32_t>;

/// A kernel of Halide's container.
struct HalideSpirv {
  std::string name;
  int uniform_blocks = 0;
  int storage_buffers = 0;
  std::array<int, 3> block_constants = {0, 0, 0};
  std::vector<DeviceEntry::Shared> shared;
  SpirvWords module;
};

/// Throws Error{internal} if the bytes are not what Halide 21 writes.
std::vector<HalideSpirv> read_halide_container(std::span<const std::uint8_t> bytes);

/// One character for each of the storage buffers that follow `uniform_blocks` bindings of descriptor set 0: 'r' if the
/// code only loads from it, 'w' if it only stores, 'b' otherwise.
std::string buffer_access(const SpirvWords& module, int uniform_blocks, int storage_buffers);

/// The module as it is shipped: its entry is called `entry`, names for people hold no counter of the process, and what
/// Halide leaves out is there; `access` is what buffer_access says. The changes are explained where they are made.
SpirvWords finish_spirv(const SpirvWords& module, const std::string& entry, int uniform_blocks,
                        const std::string& access);

/// What SPIRV-Tools has against the module in Vulkan 1.3; empty if it is valid.
std::string spirv_fault(const SpirvWords& module);

SpirvWords spirv_words(const std::string& bytes);  ///< throws Error{invalid_argument} for a rest of a word
std::string spirv_bytes(const SpirvWords& words);

}  // namespace heddle::targets
