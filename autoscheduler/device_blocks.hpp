#pragma once
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "autoscheduler/device_sketches.hpp"
#include "autoscheduler/device_work.hpp"
#include "autoscheduler/tiled_placement.hpp"

namespace heddle::autoscheduler {

/// A place of a producer in addition to TilePlace's, of which it takes at_row's number: in shared memory, for one step
/// of the reduction that reads it.
constexpr std::int64_t at_step = at_row;

/// What a reduction in the tile reads that can go through shared memory, a step at a time.
struct SharedSource {
  std::string role;
  bool operand = false;                   ///< else a stage without a reduction, which only this reduction reads
  const Access* access = nullptr;         ///< the only one
  std::vector<std::string> dimensions;    ///< names of its loops, Halide's order
  std::optional<std::size_t> along = {};  ///< the dimension that follows the output's innermost loop, if one does
  int element_bytes = 4;
};

/// What the tile of a block is made of, for every point of the sketch.
class BlockStructure {
 public:
  explicit BlockStructure(const Subject& subject);

  const Subject& subject() const { return subject_; }
  const Dependences& d() const { return subject_.dependences; }
  const Gpu& gpu() const { return *subject_.machine.gpu; }
  const TiledStructure& tiles() const { return tiles_; }

  const std::vector<std::size_t>& places() const { return places_; }  ///< of the output that have tiles; three at most
  const std::vector<SharedSource>& sources(const StageChoice& accumulator) const;  ///< none for other stages
  /// The reduction that is cut into steps: the longest one.
  static std::size_t step_reduction(const StageNode& accumulator);
  bool is_exact(const std::string& role) const { return exact_.contains(role); }  ///< its region is what is computed
  /// Operands whose neighbours along the output's innermost loop lie apart in memory.
  const std::set<std::string>& apart() const { return apart_; }
  const std::vector<std::string>& packable() const { return packable_; }
  const std::vector<std::vector<std::string>>& reductions(const std::string& role) const {
    return reductions_.at(role);
  }

  std::vector<SpaceKnob> knobs() const;

 private:
  std::vector<SharedSource> find_sources(const StageChoice& accumulator) const;

  const Subject& subject_;
  TiledStructure tiles_;
  std::vector<std::size_t> places_;
  std::map<std::string, std::vector<SharedSource>> sources_;  ///< of each reduction in the tile
  std::set<std::string> exact_, apart_;
  std::vector<std::string> packable_;
  UpdateReductions reductions_;
};

/// One point of the sketch.
std::variant<Candidate, Pruned> emit_blocks(const BlockStructure& structure, const KnobValues& values);

}  // namespace heddle::autoscheduler
