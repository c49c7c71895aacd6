#pragma once
#include "autoscheduler/tiled_structure.hpp"

namespace heddle::autoscheduler {

/// Where a producer is computed: values of its knob.
enum TilePlace : std::int64_t { in_expression, at_tile, at_row, at_block, before_all };

/// One point of the tiled sketch.
std::variant<Candidate, Pruned> emit_tiled(const TiledStructure& structure, const KnobValues& values);

}  // namespace heddle::autoscheduler
