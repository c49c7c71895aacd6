#include "autoscheduler/lane_reduction.hpp"

#include <algorithm>
#include <cmath>

#include "schedules/row_reduction.hpp"

namespace heddle::autoscheduler {

void LaneReduction::schedule(Schedule& schedule, const std::function<void(Stage& stage)>& place) const {
  std::vector<std::string> others;
  for (const auto& r : stage.reductions)
    if (r.name != row.name) others.push_back(r.name);
  schedules::reduce_in_lanes(schedule, {stage.role, row.name, others, width, lanes}, place);
}

double LaneReduction::cycles(double elements) const {
  const double vectors = static_cast<double>(width) / lanes;
  const double guard =
      row.extent % width == 0 ? 1.0 : 1.0 + static_cast<double>(width) / static_cast<double>(row.extent);
  // An addition takes four cycles, which too few partial results would wait for.
  return elements * static_cast<double>(stage.reduction_steps()) / lanes * guard *
             std::max(stage.update_operations / 2, 4.0 / vectors) +
         elements * (8.0 + 4.0 * vectors + (overlapped ? 2 : 6) * std::log2(lanes));
}

}  // namespace heddle::autoscheduler
