#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include <Halide.h>

#include "base/device_api.hpp"

namespace heddle::targets {

/// Part of the key of cached kernels: raised whenever equal lowered modules give other device code.
constexpr int device_code_version = 2;

/// One entry of a kernel's device code, and what whoever launches it must provide. The members mean what those of
/// plan::DeviceKernel do.
struct DeviceEntry {
  std::string name;
  std::string code;  ///< Vulkan: this entry's SPIR-V module, little-endian words; OpenCL: empty, all share one source
  bool uniform_block = false;
  std::string access;
  std::array<int, 3> block_constants = {0, 0, 0};
  struct Shared {
    int constant = 0;
    std::int64_t element_bytes = 4;
    std::int64_t elements = 0;
    bool operator==(const Shared&) const = default;
  };
  std::vector<Shared> shared;
  bool operator==(const DeviceEntry&) const = default;
};

/// A kernel's code for a device, apart from the host code that launches it.
struct DeviceCode {
  DeviceApi api = DeviceApi::opencl;
  std::string source;  ///< OpenCL C of all entries; empty for Vulkan
  std::vector<DeviceEntry> entries;
  bool operator==(const DeviceCode&) const = default;
};

/// Takes the device code out of a lowered module: what remains launches entries by name and passes `kernel` to
/// halide_*_initialize_kernels instead of the code. Every SPIR-V module is validated (Vulkan 1.3) first; throws
/// Error{internal} with the validator's message, and Error{unsupported} for what Halide's back end gets wrong.
DeviceCode extract_device_code(Halide::Module& module, DeviceApi api, const std::string& kernel);

/// For people: SPIR-V disassembled.
std::string disassemble(const std::string& spirv);

}  // namespace heddle::targets
