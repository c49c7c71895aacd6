#pragma once
#include <filesystem>

namespace heddle {

/// Where compiled kernels and the drivers' binaries are kept between processes: HEDDLE_CACHE, else `heddle` in
/// XDG_CACHE_HOME, else in ~/.cache. It need not exist yet.
std::filesystem::path cache_directory();

}  // namespace heddle
