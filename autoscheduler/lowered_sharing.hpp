#pragma once
#include <string>
#include <vector>

#include "autoscheduler/lowered_program.hpp"
#include "dsl/pipeline.hpp"
#include "dsl/schedule.hpp"

namespace heddle::autoscheduler {

/// A parallel loop, with those that a schedule has fused into it: of a Halide definition ("out.s0."), outermost first.
struct SharedLoop {
  std::string definition;
  std::vector<std::string> loops;
};

/// Takes the parallel loops out of a schedule, as what they were before they were fused: their bodies would be
/// functions of their own, whose loops nobody could count.
std::vector<SharedLoop> take_shared(Schedule& schedule, const Pipeline& pipeline);

/// Makes of what one thread would do what each of `threads` does, in caches of its own: its share of the iterations,
/// and what sharing takes.
void share_among(LoopWork& work, const std::vector<SharedLoop>& shared, double threads);

}  // namespace heddle::autoscheduler
