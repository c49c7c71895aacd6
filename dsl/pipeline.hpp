#pragma once
#include <map>
#include <string>
#include <vector>

#include <Halide.h>

#include "base/extent.hpp"

namespace heddle {

/// Where a schedule can put its hands on a pipeline: a Func under its role's name, with the names that the operator
/// gave its dimensions. Halide's own names are never used for look-up: it renames a second `out` to `out$1` and calls
/// the dimensions of an RDom `r$x`.
struct PipelineStage {
  std::string role;
  Halide::Func func;
  /// Halide's name of a reduction variable -> the operator's name (`r$x` -> `ci`), for all updates of the Func.
  std::map<std::string, std::string> reductions;
};

/// A fresh, unscheduled instance of a workload's algorithm. Scheduling mutates Funcs, so every candidate starts from
/// its own Pipeline; none shares a Func or an Expr with another, so two threads may compile two of them.
struct Pipeline {
  std::vector<PipelineStage> stages;  ///< producers first; the last one is `out`
  std::vector<Halide::Func> outputs;
  std::vector<Halide::Param<int>> symbols;  ///< one a symbolic extent, sorted by name: the kernel's first arguments
  std::vector<Halide::ImageParam> inputs;   ///< the kernel's next arguments, then the outputs
  std::map<std::string, Halide::ImageParam> operands;  ///< the inputs by role, for `in` and `prefetch`
  /// Names of an operand's dimensions in Halide's order (innermost index first), which a copy made by `in` takes over.
  /// Dimensions without a name here keep Halide's: _0, _1...
  std::map<std::string, std::vector<std::string>> operand_dimensions;

  std::vector<Halide::Argument> arguments() const;  ///< symbols, then inputs; outputs follow implicitly
};

/// An extent as an expression over the pipeline's symbol parameters.
Halide::Expr to_expr(const Extent& extent, const std::vector<Halide::Param<int>>& symbols);

}  // namespace heddle
