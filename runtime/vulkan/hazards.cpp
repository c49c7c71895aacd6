#include "runtime/vulkan/hazards.hpp"

#include <algorithm>

namespace heddle::runtime::gpu::vulkan {
namespace {

bool touches(const std::vector<Hazards::Access>& earlier, const Hazards::Access& now) {
  return std::ranges::any_of(earlier, [&](const Hazards::Access& e) {
    return e.memory == now.memory && e.begin < now.end && now.begin < e.end;
  });
}

}  // namespace

bool Hazards::add(std::span<const Access> command) {
  const bool conflict = std::ranges::any_of(
      command, [&](const Access& a) { return touches(writes_, a) || (a.writes && touches(reads_, a)); });
  if (conflict) {
    reads_.clear();
    writes_.clear();
  }
  for (const Access& access : command) (access.writes ? writes_ : reads_).push_back(access);
  return conflict;
}

}  // namespace heddle::runtime::gpu::vulkan
