#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "schedules/gpu_support.hpp"

// Products on a device: a block of threads computes a tile of rows x columns, each thread its own part in registers;
// per step over the depth the block brings both operands' tiles to shared memory. Matrix products and convolutions
// differ in what their rows and depth are, and share everything else.
namespace heddle::schedules {

/// The tile of a block and of its threads. All are powers of two but `depth` and `slices`.
struct ProductTile {
  std::int64_t columns = 64;
  std::int64_t rows = 64;
  std::int64_t thread_columns = 4;
  std::int64_t thread_rows = 4;
  std::int64_t depth = 16;  ///< of one step
  std::int64_t slices = 1;  ///< the depth is cut into so many parts of their own blocks; a second launch adds them up

  std::int64_t threads_across() const { return columns / thread_columns; }
  std::int64_t threads_down() const { return rows / thread_rows; }
  std::int64_t threads() const { return threads_across() * threads_down(); }
  /// A thread's columns come in groups of this many, `threads_across` x as many apart: neighbouring threads then read
  /// neighbouring 16 bytes of shared memory, which is free of bank conflicts.
  std::int64_t column_vector() const { return thread_columns % 4 == 0 ? 4 : thread_columns; }
  std::int64_t row_vector() const { return thread_rows % 4 == 0 ? 4 : thread_rows; }
};

/// An operand's stage in shared memory, as the operators' `tiled` variants define them.
struct TileStage {
  std::string role;                 ///< a_tile
  std::vector<std::string> across;  ///< rows or columns, innermost first
  std::string dense;                ///< the loop along which its elements are neighbours in memory; "" if none of these
  bool vectors = false;             ///< vectors of 4 along `dense` never cross an end
  std::vector<std::string>
      single;  ///< further loops of which a block needs one iteration, though Halide cannot prove it
};

/// What is computed. Loops are named innermost first.
struct Product {
  std::string column;
  Extent columns;
  struct Row {
    std::string name;
    std::int64_t tile;
  };
  std::vector<Row> rows;  ///< their tiles make up the tile's rows
  std::vector<std::string> batch;
  std::string depth;  ///< cut into steps
  Extent depth_extent;
  std::vector<std::string> step_taps;   ///< reductions that are wholly within a step
  std::int64_t step_tap_count = 1;      ///< product of their extents
  std::vector<std::string> taps;        ///< reductions around the steps
  std::vector<std::string> tap_slices;  ///< those of `taps` that have blocks of their own, like slices of the depth
  std::vector<TileStage> operands;
};

/// Schedules `out`, `acc` and the operands' stages of a `tiled` variant.
void schedule_product(Schedule& schedule, const Product& product, const ProductTile& tile);

/// Whether a device can run such a block; `taps`: see Product::step_tap_count.
bool fits(const ProductTile& tile, std::int64_t taps, const Gpu& gpu);

/// What an analytic rule knows of a product.
struct ProductSize {
  std::int64_t tiles = 1;     ///< of the result, in all batches
  std::int64_t steps = 1;     ///< over the whole depth and all taps
  std::int64_t taps = 1;      ///< within a step
  std::int64_t slices = 1;    ///< of depth and taps together
  std::int64_t elements = 1;  ///< of the result
};

/// Microseconds that the product takes, as the analytic rules reckon: rounds of resident blocks x steps x the slower of
/// arithmetic, issue and shared memory, but no less than global memory's latency; and where there are slices a second
/// launch and their sums' way through memory.
double product_time(const ProductSize& size, const ProductTile& tile, const Gpu& gpu);

}  // namespace heddle::schedules
