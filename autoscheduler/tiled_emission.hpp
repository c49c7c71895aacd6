#pragma once
#include "autoscheduler/tiled_structure.hpp"

namespace heddle::autoscheduler {

/// Where a producer is computed: values of its knob.
enum TilePlace : std::int64_t { in_expression, at_tile, at_row, at_block, before_all };

/// The knobs of a sketch with values, by name.
class KnobValues {
 public:
  KnobValues(const Sketch& sketch, const std::vector<std::int64_t>& values) : sketch_(sketch), values_(values) {}
  /// `otherwise`: where the sketch has no such knob.
  std::int64_t get(std::string_view name, std::int64_t otherwise) const {
    for (std::size_t k = 0; k < sketch_.knobs.size(); ++k)
      if (sketch_.knobs[k].name == name) return values_.at(k);
    return otherwise;
  }

 private:
  const Sketch& sketch_;
  const std::vector<std::int64_t>& values_;
};

/// One point of the tiled sketch.
std::variant<Candidate, Pruned> emit_tiled(const TiledStructure& structure, const KnobValues& values);

}  // namespace heddle::autoscheduler
