#pragma once
#include <string>
#include <vector>

// What Halide's back end for OpenCL makes: C text of all kernels of a pipeline.
namespace heddle::targets {

struct OpenclEntry {
  std::string halide_name;  ///< what the host code asks for until it is renamed
  std::string name;
  std::string access;  ///< as DeviceEntry::access
};

struct OpenclSource {
  std::string text;
  std::vector<OpenclEntry> entries;  ///< in the text's order
};

/// The text as it is shipped: entries are k0, k1..., no name holds a counter of the process, and nothing is asked of
/// the device that the kernels do not use. Throws Error{internal} for a text that is not what Halide 21 writes.
OpenclSource finish_opencl(const std::string& halide_text);

}  // namespace heddle::targets
