#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/array.hpp"
#include "base/device_api.hpp"
#include "base/dtype.hpp"
#include "base/extent.hpp"

// The plan: what a package's manifest says to execute. Written by graph/, read by the runtime, independent of both
// Halide and the format that the model came in. All sizes are expressions over the model's symbolic extents, evaluated
// once per combination of input shapes.
namespace heddle::plan {

/// Where a value's bytes live.
enum class Storage {
  input,     ///< the caller's tensor, row-major
  output,    ///< written for the caller, row-major
  constant,  ///< a range of the package's weights file, mapped
  arena,     ///< an intermediate: placed by its lifetime
  alias,     ///< the bytes of another value (`of`), seen otherwise: reshapes, transposes, in-place results
  heap,      ///< host values whose size is known only when they are made (sequences, strings, data-dependent shapes)
};

struct Value {
  std::string name;    ///< unique within the function
  std::string origin;  ///< the source model's name for the tensor that this holds; empty if it has none
  DType dtype = DType::f32;
  std::vector<Extent> shape;                              ///< logical
  std::vector<Extent> strides;                            ///< per logical dimension, in elements
  std::vector<std::int64_t> border_before, border_after;  ///< per logical dimension; empty: none
  double border_value = 0;
  Extent offset;    ///< elements from the allocation's start to element (0, ..., 0)
  Extent elements;  ///< allocated, borders counted
  Storage storage = Storage::arena;
  int of = -1;                    ///< alias: the value whose bytes these are; its offset is added
  std::uint64_t file_offset = 0;  ///< constant: bytes into the weights file, a multiple of 64
};

/// A kernel's view of a value: dimension 0 innermost as Halide numbers them. The kernel was compiled for exactly these.
struct Argument {
  int value = -1;
  struct Dimension {
    Extent min, extent, stride;
  };
  std::vector<Dimension> dimensions;
  Extent offset;  ///< elements from the value's allocation start to this view's element at min
};

enum class StepKind {
  kernel,
  host,
  copy,
  fill_border,
  branch,
  loop,
  call,
  upload,    ///< of a module for a device: copies a value's bytes from the host's arena to the same place on the device
  download,  ///< the other way
};

struct Step {
  StepKind kind = StepKind::kernel;
  std::string name;   ///< kernel: the symbol; host: the host operator; call/branch/loop: see `functions`
  std::string label;  ///< what it computes, for people: "conv_3 + relu"
  std::vector<Argument> inputs;
  std::vector<Argument> outputs;
  std::vector<std::string> symbols;    ///< kernel: the scalar arguments, in order, before the buffers
  std::string attributes;              ///< host: JSON
  std::vector<std::string> functions;  ///< call: one; branch: then, else; loop: body
  bool on_device = false;              ///< kernel of a module for a device: runs there, not on the processor
  Extent flops;                        ///< multiply and add count as two
  Extent bytes;                        ///< read and written at least once
};

/// A condition on symbolic extents that must hold before a kernel may run: `left >= right`, `left % right == 0`.
struct Precondition {
  enum class Kind { at_least, multiple_of };
  Kind kind = Kind::at_least;
  Extent left, right;
  std::string reason;
};

struct Kernel {
  std::string name;
  std::string workload;        ///< canonical text
  std::string implementation;  ///< variant, packings, schedule
  std::string source;  ///< where the implementation came from: "family conv_direct", "file a.sched", "record 12"
  std::vector<Precondition> preconditions;
  std::string obstacle = {};  ///< why a module for a device runs it on the processor; empty where it does not
};

/// An entry of a kernel's device code. A kernel (its host code computes grids and scalars) launches one or more.
struct DeviceKernel {
  std::string kernel;  ///< the Kernel that launches it
  std::string entry;   ///< as the host code and the device code name it
  std::string file;    ///< OpenCL C of all of the kernel's entries, or the SPIR-V of this one
  /// Vulkan: descriptor set 0 begins with a uniform block of the scalars at binding 0, then the buffers; without
  /// scalars, with the buffers.
  bool uniform_block = false;
  /// One character a buffer, in the order of the arguments: 'r' read, 'w' written, 'b' both.
  std::string access;
  /// Vulkan: specialisation constants for the block's extents; 0: fixed in the code.
  std::array<int, 3> block_constants = {0, 0, 0};
  /// Vulkan: arrays in shared memory. `constant`: the specialisation constant for the number of elements, whose size
  /// then comes with the launch; 0: fixed.
  struct Shared {
    int constant = 0;
    std::int64_t element_bytes = 4;
    std::int64_t elements = 0;
  };
  std::vector<Shared> shared;
};

struct Function {
  std::string name;
  std::vector<Value> values;
  std::vector<int> inputs, outputs;  ///< indices into values
  std::vector<Step> steps;
};

struct Symbol {
  std::string name;
  std::int64_t min = 1, max = 1;
};

/// One compiled instruction set: the shared object and what a processor needs to run it.
struct Module {
  std::string target;                 ///< "x86-64-linux-avx512"
  std::string file;                   ///< "cpu/x86-64-linux-avx512.so"
  std::string architecture;           ///< as `uname -m` says
  std::vector<std::string> features;  ///< names that the runtime's CPU detection knows
  int rank = 0;                       ///< of those the machine can run, the highest is taken
  std::vector<Function> functions;    ///< the first is `main`; layouts and packings may differ by target
  std::vector<Kernel> kernels;
  std::string weights;  ///< "cpu/x86-64-linux-avx512.weights"
  /// For a device: the kernels marked on_device run there, the arena exists there and, where steps of the host touch
  /// it, on the host too; constants lie on the device.
  std::optional<DeviceApi> device = {};
  std::vector<DeviceKernel> device_kernels = {};
};

struct File {
  std::string path;
  std::string sha256;  ///< as checksum() gives it
  std::uint64_t bytes = 0;
};

/// SHA-256 (64 hexadecimal digits) of up to 1 MiB, "xxh3:" and the 128-bit XXH3 (32 digits) of more: loading has to
/// read hundreds of megabytes of weights in a tenth of a second, and what is guarded against is damage, not forgery.
std::string checksum(std::string_view bytes);

struct Package {
  static constexpr int current_version = 1;
  int version = current_version;
  std::string model;  ///< the source's name
  std::vector<Symbol> symbols;
  std::vector<Module> modules;
  std::vector<File> files;  ///< every other file of the package with its checksum
  std::string provenance;   ///< JSON: versions, command, source checksum
};

/// manifest.json's text: one JSON object with its own checksum as a member.
std::string to_json(const Package& package);
/// Throws Error{corrupt} naming the field that is missing, of the wrong type or out of its range, and
/// Error{unsupported} for a version that this runtime does not read. A text without a checksum is taken as it is, so
/// that people can write manifests; the references between its parts are checked when a model is loaded.
Package from_json(const std::string& text);

/// Places values of the given sizes (bytes) and lifetimes (first and last step that touches them) in one arena, largest
/// first at the lowest offset that no value alive at the same time covers. Offsets are multiples of `alignment`.
struct Lifetime {
  std::uint64_t bytes = 0;
  int first = 0, last = 0;
};
struct Placement {
  std::vector<std::uint64_t> offsets;
  std::uint64_t arena_bytes = 0;
};
Placement place(const std::vector<Lifetime>& values, std::uint64_t alignment = 64);

/// First and last step touching each arena value of a function (aliases count for the value they show). Parallel to
/// `function.values`; what does not live in the arena has 0 bytes. Outputs of the function live until its last step. A
/// value that no step touches has first > last and may lie anywhere.
std::vector<Lifetime> lifetimes(const Function& function, const SymbolValues& symbols);

}  // namespace heddle::plan
