#include "autoscheduler/device_work.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace heddle::autoscheduler {
namespace {

/// Share of what threads read that the first cache does not have.
constexpr double missed = 0.25;

DevicePlace place_of(const DevicePlaces& places, const std::string& role) {
  const auto found = places.find(role);
  return found == places.end() ? DevicePlace::thread : found->second;
}

}  // namespace

std::string misplaced(const Dependences& d, const DevicePlaces& places) {
  // The outermost place at which a stage's value is wanted; expressions want theirs where they are written out.
  std::map<std::string, DevicePlace> wanted;
  for (auto stage = d.stages.rbegin(); stage != d.stages.rend(); ++stage) {
    const bool is_out = stage == d.stages.rbegin();
    const DevicePlace own = is_out ? DevicePlace::thread : place_of(places, stage->role);
    const DevicePlace needed = wanted.contains(stage->role) ? wanted[stage->role] : DevicePlace::expression;
    if (!is_out && own != DevicePlace::expression && own < needed)
      return fmt::format("{} is read outside of where it would be computed", stage->role);
    const DevicePlace here = own == DevicePlace::expression ? needed : own;
    for (const Access& access : stage->accesses)
      if (!access.operand && access.source != stage->role) {
        auto& of = wanted.try_emplace(access.source, DevicePlace::expression).first->second;
        of = std::max(of, here);
      }
  }
  return "";
}

void add_work(DeviceLaunch& launch, const Dependences& d, const DevicePlaces& places, const StageNode& stage,
              double elements, double lanes) {
  std::map<std::string, double> evaluated = {{stage.role, elements}};
  for (auto node = d.stages.rbegin(); node != d.stages.rend(); ++node) {
    const auto here = evaluated.find(node->role);
    if (here == evaluated.end()) continue;
    const double count = here->second;
    const double steps = node->updates > 0 ? static_cast<double>(node->reduction_steps()) : 0;
    launch.instructions +=
        count * (std::max(node->pure_operations, 1.0) + steps * std::max(1.0, node->update_operations - 1));
    for (const Access& access : node->accesses) {
      if (access.source == node->role) continue;
      const double reads = count * (access.in_update ? std::max(steps, 1.0) : 1.0);
      const DevicePlace source = access.operand ? DevicePlace::launch : place_of(places, access.source);
      if (source == DevicePlace::block || source == DevicePlace::launch) launch.instructions += reads / lanes;
      switch (source) {
        case DevicePlace::expression: evaluated[access.source] += reads; break;
        // Each of its elements once, however often it is read.
        case DevicePlace::thread: evaluated[access.source] = std::max(evaluated[access.source], count); break;
        case DevicePlace::block: launch.shared_loads += reads * d.stage(access.source).element_bytes / 16; break;
        case DevicePlace::launch: {
          const int bytes =
              access.operand ? d.operands.at(access.source).element_bytes : d.stage(access.source).element_bytes;
          launch.memory_loads += reads * bytes / 16;
          launch.bytes += missed * reads * bytes * launch.threads;
          break;
        }
      }
    }
    // Steps of a reduction overlap, as far as a thread's loads do.
    launch.waits += steps / 8;
  }
}

DeviceLaunch flat_launch(const Dependences& d, const DevicePlaces& places, const StageNode& stage, double threads,
                         double lanes) {
  const double elements = static_cast<double>(std::max<std::int64_t>(1, stage.elements()));
  DeviceLaunch launch{.stage = stage.role, .threads = threads};
  launch.blocks = std::ceil(elements / lanes / threads);
  add_work(launch, d, places, stage, lanes, lanes);
  launch.memory_loads += lanes * stage.element_bytes / 16;
  launch.bytes += lanes * stage.element_bytes * threads;
  launch.registers = 24 + 2 * lanes;
  return launch;
}

}  // namespace heddle::autoscheduler
