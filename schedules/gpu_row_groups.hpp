#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "schedules/gpu_support.hpp"

// Reductions along whole rows on a device, every stage in one launch or each cut into chunks. Nothing here knows an
// operator.
namespace heddle::schedules {

/// Which of `out`'s loops run along rows, which from row to row.
struct RowLoops {
  std::vector<std::string> along;  ///< loops that a row's elements lie on; empty where the result has none
  std::vector<Loop> across;        ///< innermost in memory first, those of extent 1 last
  bool dense = true;               ///< a row's elements are neighbours in memory, not the rows
};

/// How threads share rows.
struct RowTile {
  std::int64_t lanes = 1;  ///< threads of a row
  std::int64_t rows = 1;   ///< of a block
  std::int64_t chunk = 0;  ///< elements of a row that go to a block of their own; 0: whole rows
};

/// Schedules `out` and every stage that reduces rows. Without `across` loops there has to be a chunk.
void schedule_rows(Schedule& schedule, const RowLoops& rows, const Workload& workload, const Gpu& gpu,
                   const Pipeline& pipeline, const RowTile& tile);

/// A stage's reduction variables by the operator's names, innermost first.
std::vector<std::string> reductions_of(const PipelineStage& stage);

/// The largest power of two that is not above the value, at least 1.
std::int64_t power_of_two(std::int64_t value);

}  // namespace heddle::schedules
