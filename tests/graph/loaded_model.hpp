#pragma once
#include <filesystem>
#include <memory>
#include <vector>

#include "base/file.hpp"
#include "graph/compile.hpp"
#include "runtime/model.hpp"
#include "runtime/session.hpp"
#include "tests/graph/model_builder.hpp"

// Models compiled, written, loaded and run on poisoned memory.
namespace heddle::graph {

/// For this machine's processor, with one cache for the whole program: kernels shared by two models are compiled once.
CompileOptions compile_options();

std::vector<Array> run(runtime::Session& session, std::vector<Array> inputs);

struct LoadedModel {
  TemporaryDirectory directory;
  Compiled compiled;
  std::shared_ptr<const runtime::Model> model;

  explicit LoadedModel(const Graph& graph, const CompileOptions& options = compile_options(),
                       const runtime::LoadOptions& load = {});
  const plan::Function& main() const { return model->main(); }
};

/// Runs twice, so that what the first run left in memory shows, and compares with the operators' references.
void check_runs(const Graph& graph, const LoadedModel& loaded, const SymbolValues& symbols = {},
                double tolerance = 1e-5);

/// Convolutions of every kind, pooling, a gate, a softmax.
Graph convolutions();

/// Networks of any kind of operator in any order, so that layouts meet that nobody thought of. Values are rank 4 with
/// the same extents throughout but for the channels.
Graph random_network(std::uint32_t seed);

}  // namespace heddle::graph
