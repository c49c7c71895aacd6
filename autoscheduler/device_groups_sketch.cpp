// Reductions along whole rows (softmax, normalisation, sums): groups of threads share a row, their partial results meet
// in shared memory, and what is computed of the row follows in the same launch. Long rows of few are cut into chunks.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "autoscheduler/device_sketches.hpp"
#include "autoscheduler/device_work.hpp"
#include "autoscheduler/estimate.hpp"
#include "schedules/gpu_grid.hpp"
#include "schedules/gpu_row_groups.hpp"

namespace heddle::autoscheduler {
namespace {

class Groups final : public SketchRule {
 public:
  explicit Groups(const Subject& subject)
      : subject_(subject), gpu_(*subject.machine.gpu), pipeline_(subject.workload->instantiate()) {
    sketch_.name = "groups";
    sketch_.summary = "threads share rows, their partial results meet in shared memory";
    classify();
    if (!fits_) return;
    std::vector<std::int64_t> lanes = {1}, rows = {1}, chunks;
    if (!rows_.across.empty()) chunks.push_back(0);
    for (const std::int64_t v : {2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}) {
      if (v < 2 * length_ && v <= gpu_.block_threads) lanes.push_back(v);
      if (v < 2 * count_ && v <= gpu_.block_threads) rows.push_back(v);
    }
    for (const std::int64_t v : {256, 1024, 4096, 16384, 65536})
      if (v < length_ || chunks.empty()) chunks.push_back(v);
    sketch_.knobs = {{"lanes", lanes}, {"rows", rows}, {"chunk", chunks}};
  }

  bool fits() const { return fits_; }
  const Sketch& sketch() const override { return sketch_; }

  std::variant<Candidate, Pruned> emit(const std::vector<std::int64_t>& values) const override {
    const KnobValues knobs(sketch_.knobs, values);
    const schedules::RowTile tile{knobs.get("lanes", 1), knobs.get("rows", 1), knobs.get("chunk", 0)};
    // Chunks go to blocks of their own: other rows are other blocks.
    if (tile.chunk > 0 && tile.rows > 1) return Pruned{"a chunk's block has one row"};
    if (tile.chunk > 0 && tile.lanes > tile.chunk) return Pruned{"a chunk has fewer elements than threads"};
    if (tile.lanes * tile.rows < std::min<std::int64_t>(gpu_.subgroup, length_ * count_) / 2)
      return Pruned{fmt::format("threads: {} a block leave most of {} that step together idle", tile.lanes * tile.rows,
                                gpu_.subgroup)};
    const std::vector<DeviceLaunch> launches = work(tile);
    for (const DeviceLaunch& launch : launches)
      if (std::string why = obstacle(launch, gpu_); !why.empty()) return Pruned{std::move(why)};
    Candidate result;
    schedules::schedule_rows(result.implementation.schedule, rows_, *subject_.workload, gpu_, pipeline_, tile);
    result.estimate = estimate_seconds(launches, gpu_, result.features);
    result.features["lanes"] = static_cast<double>(tile.lanes);
    result.features["rows"] = static_cast<double>(tile.rows);
    result.features["chunk"] = log_feature(static_cast<double>(tile.chunk + 1));
    return result;
  }

  std::vector<std::vector<std::int64_t>> defaults() const override {
    std::vector<std::vector<std::int64_t>> starts;
    for (const std::int64_t wanted : {32, 128, 1}) {
      std::vector<std::int64_t> values;
      for (const auto& knob : sketch_.knobs) {
        const auto fitting = std::ranges::find(knob.domain, knob.name == "lanes" ? wanted : knob.domain.front());
        values.push_back(fitting == knob.domain.end() ? knob.domain.back() : *fitting);
      }
      starts.push_back(values);
    }
    return best_by_estimate(sketch_.knobs, [this](const auto& values) { return emit(values); }, starts, 8);
  }

 private:
  const Dependences& d() const { return subject_.dependences; }

  void classify() {
    std::vector<const StageNode*> reducing;
    for (const StageNode& stage : d().stages) {
      if (stage.updates == 0) continue;
      if (!stage.accumulates || !stage.associative || stage.reductions.empty()) return;
      reducing.push_back(&stage);
    }
    if (reducing.empty() || d().out().updates > 0) return;
    // A product's operands are used again by other elements: registers should hold more than a row there.
    const bool again = std::ranges::any_of(reducing, [&](const StageNode* stage) {
      return stage->loops.size() == d().out().loops.size() && stage->reads_again() && reads_two(*stage);
    });
    if (again) return;
    for (const auto& loop : schedules::loops_by_memory(*subject_.workload)) {
      const bool reduced =
          std::ranges::any_of(reducing, [&](const StageNode* stage) { return !stage->has_loop(loop.name); });
      if (reduced) rows_.along.push_back(loop.name);
      else rows_.across.push_back(loop);
      if (!reduced) count_ *= loop.extent.value();
    }
    // All reduce the same rows.
    for (const StageNode* stage : reducing) {
      if (stage->loops.size() != rows_.across.size() || stage->reduction_steps() != reducing[0]->reduction_steps())
        return;
      for (const std::string& loop : stage->loops)
        if (std::ranges::none_of(rows_.across, [&](const auto& l) { return l.name == loop; })) return;
    }
    length_ = reducing[0]->reduction_steps();
    rows_.dense = dense(*reducing[0]);
    fits_ = true;
  }

