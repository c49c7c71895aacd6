#include "schedules/row_reduction.hpp"

#include <fmt/format.h>

namespace heddle::schedules {

void reduce_in_lanes(Schedule& schedule, const RowReduction& r, const std::function<void(Stage& stage)>& place) {
  const std::string partial = r.role + "_lanes";
  schedule[r.role]
      .update(0)
      .split(r.row, "row_o", "row_i", r.width, Stage::Tail::GuardWithIf)
      .rfactor("row_i", "lane", partial);
  Stage lanes_stage = schedule[partial];
  place(lanes_stage);
  lanes_stage.vectorize("lane", r.lanes).unroll("lane");
  std::vector<std::string> order = {"lane", "row_o"};
  order.insert(order.end(), r.others.begin(), r.others.end());
  Stage steps = schedule[partial].update(0);
  steps.reorder(order).vectorize("lane", r.lanes).unroll("lane");
  if (r.unrolled) steps.unroll("row_o");

  // LLVM's own reduction of a vector takes one element after the other.
  std::string lane = "row_i";
  for (std::int64_t half = r.width > r.lanes ? r.lanes : r.lanes / 2; half > 1; half /= 2) {
    const std::string rest = fmt::format("rest_{}", half), kept = fmt::format("half_{}", half),
                      kept_lane = fmt::format("lane_{}", half), stage = fmt::format("{}_{}", r.role, half);
    schedule[r.role].update(0).split(lane, rest, kept, half, Stage::Tail::GuardWithIf).rfactor(kept, kept_lane, stage);
    Stage definition = schedule[stage];
    place(definition);
    definition.vectorize(kept_lane);
    schedule[stage].update(0).reorder(kept_lane, rest).vectorize(kept_lane).unroll(rest);
    lane = kept;
  }
  schedule[r.role].update(0).unroll(lane);
}

}  // namespace heddle::schedules
