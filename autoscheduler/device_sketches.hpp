#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "autoscheduler/subject.hpp"

// The structures of kernels for devices. Null where one does not fit the subject, which must outlive what is made.
namespace heddle::autoscheduler {

/// A block of threads computes a tile of the output, each thread its own part in registers; what is read again goes
/// through shared memory, a step of the reduction at a time.
std::unique_ptr<SketchRule> device_blocks_sketch(const Subject& subject);
/// Reductions along whole rows: threads share each row.
std::unique_ptr<SketchRule> device_groups_sketch(const Subject& subject);
/// A thread an element or a vector of the output, over one flat grid.
std::unique_ptr<SketchRule> device_flat_sketch(const Subject& subject);

using Emit = std::function<std::variant<Candidate, Pruned>(const std::vector<std::int64_t>& values)>;

/// Points of the best estimates, no two with the same implementation: from each start, one knob after the other.
std::vector<std::vector<std::int64_t>> best_by_estimate(const std::vector<SpaceKnob>& knobs, const Emit& emit,
                                                        const std::vector<std::vector<std::int64_t>>& starts,
                                                        std::size_t most);

/// Whether neighbours along the output's innermost loop read neighbours, or the same, of every operand but `except`:
/// what a vector along it needs.
bool reads_dense_along(const Subject& subject, const std::vector<std::string>& except = {});

/// The reductions of each stage's updates, by the names that schedules give them.
using UpdateReductions = std::map<std::string, std::vector<std::vector<std::string>>>;
UpdateReductions update_reductions(const Workload& workload);

}  // namespace heddle::autoscheduler
