#pragma once
#include <filesystem>
#include <string>
#include <vector>

// The programs and files that Heddle needs at run time besides its libraries: the linker, the archiver, the shims.
namespace heddle {

struct Tool {
  std::string name;         ///< "ld.lld"
  std::string environment;  ///< a variable that overrides where it is
  std::string built_with;   ///< where it was when Heddle was built; may be gone
  std::string package;      ///< Debian's, for the error message
};

Tool linker();
Tool object_copier();

/// The program's path: the environment's, else where it was at build time, else by name (with -19, then without) on
/// PATH. Throws Error{not_found} naming the package that has it.
std::filesystem::path find_tool(const Tool& tool);

/// Runs a program and waits for it. Throws Error{internal} with what it wrote to stderr if it fails.
void run_tool(const std::filesystem::path& program, const std::vector<std::string>& arguments);

/// A file of lib/heddle/, beside this library: as built, and as installed. HEDDLE_SHIMS names another directory.
std::filesystem::path support_file(const std::string& name);

}  // namespace heddle
