#pragma once
#include <string>
#include <vector>

#include "autoscheduler/lowered_program.hpp"
#include "dsl/pipeline.hpp"
#include "dsl/schedule.hpp"

namespace heddle::autoscheduler {

/// What is counted without having been lowered: directives that hide a schedule's loops, or make many of one.
struct TakenDirectives {
  /// By Halide's names, of a definition ("out.s0.") and of its loop.
  struct Unrolled {
    std::string definition, loop;
    double steps = 1;
  };
  /// With those that have been fused into it, outermost first.
  struct Shared {
    std::string definition;
    std::vector<std::string> loops;
  };
  std::vector<Unrolled> unrolled;
  std::vector<Shared> shared;

  /// Makes of the lowered loops, one thread's and in single steps, those of each of `threads` in caches of its own: its
  /// share of the iterations, and what sharing takes.
  void put_back(LoopWork& work, int threads) const;
};

/// Takes parallel loops out of a schedule, as what they were before they were fused: their bodies would be functions of
/// their own, whose loops nobody could count. And the unrolling of reductions by a factor: all steps have the same
/// instructions, and lowering each of them would take most of the time that counting does.
TakenDirectives take_directives(Schedule& schedule, const Pipeline& pipeline);

}  // namespace heddle::autoscheduler
