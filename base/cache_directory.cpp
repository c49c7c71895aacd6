#include "base/cache_directory.hpp"

#include <unistd.h>

#include <cstdlib>
#include <string>

#include <fmt/format.h>

namespace heddle {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

}  // namespace

std::filesystem::path cache_directory() {
  namespace fs = std::filesystem;
  if (const auto given = variable("HEDDLE_CACHE"); !given.empty()) return given;
  if (const auto caches = variable("XDG_CACHE_HOME"); !caches.empty()) return fs::path(caches) / "heddle";
  if (const auto home = variable("HOME"); !home.empty()) return fs::path(home) / ".cache" / "heddle";
  return fs::temp_directory_path() / fmt::format("heddle-{}", ::getuid());
}

}  // namespace heddle
