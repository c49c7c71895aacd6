#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dsl/workload.hpp"

// How a kernel's loops walk through its operands, read off the algorithm itself.
namespace heddle::schedules {

/// One place of the algorithm that reads an operand: its index as expressions of `out`'s loops (and of reductions).
struct Access {
  std::string operand;              ///< role
  std::vector<Halide::Expr> index;  ///< logical order
};

/// Every read of an operand by `out` and what it is computed from.
std::vector<Access> accesses(const Workload& workload, const Pipeline& pipeline);

/// By how much an index grows from one iteration of a loop to the next; nothing where that varies.
std::optional<std::int64_t> step(const Halide::Expr& index, std::string_view loop);

/// Whether neighbouring iterations of a loop read neighbouring elements of every operand, or the same one: what a
/// vector along it needs in order to be one load. Operands in `except` are not looked at.
bool reads_dense(const Workload& workload, const Pipeline& pipeline, std::string_view loop,
                 const std::vector<std::string>& except = {});

}  // namespace heddle::schedules
