#pragma once
#include <map>
#include <string>

#include "autoscheduler/device_cost.hpp"
#include "autoscheduler/subject.hpp"

namespace heddle::autoscheduler {

/// Where a stage other than the output is computed on a device, the innermost first.
enum class DevicePlace {
  expression,  ///< in its reader's expression
  thread,      ///< in the output's kernel, by each thread for itself
  block,       ///< in the output's kernel, by a block's threads together
  launch,      ///< before the output's kernel, in a launch of its own
};

/// Every stage's place but the output's.
using DevicePlaces = std::map<std::string, DevicePlace>;

/// Nothing, or why a stage would be read before it is computed.
std::string misplaced(const Dependences& dependences, const DevicePlaces& places);

/// Adds to a launch what one thread does for `elements` of a stage, and of those in its expressions and computed by
/// each thread for itself; `lanes`: elements that one load brings. Loads of stages that a block computes are shared
/// memory's.
void add_work(DeviceLaunch& launch, const Dependences& dependences, const DevicePlaces& places, const StageNode& stage,
              double elements, double lanes);

/// A launch with a thread an element of the stage.
DeviceLaunch flat_launch(const Dependences& dependences, const DevicePlaces& places, const StageNode& stage,
                         double threads, double lanes);

}  // namespace heddle::autoscheduler
