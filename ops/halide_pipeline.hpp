#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <Halide.h>

#include "dsl/operator.hpp"
#include "dsl/pipeline.hpp"

// Any pipeline of Halide's as an operator: its attribute holds the pipeline, so that workloads, records and workers
// need nothing but their text.
namespace heddle::ops {

/// A pipeline that somebody else wrote, brought into the form that the operator `halide_pipeline` keeps.
struct ImportedPipeline {
  Json attributes;                 ///< of halide_pipeline
  std::vector<TensorType> inputs;  ///< its operands' types
};

/// Scalar parameters by their names in Halide.
using ParameterValues = std::map<std::string, double>;

/// Reads the algorithm; whatever schedule there is on it stays out. Sizes are the estimates of the result, which it
/// needs, and of the inputs, which default to what the result asks for; buffers are dense with the first dimension
/// innermost. Scalar parameters become constants: `values`, else
/// their estimates, else what they are set to. Throws Error{unsupported} naming what Heddle has no
/// words for, and Error{invalid_argument} for estimates that are missing or too small.
ImportedPipeline import_pipeline(const Halide::Pipeline& pipeline, const ParameterValues& values = {});

/// A file that Halide::serialize_pipeline wrote, which holds the result's estimates and no others. Throws
/// Error{not_found} or {corrupt} besides.
ImportedPipeline import_pipeline(const std::filesystem::path& file, const ParameterValues& values = {});

/// The caller's own Funcs under the roles and names that schedules for the imported pipeline give them, so that apply()
/// schedules them in place. Images that are read are stages here.
Pipeline own_stages(const Halide::Pipeline& pipeline);

}  // namespace heddle::ops
