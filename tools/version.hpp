#pragma once
#include <string>

namespace heddle::tools {

std::string version_text();  ///< "heddle 0.1.0 (Halide 21.0.0)"

}  // namespace heddle::tools
