#pragma once
#include <Halide.h>

#include "dsl/machine.hpp"

namespace heddle::targets {

/// Integer operations that Halide 21 emits wrongly. For both devices a divisor of 0, for which Halide's quotients and
/// remainders are 0, is left to the device where it is unsigned:
///
///   a / b, a % b               ->   b == 0 ? 0 : a / max(b, 1), a - that * b
///
/// The others concern SPIR-V. A right shift of a signed integer by an unsigned amount is logical there. With
/// s = x < 0 ? -1 : 0, the bits that are shifted in are zeros on both sides:
///
///   x >> n                     ->   ((x ^ s) >> n) ^ s, shifted as unsigned
///
/// The remainder of a division by 2^32 or more is masked with an overflown constant:
///
///   x % 2^40                   ->   x & (2^40 - 1)
///
/// Quotients of signed integers are made of such shifts there, and for constants of products that overflow. With s as
/// above and t the same for b:
///
///   a / b                      ->   (((a ^ s) / |b|) ^ s ^ t) - t, divided as unsigned; 0 where b is 0
///   a % b                      ->   a - (a / b) * b
///
/// and likewise for quotients toward zero, whose remainder takes the divisor's sign there. What can be proved not to be
/// negative, as indices of threads, needs no s.
Halide::Internal::Stmt integers(const Halide::Internal::Stmt& s, DeviceApi api);

}  // namespace heddle::targets
