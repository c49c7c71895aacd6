#pragma once
#include <cstddef>
#include <vector>

#include "runtime/executor.hpp"

namespace heddle::runtime::gpu {

/// Steps of main that become one program, or one step of the host.
struct Segment {
  bool on_device = false;
  std::size_t first = 0, last = 0;  ///< steps [first, last)
  /// Values whose memory is copied to the device before the first launch, and back after the last one. Each is the
  /// value of an Allocation.
  std::vector<std::size_t> uploads, downloads;
};

/// Main cut into the longest segments that keep its meaning: a program uploads first and downloads last, so an upload
/// joins the steps before it only if they leave its bytes alone, and a step joins a download only if it does. Inputs
/// are uploaded where they are first used, and outputs that only the device has are downloaded where they are last
/// written.
std::vector<Segment> cut(const BoundFunction& main);

}  // namespace heddle::runtime::gpu
