#pragma once
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace heddle {

/// What went wrong, in the terms of the C API (`heddle_status` has the same members in the same order).
enum class ErrorCode {
  invalid_argument = 1,  ///< the caller's request cannot be meant: a wrong shape, dtype, flag or schedule
  not_found,             ///< a named thing (file, operator, stage, input) does not exist
  unsupported,           ///< understood, but Heddle cannot do it
  corrupt,               ///< bytes that do not decode or whose checksum differs
  io,                    ///< the operating system refused: permissions, disk space
  out_of_memory,
  device,    ///< a device or its driver failed
  internal,  ///< a bug of ours
};

/// The one exception type. `message` says what is wrong and what to do next; `context` names where, outermost last.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}

  ErrorCode code() const { return code_; }

  /// The same error with one more level of context: `in node 'conv_3'`.
  Error within(std::string_view where) const {
    return Error(code_, std::string(what()) + "\n  in " + std::string(where));
  }

 private:
  ErrorCode code_;
};

/// The candidates nearest to `wanted` by edit distance, best first, for "did you mean" messages.
std::vector<std::string> near_names(std::string_view wanted, const std::vector<std::string>& candidates,
                                    std::size_t most = 3);

/// " (did you mean 'a' or 'b'?)", or "" if nothing is near.
std::string did_you_mean(std::string_view wanted, const std::vector<std::string>& candidates);

}  // namespace heddle
