#pragma once
#include <string>
#include <vector>

#include "graph/compile.hpp"
#include "graph/weights.hpp"

namespace heddle::graph {

/// Groups to the steps of a function: values with their storage, constants packed as the chosen implementations want
/// them, kernels' arguments, borders filled, results in place where that is safe, copies between a device and the
/// processor. `kernels`: one a kernel group, in order.
plan::Function lower(const GroupedGraph& source, const std::vector<ChosenKernel>& kernels, Weights& weights);

/// The function's steps and values as text.
std::string print(const plan::Function& function);

/// Whether a schedule writes every element of `out` exactly once, each after reading only the operands' element there:
/// then an elementwise kernel's result may take its operand's bytes. A shifted tail would compute its overlap twice.
bool writes_once(const Schedule& schedule);

}  // namespace heddle::graph
