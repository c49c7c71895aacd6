#pragma once
#include <vector>

#include "graph/compile.hpp"

namespace heddle::graph {

/// What each kernel group compiles to in a module for `target`: its schedule, and which side it runs on. Throws Error
/// where a schedule written by hand does not fit, or is for a kernel that the device cannot run. The requests refer to
/// the groups' workloads.
std::vector<ChosenKernel> choose_kernels(const GroupedGraph& source, const Target& target,
                                         const CompileOptions& options);

/// Throws Error{not_found} for a schedule named by a kernel or operator that there is none of: a misspelt name must not
/// pass unnoticed.
void check_schedule_names(const GroupedGraph& source, const CompileOptions& options);

}  // namespace heddle::graph
