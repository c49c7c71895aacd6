#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/array.hpp"
#include "runtime/model.hpp"
#include "runtime/session.hpp"

namespace heddle::tools {

/// Inputs as given on the command line: NAME=FILE (.npy, ONNX .pb), or one .npz with an array a name.
struct InputOptions {
  std::vector<std::string> inputs;
  void add_flags(CLI::App& app);
};

/// The model's inputs by name. Missing ones are an Error{invalid_argument} naming them, unless `fill` is set: then they
/// are drawn from `seed` (floats uniform in [-1, 1], integers 0..9), symbolic extents at the low end of their range
/// unless another input fixes them.
std::vector<Array> load_inputs(const InputOptions& options, const runtime::Model& model, bool fill, std::uint64_t seed);

/// Hands the arrays to the session, which reads them in place: they must outlive its runs.
void set_inputs(runtime::Session& session, std::vector<Array>& inputs);

/// A session's output as an array of its own.
Array output_array(const runtime::Session& session, std::size_t index);

/// Uniform in [low, high], rounded for integers.
Array random_array(DType type, const Shape& shape, std::uint64_t seed, double low = -1, double high = 1);

}  // namespace heddle::tools
