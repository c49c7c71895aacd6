#pragma once
#include <span>

#include "dsl/operator.hpp"

namespace heddle::ops {

/// Elementwise functions of one operand, a row each in unary.cpp.
std::span<const Operator* const> unary();

}  // namespace heddle::ops
