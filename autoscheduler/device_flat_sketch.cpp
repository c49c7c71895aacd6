// A thread an element of the output, or a vector of them, over one flat grid: elementwise functions, movement, windows.
// A reduction is a thread's own, or a launch before.
#include <algorithm>

#include <fmt/format.h>

#include "autoscheduler/device_sketches.hpp"
#include "autoscheduler/device_work.hpp"
#include "autoscheduler/tiled_placement.hpp"
#include "schedules/gpu_grid.hpp"

namespace heddle::autoscheduler {
namespace {

/// How often a producer may be written out in its readers, over its elements.
constexpr double most_reads = 40;

class Flat final : public SketchRule {
 public:
  explicit Flat(const Subject& subject) : subject_(subject), structure_(subject), gpu_(*subject.machine.gpu) {
    sketch_.name = "flat";
    sketch_.summary = "a thread an element or a vector, over one flat grid";
    for (const auto& loop : schedules::loops_by_memory(*subject.workload)) loops_.push_back(loop);
    for (const auto& [role, operand] : d().operands)
      if (structure_.packs(role)) packable_.push_back(role);
    dense_ = reads_dense_along(subject);
    dense_packed_ = dense_ || (!packable_.empty() && reads_dense_along(subject, packable_));
    std::vector<std::int64_t> lanes = {1};
    const std::int64_t widest = schedules::vector_lanes(subject.workload->output_types()[0].dtype);
    for (const std::int64_t l : {2, 4})
      if (dense_packed_ && l <= widest && subject.extent(0) % l == 0) lanes.push_back(l);
    sketch_.knobs.push_back({"lanes", lanes});
    std::vector<std::int64_t> threads;
    for (const std::int64_t t : {32, 64, 128, 256, 512, 1024})
      if (t <= gpu_.block_threads) threads.push_back(t);
    sketch_.knobs.push_back({"threads", threads});
    for (const StageChoice& c : structure_.choices()) {
      if (c.role == TileRole::expression) continue;
      std::vector<std::int64_t> places;
      if (c.node->updates == 0) places.push_back(in_expression);
      if (subject.rank() > 0) places.push_back(at_tile);
      places.push_back(before_all);
      sketch_.knobs.push_back({"place_" + c.node->role, places, false});
    }
    if (!packable_.empty()) sketch_.knobs.push_back({"pack", {0, 1}, false});
    reductions_ = update_reductions(*subject.workload);
  }

  const Sketch& sketch() const override { return sketch_; }

  std::variant<Candidate, Pruned> emit(const std::vector<std::int64_t>& values) const override {
    try {
      return make(KnobValues(sketch_.knobs, values));
    } catch (const Pruned& pruned) {
      return pruned;
    }
  }

  std::vector<std::vector<std::int64_t>> defaults() const override {
    std::vector<std::vector<std::int64_t>> starts;
    for (const bool vectors : {true, false}) {
      std::vector<std::int64_t> values;
      for (const auto& knob : sketch_.knobs) {
        if (knob.name == "lanes") values.push_back(vectors ? knob.domain.back() : 1);
        else if (knob.name == "threads") values.push_back(knob.domain.back());
        else if (knob.name == "pack") values.push_back(1);
        else values.push_back(vectors ? knob.domain.front() : before_all);
      }
      starts.push_back(values);
    }
    return best_by_estimate(sketch_.knobs, [this](const auto& values) { return emit(values); }, starts, 6);
  }

 private:
  const Dependences& d() const { return subject_.dependences; }

  static DevicePlace place_of(std::int64_t value) {
    if (value == in_expression) return DevicePlace::expression;
    return value == at_tile ? DevicePlace::thread : DevicePlace::launch;
  }

