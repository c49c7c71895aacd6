#pragma once
#include <optional>

#include <Halide.h>

// What operations of lowered code cost, in instructions of one vector.
namespace heddle::autoscheduler {

/// By what is divided by: a power of two, another constant, or any value.
double division_cost(const Halide::Type& type, const Halide::Expr& by);

/// Of taking one element's index out of a vector and putting what is there into another: those of 8 and 16 bits keep
/// the port for shuffles busy for two cycles each.
double element_cost(const Halide::Type& type);

/// Of a mathematical function that Halide or LLVM computes in vectors; none for those of the C library, which are
/// called lane by lane.
std::optional<double> function_cost(const Halide::Internal::Call& call);
constexpr double library_call = 35;  ///< cycles

}  // namespace heddle::autoscheduler
