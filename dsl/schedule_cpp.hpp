#pragma once
#include <string>
#include <vector>

#include "dsl/pipeline.hpp"
#include "dsl/schedule.hpp"

namespace heddle {

/// A schedule as C++ that calls Halide, for pipelines that live without Heddle. A directive is the method of its name;
/// what apply() does to the pipeline, the code does to the Funcs.
struct ScheduleCpp {
  std::vector<std::string> funcs;  ///< C++ names of the Funcs that the code expects, one a stage, then the operands
  std::vector<std::string> roles;  ///< of those
  std::string body;                ///< statements, indented by four spaces; expects `using namespace Halide`
};

/// `pipeline` is unscheduled. Throws Error{unsupported} for symbolic extents, which a pipeline of Halide's has as
/// variables of its own.
ScheduleCpp schedule_to_cpp(const Schedule& schedule, const Pipeline& pipeline);

/// A header with `inline void NAME(Halide::Func ..., ...)`, a parameter a Func; `comment` stands above it.
std::string schedule_header(const ScheduleCpp& code, const std::string& name, const std::string& comment);

/// Every line behind "// ".
std::string as_comment(const std::string& text, const std::string& indent = "");

}  // namespace heddle
