#include "schedules/gpu_support.hpp"

#include <fmt/format.h>

namespace heddle::schedules {

bool is_multiple(const Extent& extent, std::int64_t factor) { return factor == 1 || mod(extent, factor) == Extent(0); }

std::string fuse_all(Stage& stage, const std::vector<std::string>& loops, const std::string& name) {
  std::string all = loops.at(0);
  for (std::size_t i = 1; i < loops.size(); ++i) {
    const std::string fused = i + 1 == loops.size() ? name : fmt::format("{}{}", name, i);
    stage.fuse(all, loops[i], fused);
    all = fused;
  }
  return all;
}

void spread_blocks(Stage& stage, const std::vector<std::string>& loops) {
  if (loops.size() == 1) stage.gpu_blocks(loops[0]);
  else if (loops.size() == 2) stage.gpu_blocks(loops[0], loops[1]);
  else stage.gpu_blocks(loops[0], loops[1], fuse_all(stage, {loops.begin() + 2, loops.end()}, "grid"));
}

}  // namespace heddle::schedules
