#pragma once
#include <span>

#include "dsl/operator.hpp"

namespace heddle::ops {

/// Elementwise functions of two operands that broadcast to each other, a row each in binary.cpp.
std::span<const Operator* const> binary();

}  // namespace heddle::ops
