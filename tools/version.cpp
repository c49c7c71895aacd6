#include "tools/version.hpp"

#include <Halide.h>
#include <fmt/format.h>

namespace heddle::tools {

std::string version_text() {
  return fmt::format("heddle {} (Halide {}.{}.{})", HEDDLE_VERSION, HALIDE_VERSION_MAJOR, HALIDE_VERSION_MINOR,
                     HALIDE_VERSION_PATCH);
}

}  // namespace heddle::tools
