#include <algorithm>
#include <array>
#include <iterator>
#include <string_view>

#include <fmt/format.h>

#include "autoscheduler/measure.hpp"
#include "base/error.hpp"

namespace heddle::autoscheduler {
namespace {

/// In the order of TrialStatus.
constexpr std::array<std::string_view, 6> names = {"ok", "wrong", "rejected", "crashed", "timed_out", "out_of_memory"};

}  // namespace

std::string_view to_string(TrialStatus status) { return names.at(static_cast<std::size_t>(status)); }

TrialStatus trial_status_from_string(std::string_view text) {
  const auto found = std::find(names.begin(), names.end(), text);
  if (found == names.end())
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'{}' is no status of a trial; they are {}", text, fmt::join(names, ", ")));
  return static_cast<TrialStatus>(std::distance(names.begin(), found));
}

}  // namespace heddle::autoscheduler
