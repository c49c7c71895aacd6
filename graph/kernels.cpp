#include "graph/kernels.hpp"

#include <algorithm>
#include <set>
#include <unordered_map>

#include <fmt/format.h>

#include "base/error.hpp"
#include "schedules/records.hpp"
#include "targets/gpu/passes.hpp"

namespace heddle::graph {
namespace {

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

/// Chooses and names one kernel; throws where the schedule does not fit the workload.
ChosenKernel choose_kernel(const Target& target, const Workload& workload,
                           const std::optional<std::filesystem::path>& file, const RecordStore* records,
                           const CompileOptions& options) {
  ChosenKernel kernel;
  const auto machine = options.machines.find(target.name);
  kernel.choice = machine == options.machines.end() ? choose(workload, target.machine, file, records)
                                                    : choose(workload, target.machine, file, records, machine->second);
  kernel.request.workload = &workload;
  kernel.request.implementation = kernel.choice.implementation;
  kernel.request.target = target;
  if (file) kernel.request.schedule_file = file->string();
  kernel.symbol = kernel_symbol(kernel.request);
  return kernel;
}

/// Why a target's device cannot run a workload; empty if it can. Equal layers are asked about once.
class Obstacles {
 public:
  Obstacles(const Target& target, const CompileOptions& options) : target_(target), options_(options) {}

  const std::string& of(const Workload& workload) {
    const auto [found, is_new] = known_.try_emplace(workload.text());
    if (is_new && target_.is_gpu()) found->second = find(workload);
    return found->second;
  }

 private:
  std::string find(const Workload& workload) const {
    if (options_.keep_on_host)
      if (std::string reason = options_.keep_on_host(workload, target_); !reason.empty()) return reason;
    if (std::ranges::none_of(families(), [&](const Family& f) { return matches(f, workload, target_.machine); }))
      return "no schedule family takes it";
    return targets::gpu_obstacle(workload.instantiate().outputs, target_.machine.gpu->api);
  }

  const Target& target_;
  const CompileOptions& options_;
  std::unordered_map<std::string, std::string> known_;
};

}  // namespace

void check_schedule_names(const GroupedGraph& source, const CompileOptions& options) {
  std::set<std::string> known;
  for (const Group& group : source.groups) {
    if (!group.workload) continue;
    known.insert(group.workload->name());
    known.emplace(anchor_of(group, source.graph).op->name());
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

std::vector<ChosenKernel> choose_kernels(const GroupedGraph& source, const Target& target,
                                         const CompileOptions& options) {
  std::vector<ChosenKernel> kernels;
  std::optional<RecordStore> store;
  if (!options.records.empty()) store.emplace(options.records, RecordStore::Open::existing);
  const RecordStore* records = store ? &*store : nullptr;
  Obstacles obstacles(target, options);
  const Target host = target.is_gpu() ? companion_target(target) : target;
  // A file given without a name goes to every kernel that it fits, and has to fit one.
  const auto for_all = options.schedules.find("");
  std::optional<Error> misfit;
  bool fitted = false;
  for (const Group& group : source.groups) {
    if (!group.workload) continue;
    try {
      const auto file = schedule_file(group, source.graph, options);
      const std::string& obstacle = obstacles.of(*group.workload);
      if (!obstacle.empty()) {
        Error unused(
            ErrorCode::unsupported,
            fmt::format("the kernel runs on the processor ({}), so that a schedule for the device does not fit",
                        obstacle));
        if (file) throw unused;
        if (for_all != options.schedules.end()) misfit = unused;
        kernels.push_back(choose_kernel(host, *group.workload, std::nullopt, records, options));
        kernels.back().obstacle = obstacle;
        continue;
      }
      if (!file && for_all != options.schedules.end()) {
        try {
          kernels.push_back(choose_kernel(target, *group.workload, for_all->second, records, options));
          fitted = true;
          continue;
        } catch (const Error& e) {
          misfit = e;
        }
      }
      kernels.push_back(choose_kernel(target, *group.workload, file, records, options));
    } catch (const Error& e) {
      throw e.within(fmt::format("node '{}' for {}", anchor_of(group, source.graph).name, target.name));
    }
  }
  if (misfit && !fitted) throw misfit->within("no kernel of the model fits the schedule");
  return kernels;
}

}  // namespace heddle::graph
