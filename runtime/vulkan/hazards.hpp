#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace heddle::runtime::gpu::vulkan {

/// Decides where commands need a barrier before them: where they touch bytes that an earlier one touches, one of them
/// writing, with no barrier between.
class Hazards {
 public:
  struct Access {
    const void* memory = nullptr;
    std::uint64_t begin = 0, end = 0;
    bool writes = false;
  };

  /// Adds a command, after a barrier if one is needed: then true, and nothing before it counts any more.
  bool add(std::span<const Access> command);

 private:
  std::vector<Access> reads_, writes_;
};

}  // namespace heddle::runtime::gpu::vulkan
