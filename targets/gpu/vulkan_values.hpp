#pragma once
#include <Halide.h>

namespace heddle::targets {

/// What Halide 21 loses on the way to SPIR-V.
///
/// An interleave of two vectors comes out as an instruction that no validator accepts; one of more is taken apart and
/// put together:
///
///   interleave(a, b)           ->   shuffle(a, b, 0) with the same indices
///
/// Strict arithmetic comes out as any other, and drivers then make (1 + x) - 1 into x. A minimum of a value with itself
/// survives as far as finish_spirv, which takes it away and says of the value that it stays as it is:
///
///   strict_add(a, b)           ->   let t = a + b in min(t, t)        likewise differences, products and quotients
Halide::Internal::Stmt vulkan_values(const Halide::Internal::Stmt& s);

}  // namespace heddle::targets
