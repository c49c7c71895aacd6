#pragma once
#include "autoscheduler/nest.hpp"
#include "autoscheduler/tiled_structure.hpp"

namespace heddle::autoscheduler {

/// Where a producer is computed: values of its knob.
enum TilePlace : std::int64_t {
  in_expression,
  at_tile,
  at_row,
  at_block,
  before_all,
  sliding,  ///< at the row, kept for the block: what the next row needs again is not computed again
};

/// One point of the tiled sketch.
std::variant<Candidate, Pruned> emit_tiled(const TiledStructure& structure, const KnobValues& values);

/// The loops around the tiles of a point; throws Pruned.
Nest tiled_nest(const TiledStructure& structure, const KnobValues& values);

}  // namespace heddle::autoscheduler
