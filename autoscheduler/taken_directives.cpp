#include "autoscheduler/taken_directives.hpp"

#include <algorithm>
#include <cmath>
#include <optional>

#include <fmt/format.h>

namespace heddle::autoscheduler {
namespace {

/// Cycles from the start of a parallel loop to that of the last thread's work, and back (two transfers of a line each).
constexpr double loop_start = 2400;
/// Of a task: its call, and reading what its body needs from the closure.
constexpr double task_start = 60;

const std::string& name_of(const ScheduleArgument& argument) { return std::get<std::string>(argument.value); }

const PipelineStage* stage_of(const ScheduleLine& line, const Pipeline& pipeline) {
  const auto stage = std::ranges::find(pipeline.stages, line.stage, &PipelineStage::role);
  return stage == pipeline.stages.end() ? nullptr : &*stage;
}

std::string definition_of(const ScheduleLine& line, const PipelineStage& stage) {
  return fmt::format("{}.s{}.", stage.func.name(), line.update + 1);
}

bool is_loop(const LoopWork& work, const std::string& definition, const std::string& loop) {
  return work.name.starts_with(definition) && work.name.ends_with("." + loop);
}

/// Halide's name of a reduction's loop, or of what it is split into; none: it is no reduction's.
std::optional<std::string> reduction_loop(const PipelineStage& stage, const ScheduleLine& line,
                                          const std::string& loop) {
  std::string name = loop;
  for (auto d = line.directives.rbegin(); d != line.directives.rend(); ++d)
    if (d->name == "split" && (name_of(d->arguments[1]) == name || name_of(d->arguments[2]) == name))
      name = name_of(d->arguments[0]);
  for (const auto& [halide, ours] : stage.reductions)
    if (ours == name) return name == loop ? halide : loop;
  return std::nullopt;
}

void take_unrolled(ScheduleLine& line, const PipelineStage& stage, std::vector<TakenDirectives::Unrolled>& taken) {
  const ScheduleLine whole = line;
  std::erase_if(line.directives, [&](const Directive& d) {
    if (d.name != "unroll" || d.arguments.size() < 2) return false;
    const auto* factor = std::get_if<std::int64_t>(&d.arguments[1].value);
    const auto loop = reduction_loop(stage, whole, name_of(d.arguments[0]));
    if (factor == nullptr || !loop) return false;
    taken.push_back({definition_of(line, stage), *loop, static_cast<double>(*factor)});
    return true;
  });
}

void set_steps(LoopWork& work, const std::vector<TakenDirectives::Unrolled>& unrolled) {
  for (const TakenDirectives::Unrolled& u : unrolled)
    if (is_loop(work, u.definition, u.loop)) work.steps = u.steps;
  for (LoopWork& inner : work.loops) set_steps(inner, unrolled);
}

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
  Sharing(const TakenDirectives::Shared& shared, double threads) : shared_(shared), threads_(threads) {}

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
    return is_loop(work, shared_.definition, shared_.loops[level]);
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

  const TakenDirectives::Shared& shared_;
  double threads_;
};

}  // namespace

TakenDirectives take_directives(Schedule& schedule, const Pipeline& pipeline) {
  TakenDirectives taken;
  for (ScheduleLine& line : schedule.lines) {
    std::vector<std::string> parallel;
    std::erase_if(line.directives, [&](const Directive& d) {
      if (d.name != "parallel") return false;
      parallel.push_back(name_of(d.arguments[0]));
      return true;
    });
    const PipelineStage* stage = stage_of(line, pipeline);
    for (const std::string& loop : parallel) {
      std::vector<std::string> loops = take_fused(line, loop);
      if (loops.size() > 1) place_within(schedule, line.stage, loop, loops.back());
      if (stage != nullptr) taken.shared.push_back({definition_of(line, *stage), std::move(loops)});
    }
    if (stage != nullptr && line.update >= 0) take_unrolled(line, *stage, taken.unrolled);
  }
  std::erase_if(schedule.lines, [](const ScheduleLine& line) { return line.directives.empty(); });
  return taken;
}

void TakenDirectives::put_back(LoopWork& work, int threads) const {
  set_steps(work, unrolled);
  if (threads <= 1) return;
  for (const Shared& loop : shared) Sharing(loop, threads).within(work);
}

}  // namespace heddle::autoscheduler
