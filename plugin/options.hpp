#pragma once
#include <cstdint>
#include <map>
#include <string>

namespace heddle::plugin {

/// What `autoscheduler.NAME=VALUE` says.
struct Options {
  int trials = 0;  ///< 0: the best record if there are records, else the best estimate; nothing is measured
  std::uint64_t seed = 1;
  std::string records;  ///< URL; empty: none are read, and what is measured is forgotten
  int threads = 0;      ///< that the schedule should feed; 0: the processors there are
};

/// Throws Error{invalid_argument} for an unknown name, with the near ones, and for a value that is none.
Options parse_options(const std::map<std::string, std::string>& given);

}  // namespace heddle::plugin
