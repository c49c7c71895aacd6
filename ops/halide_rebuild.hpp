#pragma once
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <Halide.h>

#include "dsl/operator.hpp"

// Halide's pipelines made again, Func by Func, with other names, inputs or types: scheduling mutates Funcs, so whoever
// wants to try several schedules on a pipeline that exists already needs copies of it.
namespace heddle::ops {

/// One Func of a pipeline.
struct HalideStage {
  std::string role;  ///< readable and unique: "out" for the result
  Halide::Internal::Function function;
  std::vector<std::string> dimensions;            ///< Halide's order, as schedules call them
  std::map<std::string, std::string> reductions;  ///< Halide's name -> the schedules'
};

/// One image that a pipeline reads.
struct HalideOperand {
  std::string role;
  Halide::Parameter parameter;
  Halide::Internal::Function wrapper;  ///< what Halide reads it through; undefined where it is read directly
};

/// A pipeline's parts under the names that schedules give them. Throws Error{unsupported} naming what Heddle has no
/// words for: Tuples, several outputs, extern stages, functions from outside of Halide, Booleans in memory.
struct HalideParts {
  std::vector<HalideStage> stages;      ///< producers first, `out` last
  std::vector<HalideOperand> operands;  ///< in the order in which stages first read them

  explicit HalideParts(const Halide::Pipeline& pipeline);
  const HalideStage& out() const { return stages.back(); }
};

/// How to make a pipeline again. Every function is called for what it is about and may throw.
struct Rebuild {
  /// An element of an operand; `index` is what the pipeline asks for, Halide's order.
  std::function<Halide::Expr(std::size_t operand, const std::vector<Halide::Expr>& index)> read;
  /// The value of a scalar parameter, or of a bound of an operand ("input.extent.0").
  std::function<Halide::Expr(const Halide::Internal::Variable& variable)> parameter;
  /// The name of the new Func.
  std::function<std::string(const std::string& role)> name;
  std::vector<Halide::Expr> output_min = {};  ///< where the result begins, which the new one has at 0
  bool in_double = false;                     ///< floats of every width become doubles
};

/// New Funcs, one a stage, whose dimensions and reductions bear the names that schedules give them. Reductions start
/// at 0.
std::vector<Halide::Func> rebuild(const HalideParts& parts, const Rebuild& how);

/// Gives shared subexpressions names that do not depend on what else the process made.
void number_lets(std::vector<Halide::Func>& stages);

/// What the arithmetic of a pipeline is like, which decides how its result can be compared.
struct HalideCharacter {
  bool has_floats = false;
  /// A float decides something that is not continuous: a comparison, a rounding, an index, bits.
  bool has_jumps = false;
  bool rounds_to_integers = false;  ///< some float becomes an integer
  int least_mantissa = 64;          ///< bits of the narrowest float
  double rounding_steps = 0;        ///< on the way to one element: the square roots of the stages' operations added up
};
HalideCharacter character_of(const HalideParts& parts);

/// Arithmetic of the whole result, addresses not counted; 0 where what a stage computes has no fixed bounds.
/// `extents`: the result's, Halide's order.
double operations_of(const std::vector<Halide::Func>& stages, const std::vector<int>& extents);

/// A name that schedules can write, made from one of Halide's: "f$3" -> "f".
std::string readable_name(const std::string& name);

}  // namespace heddle::ops
