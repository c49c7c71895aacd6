#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/gpu/device.hpp"

namespace heddle::runtime::gpu {

/// The memory that a session's recordings work in. One runs at a time, so all use the same; each keeps what it was
/// recorded with, also when a larger one has made more necessary since.
class Workspace {
 public:
  explicit Workspace(Device& device) : device_(device) {}

  /// Memories of these sizes at least. Throws Error{out_of_memory}.
  std::vector<std::shared_ptr<Memory>> memories(std::span<const std::uint64_t> bytes);
  std::shared_ptr<Memory> staging(std::uint64_t bytes);

  /// Forgets all, so that what no recording uses is free.
  void clear();

 private:
  Device& device_;
  std::vector<std::shared_ptr<Memory>> memories_;
  std::shared_ptr<Memory> staging_;
};

}  // namespace heddle::runtime::gpu
