#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "autoscheduler/device_sketches.hpp"
#include "schedules/gpu_access.hpp"

namespace heddle::autoscheduler {

std::vector<std::vector<std::int64_t>> best_by_estimate(const std::vector<SpaceKnob>& knobs, const Emit& emit,
                                                        const std::vector<std::vector<std::int64_t>>& starts,
                                                        std::size_t most) {
  constexpr double pruned = std::numeric_limits<double>::infinity();
  std::map<std::vector<std::int64_t>, double> known;
  const auto estimate = [&](const std::vector<std::int64_t>& values) {
    const auto [found, is_new] = known.try_emplace(values, pruned);
    if (is_new)
      if (const auto made = emit(values); std::holds_alternative<Candidate>(made))
        found->second = std::get<Candidate>(made).estimate;
    return found->second;
  };
  constexpr int most_sweeps = 4;
  for (const auto& start : starts) {
    std::vector<std::int64_t> values = start;
    double now = estimate(values);
    for (int sweep = 0; sweep < most_sweeps; ++sweep) {
      const double before = now;
      for (std::size_t k = 0; k < knobs.size(); ++k)
        for (const std::int64_t v : knobs[k].domain) {
          std::vector<std::int64_t> other = values;
          other[k] = v;
          if (const double e = estimate(other); e < now) {
            now = e;
            values = std::move(other);
          }
        }
      if (!(now < before)) break;
    }
  }
  std::vector<std::pair<double, std::vector<std::int64_t>>> found;
  for (const auto& [values, e] : known)
    if (e < pruned) found.emplace_back(e, values);
  std::ranges::stable_sort(found, {}, [](const auto& f) { return f.first; });
  std::vector<std::vector<std::int64_t>> best;
  std::set<std::string> texts;
  for (const auto& [e, values] : found) {
    if (best.size() == most) break;
    if (texts.insert(std::get<Candidate>(emit(values)).implementation.print()).second) best.push_back(values);
  }
  return best;
}

UpdateReductions update_reductions(const Workload& workload) {
  UpdateReductions reductions;
  const Pipeline pipeline = workload.instantiate();
  for (const auto& stage : pipeline.stages) {
    auto& names = reductions[stage.role];
    for (int u = 0; u < stage.func.num_update_definitions(); ++u) {
      auto& of = names.emplace_back();
      for (const auto& r : stage.func.rvars(u)) of.push_back(stage.reductions.at(r.name()));
    }
  }
  return reductions;
}

bool reads_dense_along(const Subject& subject, const std::vector<std::string>& except) {
  if (subject.rank() == 0) return false;
  return schedules::reads_dense(*subject.workload, subject.workload->instantiate(), subject.loop(0), except);
}

}  // namespace heddle::autoscheduler
