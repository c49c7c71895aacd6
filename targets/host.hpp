#pragma once
#include <filesystem>
#include <set>
#include <string>

#include "dsl/machine.hpp"

// What this machine is: kept apart from the table of targets so that tests can ask about other machines.
namespace heddle::targets {

struct HostProcessor {
  std::string architecture;        ///< as `uname -m` says
  std::set<std::string> features;  ///< by the names of /proc/cpuinfo, which are the runtime's too
};

/// HEDDLE_CPU_FEATURES (comma-separated) restricts the features as it does in the runtime, so that `cpu` is never a
/// target that the runtime would then refuse.
HostProcessor host_processor();

/// The processor that a /proc/cpuinfo describes.
std::set<std::string> features_of_cpuinfo(const std::string& text);

/// Replaces the machine's caches by the measured ones. Levels that the system does not tell stay as they are.
void measure_caches(Machine& machine, const std::filesystem::path& sysfs = "/sys/devices/system/cpu/cpu0/cache");

}  // namespace heddle::targets
