#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "autoscheduler/nest.hpp"

namespace heddle::autoscheduler {

/// What a stage other than `out` costs under a choice of its place.
struct PlacedStage {
  const StageNode* node = nullptr;
  /// Nest level it is computed at; Nest::levels(): before everything; -1: within its consumer's expression.
  int level = 0;
  double computed = 0;   ///< elements in all, recomputed ones included
  int lanes = 1;         ///< of the pure definition
  int update_lanes = 1;  ///< of a reduction that is in no register tile
  /// Of a reduction in registers: independent accumulators, and loads of vectors and of single elements a step.
  double accumulators = 0, vector_loads = 0, scalar_loads = 0;
  double steps_unrolled = 1;
  /// Instructions that collect vectors whose elements do not lie side by side: a vector of the pure definition, and a
  /// step of the reduction.
  double gathering = 0, step_gathering = 0;
  double partial_vectors = 0;  ///< of a reduction along memory
  double depth_blocks = 1;     ///< blocks of the reduction between which the accumulators wait in memory
};

/// A read of memory by the innermost tile.
struct PlacedOperand {
  std::string role;
  int element_bytes = 4;
  bool contiguous = true;  ///< the vector's lanes lie side by side, or are one element
  bool packed = false;     ///< in the order in which it is read
  bool strided = false;    ///< steps of a reduction lie far apart: prefetchers and pages do not follow
  /// What an iteration of a loop reads of it is copied into a panel first.
  struct Copy {
    std::size_t level = 0;
    int lanes = 1;  ///< 1: those of a panel's vector lie apart, and come one by one
  };
  std::optional<Copy> copied = {};
};

/// Time of a nest by counting: arithmetic at the rate that the register tile allows, and the bytes that each level of
/// cache must bring in, by the largest loop whose data it holds. In seconds of an imagined processor of 3 GHz with two
/// FMA units and two loads a cycle; only ratios between candidates matter. Adds what it found to `features`.
/// `needed`: the nest's regions.
double estimate_seconds(const Subject& subject, const Nest& nest, const NestRegions& needed,
                        const std::vector<PlacedStage>& stages, const std::vector<PlacedOperand>& operands,
                        std::map<std::string, double>& features);

/// log2, with something finite for zero.
double log_feature(double value);

}  // namespace heddle::autoscheduler
