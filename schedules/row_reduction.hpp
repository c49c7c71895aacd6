#pragma once
#include <functional>
#include <string>
#include <vector>

#include "dsl/stage.hpp"

namespace heddle::schedules {

/// A reduction along memory, which vectors hold partial results of.
struct RowReduction {
  std::string role;
  std::string row;                  ///< its loop that runs along memory
  std::vector<std::string> others;  ///< its other loops
  std::int64_t width = 8;           ///< partial results, a multiple of the lanes
  std::int64_t lanes = 8;
  bool unrolled = false;  ///< all of a row's steps; its length has to be fixed
};

/// Partial results in `width` lanes, combined to one at the row's end, a vector's halves at a time. `place` says where
/// the stages that hold them are computed.
void reduce_in_lanes(Schedule& schedule, const RowReduction& reduction, const std::function<void(Stage& stage)>& place);

}  // namespace heddle::schedules
