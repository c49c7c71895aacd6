#pragma once
#include <string>

#include <Halide.h>

#include "base/device_api.hpp"

namespace heddle::targets {

/// What Halide 21 makes of f64 for devices. Constants pass through a float on their way, which costs them half their
/// digits:
///
///   0.1                  ->   reinterpret<float64>((uint64)0x3fb999999999999a)
///
/// For SPIR-V it knows the functions of f32 alone, although the instructions for roots and rounding take f64:
///
///   float64 sqrt_f64(x)  ->   float64 sqrt_f32(x)
///
/// Error{unsupported} for the others, which SPIR-V does not have.
Halide::Internal::Stmt doubles(const Halide::Internal::Stmt& s, DeviceApi api);

/// Whether SPIR-V lacks a function of Halide's, by its name there: "exp_f64".
bool lacks_f64(const std::string& function);

}  // namespace heddle::targets
