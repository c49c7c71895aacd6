#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "dsl/workload.hpp"
#include "graph/graph.hpp"
#include "ops/catalog.hpp"
#include "runtime/plan.hpp"
#include "schedules/family.hpp"
#include "targets/target.hpp"

namespace heddle::graph {

/// A format reader: bytes on disk to a Graph whose nodes are catalog operators. Shape inference and folding of shape
/// arithmetic are part of reading, since operators take shapes as attributes.
struct ReadOptions {
  /// `--dim`: a symbolic input dimension's range, by the model's name for it or by `input:axis`; min == max fixes it.
  /// A dimension without one may be 1 to 4096.
  SymbolRanges dimensions;
  /// Dimensions (named as above) that are always a multiple of a number: `--dim H=32:960:32`. The input's extent
  /// becomes 32*H_32, which the package checks when it is given a size, and arithmetic that halves and doubles it is
  /// exact. Where a model needs such a multiple to have a meaning, the reader finds it by itself.
  SymbolValues multiples;
};
Graph read_onnx(const std::filesystem::path& path, const Operators& operators, const ReadOptions& options = {});
/// Picks the reader by content; throws Error{corrupt} or {unsupported} naming what the file is not.
Graph read_model(const std::filesystem::path& path, const Operators& operators, const ReadOptions& options = {});

/// A pass: Graph -> Graph, small, one file each in graph/passes/.
struct Pass {
  std::string name;
  std::string summary;  ///< before -> after
  std::function<Graph(const Graph&)> run;
};
const std::vector<Pass>& passes();  ///< in the order they run

/// What becomes one step: a kernel's nodes, or a view or host step of one node.
struct Group {
  enum class Kind { kernel, view, host };
  Kind kind = Kind::kernel;
  std::vector<int> nodes;            ///< indices into Graph::nodes, in order
  int anchor = 0;                    ///< index into `nodes` of this group
  std::vector<int> inputs, outputs;  ///< values of the graph; inputs in the Composition's order
  std::optional<Workload> workload;  ///< kernel groups
};
std::vector<Group> make_groups(const Graph& graph, int threads);
std::string print(const std::vector<Group>& groups, const Graph& graph);
std::string print(const plan::Package& package);  ///< every module's functions: values, then steps

struct CompileOptions {
  std::vector<Target> targets;
  int threads = 2;  ///< that schedules should feed
  int jobs = 2;     ///< kernels compiled side by side
  std::filesystem::path cache;
  /// `--schedule`, by kernel workload name or anchor operator; "" for every kernel that the file fits (at least one).
  std::map<std::string, std::filesystem::path> schedules;
  std::function<void(const std::string& phase, int done, int total)> progress;
  /// What the caller knows of where the model came from: `source`, `source_sha256`, `command`. Becomes part of the
  /// package's provenance.
  std::map<std::string, std::string> provenance = {};
};

/// A compiled model before it is written: what `show` prints and write_package stores.
struct Compiled {
  Graph graph;  ///< after all passes
  std::vector<Group> groups;
  plan::Package package;
  /// Per module: its kernels' requests' texts for `show`, the linked shared object and the packed weights.
  struct Module {
    Target target;
    std::vector<Choice> choices;  ///< one a kernel group, in group order
    std::string shared_object;
    std::string weights;
  };
  std::vector<Module> modules;
};
Compiled compile(const Graph& imported, const CompileOptions& options);

/// The graph as groups are made from it: after every pass.
Graph prepare(const Graph& imported);

/// Writes the package directory beside `directory` and renames it into place: a reader never sees half of one. An
/// existing package is replaced; an existing directory that is not a package is an error.
void write_package(const Compiled& compiled, const std::filesystem::path& directory);

}  // namespace heddle::graph
