#include "graph/compile.hpp"

#include <algorithm>
#include <iterator>
#include <set>
#include <span>

#include <fmt/format.h>

#include "base/error.hpp"
#include "generators/kernel.hpp"
#include "graph/kernels.hpp"
#include "graph/layout.hpp"
#include "graph/lower.hpp"
#include "schedules/records.hpp"

namespace heddle::graph {
namespace {

using Progress = std::function<void(const std::string& phase, int done, int total)>;

void report(const Progress& progress, const std::string& phase, std::size_t done, std::size_t total) {
  if (progress) progress(phase, static_cast<int>(done), static_cast<int>(total));
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
  json["exact"] = options.exact;
  json["precision"] = to_string(options.precision);
  for (const Target& target : options.targets) json["targets"].push_back(target.name);
  for (const auto& [name, file] : options.schedules) json["schedules"][name] = file.string();
  if (!options.records.empty()) json["records"] = records_name(options.records);
  return json.dump();
}

/// Adds a file to the package.
void add_file(Compiled& compiled, const std::string& path, std::string bytes) {
  compiled.package.files.push_back({path, plan::checksum(bytes), bytes.size()});
  compiled.files[path] = std::move(bytes);
}

/// The path of a file with these bytes that the package has already, or of a new one.
std::string add_shared_file(Compiled& compiled, const std::string& path, std::string bytes) {
  for (const plan::Module& module : compiled.package.modules)
    if (compiled.files.at(module.weights) == bytes) return module.weights;
  add_file(compiled, path, std::move(bytes));
  return path;
}

std::vector<plan::DeviceKernel> add_device_code(Compiled& compiled, const Target& target, const std::string& symbol,
                                                const targets::DeviceCode& code) {
  std::vector<plan::DeviceKernel> entries;
  const std::string stem = target.folder() + "/" + symbol;
  const bool one_source = code.api == DeviceApi::opencl;
  if (one_source) add_file(compiled, stem + ".cl", code.source);
  for (std::size_t i = 0; i < code.entries.size(); ++i) {
    const targets::DeviceEntry& entry = code.entries[i];
    plan::DeviceKernel kernel;
    kernel.kernel = symbol;
    kernel.entry = entry.name;
    kernel.file = one_source ? stem + ".cl" : fmt::format("{}.{}.spv", stem, i);
    kernel.uniform_block = entry.uniform_block;
    kernel.access = entry.access;
    kernel.block_constants = entry.block_constants;
    for (const auto& s : entry.shared) kernel.shared.push_back({s.constant, s.element_bytes, s.elements});
    if (!one_source) add_file(compiled, kernel.file, entry.code);
    entries.push_back(std::move(kernel));
  }
  return entries;
}

void add_module(Compiled& compiled, Compiled::Module built, std::span<const CompiledKernel> objects) {
  const Target& target = built.target;
  plan::Module module;
  module.target = target.name;
  module.architecture = target.architecture;
  module.features = target.features;
  module.rank = target.rank;
  if (target.is_gpu()) module.device = target.machine.gpu->api;
  std::set<std::string> seen;
  std::vector<std::string> distinct;
  for (std::size_t k = 0; k < built.kernels.size(); ++k) {
    const ChosenKernel& chosen = built.kernels[k];
    if (!seen.insert(chosen.symbol).second) continue;
    distinct.push_back(objects[k].object);
    plan::Kernel kernel;
    kernel.name = chosen.symbol;
    kernel.workload = chosen.request.workload->text();
    kernel.implementation = chosen.choice.implementation.print();
    kernel.source = chosen.choice.source;
    kernel.obstacle = chosen.obstacle;
    for (const auto& requirement : chosen.choice.requirements)
      kernel.preconditions.push_back(precondition(requirement));
    module.kernels.push_back(std::move(kernel));
    if (!chosen.on_device()) continue;
    auto entries = add_device_code(compiled, target, chosen.symbol, objects[k].device);
    std::ranges::move(entries, std::back_inserter(module.device_kernels));
  }
  // A device's buffers begin at multiples of 256 bytes, a processor's at those of a cache line.
  Weights weights(target.is_gpu() ? 256 : 64);
  module.functions.push_back(lower(*built.source, built.kernels, weights));
  const std::string folder = target.folder();
  module.file = fmt::format("{}/{}.so", folder, target.is_gpu() ? "host" : target.name);
  add_file(compiled, module.file, link_module(distinct, target));
  module.weights = add_shared_file(
      compiled, target.is_gpu() ? folder + "/weights" : fmt::format("{}/{}.weights", folder, target.name),
      weights.take());
  compiled.package.modules.push_back(std::move(module));
  compiled.modules.push_back(std::move(built));
}

Graph run_passes(const Graph& imported, bool device, DType precision, const Progress& progress) {
  Graph graph = imported;
  const std::vector<Pass> all = passes(precision);
  std::size_t done = 0;
  for (const Pass& pass : all) {
    report(progress, "passes", done++, all.size());
    if (device && pass.processors_only) continue;
    try {
      graph = pass.run(graph);
    } catch (const Error& e) {
      throw e.within(fmt::format("pass '{}'", pass.name));
    }
  }
  report(progress, "passes", done, all.size());
  return graph;
}

Graph laid_out(const Graph& passed, bool device) {
  return assign_layouts(passed, device ? Padding::in_kernel : Padding::in_memory);
}

GroupedGraph grouped_for(const Graph& graph, const Target& target, const GroupOptions& options) {
  // A device has as many threads as it has: what is compiled for it must not depend on the processor's.
  return {graph, make_groups(graph, target.machine, target.is_gpu() ? GroupOptions{.threads = 1} : options)};
}

}  // namespace

GroupedGraph prepare(const Graph& imported, const Target& target, const GroupOptions& options, DType precision) {
  const bool device = target.is_gpu();
  return grouped_for(laid_out(run_passes(imported, device, precision, {}), device), target, options);
}

Compiled compile(const Graph& imported, const CompileOptions& options) {
  if (options.targets.empty()) throw Error(ErrorCode::invalid_argument, "no target to compile for: name at least one");
  if (size_of(options.precision) > 4 || !is_float(options.precision))
    throw Error(ErrorCode::invalid_argument,
                fmt::format("the precision {} is none of f32, bf16 and f16", to_string(options.precision)));
  Compiled compiled;
  std::map<bool, Graph> graphs;                                        // by whether they are for devices
  std::map<std::string, std::shared_ptr<const GroupedGraph>> sources;  // by target; devices share one
  std::vector<Compiled::Module> modules;
  std::vector<KernelRequest> requests;
  std::set<std::string> names;
  for (const Target& target : options.targets) {
    if (!names.insert(target.name).second) continue;  // "cpu" is one of the others
    report(options.progress, "schedules", modules.size(), options.targets.size());
    const bool device = target.is_gpu();
    if (!graphs.contains(device))
      graphs.emplace(device, laid_out(run_passes(imported, device, options.precision, options.progress), device));
    auto& source = sources[device ? "devices" : target.name];
    if (!source) {
      source = std::make_shared<const GroupedGraph>(grouped_for(graphs.at(device), target, options));
      check_schedule_names(*source, options);
    }
    modules.push_back({target, source, choose_kernels(*source, target, options)});
    for (const ChosenKernel& kernel : modules.back().kernels) requests.push_back(kernel.request);
  }
  report(options.progress, "schedules", modules.size(), modules.size());

  KernelCache cache(options.cache.empty() ? KernelCache::default_directory() : options.cache);
  const auto objects = compile_all(requests, cache, options.jobs, [&](int done, int total) {
    if (options.progress) options.progress("kernels", done, total);
  });

  plan::Package& package = compiled.package;
  package.model = imported.name;
  for (const auto& [name, range] : imported.symbols) package.symbols.push_back({name, range.min, range.max});
  package.provenance = provenance(options);
  std::span<const CompiledKernel> left = objects;
  for (std::size_t m = 0; m < modules.size(); ++m) {
    report(options.progress, "packing", m, modules.size());
    const std::size_t count = modules[m].kernels.size();
    add_module(compiled, std::move(modules[m]), left.first(count));
    left = left.subspan(count);
  }
  report(options.progress, "packing", modules.size(), modules.size());
  return compiled;
}

}  // namespace heddle::graph
