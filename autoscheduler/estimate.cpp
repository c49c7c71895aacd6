#include "autoscheduler/estimate.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <string_view>
#include <unordered_map>

#include "autoscheduler/lane_reduction.hpp"

namespace heddle::autoscheduler {
namespace {

constexpr double clock_hz = 3e9;
constexpr double fma_units = 2, loads_a_cycle = 2, fma_latency = 4;

double box_bytes(const Box& box, int element_bytes) {
  double bytes = element_bytes;
  for (const auto& interval : box) bytes *= static_cast<double>(interval.extent);
  return bytes;
}

/// Cycles of a register-tiled reduction.
double reduction_cycles(const PlacedStage& s) {
  const StageNode& node = *s.node;
  const double steps = static_cast<double>(node.reduction_steps());
  // A multiply and an add are one instruction.
  const double instructions = std::max(1.0, node.update_operations - 1);
  const double tiles = s.computed / (s.accumulators * s.lanes);
  const double loads = s.vector_loads + s.scalar_loads;
  const double arithmetic = std::max(s.accumulators * instructions / fma_units, fma_latency);
  // Loads take issue slots from arithmetic, and cannot come at their full rate beside it.
  const double step =
      arithmetic * (1 + 0.15 * loads / s.accumulators) + std::max(0.0, loads / loads_a_cycle - 0.85 * arithmetic);
  // The loop's own branch and addresses are paid once an unrolled step.
  const double overhead = 1.5 / s.steps_unrolled;
  const double start = 2 * s.accumulators + 10;
  // Every block of the reduction loads the accumulators and stores them again, and streams the operands anew.
  const double reload = s.depth_blocks > 1 ? s.depth_blocks * (3 * s.accumulators + 20) : 0;
  const double streamed = s.depth_blocks > 1 ? 1.1 : 1.0;
  return tiles * (steps * (step + s.step_gathering + overhead) * streamed + start + reload);
}

double stage_cycles(const PlacedStage& s) {
  if (s.accumulators > 0) return reduction_cycles(s);
  const StageNode& node = *s.node;
  if (s.partial_vectors > 0)
    return LaneReduction{node, node.reductions.front(), static_cast<std::int64_t>(s.partial_vectors) * s.lanes, s.lanes}
        .cycles(s.computed);
  const double steps = node.updates > 0 ? static_cast<double>(node.reduction_steps()) : 0;
  // A scalar reduction waits for its own sum at every step; elsewhere the sum is loaded and stored.
  constexpr double reload = 2;
  const double update =
      steps * (s.update_lanes == 1 && steps > 0 ? std::max(node.update_operations / fma_units, fma_latency)
                                                : node.update_operations / fma_units + reload + s.step_gathering);
  const double stores = s.level < 0 ? 0 : 1;
  return s.computed * ((node.pure_operations / fma_units + s.gathering + stores) / s.lanes + update / s.update_lanes);
}

/// Of copying an operand into panels.
double copy_cycles(const PlacedOperand& operand, const Nest& nest, const NestRegions& needed) {
  // Loading lanes one by one, putting each into its place and storing their vectors.
  constexpr double lane = 2.5, vector = 2;
  const PlacedOperand::Copy& copy = *operand.copied;
  const double elements = box_bytes(needed.at(copy.level).at(operand.role), 1);
  const double each = copy.lanes > 1 ? vector / copy.lanes : lane;
  return static_cast<double>(nest.iterations(copy.level)) * elements * each;
}

using PlacedByRole = std::unordered_map<std::string_view, const PlacedStage*>;

/// What is read or written while an iteration of a loop runs: by the output, and by stages that are computed there or
/// within those that are. What was computed before is only read.
std::set<std::string_view> touched_within(const Dependences& d, const PlacedByRole& stages, int level) {
  std::set<std::string_view> touched;
  std::vector<const StageNode*> reading = {&d.out()};
  while (!reading.empty()) {
    const StageNode& reader = *reading.back();
    reading.pop_back();
    for (const Access& access : reader.accesses) {
      if (!touched.insert(access.source).second || access.operand) continue;
      const auto placed = stages.find(access.source);
      if (placed != stages.end() && placed->second->level <= level) reading.push_back(placed->second->node);
    }
  }
  return touched;
}

}  // namespace

double log_feature(double value) { return std::log2(std::max(value, 1e-12)); }

double estimate_seconds(const Subject& subject, const Nest& nest, const NestRegions& needed,
                        const std::vector<PlacedStage>& stages, const std::vector<PlacedOperand>& operands,
                        std::map<std::string, double>& features) {
  const Dependences& d = subject.dependences;
  const StageNode& out = d.out();
  const double threads = subject.threads;
  const double tasks = static_cast<double>(nest.tasks());
  const double rounds = std::ceil(tasks / threads);
  const double speedup = subject.threads > 1 ? std::max(1.0, tasks / rounds) : 1.0;

  double cycles = static_cast<double>(out.elements()) * nest.waste() / nest.vector_lanes() *
                  (std::max(out.pure_operations, 1.0) / fma_units + 1);
  for (const PlacedStage& s : stages) {
    cycles += stage_cycles(s);
    features["computed." + s.node->role] =
        log_feature(s.computed / static_cast<double>(std::max<std::int64_t>(s.node->elements(), 1)));
    features["place." + s.node->role] = s.level;
  }
  // A packed operand is read line by line; one that is not costs about a third more (measured: 128x768x768 on Zen 3).
  if (std::ranges::any_of(operands, &PlacedOperand::strided)) cycles *= 1.35;
  for (const PlacedOperand& o : operands)
    if (o.copied) cycles += copy_cycles(o, nest, needed);
  // Gathers read an element at a time.
  for (const PlacedOperand& o : operands)
    if (!o.contiguous) cycles += static_cast<double>(out.elements()) * 2;

  PlacedByRole by_role;
  for (const PlacedStage& s : stages) by_role[s.node->role] = &s;
  // Bytes that one iteration of each level's loop touches, of everything that is read or written in it.
  std::vector<double> touched(nest.levels() + 1, 0.0);
  for (std::size_t level = 0; level <= nest.levels(); ++level) {
    const Box box = nest.region(level);
    const auto& regions = needed.at(level);
    const std::set<std::string_view> within = touched_within(d, by_role, static_cast<int>(level));
    touched[level] = box_bytes(box, out.element_bytes);
    for (const PlacedOperand& o : operands)
      if (const auto r = regions.find(o.role); r != regions.end() && within.contains(o.role))
        touched[level] += box_bytes(r->second, o.element_bytes);
    for (const PlacedStage& s : stages)
      if (s.level >= 0 && s.accumulators == 0)
        if (const auto r = regions.find(s.node->role); r != regions.end() && within.contains(s.node->role))
          touched[level] += box_bytes(r->second, s.node->element_bytes);
  }
  struct Cache {
    const char* name;
    double bytes, bytes_a_cycle;
  };
  const std::array<Cache, 3> caches = {Cache{"l1", static_cast<double>(subject.machine.l1_bytes) * 0.75, 28},
                                       Cache{"l2", static_cast<double>(subject.machine.l2_bytes) * 0.75, 14},
                                       Cache{"l3", static_cast<double>(subject.machine.l3_bytes) * 0.5, 4}};
  // Stages that are computed before the output's loops are written there, and what they read is read.
  double before = 0;
  for (const PlacedStage& s : stages)
    if (s.level == static_cast<int>(nest.levels())) before += 2 * box_bytes(s.node->box, s.node->element_bytes);
  double transfer = 0;
  for (const Cache& cache : caches) {
    std::size_t fitting = 0;
    while (fitting < nest.levels() && touched[fitting + 1] <= cache.bytes) ++fitting;
    const bool all = fitting == nest.levels();
    const double traffic =
        all ? touched[fitting] : static_cast<double>(nest.iterations(fitting)) * touched[fitting] + before;
    features[std::string("traffic.") + cache.name] = log_feature(traffic);
    // What fits stays from run to run: a kernel is timed with warm caches.
    if (!all) transfer = std::max(transfer, traffic / cache.bytes_a_cycle);
  }
  features["unpacked"] = static_cast<double>(std::ranges::count(operands, false, &PlacedOperand::packed));
  features["cycles"] = log_feature(cycles);
  features["transfer"] = log_feature(transfer);
  features["tasks"] = log_feature(tasks);
  features["balance"] = speedup / threads;
  features["waste"] = nest.waste();
  for (std::size_t level = 0; level <= std::min<std::size_t>(nest.levels(), 4); ++level)
    features["touched." + std::to_string(level)] = log_feature(touched[level]);
  const double tiles = static_cast<double>(nest.iterations(0));
  const double total = std::max(cycles, transfer) + 0.25 * std::min(cycles, transfer) + 6 * tiles;
  const double seconds = total / speedup / clock_hz + (subject.threads > 1 ? 2e-6 : 0);
  features["estimate"] = log_feature(seconds);
  return seconds;
}

}  // namespace heddle::autoscheduler
