#include "autoscheduler/fleet.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.hpp"
#include "runtime/cpu.hpp"
#include "schedules/records.hpp"
#include "targets/target.hpp"

namespace heddle::autoscheduler {

const Machine& FleetMachine::machine(const std::string& target_name) const {
  const auto found = std::ranges::find(machines, target_name, &Machine::target);
  if (found == machines.end()) {
    std::vector<std::string> names;
    for (const Machine& m : machines) names.push_back(m.target);
    throw Error(ErrorCode::unsupported, fmt::format("the workers of {} run no kernels for {}; they run {}", name,
                                                    target_name, fmt::join(names, ", ")));
  }
  return *found;
}

std::string FleetMachine::kind(const std::string& target_name) const {
  return fmt::format("{}; {}; {}", target_name, name, version);
}

FleetMachine this_fleet_machine(const std::string& version) {
  const Target host = host_target();
  FleetMachine machine{.name = machine_name(),
                       .version = version,
                       .cores = runtime::available_cpus().cores,
                       .target = host.name,
                       .machines = {}};
  for (const Target& target : all_targets())
    if (!target.is_gpu() && target.architecture == runtime::cpu_architecture() &&
        runtime::missing_features(target.features).empty())
      machine.machines.push_back(target.name == host.name ? host.machine : target.machine);
  return machine;
}

Json to_json(const FleetMachine& machine) {
  Json json = {{"name", machine.name},
               {"version", machine.version},
               {"cores", machine.cores},
               {"target", machine.target},
               {"machines", Json::array()}};
  for (const Machine& m : machine.machines)
    json["machines"].push_back(
        {{"target", m.target}, {"l1_bytes", m.l1_bytes}, {"l2_bytes", m.l2_bytes}, {"l3_bytes", m.l3_bytes}});
  return json;
}

FleetMachine fleet_machine_from_json(const Json& json) {
  FleetMachine machine{.name = json.at("name"),
                       .version = json.at("version"),
                       .cores = json.at("cores"),
                       .target = json.at("target"),
                       .machines = {}};
  for (const Json& announced : json.at("machines")) {
    // What follows from the target is the same everywhere; the caches are the machine's own.
    Machine m = find_target(announced.at("target").get<std::string>()).machine;
    m.l1_bytes = announced.at("l1_bytes");
    m.l2_bytes = announced.at("l2_bytes");
    m.l3_bytes = announced.at("l3_bytes");
    machine.machines.push_back(std::move(m));
  }
  return machine;
}

namespace {

bool of_version(const JobQueue::Machine& row, const std::string& version) { return row.name.ends_with("; " + version); }

}  // namespace

std::optional<FleetMachine> choose_machine(const JobQueue& queue, const std::string& wanted,
                                           const std::string& version) {
  std::vector<FleetMachine> found;
  std::vector<std::string> names;
  for (const auto& row : queue.machines()) {
    if (!of_version(row, version)) continue;
    FleetMachine machine = fleet_machine_from_json(Json::parse(row.description));
    if (row.name.find(wanted) == std::string::npos) continue;
    names.push_back(fmt::format("\n  {} ({} seen lately)", row.name, row.workers));
    if (row.name == wanted) return machine;
    found.push_back(std::move(machine));
  }
  if (found.empty()) return std::nullopt;
  if (found.size() > 1)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("a search is for one kind of machine, and there are workers of several; name one with "
                            "--machine, or a part of its name:{}",
                            fmt::join(names, "")));
  return found.front();
}

int workers_of(const JobQueue& queue, const FleetMachine& machine) {
  for (const auto& row : queue.machines())
    if (row.name == machine.row()) return row.workers;
  return 0;
}

std::string absent_workers(const JobQueue& queue, const FleetMachine* machine, const std::string& version) {
  int others = 0;
  std::vector<std::string> names;
  for (const auto& row : queue.machines()) {
    if (row.workers == 0 || (machine != nullptr && row.name == machine->row())) continue;
    others += row.workers;
    names.push_back(fmt::format("{} of {}", row.workers, row.name));
  }
  return fmt::format("no worker of {} was seen in the last {} s{}; start one there: heddle worker --records URL",
                     machine != nullptr ? machine->row() : version, JobQueue::lately_seconds,
                     others == 0 ? "" : fmt::format(", only {}", fmt::join(names, ", ")));
}

}  // namespace heddle::autoscheduler
