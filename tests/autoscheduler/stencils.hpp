#pragma once
#include "dsl/operator.hpp"

namespace heddle::testing {

/// Four 3x3 stencils one after the other, the last beside the second's result: every stage but `out` may have a nest of
/// its own.
const Operator& stencils();

}  // namespace heddle::testing
