#pragma once
#include "dsl/operator.hpp"

namespace heddle::testing {

/// A picture of three colours woven from planes of half the size: what a pixel is depends on whether its column and row
/// are even, and on the colour.
const Operator& mosaic();

/// How often each of eight levels occurs in each column.
const Operator& column_histogram();

}  // namespace heddle::testing
