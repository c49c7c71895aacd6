#pragma once
#include <cstdint>
#include <string>

#include "ops/dot.hpp"
#include "schedules/support.hpp"

// What the families of products of narrow numbers share.
namespace heddle::schedules {

/// The sums that the machine is fastest at for these types, or null where there are none.
const ops::Dot* best_dot(const Machine& machine, DType data, DType weights);

/// Which tiles hold accumulators of such sums, and how fast they are.
FitsRegisters registers_of(const ops::Dot& dot, const Machine& machine);
TileRate rate_of(const ops::Dot& dot, const Machine& machine);

/// Schedules the stage that holds the data as the dot wants them; its place is the caller's. `inner`: the reduced
/// dimension, of `extent` elements.
void schedule_dot_data(Stage stage, const ops::Dot& dot, const Machine& machine, const std::string& inner,
                       const Extent& extent);

/// Makes the innermost reduction one instruction and vectors of the named dimension.
void vectorize_dot(Stage update, const ops::Dot& dot, const Machine& machine, const std::string& vectors);

/// Schedules the sums of constant operands that offset data need.
void schedule_dot_sums(Schedule& schedule, const std::string& role, const Machine& machine, const std::string& vectors);

/// Whether the data can be read as they lie: they are what the dot multiplies and their length divides.
bool reads_in_place(const ops::Dot& dot, DType data, const Extent& depth);

/// How weights are packed for blocks of `vectors` of one of their dimensions: the k of one sum innermost, then lanes.
struct DotPacking {
  std::string operand, inner, dimension;
  std::int64_t vectors = 1;
  bool widened = false;  ///< beforehand, where the dot multiplies wider numbers than the operand holds
};
Packing dot_packing(const ops::Dot& dot, const Machine& machine, DType weights, const DotPacking& packing);

/// Whether blocks of so many vectors of `extent` elements can be packed. Those of more than three are stored vector by
/// vector, since Halide does not see that the last one of a longer block is contiguous and gathers it; they must then
/// end where the padded elements do.
bool packs_in_vectors(std::int64_t vectors, std::int64_t extent, const Machine& machine);

}  // namespace heddle::schedules
