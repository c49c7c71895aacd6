#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dsl/workload.hpp"
#include "generators/kernel.hpp"
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
  bool processors_only = false;  ///< devices have no better kernel for what it makes than for what it replaces
};
/// In the order they run, for CompileOptions::precision. Layouts come after, see layout.hpp.
std::vector<Pass> passes(DType precision = DType::f32);

/// What becomes one step: a kernel's nodes, or a host step of one node. A view looks at its operand's bytes differently
/// and a join at bytes that its operands were written to: neither takes a step.
struct Group {
  enum class Kind { kernel, view, join, host };
  Kind kind = Kind::kernel;
  std::vector<int> nodes;            ///< indices into Graph::nodes, in order
  int anchor = 0;                    ///< index into `nodes` of this group
  std::vector<int> inputs, outputs;  ///< values of the graph; inputs in the Composition's order
  std::optional<Workload> workload;  ///< kernel groups
};

/// What is asked of a graph's kernels.
struct GroupOptions {
  int threads = 2;         ///< that schedules of a processor should feed; a device's kernels do not depend on it
  bool exact = false;      ///< no variant that rounds more than plain sums, see Composition: not Winograd's
  bool share_all = false;  ///< even kernels that threads make slower, see worth_sharing: an operator asked for alone
};

/// `machine`: that the kernels are for, where it decides what is faster in one of them.
std::vector<Group> make_groups(const Graph& graph, const Machine& machine, const GroupOptions& options);
std::string print(const std::vector<Group>& groups, const Graph& graph);
std::string print(const plan::Package& package);  ///< every module's functions: values, then steps

/// The graph as a kind of target computes it, and what it is cut into. Processors and devices lay values out otherwise.
struct GroupedGraph {
  Graph graph;
  std::vector<Group> groups;
};

/// The imported graph after every pass, laid out and cut for a target.
GroupedGraph prepare(const Graph& imported, const Target& target, const GroupOptions& options,
                     DType precision = DType::f32);

struct CompileOptions : GroupOptions {
  std::vector<Target> targets;
  /// What f32 data is stored as between kernels, which sum in f32: f32, bf16 or f16. See narrow_floats.
  DType precision = DType::f32;
  int jobs = 2;  ///< kernels compiled side by side
  std::filesystem::path cache;
  /// `--schedule`, by kernel workload name or anchor operator; "" for every kernel that the file fits (at least one).
  std::map<std::string, std::filesystem::path> schedules;
  /// `--records`: the store to take measured schedules from, where no file is given; empty: none.
  std::string records = {};
  /// What records call the devices that targets for devices will run on, by target's name; absent: this processor.
  std::map<std::string, std::string> machines = {};
  std::function<void(const std::string& phase, int done, int total)> progress;
  /// What the caller knows of where the model came from: `source`, `source_sha256`, `command`. Becomes part of the
  /// package's provenance.
  std::map<std::string, std::string> provenance = {};
  /// Why a kernel is to run on the processor beside the device that the target is for; empty: it may run on the device.
  /// Asked in addition to what the device's language cannot say.
  std::function<std::string(const Workload&, const Target&)> keep_on_host = {};
};

/// A kernel group as one module runs it.
struct ChosenKernel {
  Choice choice;
  /// Its target is the module's or, in a module for a device, that of the processor beside it.
  KernelRequest request;
  std::string symbol;
  std::string obstacle;  ///< why a module for a device runs it on the processor; empty where it does not

  bool on_device() const { return request.target.is_gpu(); }
};

/// A compiled model before it is written: what `show` prints and write_package stores.
struct Compiled {
  plan::Package package;
  std::map<std::string, std::string> files;  ///< contents of package.files by path
  struct Module {
    Target target;
    std::shared_ptr<const GroupedGraph> source;  ///< `kernels` point into it; devices share one
    std::vector<ChosenKernel> kernels;           ///< one a kernel group, in group order

    const Graph& graph() const { return source->graph; }
    const std::vector<Group>& groups() const { return source->groups; }
  };
  std::vector<Module> modules;  ///< parallel to package.modules
};
Compiled compile(const Graph& imported, const CompileOptions& options);

/// Writes the package directory beside `directory` and renames it into place: a reader never sees half of one. An
/// existing package is replaced; an existing directory that is not a package is an error.
void write_package(const Compiled& compiled, const std::filesystem::path& directory);

}  // namespace heddle::graph
