#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <Halide.h>

#include "dsl/machine.hpp"

namespace heddle {

/// Code for products of bytes where Halide has no name for an instruction set between two that it has: generated for
/// the larger one, and good unless it holds an instruction that processors of the smaller one lack.
struct BorrowedInstructions {
  Halide::Target halide;
  std::vector<std::string> lacking;  ///< what the mnemonics of those instructions begin with
};

/// The first instruction of an assembly text that is among those lacking; empty where there is none.
std::string lacking_instruction(const BorrowedInstructions& borrowed, std::string_view assembly);

/// One instruction set or kind of device that packages can be compiled for. Each is one file in targets/.
struct Target {
  std::string name;                   ///< "x86-64-linux-avx512": what --target takes and packages are named by
  Halide::Target halide;              ///< with no_runtime and user_context
  Machine machine;                    ///< typical caches where the target is not this machine
  std::string architecture;           ///< as `uname -m` says
  std::vector<std::string> features;  ///< that a processor must have, by the runtime's names
  int rank = 0;                       ///< a higher one is preferred where several run
  std::optional<BorrowedInstructions> bytes = {};  ///< for kernels that read bytes, instead of `halide`

  bool is_gpu() const { return machine.gpu.has_value(); }
  /// The folder of a package that its files lie in: cpu, opencl or vulkan.
  std::string folder() const { return is_gpu() ? std::string(to_string(machine.gpu->api)) : "cpu"; }
};

std::span<const Target> all_targets();  ///< one a file in targets/

/// The processor target whose code drives a GPU target's kernels, and runs what the device cannot.
Target companion_target(const Target& gpu);

/// "cpu" or "host" is the best that this machine runs, with its measured caches. Throws Error{not_found} with the names
/// there are.
Target find_target(std::string_view name);
Target host_target();

}  // namespace heddle