  Candidate make(const KnobValues& knobs) const {
    const std::int64_t lanes = knobs.get("lanes", 1), threads = knobs.get("threads", 64);
    const bool packing = knobs.get("pack", 0) == 1;
    if (lanes > 1 && !(packing ? dense_packed_ : dense_)) throw Pruned{"the lanes of a vector would lie apart"};
    DevicePlaces places;
    for (const StageChoice& c : structure_.choices())
      places[c.node->role] = c.role == TileRole::expression ? DevicePlace::expression
                                                            : place_of(knobs.get("place_" + c.node->role, before_all));
    if (std::string why = misplaced(d(), places); !why.empty()) throw Pruned{std::move(why)};

    Candidate result;
    Schedule& s = result.implementation.schedule;
    std::vector<DeviceLaunch> launches;
    for (const StageNode& node : d().stages) {
      if (&node == &d().out()) continue;
      if (places.at(node.role) == DevicePlace::launch) {
        schedules::launch_stage(s, node.role, node.loops, reductions_.at(node.role), threads);
        launches.push_back(flat_launch(d(), places, node, static_cast<double>(threads), 1));
      } else if (places.at(node.role) == DevicePlace::thread) {
        in_thread(s, node, lanes);
      }
    }
    schedules::stream_loops(s, d().out().role, loops_, lanes, threads, gpu_, *subject_.workload);
    if (packing)
      for (const auto& role : packable_) {
        const std::string dimension = *structure_.packed_dimension(role);
        result.implementation.packings.push_back({role, {{dimension, subject_.extent(0)}}});
      }
    const std::int64_t block =
        loops_.empty() ? 1 : schedules::block_threads(d().out().elements() / lanes, threads, gpu_);
    launches.push_back(flat_launch(d(), places, d().out(), static_cast<double>(block), static_cast<double>(lanes)));
    for (const DeviceLaunch& launch : launches)
      if (std::string why = obstacle(launch, gpu_); !why.empty()) throw Pruned{std::move(why)};
    for (const StageNode& node : d().stages)
      if (places.contains(node.role) && places.at(node.role) == DevicePlace::expression) check_reads(node);
    result.estimate = estimate_seconds(launches, gpu_, result.features);
    result.features["lanes"] = static_cast<double>(lanes);
    result.features["packing"] = packing ? 1 : 0;
    for (const auto& [role, place] : places) result.features["place." + role] = static_cast<double>(place);
    return result;
  }

  /// What is written out in many readers makes code without end.
  void check_reads(const StageNode& node) const {
    double reads = 0;
    for (const StageNode* reader : d().consumers(node.role))
      for (const Access& access : reader->accesses)
        if (access.source == node.role) reads += 1;
    if (reads > most_reads) throw Pruned{fmt::format("{} would be written out too often", node.role)};
  }

  /// A stage of which each thread computes what its vector needs.
  void in_thread(Schedule& s, const StageNode& node, std::int64_t lanes) const {
    Box tile(d().out().loops.size());
    for (std::size_t i = 0; i < tile.size(); ++i) tile[i] = {d().out().box[i].min, 1};
    tile[subject_.order[0]].extent = lanes;
    const auto regions = d().regions(d().out().role, tile);
    const auto region = regions.find(node.role);
    if (region == regions.end()) throw Pruned{fmt::format("{} is not read", node.role)};
    std::string vector;
    for (std::size_t l = 0; l < node.loops.size(); ++l) {
      const std::int64_t extent = region->second[l].extent;
      if (extent == 1) continue;
      if (extent != lanes || !vector.empty())
        throw Pruned{fmt::format("a thread would need {} of {} along {}", extent, node.role, node.loops[l])};
      vector = node.loops[l];
    }
    if (node.updates > 1 && lanes > 1) throw Pruned{fmt::format("{} has several updates", node.role)};
    s[node.role].compute_at(d().out().role, "thread");
    if (vector.empty()) return;
    s[node.role].vectorize(vector);
    if (node.updates == 0) return;
    std::vector<std::string> order = {vector};
    for (const auto& r : node.reductions) order.push_back(r.name);
    s[node.role].update(0).reorder(order).vectorize(vector);
  }

  const Subject& subject_;
  TiledStructure structure_;
  const Gpu& gpu_;
  Sketch sketch_;
  std::vector<schedules::Loop> loops_;  ///< of the output, by memory
  UpdateReductions reductions_;
  std::vector<std::string> packable_;
  bool dense_ = false, dense_packed_ = false;
};

}  // namespace

std::unique_ptr<SketchRule> device_flat_sketch(const Subject& subject) { return std::make_unique<Flat>(subject); }

}  // namespace heddle::autoscheduler
