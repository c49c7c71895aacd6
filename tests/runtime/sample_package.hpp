#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "base/file.hpp"
#include "runtime/plan.hpp"

// A package written by hand: kernels in C, compiled with the shims by the system's compiler, and a plan for them.
namespace heddle::test {

/// For an input x: f32[2, W] with 4 <= W <= 4096 and a constant factor k = [3, 5]:
///   padded = x with a border of one column of -1 on each side   (copy, fill_border)
///   y      = padded[r, i - 1] + padded[r, i] + padded[r, i + 1] (kernel k_sum3, parallel, with scratch memory)
///   out    = y * k[r]                                           (kernel k_scale, takes W as a scalar)
///   shape  = [2, W, 2 * W] as i64                               (host operator evaluate)
/// Outputs: out, shape. Steps in that order. Files are not filled in.
plan::Package sample_package();

/// What the sample computes.
std::vector<float> sample_reference(const std::vector<float>& x);

/// The compiled kernels' bytes, made once a process; see sample_kernels.c for what is in there.
const std::string& sample_module();
std::string sample_weights();

/// Writes manifest, kernels and weights into `directory`, with their checksums.
void write_sample(const plan::Package& package, const std::filesystem::path& directory);

/// A package's value and argument with row-major strides, for plans written in tests.
plan::Value dense_value(const std::string& name, DType dtype, std::vector<Extent> shape, plan::Storage storage);
plan::Argument dense_argument(const plan::Function& function, int value);

/// Runs a shell command; returns its exit status and what it printed.
struct CommandResult {
  int status = -1;
  std::string output;
};
CommandResult run_command(const std::string& command);

/// The system's C compiler with the flags for kernels: sources -> a shared object.
std::string compile_module_command(const std::filesystem::path& source, const std::filesystem::path& output);

}  // namespace heddle::test
