#include "autoscheduler/lowered_estimate.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "autoscheduler/estimate.hpp"
#include "autoscheduler/memory_traffic.hpp"
#include "autoscheduler/taken_directives.hpp"
#include "base/error.hpp"
#include "generators/lower.hpp"
#include "targets/target.hpp"

namespace heddle::autoscheduler {
namespace {

constexpr double clock_hz = 3e9;
constexpr double operations_a_cycle = 2, loads_a_cycle = 2, stores_a_cycle = 1, instructions_a_cycle = 4.5;
/// What is bound by one unit still waits for the others now and then.
constexpr double other_units = 0.12;
/// Entering a loop, and leaving it: short loops of always the same length are predicted.
constexpr double loop_entry = 4, predicted_iterations = 24, misprediction = 14;

double body_cycles(const LoopWork& loop) {
  const Instructions& i = loop.instructions;
  const std::array<double, 4> units = {
      i.arithmetic / operations_a_cycle, i.loads / loads_a_cycle, i.stores / stores_a_cycle,
      // Half of all loads are part of another instruction.
      (i.arithmetic + 0.5 * i.loads + i.stores + (i.scalar + (loop.loops.empty() ? 1.5 : 3)) / loop.steps) /
          instructions_a_cycle};
  double sum = 0, most = 0;
  for (const double u : units) {
    sum += u;
    most = std::max(most, u);
  }
  return std::max(most + other_units * (sum - most), loop.latency) + i.calls;
}

double compute_cycles(const LoopWork& loop) {
  double cycles = body_cycles(loop);
  for (const LoopWork& inner : loop.loops) cycles += inner.share * compute_cycles(inner);
  return loop_entry + (loop.extent / loop.steps > predicted_iterations ? misprediction : 0) + loop.extent * cycles;
}

}  // namespace

Instructions all_instructions(const LoopWork& loop) {
  Instructions sum = loop.instructions;
  for (const LoopWork& inner : loop.loops) {
    const Instructions i = all_instructions(inner);
    sum.arithmetic += inner.share * i.arithmetic;
    sum.loads += inner.share * i.loads;
    sum.stores += inner.share * i.stores;
    sum.scalar += inner.share * i.scalar;
    sum.calls += inner.share * i.calls;
  }
  sum.arithmetic *= loop.extent, sum.loads *= loop.extent, sum.stores *= loop.extent;
  sum.scalar *= loop.extent, sum.calls *= loop.extent;
  return sum;
}

double program_seconds(const LoweredProgram& program, const Machine& machine, std::map<std::string, double>& features) {
  if (!program.complete) return std::numeric_limits<double>::infinity();
  // From the second one on, prefetchers bring lines in pairs.
  const std::array<Cache, 3> caches = {Cache{"l1", static_cast<double>(machine.l1_bytes) * 0.8, 40, 1, false, 64, 4096},
                                       Cache{"l2", static_cast<double>(machine.l2_bytes) * 0.8, 16, 5, true, 128, 0},
                                       Cache{"l3", static_cast<double>(machine.l3_bytes) * 0.4, 6, 5, true, 128, 0}};
  const LoopWork& whole = program.body;
  const MemoryTraffic traffic(program);
  double cycles = body_cycles(whole), computing = cycles, moving = 0;
  std::array<double, 3> bytes{};
  std::array<std::vector<double>, 3> missed;
  for (std::size_t c = 0; c < caches.size(); ++c) missed[c] = traffic.of_nests(caches[c]);
  for (std::size_t n = 0; n < whole.loops.size(); ++n) {
    const double compute = whole.loops[n].share * compute_cycles(whole.loops[n]);
    double transfer = 0;
    for (std::size_t c = 0; c < caches.size(); ++c) {
      const double moved = whole.loops[n].share * missed[c][n];
      bytes[c] += moved;
      transfer = std::max(transfer, moved / caches[c].bytes_a_cycle);
    }
    cycles += std::max(compute, transfer) + 0.3 * std::min(compute, transfer);
    computing += compute;
    moving += transfer;
  }
  const Instructions all = all_instructions(whole);
  const double seconds = cycles / clock_hz;
  features["lowered.arithmetic"] = log_feature(all.arithmetic);
  features["lowered.loads"] = log_feature(all.loads);
  features["lowered.stores"] = log_feature(all.stores);
  features["lowered.scalar"] = log_feature(all.scalar);
  features["lowered.values"] = log_feature(program.values);
  features["lowered.computing"] = log_feature(computing);
  features["lowered.moving"] = log_feature(moving);
  for (std::size_t c = 0; c < caches.size(); ++c)
    features[std::string("lowered.") + caches[c].name] = log_feature(bytes[c]);
  features["lowered.estimate"] = log_feature(seconds);
  return seconds;
}

double lowered_seconds(const Workload& workload, const Implementation& implementation, const Machine& machine,
                       std::map<std::string, double>& features) {
  KernelRequest request{&workload, implementation, find_target(machine.target)};
  request.target.machine = machine;
  double seconds = 0;
  with_halide(request, [&] {
    Implementation& counted = request.implementation;
    Pipeline pipeline = workload.instantiate(counted.variant, counted.packings);
    const TakenDirectives taken = take_directives(counted.schedule, pipeline);
    apply(counted.schedule, pipeline);
    std::map<std::string, double> arguments;
    for (const auto& [role, param] : pipeline.operands) {
      double bytes = param.type().bytes();
      for (int d = 0; d < param.dimensions(); ++d) {
        const auto extent = Halide::Internal::as_const_int(param.parameter().extent_constraint(d));
        bytes *= extent ? static_cast<double>(*extent) : 0;
      }
      arguments[param.name()] = bytes;
    }
    const Halide::Module module =
        Halide::Pipeline(pipeline.outputs).compile_to_module(pipeline.arguments(), "counted", halide_target(request));
    LoweredProgram program = analyse_lowered(module, machine, arguments);
    taken.put_back(program.body, workload.composition().threads);
    seconds = program_seconds(program, machine, features);
  });
  return seconds;
}

}  // namespace heddle::autoscheduler
