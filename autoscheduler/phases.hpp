#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <Halide.h>

// What expressions ask of the numbers of their iterations: `x % 2 == 0`, `x / 2`, `c == 1`. Once a loop's phases are
// unrolled the answers are known while compiling, and nothing is computed that another pixel needed.
namespace heddle::autoscheduler {

class Dependences;
struct StageNode;

/// The kinds of iterations of one loop.
struct Phases {
  std::int64_t count = 1;
  bool repeat = true;  ///< iteration i is of kind i % count; false: each of the loop's first iterations is a kind
};

/// Iterations of one loop that are worth unrolling for what they ask.
constexpr std::int64_t most_phases = 4;

/// Of every loop, if they are few enough. `loops`: Halide's names.
std::vector<Phases> find_phases(const Halide::Expr& expression, const std::vector<std::string>& loops);

/// Calls `use` with the expression as it is in each combination of phases, simplified.
void each_phase(const Halide::Expr& expression, const std::vector<std::string>& loops,
                const std::vector<Phases>& phases, const std::function<void(const Halide::Expr&)>& use);

/// Of a stage's loops when the stages for which `inlined` says so are part of their readers' expressions.
std::vector<Phases> phases_with_inlined(const Dependences& dependences, const StageNode& stage,
                                        const std::function<bool(const StageNode&)>& inlined);

}  // namespace heddle::autoscheduler
