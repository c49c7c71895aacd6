#pragma once
#include <string>
#include <string_view>

#include <Halide.h>
#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle {

/// The part of Halide's message that says what is wrong: its first line, without the "Error:" and source location that
/// Halide puts before it.
inline std::string first_line(const Halide::Error& error) {
  std::string_view text = error.what();
  while (true) {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    const bool heading =
        line.empty() || line.starts_with("Internal Error at ") || line.starts_with("Internal error at ");
    if (!heading || end == std::string_view::npos) {
      const std::string_view prefix = "Error: ";
      return std::string(line.starts_with(prefix) ? line.substr(prefix.size()) : line);
    }
    text.remove_prefix(end + 1);
  }
}

/// Runs `f`, which calls Halide, and returns its result. Halide's exceptions, which are no std::exception, become
/// heddle::Error: invalid_argument if Halide blames its caller, internal otherwise. `where` opens the message.
template <class F>
auto translate_halide_errors(std::string_view where, F f) {
  try {
    return f();
  } catch (const Halide::InternalError& e) {
    throw Error(ErrorCode::internal, fmt::format("{}: {}", where, first_line(e)));
  } catch (const Halide::Error& e) {
    throw Error(ErrorCode::invalid_argument, fmt::format("{}: {}", where, first_line(e)));
  }
}

}  // namespace heddle
