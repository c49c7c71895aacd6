// Streaming kernels, bound by bandwidth or by a transcendental function: vectors along the innermost memory dimension,
// tasks along the outermost loops. Tails are predicated: on AVX-512 they cost as much as rounded ones, and unlike
// ShiftInwards they write no element twice, so a result may replace its operand in place.
#include <fmt/format.h>

#include "schedules/families.hpp"
#include "schedules/support.hpp"

namespace heddle::schedules {
namespace {

struct Knobs {
  BOOST_HANA_DEFINE_STRUCT(Knobs, (std::int64_t, unroll), (std::int64_t, tasks));
};

/// Below this many elements a second thread costs more than it brings.
constexpr std::int64_t smallest_task = 16 * 1024;

int widest_element(const Workload& w) {
  std::size_t bytes = size_of(w.output_types()[0].dtype);
  for (const auto& type : w.value_types()) bytes = std::max(bytes, size_of(type.dtype));
  return static_cast<int>(bytes);
}

bool streams(const Workload& w, const Machine&) {
  const OperatorKind kind = w.anchor().op->kind();
  return kind == OperatorKind::elementwise || kind == OperatorKind::movement;
}

bool everything(const Workload&, const Machine&) { return true; }

Knobs rule(const Workload& w, const Machine&) { return {1, task_count(w.composition().threads)}; }

std::vector<Knobs> candidates(const Workload& w, const Machine&) {
  const std::int64_t tasks = task_count(w.composition().threads);
  return {{1, tasks}, {2, tasks}, {4, tasks}, {1, 1}};
}

void schedule_out(Schedule& s, const Workload& w, const Machine& m, const Knobs& k) {
  auto loops = loops_by_memory(w);
  if (loops.empty()) {
    s["out"].compute_root();
    return;
  }
  const std::int64_t lanes = m.lanes(widest_element(w));
  std::int64_t total = 1;
  for (const auto& loop : loops) total *= typical(loop.extent, w);
  Stage out = s["out"];
  const bool parallel = k.tasks > 1 && total >= 2 * smallest_task;
  const Loop inner = loops.front();
  const bool vectorised = typical(inner.extent, w) > 1;
  std::vector<std::string> order;
  for (const auto& loop : loops) order.push_back(loop.name);
  std::string outermost = loops.front().name;
  for (const auto& loop : loops)
    if (!(loop.extent == Extent(1))) outermost = loop.name;
  if (order.size() > 1) out.reorder(order);
  if (parallel) {
    const std::int64_t extent = typical(extent_of(w, outermost), w);
    const std::int64_t unit = outermost == inner.name ? lanes * k.unroll : 1;
    const std::int64_t per_task = std::max<std::int64_t>(unit, (chunk(extent, k.tasks) + unit - 1) / unit * unit);
    out.split(outermost, "task", outermost, per_task, Tail::GuardWithIf).parallel("task");
  }
  if (vectorised) {
    out.vectorize(inner.name, lanes, Tail::GuardWithIf);
    if (k.unroll > 1) out.unroll(inner.name, k.unroll, Tail::GuardWithIf);
  }
}

Implementation stream_make(const Workload& w, const Machine& m, const Knobs& k) {
  Implementation implementation;
  schedule_out(implementation.schedule, w, m, k);
  return implementation;
}

/// Correct for every operator: each intermediate stage at root, one after the other.
Implementation any_make(const Workload& w, const Machine& m, const Knobs& k) {
  Implementation implementation;
  for (const auto& role : stage_roles(w))
    if (role != "out") implementation.schedule[role].compute_root();
  schedule_out(implementation.schedule, w, m, k);
  return implementation;
}

}  // namespace

Family elementwise() {
  return TypedFamily<Knobs>{"elementwise", "vectors along the innermost memory dimension, predicated tails",
                            streams,       rule,
                            candidates,    stream_make}
      .erase();
}

Family any() {
  return TypedFamily<Knobs>{"any",      "every stage at root, the output vectorised: correct for all operators",
                            everything, rule,
                            candidates, any_make}
      .erase();
}

}  // namespace heddle::schedules