  /// Two values made elsewhere, whose product is summed.
  static bool reads_two(const StageNode& stage) {
    std::size_t sources = 0;
    for (const Access& access : stage.accesses) sources += access.in_update && access.source != stage.role ? 1 : 0;
    return sources > 1;
  }

  /// Whether a row's elements are neighbours in memory.
  bool dense(const StageNode& stage) const {
    for (const Access& access : stage.accesses) {
      if (!access.in_update || access.source == stage.role) continue;
      for (std::size_t i = 0; i < access.index.size(); ++i) {
        const std::int64_t stride = access.operand ? d().operands.at(access.source).strides[i] : (i == 0 ? 1 : 0);
        if (stride != 1 || !access.index[i].affine) continue;
        for (std::size_t l = stage.loops.size(); l < access.index[i].coefficients.size(); ++l)
          if (access.index[i].coefficients[l] == 1 && stage.reductions[l - stage.loops.size()].extent > 1) return true;
      }
    }
    return false;
  }

  std::vector<DeviceLaunch> work(const schedules::RowTile& tile) const {
    const double lanes = static_cast<double>(tile.lanes), rows = static_cast<double>(tile.rows);
    const double count = static_cast<double>(count_), length = static_cast<double>(length_);
    DevicePlaces places;
    std::vector<const StageNode*> reducing;
    for (const StageNode& stage : d().stages) {
      if (&stage == &d().out()) continue;
      places[stage.role] = stage.updates > 0 ? DevicePlace::block : DevicePlace::expression;
      if (stage.updates > 0) reducing.push_back(&stage);
    }
    const double chunk = tile.chunk > 0 ? static_cast<double>(tile.chunk) : length;
    const double blocks = tile.chunk > 0 ? count * std::ceil(length / chunk) : std::ceil(count / rows);
    // A partial result goes to shared memory and back, all of them behind a barrier.
    const auto reduce = [&](DeviceLaunch& launch, const StageNode& stage) {
      DeviceLaunch all{.stage = stage.role, .threads = launch.threads};
      add_work(all, d(), places, stage, 1, 1);
      const double share = chunk / length / lanes;
      launch.instructions += all.instructions * share;
      launch.shared_loads += all.shared_loads * share + 2 + (lanes > 1 ? 8 + std::log2(lanes) : 0);
      launch.memory_loads += all.memory_loads * share;
      launch.bytes += all.bytes * share;
      launch.shared_bytes += rows * (lanes + 1) * stage.element_bytes;
      launch.waits += chunk / lanes / 8 + (lanes > 32 ? 1.0 : 0.5);
    };
    std::vector<DeviceLaunch> launches;
    if (tile.chunk == 0) {
      DeviceLaunch one{.stage = d().out().role, .blocks = blocks, .threads = lanes * rows};
      for (const StageNode* stage : reducing) reduce(one, *stage);
      const double own = static_cast<double>(d().out().elements()) / count / lanes;
      add_work(one, d(), places, d().out(), std::max(own, 1 / lanes), 1);
      one.memory_loads += own;
      one.bytes += own * d().out().element_bytes * one.threads;
      launches.push_back(one);
      return launches;
    }
    for (const StageNode* stage : reducing) {
      DeviceLaunch parts{.stage = stage->role, .blocks = blocks, .threads = lanes};
      reduce(parts, *stage);
      launches.push_back(parts);
      DeviceLaunch sums{.stage = stage->role, .blocks = std::ceil(count / gpu_.subgroup)};
      sums.threads = gpu_.subgroup;
      sums.memory_loads = std::ceil(length / chunk);
      sums.waits = sums.memory_loads / 8 + 1;
      launches.push_back(sums);
    }
    launches.push_back(flat_launch(d(), places, d().out(), gpu_.block_threads, 1));
    return launches;
  }

  const Subject& subject_;
  const Gpu& gpu_;
  Pipeline pipeline_;  ///< for its stages' names
  Sketch sketch_;
  schedules::RowLoops rows_;
  std::int64_t length_ = 1, count_ = 1;  ///< of a row; rows
  bool fits_ = false;
};

}  // namespace

std::unique_ptr<SketchRule> device_groups_sketch(const Subject& subject) {
  auto rule = std::make_unique<Groups>(subject);
  if (!rule->fits()) return nullptr;
  return rule;
}

}  // namespace heddle::autoscheduler
