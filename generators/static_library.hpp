#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "generators/kernel.hpp"

namespace heddle {

/// One operator as a static library for programs that do not use packages: `libNAME.a` with the kernel compiled for
/// every target, and `NAME.h` with one typed function that takes the best of them for the processor it runs on. The
/// library brings what kernels need (threads, scratch memory); programs link nothing else of Heddle.
struct StaticLibraryRequest {
  std::string name;  ///< of the library and its function: a C identifier
  const Workload* workload = nullptr;
  /// One for each of `targets`.
  std::vector<Implementation> implementations;
  std::vector<Target> targets;  ///< of one architecture
  /// The kernels check the arrays that they are given, about 0.1 us a call. Without, a schedule that writes outside
  /// them (ShiftInwards on less than one tile) does so silently.
  bool checked = true;
  std::string schedule_file = "schedule";  ///< for error messages
};

/// Writes DIRECTORY/libNAME.a and DIRECTORY/NAME.h, whole or not at all. Throws Error: a schedule that does not fit,
/// targets of different architectures, operands packed differently for two targets (there is one function for all of
/// them), asynchronous stages, a missing tool.
void write_static_library(const StaticLibraryRequest& request, const std::filesystem::path& directory);

/// The header's text.
std::string static_library_header(const StaticLibraryRequest& request);

/// A workload for an operator whose user gave no extents: the types of its first test case with every extent a symbol
/// between 1 and 65536, named after the operand and the dimension: `x_Y`. Where the type rule needs some to be equal,
/// dimensions of one name become one symbol `Y`, or else extents that are equal in the case; if no naming is enough,
/// the case's own types are taken. `attributes` empty: the case's.
Workload symbolic_workload(const Operator& op, const Json& attributes = Json::object(), int threads = 1);

}  // namespace heddle
