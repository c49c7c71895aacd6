#pragma once
#include "autoscheduler/tiled_placement.hpp"

namespace heddle::autoscheduler {

/// One point of the tiled sketch.
std::variant<Candidate, Pruned> emit_tiled(const TiledStructure& structure, const KnobValues& values);

}  // namespace heddle::autoscheduler
