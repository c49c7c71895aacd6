#include <algorithm>

#include <fmt/format.h>

#include "base/error.hpp"
#include "dsl/halide_error.hpp"
#include "dsl/schedule.hpp"
#include "dsl/schedule_call.hpp"
#include "dsl/schedule_expression.hpp"
#include "dsl/schedule_table.hpp"

namespace heddle {
namespace {

/// A schedule as its own text would be read: canonical, with positions. Recorded schedules have none, and lines that a
/// search made have been checked by nobody.
Schedule positioned(const Schedule& schedule, std::string_view file) {
  const bool recorded = std::any_of(schedule.lines.begin(), schedule.lines.end(),
                                    [](const ScheduleLine& line) { return line.position.line == 0; });
  if (recorded) {
    Schedule read = Schedule::parse(schedule.print(), file);
    if (read != schedule)
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("{}: the schedule is not in canonical form; it reads\n{}", file, schedule.print()));
    return read;
  }
  Schedule checked = schedule;
  try {
    for (ScheduleLine& line : checked.lines) canonicalize(line);
  } catch (const ScheduleProblem& problem) {
    throw_problem(file, problem);
  }
  return checked;
}

}  // namespace

void apply(const Schedule& schedule, Pipeline& pipeline, std::string_view file) {
  const Schedule checked = positioned(schedule, file);
  std::vector<ScheduleCall::Pending> pending;
  ScheduleCall call(pipeline, pending);
  for (const ScheduleLine& line : checked.lines) {
    SourcePosition position = line.position;
    std::string what = line.stage;
    try {
      call.start(line);
      for (const Directive& directive : line.directives) {
        position = directive.position;
        what = to_string(directive);
        call.apply(directive);
      }
    } catch (const ScheduleProblem& problem) {
      throw_problem(file, problem);
    } catch (const Halide::Error& e) {
      throw_problem(file, {position, fmt::format("in {}: {}", what, first_line(e))});
    }
  }
  try {
    for (const auto& level : pending) level.resolve(pipeline);
  } catch (const ScheduleProblem& problem) {
    throw_problem(file, problem);
  }
}

}  // namespace heddle
