#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "schedules/support.hpp"

// What the families for devices share. Nothing here knows an operator.
namespace heddle::schedules {

/// Whether an extent is a multiple of `factor` for every value of its symbols.
bool is_multiple(const Extent& extent, std::int64_t factor);

/// The loops as a grid, innermost first: neighbouring blocks differ in the first one. A grid has three dimensions, so
/// the loops beyond the second become one.
void spread_blocks(Stage& stage, const std::vector<std::string>& loops);

/// Loops as one loop, innermost first; its name.
std::string fuse_all(Stage& stage, const std::vector<std::string>& loops, const std::string& name);

}  // namespace heddle::schedules
