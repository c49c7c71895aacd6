#pragma once
#include <functional>

#include "autoscheduler/dependence.hpp"
#include "dsl/stage.hpp"

namespace heddle::autoscheduler {

/// A reduction along memory: vectors hold partial results, which are combined at the row's end.
struct LaneReduction {
  const StageNode& stage;
  const ReductionLoop& row;  ///< the reduction that runs along memory
  std::int64_t width = 8;    ///< elements of partial results, a multiple of the lanes
  int lanes = 8;
  bool overlapped = false;  ///< other rows are reduced while a row's partial results are combined

  /// `place`: says where the partial results are computed, as stages of their own.
  void schedule(Schedule& schedule, const std::function<void(Stage& stage)>& place) const;
  /// Of reducing `elements` rows.
  double cycles(double elements) const;
};

}  // namespace heddle::autoscheduler
