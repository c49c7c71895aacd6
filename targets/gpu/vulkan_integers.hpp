#pragma once
#include <Halide.h>

namespace heddle::targets {

/// Integer operations that Halide 21 emits wrongly for SPIR-V.
///
/// A right shift of a signed integer by an unsigned amount is logical there. With s = x < 0 ? -1 : 0, the bits that are
/// shifted in are zeros on both sides:
///
///   x >> n                     ->   ((x ^ s) >> n) ^ s, shifted as unsigned
///
/// The remainder of a division by 2^32 or more is masked with an overflown constant:
///
///   x % 2^40                   ->   x & (2^40 - 1)
///
/// The remainder toward zero takes the divisor's sign:
///
///   mod_round_to_zero(a, b)    ->   a - div_round_to_zero(a, b) * b
Halide::Internal::Stmt vulkan_integers(const Halide::Internal::Stmt& s);

}  // namespace heddle::targets
