#pragma once
#include <string>

#include "dsl/pipeline.hpp"

namespace heddle {

/// A pipeline's canonical form: its definitions, constraints and schedule with every name replaced by the order in
/// which it first appears. Halide numbers names by how many it has made in the process (`out$7`, `r12$x`), so its own
/// printed form differs each time; this one is equal exactly where the same code would be generated.
///
/// Shared subexpressions are written once, so the size follows that of the graph, not of the tree.
std::string canonical_form(const Pipeline& pipeline);

}  // namespace heddle
