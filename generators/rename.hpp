#pragma once
#include <string>

#include <Halide.h>

namespace heddle {

/// Takes out of a lowered module what depends on how many names the process made before (`blur_acc$7`) and would reach
/// the object: names of the functions of parallel loops, of allocations, and of buffers in error messages. `symbol` is
/// the name of the module's entry, which stays.
void normalise_names(Halide::Module& module, const std::string& symbol);

}  // namespace heddle
