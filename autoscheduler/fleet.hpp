#pragma once
#include <optional>
#include <string>
#include <vector>

#include "dsl/machine.hpp"
#include "dsl/operator.hpp"
#include "schedules/job_queue.hpp"

namespace heddle::autoscheduler {

/// A kind of machine, as its workers announce it: a search for it need not run on one.
struct FleetMachine {
  std::string name;               ///< machine_name(), as records have it
  std::string version;            ///< of the program: searches and workers of another one do not speak to each other
  int cores = 1;                  ///< physical ones
  std::string target;             ///< the best that it runs
  std::vector<Machine> machines;  ///< what schedules have to know of it, for each target that it runs

  /// Throws Error{unsupported} for a target that it does not run.
  const Machine& machine(const std::string& target_name) const;
  /// Whose jobs are whose: "x86-64-linux-avx2; AMD EPYC 7763, 32 KiB L1, 512 KiB L2; heddle 0.1 (Halide 21.0.0)".
  std::string kind(const std::string& target_name) const;
  /// Its name in the queue: the kind for its best target. Two with the same processor may differ by that, as where a
  /// virtual machine hides features.
  std::string row() const { return kind(target); }
};
FleetMachine this_fleet_machine(const std::string& version);

Json to_json(const FleetMachine& machine);
FleetMachine fleet_machine_from_json(const Json& json);

/// The machine that a search is for: of those with workers of this version, now or earlier, the one whose row contains
/// `wanted`, or the only one. Nothing if there is none yet. Throws Error{invalid_argument} where there are several.
std::optional<FleetMachine> choose_machine(const JobQueue& queue, const std::string& wanted,
                                           const std::string& version);

/// "no worker of ... was seen in the last 60 s, 2 others were: ...": why nothing happens, and what to do.
std::string absent_workers(const JobQueue& queue, const FleetMachine* machine, const std::string& version);

/// Workers of a machine that were seen lately.
int workers_of(const JobQueue& queue, const FleetMachine& machine);

}  // namespace heddle::autoscheduler
