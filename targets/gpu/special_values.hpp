#pragma once
#include <Halide.h>

namespace heddle::targets {

/// Asks a float's bits what kind of value it is, since drivers may take floats for finite and drop the question:
///
///   is_nan_f32(x)     ->   (reinterpret<uint32>(x) & 0x7fffffff) > 0x7f800000
///   is_inf_f32(x)     ->   (reinterpret<uint32>(x) & 0x7fffffff) == 0x7f800000
///   is_finite_f32(x)  ->   (reinterpret<uint32>(x) & 0x7fffffff) < 0x7f800000
///
/// and the same for f64 and f16.
Halide::Internal::Stmt special_values(const Halide::Internal::Stmt& s);

}  // namespace heddle::targets
