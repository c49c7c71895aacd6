#include "runtime/log.hpp"

#include <cstdlib>
#include <string_view>

namespace heddle::runtime {

bool logs_debug() {
  static const bool wanted = [] {
    const char* level = std::getenv("HEDDLE_LOG");
    return level != nullptr && std::string_view(level) == "debug";
  }();
  return wanted;
}

// One write, so that lines of several threads stay whole; stderr is not buffered.
void write_debug(const std::string& text) { fmt::print(stderr, "{}", "heddle: " + text + "\n"); }

}  // namespace heddle::runtime
