// Windows on a device: pooling, resizing, transposed convolution, normalisation over channels. A thread computes one
// pixel, a vector of channels where those are innermost in memory, with the taps' loops inside it; what lies outside of
// the operand is decided where it is read.
#include <fmt/format.h>

#include "schedules/families.hpp"
#include "schedules/gpu_access.hpp"
#include "schedules/gpu_grid.hpp"

namespace heddle::schedules {
namespace {

struct Knobs {
  BOOST_HANA_DEFINE_STRUCT(Knobs, (std::int64_t, lanes), (std::int64_t, threads));
};

bool matches(const Workload& w, const Machine&) {
  return w.anchor().op->kind() == OperatorKind::window && !loops_by_memory(w).empty();
}

Knobs rule(const Workload& w, const Machine& m) {
  const Loop inner = loops_by_memory(w).front();
  const std::int64_t lanes = vector_lanes(w.output_types()[0].dtype);
  const bool vectors = is_multiple(inner.extent, lanes) && reads_dense(w, w.instantiate(), inner.name, {"w"});
  return {vectors ? lanes : 1, m.gpu->block_threads};
}

std::vector<Knobs> candidates(const Workload& w, const Machine& m) {
  const Knobs best = rule(w, m);
  return {best, {1, best.threads}, {best.lanes, 128}, {best.lanes, 64}};
}

/// Weights along which neighbouring threads read neighbouring elements: the whole of `co` innermost.
void pack_weights(Implementation& implementation, const Workload& w) {
  for (std::size_t i = 0; i < w.inputs().size(); ++i) {
    const OperandInfo& operand = w.inputs()[i];
    if (operand.role != "w" || operand.packing_order.empty() || !w.composition().inputs[i].constant) continue;
    const auto at = std::find(operand.dimensions.begin(), operand.dimensions.end(), "co");
    if (at == operand.dimensions.end()) continue;
    const Extent& extent =
        w.composition().inputs[i].type.shape[static_cast<std::size_t>(at - operand.dimensions.begin())];
    if (extent.is_constant() && extent.value() > 1) implementation.packings.push_back({"w", {{"co", extent.value()}}});
  }
}

Implementation make(const Workload& w, const Machine& m, const Knobs& k) {
  Implementation implementation;
  Schedule& s = implementation.schedule;
  const Pipeline pipeline = w.instantiate();
  pack_weights(implementation, w);
  const auto loops = loops_by_memory(w);
  const std::string inner = loops.front().name;
  const std::int64_t lanes = is_multiple(loops.front().extent, k.lanes) ? k.lanes : 1;
  stream_loops(s, "out", loops, lanes, k.threads, *m.gpu, w);
  for (const auto& stage : pipeline.stages) {
    if (!stage.func.has_update_definition()) continue;
    s[stage.role].compute_at("out", "thread");
    if (lanes == 1 || !has_loop(stage, inner)) continue;
    s[stage.role].vectorize(inner);
    std::vector<std::string> order = {inner};
    for (const auto& r : stage.func.rvars(0)) order.push_back(stage.reductions.at(r.name()));
    s[stage.role].update(0).reorder(order).vectorize(inner);
  }
  return implementation;
}

}  // namespace

Family gpu_window() {
  return TypedFamily<Knobs>{.name = "gpu_window",
                            .summary = "a thread a pixel's vector of channels, the window's taps in its registers",
                            .matches = matches,
                            .rule = rule,
                            .candidates = candidates,
                            .make = make,
                            .gpu = true}
      .erase();
}

}  // namespace heddle::schedules
