#pragma once
#include <map>
#include <set>
#include <string>
#include <vector>

#include "autoscheduler/estimate.hpp"
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

/// The loops around the tiles of a point; throws Pruned.
Nest tiled_nest(const TiledStructure& structure, const KnobValues& values);

/// Where the stages around a tile are computed under a choice of knobs, and what of them.
class TiledPlacement {
 public:
  /// Throws Pruned. The structure and the values must outlive it.
  TiledPlacement(const TiledStructure& structure, const KnobValues& values);
  TiledPlacement(const TiledPlacement&) = delete;
  TiledPlacement& operator=(const TiledPlacement&) = delete;

  const Nest& nest() const { return nest_; }
  const NestRegions& regions() const { return regions_; }
  const std::vector<PlacedStage>& stages() const { return stages_; }
  const PlacedStage& placed(const std::string& role) const;

  std::int64_t value(const std::string& knob, std::int64_t otherwise) const { return values_.get(knob, otherwise); }
  bool packing() const { return value("pack", 0) == 1; }

  /// A level of the nest, its end for what is computed before everything, -1 for expressions.
  int level_of(std::int64_t place) const;
  /// The innermost loop over blocks, or the outermost loop of all.
  std::size_t block_level() const;
  /// What one iteration of a level's loop needs of a stage.
  Box region(const StageNode& node, int level) const;
  /// Of a stage that is computed apart, with all that is part of its expression.
  std::vector<Phases> phases(const StageNode& node) const;
  /// Iterations of the first loop from lane to lane: each phase has vectors of its own where they can be filled.
  std::int64_t lane_distance(const StageNode& node, const std::vector<Phases>& phases, int level, int lanes) const;
  /// The reduction's loop that is innermost.
  const ReductionLoop& inner_reduction(const StageNode& node) const;
  /// Steps of the innermost reduction a time; 0: all steps of all reductions. As many as divide it: what is left over
  /// would cost more than the unrolling gains.
  std::int64_t unrolled_steps(const StageNode& node) const;

 private:
  void place(const StageChoice& choice);
  void accumulate(const StageChoice& choice, PlacedStage& placed);
  bool can_slide(const StageNode& node) const;
  double gathering(const StageNode& node, const Access& access, std::size_t loop, int lanes, std::int64_t apart) const;
  double computed(const StageNode& node, int level) const;
  double evaluations(const StageNode& reader) const;
  double region_elements(const StageNode& node, int level) const;
  int vector_lanes(const StageNode& node, int level) const;
  double tile_vectors() const;
  void check_registers() const;
  void check_order() const;
  void check_sources(const StageNode& stage, const std::string& reader, std::set<std::string>& seen) const;

  const TiledStructure& rule_;
  const Subject& s_;
  const KnobValues& values_;
  Nest nest_;
  NestRegions regions_;
  std::map<std::string, int> levels_;
  std::vector<PlacedStage> stages_;
};

}  // namespace heddle::autoscheduler
