#include "autoscheduler/lane_reduction.hpp"

#include <algorithm>

namespace heddle::autoscheduler {

void LaneReduction::schedule(Schedule& schedule, const std::function<void(Stage& stage)>& place) const {
  Stage update = schedule[stage.role].update(0);
  update.split(row.name, "row_o", "row_i", width, Stage::Tail::GuardWithIf);
  update.rfactor("row_i", "lane", partial());
  schedule[stage.role].update(0).atomic().vectorize("row_i");
  Stage lanes_stage = schedule[partial()];
  place(lanes_stage);
  lanes_stage.vectorize("lane", lanes).unroll("lane");
  std::vector<std::string> order = {"lane", "row_o"};
  for (const auto& r : stage.reductions)
    if (r.name != row.name) order.push_back(r.name);
  schedule[partial()].update(0).reorder(order).vectorize("lane", lanes).unroll("lane");
}

double LaneReduction::cycles(double elements) const {
  const double vectors = static_cast<double>(width) / lanes;
  const double guard =
      row.extent % width == 0 ? 1.0 : 1.0 + static_cast<double>(width) / static_cast<double>(row.extent);
  // An addition takes four cycles, which too few partial results would wait for.
  return elements * static_cast<double>(stage.reduction_steps()) / lanes * guard *
             std::max(stage.update_operations / 2, 4.0 / vectors) +
         elements * (8.0 + 4.0 * vectors + lanes);
}

}  // namespace heddle::autoscheduler
