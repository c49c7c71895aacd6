#pragma once
#include <string>
#include <vector>

#include "schedules/gpu_support.hpp"

// How loops go over a device's blocks and threads.
namespace heddle::schedules {

/// Threads a block for `items` of equal work: `most` where that still gives every multiprocessor a block, fewer where
/// small blocks let more of them work, never below one subgroup.
std::int64_t block_threads(std::int64_t items, std::int64_t most, const Gpu& gpu);

/// Elements of a result that a thread makes at once along a dense dimension: 16 bytes' worth, the widest store there
/// is, and no more than 4, the widest vector that SPIR-V has.
std::int64_t vector_lanes(DType result);

/// All loops of a stage over one flat grid, a thread a vector of `lanes` along the innermost one, if that is dense
/// and divides; a symbolic extent that may divide gets both forms.
void stream_loops(Schedule& schedule, const std::string& role, const std::vector<Loop>& loops, std::int64_t lanes,
                  std::int64_t threads, const Gpu& gpu, const Workload& workload);

/// A stage as launches of its own, one a definition: a thread an element, each update's reduction in its order.
/// `loops`: of the stage, innermost first; `reductions`: of each update.
void launch_stage(Schedule& schedule, const std::string& role, const std::vector<std::string>& loops,
                  const std::vector<std::vector<std::string>>& reductions, std::int64_t threads);
void launch_stage(Schedule& schedule, const PipelineStage& stage, std::int64_t threads);

}  // namespace heddle::schedules
