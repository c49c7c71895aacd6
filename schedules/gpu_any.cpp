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
    s[stage.role].compute_root();
    std::vector<std::string> loops;
    for (const auto& v : stage.func.args()) loops.push_back(v.name());
    for (int definition = -1; definition < stage.func.num_update_definitions(); ++definition) {
      Stage one = definition < 0 ? s[stage.role] : s[stage.role].update(definition);
      if (loops.empty()) {
        one.gpu_single_thread();
        continue;
      }
      if (definition >= 0) {  // each element by one thread, in the order of its reduction
        std::vector<std::string> order;
        for (const auto& r : stage.func.rvars(definition)) order.push_back(stage.reductions.at(r.name()));
        order.insert(order.end(), loops.begin(), loops.end());
        one.reorder(order);
      }
      one.split(fuse_all(one, loops, "flat"), "block", "thread", k.threads, Tail::GuardWithIf)
          .gpu_blocks("block")
          .gpu_threads("thread");
    }
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
