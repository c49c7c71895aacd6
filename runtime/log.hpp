#pragma once
#include <string>
#include <utility>

#include <fmt/format.h>

namespace heddle::runtime {

/// HEDDLE_LOG=debug: what is about to be asked of a driver goes to stderr first, so that if it takes the process with
/// it the last line names what it was given.
bool logs_debug();
void write_debug(const std::string& text);

template <class... T>
void log_debug(fmt::format_string<T...> format, T&&... values) {
  if (logs_debug()) write_debug(fmt::format(format, std::forward<T>(values)...));
}

}  // namespace heddle::runtime
