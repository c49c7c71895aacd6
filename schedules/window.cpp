// Windows whose channels are innermost in memory: pooling, resizing, transposed convolution, normalisation over
// channels. Vectors of channels, `vectors` of them kept in registers while the taps run.
#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "schedules/families.hpp"
#include "schedules/support.hpp"

namespace heddle::schedules {
namespace {

struct Knobs {
  BOOST_HANA_DEFINE_STRUCT(Knobs, (std::int64_t, vectors), (std::int64_t, tasks));
};

bool matches(const Workload& w, const Machine&) {
  return w.anchor().op->kind() == OperatorKind::window && reads_memory(w) && !loops_by_memory(w).empty();
}

Knobs rule(const Workload& w, const Machine& m) {
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t inner = typical(loops_by_memory(w).front().extent, w);
  return {std::clamp<std::int64_t>(inner / lanes, 1, 4), task_count(w.composition().threads)};
}

std::vector<Knobs> candidates(const Workload& w, const Machine&) {
  std::vector<Knobs> all;
  for (const std::int64_t vectors : {1, 2, 4, 8}) all.push_back({vectors, task_count(w.composition().threads)});
  return all;
}

/// Of a window of pooling; of others, whose windows are no attribute, as many as never matter.
std::int64_t pooled_taps(const Workload& w) {
  const auto kernel = w.anchor().attributes.find("kernel_shape");
  if (kernel == w.anchor().attributes.end()) return std::numeric_limits<std::int64_t>::max();
  std::int64_t taps = 1;
  for (const auto& extent : *kernel) taps *= extent.get<std::int64_t>();
  return taps;
}

Implementation make(const Workload& w, const Machine& m, const Knobs& k) {
  const Pipeline pipeline = w.instantiate();
  Implementation implementation;
  Schedule& s = implementation.schedule;
  const auto loops = loops_by_memory(w);
  const Loop& inner = loops.front();
  const std::int64_t of_machine =
      m.lanes(static_cast<int>(std::max<std::size_t>(4, size_of(w.output_types()[0].dtype))));
  const std::int64_t lanes =
      inner.extent.is_constant() ? std::min(of_machine, filled_lanes(inner.extent.value(), m)) : of_machine;
  const std::int64_t block = lanes * k.vectors;
  const bool whole = inner.extent.is_constant() && inner.extent.value() >= block;

  Stage out = s["out"];
  out.split(inner.name, "block", inner.name, block, whole ? shifted_tail(inner.extent, block) : Tail::GuardWithIf);
  std::vector<std::string> order = {inner.name, "block"};
  for (std::size_t i = 1; i < loops.size(); ++i) order.push_back(loops[i].name);
  out.reorder(order).vectorize(inner.name, lanes);
  if (k.vectors > 1) out.unroll(inner.name);
  // Tasks are runs of rows: the loop that is outermost in memory and longer than one.
  std::string outermost;
  for (const auto& loop : loops)
    if (!(loop.extent == Extent(1)) && loop.name != inner.name) outermost = loop.name;
  if (!outermost.empty() && k.tasks > 1)
    out.split(outermost, "task", outermost, run_of_task(typical(extent_of(w, outermost), w), k.tasks),
              Tail::GuardWithIf)
        .parallel("task");

  for (const auto& stage : pipeline.stages) {
    if (stage.role == "out") continue;
    const auto arguments = stage.func.args();
    if (!stage.func.has_update_definition()) {
      // The padded copy of the operand, stored in the operand's order.
      Stage padded = s[stage.role];
      padded.compute_root();
      if (!arguments.empty()) padded.vectorize(arguments.front().name(), lanes, Tail::GuardWithIf);
      if (arguments.size() > 2) padded.parallel(arguments[arguments.size() - 2].name());
      continue;
    }
    Stage acc = s[stage.role];
    acc.compute_at("out", "block");
    if (!has_loop(stage, inner.name)) continue;
    const Tail tail = whole ? Tail::RoundUp : Tail::GuardWithIf;
    acc.vectorize(inner.name, lanes, tail);
    if (whole && k.vectors > 1) acc.unroll(inner.name);
    Stage update = s[stage.role].update(0);
    std::vector<std::string> taps;
    for (const auto& r : stage.func.rvars(0)) taps.push_back(stage.reductions.at(r.name()));
    std::vector<std::string> update_order = {inner.name};
    update_order.insert(update_order.end(), taps.begin(), taps.end());
    update.reorder(update_order).vectorize(inner.name, lanes, tail);
    if (whole && k.vectors > 1) update.unroll(inner.name);
    constexpr std::int64_t most_unrolled = 25;
    if (whole && pooled_taps(w) <= most_unrolled)
      for (const auto& tap : taps) update.unroll(tap);
  }
  return implementation;
}

}  // namespace

Family window_channels() {
  return TypedFamily<Knobs>{
      "window_channels", "vectors along the innermost dimension kept in registers while the window's taps run",
      matches,           rule,
      candidates,        make}
      .erase();
}

}  // namespace heddle::schedules
