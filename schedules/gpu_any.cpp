// The plainest schedule for devices, correct for every operator: a thread an element of the result, which it computes
// with all that the element needs.
#include "schedules/families.hpp"
#include "schedules/gpu_grid.hpp"

namespace heddle::schedules {
namespace {

struct Knobs {
  BOOST_HANA_DEFINE_STRUCT(Knobs, (std::int64_t, threads));
};

bool everything(const Workload&, const Machine&) { return true; }
Knobs rule(const Workload&, const Machine&) { return {64}; }
std::vector<Knobs> candidates(const Workload&, const Machine&) { return {{64}, {128}, {256}}; }

Implementation make(const Workload& w, const Machine& m, const Knobs& k) {
  Implementation implementation;
  Schedule& s = implementation.schedule;
  const Pipeline pipeline = w.instantiate();
  // What reduces needs memory of its own and gets a launch; what does not is computed where it is used.
  for (const auto& stage : pipeline.stages) {
    if (!stage.func.has_update_definition()) continue;
    launch_stage(s, stage, k.threads);
  }
  stream_loops(s, "out", loops_by_memory(w), 1, k.threads, *m.gpu, w);
  return implementation;
}

}  // namespace

Family gpu_any() {
  return TypedFamily<Knobs>{.name = "gpu_any",
                            .summary = "a thread an element, every reducing stage a launch: correct for all operators",
                            .matches = everything,
                            .rule = rule,
                            .candidates = candidates,
                            .make = make,
                            .gpu = true}
      .erase();
}

}  // namespace heddle::schedules
