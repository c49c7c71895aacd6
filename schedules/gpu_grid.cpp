#include "schedules/gpu_grid.hpp"

#include <bit>

#include <fmt/format.h>

namespace heddle::schedules {

std::int64_t block_threads(std::int64_t items, std::int64_t most, const Gpu& gpu) {
  const auto share = static_cast<std::uint64_t>(std::max<std::int64_t>(1, items / gpu.processors));
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(std::bit_floor(share)),
                                  std::min<std::int64_t>(gpu.subgroup, most), most);
}

std::int64_t vector_lanes(DType result) {
  return std::clamp<std::int64_t>(16 / static_cast<std::int64_t>(size_of(result)), 1, 4);
}

namespace {

/// One form of the loops: vectors or single elements.
void flat_grid(Stage stage, std::vector<std::string> loops, std::int64_t lanes, std::int64_t threads) {
  if (lanes > 1) {
    stage.split(loops[0], "vectors", "lane", lanes, Tail::RoundUp);
    loops[0] = "vectors";
  }
  const std::string flat = fuse_all(stage, loops, "flat");
  stage.split(flat, "block", "thread", threads, Tail::GuardWithIf);
  if (lanes > 1) stage.vectorize("lane");
  stage.gpu_blocks("block").gpu_threads("thread");
}

}  // namespace

void stream_loops(Schedule& schedule, const std::string& role, const std::vector<Loop>& loops, std::int64_t lanes,
                  std::int64_t threads, const Gpu& gpu, const Workload& workload) {
  if (loops.empty()) {
    schedule[role].gpu_single_thread();
    return;
  }
  std::vector<std::string> order;
  std::int64_t elements = 1;
  for (const auto& loop : loops) {
    order.push_back(loop.name);
    elements *= typical(loop.extent, workload);
  }
  if (order.size() > 1) schedule[role].reorder(order);
  const Extent& inner = loops[0].extent;
  if (lanes > 1 && is_multiple(inner, lanes)) {
    flat_grid(schedule[role], order, lanes, block_threads(elements / lanes, threads, gpu));
    return;
  }
  // A device has no masked vectors: where the extent may divide, the caller's shape picks one of two kernels.
  if (lanes > 1 && !inner.is_constant())
    flat_grid(schedule[role].specialize(fmt::format("{} % {} == 0", expression(inner), lanes)), order, lanes,
              block_threads(elements / lanes, threads, gpu));
  flat_grid(schedule[role], order, 1, block_threads(elements, threads, gpu));
}

void launch_stage(Schedule& schedule, const std::string& role, const std::vector<std::string>& loops,
                  const std::vector<std::vector<std::string>>& reductions, std::int64_t threads) {
  schedule[role].compute_root();
  for (int definition = -1; definition < static_cast<int>(reductions.size()); ++definition) {
    Stage one = definition < 0 ? schedule[role] : schedule[role].update(definition);
    if (loops.empty()) {
      one.gpu_single_thread();
      continue;
    }
    if (definition >= 0) {
      std::vector<std::string> order = reductions[static_cast<std::size_t>(definition)];
      order.insert(order.end(), loops.begin(), loops.end());
      one.reorder(order);
    }
    one.split(fuse_all(one, loops, "flat"), "block", "thread", threads, Tail::GuardWithIf)
        .gpu_blocks("block")
        .gpu_threads("thread");
  }
}

void launch_stage(Schedule& schedule, const PipelineStage& stage, std::int64_t threads) {
  std::vector<std::string> loops;
  for (const auto& v : stage.func.args()) loops.push_back(v.name());
  std::vector<std::vector<std::string>> reductions;
  for (int u = 0; u < stage.func.num_update_definitions(); ++u) {
    auto& names = reductions.emplace_back();
    for (const auto& r : stage.func.rvars(u)) names.push_back(stage.reductions.at(r.name()));
  }
  launch_stage(schedule, stage.role, loops, reductions, threads);
}

}  // namespace heddle::schedules
