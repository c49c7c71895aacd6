#pragma once
#include <map>
#include <string>
#include <vector>

#include "dsl/machine.hpp"

namespace heddle::autoscheduler {

/// What one launch asks of a device.
struct DeviceLaunch {
  std::string stage;        ///< that it computes, for messages
  double blocks = 1;        ///< all of the grid
  double threads = 1;       ///< of a block
  double instructions = 0;  ///< arithmetic of one thread
  double shared_loads = 0;  ///< of one thread: 16 bytes each of what it reads from shared memory, in banks of their own
  double memory_loads =
      0;                  ///< of one thread: 16 bytes each of what it reads or writes elsewhere, in lines of their own
  double bytes = 0;       ///< that a block brings from memory, or writes there
  double registers = 32;  ///< of one thread, 4 bytes each
  double shared_bytes = 0;  ///< of a block
  double waits = 1;         ///< round trips to memory of one thread, each after the other
  double accumulators = 1;  ///< of one thread: independent of each other
};

/// Why no device of this kind runs the launch, or none should; empty: nothing is known against it.
std::string obstacle(const DeviceLaunch& launch, const Gpu& gpu);

/// Seconds by counting: rounds of resident blocks, each as long as the slowest of arithmetic, shared memory and memory,
/// but no shorter than the latency of what it waits for. Of an imagined multiprocessor of the last ten years, as the
/// hand-written families reckon; only ratios between candidates matter. Adds what it found to `features`.
double estimate_seconds(const std::vector<DeviceLaunch>& launches, const Gpu& gpu,
                        std::map<std::string, double>& features);

/// Seconds that so much arithmetic and traffic takes such a device at its best.
double device_seconds(const Gpu& gpu, double operations, double bytes);

}  // namespace heddle::autoscheduler
