#include "graph/compile.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "base/error.hpp"
#include "generators/kernel.hpp"
#include "graph/groups.hpp"
#include "graph/lower.hpp"

namespace heddle::graph {
namespace {

using Progress = std::function<void(const std::string& phase, int done, int total)>;

void report(const Progress& progress, const std::string& phase, std::size_t done, std::size_t total) {
  if (progress) progress(phase, static_cast<int>(done), static_cast<int>(total));
}

const Node& anchor_of(const Group& group, const Graph& graph) {
  return graph.nodes[static_cast<std::size_t>(group.nodes[static_cast<std::size_t>(group.anchor)])];
}

/// The schedule written by hand for a group: by the workload's name, else by the anchor's operator.
std::optional<std::filesystem::path> schedule_file(const Group& group, const Graph& graph,
                                                   const CompileOptions& options) {
  for (const std::string& key : {group.workload->name(), std::string(anchor_of(group, graph).op->name())})
    if (const auto file = options.schedules.find(key); file != options.schedules.end()) return file->second;
  return std::nullopt;
}

/// A file that no group took is a misspelt name, which must not pass unnoticed.
void check_schedules(const std::vector<Group>& groups, const Graph& graph, const CompileOptions& options) {
  std::set<std::string> known;
  for (const Group& group : groups) {
    if (!group.workload) continue;
    known.insert(group.workload->name());
    known.emplace(anchor_of(group, graph).op->name());
  }
  for (const auto& [name, file] : options.schedules) {
    if (name.empty() || known.contains(name)) continue;
    throw Error(
        ErrorCode::not_found,
        fmt::format("no kernel of the model is called '{}'{}: schedules are named by a kernel (conv+relu) or its "
                    "main operator (conv)",
                    name, did_you_mean(name, {known.begin(), known.end()})));
  }
}

plan::Precondition precondition(const ScheduleRequirement& r) {
  return {r.kind == ScheduleRequirement::Kind::at_least ? plan::Precondition::Kind::at_least
                                                        : plan::Precondition::Kind::multiple_of,
          r.left, r.right, r.reason};
}

std::string provenance(const CompileOptions& options) {
  Json json = Json::object();
  for (const auto& [key, value] : options.provenance) json[key] = value;
  json["heddle"] = HEDDLE_VERSION;
  json["halide"] = fmt::format("{}.{}.{}", HALIDE_VERSION_MAJOR, HALIDE_VERSION_MINOR, HALIDE_VERSION_PATCH);
  json["threads"] = options.threads;
  for (const Target& target : options.targets) json["targets"].push_back(target.name);
  for (const auto& [name, file] : options.schedules) json["schedules"][name] = file.string();
  return json.dump();
}

/// One target's choices and the requests to compile them.
struct TargetWork {
  std::vector<Choice> choices;
  std::vector<KernelRequest> requests;  ///< one a kernel group
  std::vector<std::string> symbols;
};

/// Chooses and names one kernel; throws where the schedule does not fit the workload.
void choose_kernel(TargetWork& work, const Target& target, const Workload& workload,
                   const std::optional<std::filesystem::path>& file) {
  Choice choice = choose(workload, target.machine, file);
  KernelRequest request;
  request.workload = &workload;
  request.implementation = choice.implementation;
  request.target = target;
  if (file) request.schedule_file = file->string();
  std::string symbol = kernel_symbol(request);
  work.choices.push_back(std::move(choice));
  work.requests.push_back(std::move(request));
  work.symbols.push_back(std::move(symbol));
}

TargetWork choose_for(const Target& target, const std::vector<Group>& groups, const Graph& graph,
                      const CompileOptions& options) {
  TargetWork work;
  // A file given without a name goes to every kernel that it fits, and has to fit one.
  const auto for_all = options.schedules.find("");
  std::optional<Error> misfit;
  bool fitted = false;
  for (const Group& group : groups) {
    if (!group.workload) continue;
    try {
      const auto file = schedule_file(group, graph, options);
      if (!file && for_all != options.schedules.end()) {
        try {
          choose_kernel(work, target, *group.workload, for_all->second);
          fitted = true;
          continue;
        } catch (const Error& e) {
          misfit = e;
        }
      }
      choose_kernel(work, target, *group.workload, file);
    } catch (const Error& e) {
      throw e.within(fmt::format("node '{}' for {}", anchor_of(group, graph).name, target.name));
    }
  }
  if (misfit && !fitted) throw misfit->within("no kernel of the model fits the schedule");
  return work;
}

void add_module(Compiled& compiled, const Target& target, TargetWork work, const std::vector<std::string>& objects) {
  plan::Module module;
  module.target = target.name;
  module.file = fmt::format("cpu/{}.so", target.name);
  module.weights = fmt::format("cpu/{}.weights", target.name);
  module.architecture = target.architecture;
  module.features = target.features;
  module.rank = target.rank;
  std::set<std::string> seen;
  std::vector<std::string> distinct;
  std::vector<ChosenKernel> kernels;
  for (std::size_t k = 0; k < work.choices.size(); ++k) {
    const Choice& choice = work.choices[k];
    kernels.push_back({&choice, work.symbols[k]});
    if (!seen.insert(work.symbols[k]).second) continue;
    distinct.push_back(objects[k]);
    plan::Kernel kernel{
        work.symbols[k], work.requests[k].workload->text(), choice.implementation.print(), choice.source, {}};
    for (const auto& requirement : choice.requirements) kernel.preconditions.push_back(precondition(requirement));
    module.kernels.push_back(std::move(kernel));
  }
  Compiled::Module built;
  Weights weights;
  module.functions.push_back(lower(compiled.graph, compiled.groups, kernels, weights));
  built.weights = weights.take();
  built.target = target;
  built.shared_object = link_module(distinct, target);
  built.choices = std::move(work.choices);
  for (const auto& [path, bytes] : {std::pair<const std::string&, const std::string&>{module.file, built.shared_object},
                                    std::pair<const std::string&, const std::string&>{module.weights, built.weights}})
    compiled.package.files.push_back({path, plan::checksum(bytes), bytes.size()});
  compiled.package.modules.push_back(std::move(module));
  compiled.modules.push_back(std::move(built));
}

Graph run_passes(const Graph& imported, const Progress& progress) {
  Graph graph = imported;
  std::size_t done = 0;
  for (const Pass& pass : passes()) {
    report(progress, "passes", done++, passes().size());
    try {
      graph = pass.run(graph);
    } catch (const Error& e) {
      throw e.within(fmt::format("pass '{}'", pass.name));
    }
  }
  report(progress, "passes", done, passes().size());
  return graph;
}

}  // namespace

Graph prepare(const Graph& imported) { return run_passes(imported, {}); }

Compiled compile(const Graph& imported, const CompileOptions& options) {
  if (options.targets.empty()) throw Error(ErrorCode::invalid_argument, "no target to compile for: name at least one");
  Compiled compiled;
  compiled.graph = run_passes(imported, options.progress);
  compiled.groups = make_groups(compiled.graph, options.threads);
  check_schedules(compiled.groups, compiled.graph, options);

  std::vector<TargetWork> work;
  std::vector<KernelRequest> requests;
  for (const Target& target : options.targets) {
    report(options.progress, "schedules", work.size(), options.targets.size());
    work.push_back(choose_for(target, compiled.groups, compiled.graph, options));
    requests.insert(requests.end(), work.back().requests.begin(), work.back().requests.end());
  }
  report(options.progress, "schedules", work.size(), options.targets.size());

  KernelCache cache(options.cache.empty() ? KernelCache::default_directory() : options.cache);
  const auto objects = compile_all(requests, cache, options.jobs, [&](int done, int total) {
    if (options.progress) options.progress("kernels", done, total);
  });

  plan::Package& package = compiled.package;
  package.model = compiled.graph.name;
  for (const auto& [name, range] : compiled.graph.symbols) package.symbols.push_back({name, range.min, range.max});
  package.provenance = provenance(options);
  auto next = objects.begin();
  for (std::size_t t = 0; t < work.size(); ++t) {
    report(options.progress, "packing", t, work.size());
    const auto count = static_cast<std::ptrdiff_t>(work[t].requests.size());
    add_module(compiled, options.targets[t], std::move(work[t]), {next, next + count});
    next += count;
  }
  report(options.progress, "packing", work.size(), work.size());
  return compiled;
}

}  // namespace heddle::graph
