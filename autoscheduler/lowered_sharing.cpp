#include "autoscheduler/lowered_sharing.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace heddle::autoscheduler {
namespace {

/// Cycles from the start of a parallel loop to that of the last thread's work, and back (two transfers of a line each).
constexpr double loop_start = 2400;
/// Of a task: its call, and reading what its body needs from the closure.
constexpr double task_start = 60;

const std::string& name_of(const ScheduleArgument& argument) { return std::get<std::string>(argument.value); }

/// The loops that a directive of the line fuses into one, outermost first; itself: none does. Takes those directives.
std::vector<std::string> take_fused(ScheduleLine& line, const std::string& loop) {
  const auto fuse = std::ranges::find_if(
      line.directives, [&](const Directive& d) { return d.name == "fuse" && name_of(d.arguments[2]) == loop; });
  if (fuse == line.directives.end()) return {loop};
  const std::string inner = name_of(fuse->arguments[0]), outer = name_of(fuse->arguments[1]);
  line.directives.erase(fuse);
  std::vector<std::string> loops = take_fused(line, outer);
  for (std::string& name : take_fused(line, inner)) loops.push_back(std::move(name));
  return loops;
}

/// What was placed in the fused loop's body is in that of the innermost one.
void place_within(Schedule& schedule, const std::string& stage, const std::string& fused, const std::string& inner) {
  for (ScheduleLine& line : schedule.lines)
    for (Directive& d : line.directives)
      if ((d.name == "compute_at" || d.name == "store_at") && name_of(d.arguments[0]) == stage &&
          name_of(d.arguments[1]) == fused)
        d.arguments[1] = ScheduleArgument{inner};
}

class Sharing {
 public:
  Sharing(const SharedLoop& shared, double threads) : shared_(shared), threads_(threads) {}

  void within(LoopWork& work) const {
    for (LoopWork& inner : work.loops) {
      if (!is(inner, 0)) {
        within(inner);
        continue;
      }
      const double tasks = this->tasks(inner, 0);
      if (tasks <= 1) continue;
      work.instructions.calls += inner.share * loop_start;
      divide(inner, 0, tasks / std::ceil(tasks / threads_));
    }
  }

 private:
  bool is(const LoopWork& work, std::size_t level) const {
    return work.name.starts_with(shared_.definition) && work.name.ends_with("." + shared_.loops[level]);
  }

  bool innermost(std::size_t level) const { return level + 1 == shared_.loops.size(); }

  double tasks(const LoopWork& work, std::size_t level) const {
    if (innermost(level)) return work.extent;
    double each = 0;
    for (const LoopWork& inner : work.loops)
      if (is(inner, level + 1)) each += inner.share * tasks(inner, level + 1);
    return work.extent * each;
  }

  /// A thread has tasks that follow one another: a share of the outermost loop's iterations, of the next one's where
  /// that has too few.
  void divide(LoopWork& work, std::size_t level, double among) const {
    const double here = std::min(among, work.extent);
    work.extent /= here;
    if (innermost(level)) {
      work.instructions.calls += task_start;
      return;
    }
    for (LoopWork& inner : work.loops)
      if (is(inner, level + 1)) divide(inner, level + 1, among / here);
  }

  const SharedLoop& shared_;
  double threads_;
};

}  // namespace

std::vector<SharedLoop> take_shared(Schedule& schedule, const Pipeline& pipeline) {
  std::vector<SharedLoop> taken;
  for (ScheduleLine& line : schedule.lines) {
    const auto stage = std::ranges::find(pipeline.stages, line.stage, &PipelineStage::role);
    for (auto d = std::ranges::find(line.directives, "parallel", &Directive::name); d != line.directives.end();
         d = std::ranges::find(line.directives, "parallel", &Directive::name)) {
      const std::string loop = name_of(d->arguments[0]);
      line.directives.erase(d);
      std::vector<std::string> loops = take_fused(line, loop);
      if (loops.size() > 1) place_within(schedule, line.stage, loop, loops.back());
      if (stage != pipeline.stages.end())
        taken.push_back({fmt::format("{}.s{}.", stage->func.name(), line.update + 1), std::move(loops)});
    }
  }
  std::erase_if(schedule.lines, [](const ScheduleLine& line) { return line.directives.empty(); });
  return taken;
}

void share_among(LoopWork& work, const std::vector<SharedLoop>& shared, double threads) {
  for (const SharedLoop& loop : shared) Sharing(loop, threads).within(work);
}

}  // namespace heddle::autoscheduler
