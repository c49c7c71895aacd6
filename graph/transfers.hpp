#pragma once
#include <cstddef>
#include <set>
#include <vector>

#include "graph/compile.hpp"
#include "runtime/plan.hpp"

// Modules for devices run some steps on the processor. A value made on one side and read on the other is copied once,
// since every value is written once.
namespace heddle::graph {

enum class Side { either, host, device };  ///< either: a view does nothing anywhere

/// The order to run groups in, as indices: one that depends on another after it, and as many as possible of one side
/// before the other's turn comes, because each change of sides waits for the device. With one side only, the order
/// given. `sides`: parallel to `groups`.
std::vector<std::size_t> order_by_side(const std::vector<Group>& groups, const std::vector<Side>& sides);

/// Values that steps of one side make and steps of the other read. `holders`: for each value of the function the value
/// whose step made its bytes, -1 for inputs and constants, which both sides have.
std::set<int> crossing_values(const plan::Function& function, const std::vector<int>& holders);

/// Inserts `upload` and `download` steps for the crossing values: all that a run of steps on one side made for the
/// other, before the other's turn.
void add_transfers(plan::Function& function, const std::vector<int>& holders);

}  // namespace heddle::graph
