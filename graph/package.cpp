#include <fcntl.h>
#include <stdio.h>

#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "base/error.hpp"
#include "base/file.hpp"
#include "graph/compile.hpp"

namespace heddle::graph {
namespace {

namespace fs = std::filesystem;

constexpr const char* manifest_name = "manifest.json";

/// What stands at the destination may only be a package.
bool check_replaceable(const fs::path& directory) {
  std::error_code ignored;
  const auto status = fs::status(directory, ignored);
  if (!fs::exists(status)) return false;
  if (!fs::is_directory(status))
    throw Error(ErrorCode::invalid_argument,
                fmt::format("cannot write the package: '{}' is a file; name a new directory", directory.string()));
  if (!fs::is_empty(directory, ignored) && !fs::exists(directory / manifest_name, ignored))
    throw Error(ErrorCode::invalid_argument,
                fmt::format("cannot write the package: '{}' is a directory with other things in it; name a new one",
                            directory.string()));
  return true;
}

}  // namespace

void write_package(const Compiled& compiled, const fs::path& directory) {
  // "out/" names the same directory as "out", whose parent is where the temporary one goes.
  fs::path target = fs::absolute(directory).lexically_normal();
  if (!target.has_filename()) target = target.parent_path();
  const bool replaces = check_replaceable(target);
  std::error_code error;
  fs::create_directories(target.parent_path(), error);
  if (error)
    throw Error(ErrorCode::io, fmt::format("cannot write the package: cannot create '{}': {}",
                                           target.parent_path().string(), error.message()));
  try {
    // Beside the destination, so that the rename stays within one file system.
    const TemporaryDirectory scratch(target.parent_path());
    const fs::path fresh = scratch.path() / "package";
    fs::create_directory(fresh);
    for (const auto& [path, bytes] : compiled.files) write_file(fresh / path, bytes);
    write_file(fresh / manifest_name, plan::to_json(compiled.package));
    // Exchanging leaves no moment without a package; the old one goes with the scratch directory.
    const int failed = replaces ? ::renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE)
                                : ::rename(fresh.c_str(), target.c_str());
    if (failed == 0) return;
    if (!replaces || (errno != EINVAL && errno != ENOSYS))
      throw Error(ErrorCode::io, fmt::format("cannot write '{}': {}", target.string(), std::strerror(errno)));
    // A file system that cannot exchange: there is a moment without the package, but never half of one.
    fs::rename(target, scratch.path() / "old");
    fs::rename(fresh, target);
  } catch (const fs::filesystem_error& e) {
    throw Error(ErrorCode::io, fmt::format("cannot write the package '{}': {}", target.string(), e.code().message()));
  } catch (const Error& e) {
    throw e.within(fmt::format("writing the package '{}'", target.string()));
  }
}

}  // namespace heddle::graph
