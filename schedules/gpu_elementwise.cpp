// Elementwise functions and movement on a device: bound by memory, so that the widest loads and stores and enough
// threads in flight are all that matters.
#include "schedules/families.hpp"
#include "schedules/gpu_access.hpp"
#include "schedules/gpu_grid.hpp"

namespace heddle::schedules {
namespace {

struct Knobs {
  BOOST_HANA_DEFINE_STRUCT(Knobs, (std::int64_t, lanes), (std::int64_t, threads));
};

bool streams(const Workload& w, const Machine&) {
  const OperatorKind kind = w.anchor().op->kind();
  return kind == OperatorKind::elementwise || kind == OperatorKind::movement;
}

Knobs rule(const Workload& w, const Machine& m) {
  const auto loops = loops_by_memory(w);
  const bool dense = !loops.empty() && reads_dense(w, w.instantiate(), loops.front().name);
  return {dense ? vector_lanes(w.output_types()[0].dtype) : 1, m.gpu->block_threads};
}

std::vector<Knobs> candidates(const Workload& w, const Machine& m) {
  const std::int64_t most = m.gpu->block_threads;
  return {rule(w, m), {2, most}, {1, most}, {4, 128}};
}

Implementation make(const Workload& w, const Machine& m, const Knobs& k) {
  Implementation implementation;
  stream_loops(implementation.schedule, "out", loops_by_memory(w), k.lanes, k.threads, *m.gpu, w);
  return implementation;
}

}  // namespace

Family gpu_elementwise() {
  return TypedFamily<Knobs>{.name = "gpu_elementwise",
                            .summary = "a thread a vector along the innermost memory dimension, over one flat grid",
                            .matches = streams,
                            .rule = rule,
                            .candidates = candidates,
                            .make = make,
                            .gpu = true}
      .erase();
}

}  // namespace heddle::schedules
