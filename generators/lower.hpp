#pragma once
#include <functional>
#include <string>
#include <vector>

#include "generators/kernel.hpp"

// Between a request and Halide: what kernel.cpp and static_library.cpp share.
namespace heddle {

/// How Halide is asked for code: the request's target and its flags.
Halide::Target halide_target(const KernelRequest& request);

/// A fresh pipeline with the request's schedule, lowered under the given function name. The names of the functions
/// inside depend on the request alone. Where the target borrows instructions for products of bytes, code that would
/// hold one that the processor lacks is lowered without them.
Halide::Module lower(const KernelRequest& request, const std::string& symbol);

/// An output that Halide only writes to files.
std::string compile_to_text(const Halide::Module& module, Halide::OutputFileType kind);

/// Runs `f` with a stack that is deep enough for Halide's recursion; its exceptions become Error with the workload and
/// the schedule's file. Warnings that Halide gives meanwhile go to the debug log instead of stderr.
void with_halide(const KernelRequest& request, const std::function<void()>& f);

}  // namespace heddle
