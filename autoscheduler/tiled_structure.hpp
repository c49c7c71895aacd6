#pragma once
#include <optional>
#include <string>
#include <vector>

#include "autoscheduler/subject.hpp"

namespace heddle::autoscheduler {

/// What becomes of a stage around a register tile of the output.
enum class TileRole {
  accumulator,  ///< a reduction in the register tile
  expression,   ///< each value is read once: part of its reader's expression
  producer,     ///< placed by a knob
};

struct StageChoice {
  const StageNode* node = nullptr;
  TileRole role = TileRole::producer;
  std::vector<std::optional<std::size_t>> place_of_loop = {};  ///< accumulators: the place of `out` a loop follows
};

/// The stages of a pipeline by what a register tile makes of them, and how operands follow its vectors.
class TiledStructure {
 public:
  explicit TiledStructure(const Subject& subject);

  const Subject& subject() const { return subject_; }
  const Dependences& dependences() const { return subject_.dependences; }
  const std::vector<StageChoice>& choices() const { return choices_; }  ///< every stage but `out`, producers first
  const StageChoice* choice(std::string_view role) const;
  bool accumulates() const { return accumulates_; }  ///< some reduction lives in the tile
  /// Reductions that whole rows of the output read, and nothing else that reduces.
  bool reduces_rows_only() const;

  /// The loop of a stage that follows a place of `out`.
  std::optional<std::size_t> loop_of_place(const StageNode& stage, std::size_t place) const;
  /// The dimension of an operand's access that runs with a loop, if it does so alone.
  static std::optional<std::size_t> dimension_along(const Access& access, std::size_t loop);
  /// Constants known when compiling whose index follows the vector's loop alone can be packed.
  bool packs(const std::string& role) const;
  /// The name of the dimension to block, for every access of the operand the same.
  std::optional<std::string> packed_dimension(const std::string& role) const;
  /// Whether everything that an accumulator reads along the vector is padded to whole blocks when it is packed.
  bool whole_blocks_are_readable() const;
  /// The reduction of a stage that runs along memory, so that a vector can hold partial results of it.
  std::optional<std::size_t> row_reduction(const StageNode& stage) const;
  std::vector<SpaceKnob> knobs() const;
  /// A value for a knob that is seldom bad.
  std::int64_t usual(const SpaceKnob& knob) const;
  /// Operands of an accumulator that are made at run time, follow the vector and are used again for other places.
  std::vector<std::string> panels(const StageChoice& choice) const;

 private:
  const Dependences& d() const { return subject_.dependences; }
  std::vector<std::optional<std::size_t>> places(const StageNode& stage) const;
  /// Whether a stage, or a producer for it, reads along one of its loops what packing does not pad, up to wherever the
  /// loop runs.
  bool reads_unpadded(const StageNode& reader, std::size_t loop) const;

  const Subject& subject_;
  std::vector<StageChoice> choices_;
  bool accumulates_ = false;
};

bool follows(const AffineIndex& index, std::size_t loop);

}  // namespace heddle::autoscheduler
