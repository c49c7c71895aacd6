#pragma once
#include <functional>

#include <Halide.h>

namespace heddle::targets {

/// Runs `rewrite` on the pipeline's statement after all of Halide's own lowering.
void add_pass(Halide::Pipeline& pipeline, std::function<Halide::Internal::Stmt(const Halide::Internal::Stmt&)> rewrite);

}  // namespace heddle::targets
