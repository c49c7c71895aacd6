#include "generators/link.hpp"

#include <set>

#include <fmt/format.h>

#include "base/error.hpp"
#include "base/file.hpp"
#include "generators/kernel.hpp"
#include "generators/tool.hpp"

namespace heddle {
namespace {

/// The C library that generated code may call into: expf, memset and their like. Linking against it makes the linker
/// name whatever else is undefined, and gives the module the versions of functions that it was built for.
std::vector<std::string> c_libraries(const Target& target) {
  const std::string triple = target.architecture + "-linux-gnu";
  std::vector<std::string> found;
  for (const char* name : {"libm.so.6", "libc.so.6"}) {
    bool here = false;
    for (const auto& directory : {"/lib/" + triple, "/usr/lib/" + triple, "/usr/" + triple + "/lib",
                                  std::string("/lib64"), std::string("/usr/lib64")}) {
      const auto path = std::filesystem::path(directory) / name;
      // /lib64 belongs to this machine's architecture.
      if (directory.ends_with("lib64") && host_target().architecture != target.architecture) continue;
      if (!std::filesystem::exists(path)) continue;
      found.push_back(path.string());
      here = true;
      break;
    }
    if (!here)
      throw Error(ErrorCode::not_found,
                  fmt::format("there is no {} for {}: to compile for {}, install the package {}", name, triple,
                              target.name, target.architecture == "aarch64" ? "libc6-dev-arm64-cross" : "libc6-dev"));
  }
  return found;
}

}  // namespace

std::filesystem::path shims_object(const Target& target) {
  const std::string architecture = target.architecture == "x86_64" ? "x86-64" : target.architecture;
  return support_file(fmt::format("shims-{}.o", architecture));
}

std::vector<std::filesystem::path> write_objects(const std::vector<std::string>& objects,
                                                 const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> paths;
  std::set<std::string_view> seen;
  for (const auto& object : objects) {
    if (!seen.insert(object).second) continue;
    paths.push_back(directory / fmt::format("{}.o", paths.size()));
    write_file(paths.back(), object);
  }
  return paths;
}

std::string link_module(const std::vector<std::string>& objects, const Target& target) {
  const TemporaryDirectory directory;
  const auto script = directory.path() / "exports.map", module = directory.path() / "module.so";
  write_file(script, "{ global: *_argv; heddle_module_init; local: *; };\n");
  std::vector<std::string> arguments = {
      "-shared",
      "-soname=kernels.so",
      "--build-id=none",  // the bytes depend on the objects alone
      "--version-script=" + script.string(),
      "-Bsymbolic",
      "--gc-sections",
      "--hash-style=gnu",
      "--as-needed",
      "-O1",
      "-z",
      "defs",
      "-z",
      "noexecstack",
      "-z",
      "relro",
      "-z",
      "now",
      "-o",
      module.string(),
  };
  for (const auto& path : write_objects(objects, directory.path())) arguments.push_back(path.string());
  arguments.push_back(shims_object(target).string());
  for (auto& library : c_libraries(target)) arguments.push_back(std::move(library));
  try {
    run_tool(find_tool(linker()), arguments);
  } catch (const Error& error) {
    throw error.within(fmt::format("linking the kernels for {}", target.name));
  }
  return read_file(module);
}

}  // namespace heddle
