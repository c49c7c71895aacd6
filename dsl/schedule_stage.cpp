#include <algorithm>

#include <fmt/format.h>

#include "base/error.hpp"
#include "dsl/schedule_call.hpp"
#include "dsl/schedule_expression.hpp"
#include "dsl/schedule_table.hpp"
#include "dsl/stage.hpp"

namespace heddle {
namespace {

template <class T>
std::string name_of(T value, const std::vector<std::pair<std::string, T>>& all) {
  for (const auto& [name, v] : all)
    if (v == value) return name;
  throw Error(ErrorCode::invalid_argument, "not an enumerator of Halide's that schedules can name");
}

std::vector<Directive> specialisations_of(const ScheduleLine& line) {
  std::vector<Directive> all;
  std::copy_if(line.directives.begin(), line.directives.end(), std::back_inserter(all),
               [](const Directive& d) { return d.name == "specialize"; });
  return all;
}

bool is_ended(const ScheduleLine& line) {
  return !line.directives.empty() && row_of(line.directives.back()).chain == DirectiveChain::ends;
}

}  // namespace

Stage::Argument::Argument(Halide::TailStrategy value) : value_(name_of(value, tail_strategies())) {}
Stage::Argument::Argument(Halide::MemoryType value) : value_(name_of(value, memory_types())) {}
Stage::Argument::Argument(Halide::Partition value) : value_(name_of(value, partitions())) {}
Stage::Argument::Argument(Halide::LoopAlignStrategy value) : value_(name_of(value, loop_alignments())) {}
Stage::Argument::Argument(Halide::PrefetchBoundStrategy value) : value_(name_of(value, prefetch_bounds())) {}

Stage Schedule::operator[](std::string_view role) { return Stage(*this, role); }

Stage Stage::update(int number) const {
  if (number < 0 || number > 999)
    throw Error(ErrorCode::invalid_argument, fmt::format("schedule: '{}' has no update {}", role_, number));
  Stage stage(*schedule_, role_);
  stage.update_ = number;
  return stage;
}

Stage Stage::specialize(std::string_view condition) {
  record("specialize", {condition});
  Stage copy = *this;
  copy.specialisations_.push_back(schedule_->lines[line_].directives.back());
  return copy;
}

void Stage::specialize_fail(std::string_view message) { record("specialize_fail", {fmt::format("\"{}\"", message)}); }

ScheduleLine& Stage::line() {
  auto& lines = schedule_->lines;
  // Only the schedule's last line may grow, or the text's order would not be the calls' order.
  const bool last = line_ + 1 == lines.size() && !lines.empty() && lines.back().stage == role_ &&
                    lines.back().update == update_ && specialisations_of(lines.back()) == specialisations_ &&
                    !is_ended(lines.back());
  if (!last) {
    lines.push_back({role_, update_, specialisations_, {}});
    line_ = lines.size() - 1;
  }
  return lines.back();
}

Stage& Stage::record(std::string_view name, const Arguments& arguments) {
  Directive directive{std::string(name), {}, {}};
  for (const Argument& a : arguments) directive.arguments.push_back({a.value_, {}});
  try {
    ScheduleLine checked{role_, update_, specialisations_, {}};
    checked.directives.push_back(std::move(directive));
    canonicalize(checked);
    directive = std::move(checked.directives.back());
  } catch (const ScheduleProblem& problem) {
    throw Error(ErrorCode::invalid_argument, fmt::format("schedule: in {}.{}: {}", role_, name, problem.message));
  }
  line().directives.push_back(std::move(directive));
  return *this;
}

Stage Stage::created(Name role, std::string_view directive, const Arguments& arguments) {
  record(directive, arguments);
  return Stage(*schedule_, role);
}

}  // namespace heddle
