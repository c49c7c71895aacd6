#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "schedules/dot_support.hpp"

// Sums of products in tile registers (AMX), which targets/cpu/tile_products.hpp makes of four serial loops. A register
// holds 16 rows of 16 words of 32 bits; a product takes 16 cycles whatever its depth, and fewer with fewer rows.
namespace heddle::schedules {

constexpr std::int64_t tile_rows = 16, tile_words = 16;

/// The sums that tile registers hold of the anchor's first two operands, or null where the machine has none for their
/// types. Their form is that of the dot products of vectors.
const ops::Dot* tile_dot(const Workload& workload, const Machine& machine);

/// How many tiles lie one after the other along `rows`, all of one height.
std::int64_t tiles_along(std::int64_t rows);

/// Whether so many rows are whole tiles of one height, and that height.
bool are_whole_tiles(std::int64_t rows);
std::int64_t tile_height(std::int64_t rows);

/// Numbers of tiles side by side that are worth trying along `extent` columns, whose weights can be packed so.
std::vector<std::int64_t> tile_columns(std::int64_t extent, const Machine& machine);

/// Whether the registers hold the sums of `columns` x `rows` tiles beside their operands.
bool fits_tiles(std::int64_t columns, std::int64_t rows);

/// Words of `depth`'s products that one instruction takes: all of `words` or the most that divides them.
std::int64_t tile_depth(std::int64_t words);

/// What is multiplied: tiles of it a step, and the share of what they load that comes from the second-level cache.
struct TileOperand {
  std::int64_t tiles = 1;
  double from_second_cache = 0;
};

/// Share of the rate of products that sums of `columns` x `rows` tiles reach, of `height` rows each and `steps`
/// products.
double tile_rate(const TileOperand& columns, const TileOperand& rows, std::int64_t height, std::int64_t steps);

/// The loops of one sum: those of the tile's rows, cut into tiles of `height`, its columns, and what is reduced, in
/// words, of which an instruction takes `depth`: a part of one loop, or all of several.
struct TileLoops {
  std::string rows, columns;
  std::vector<std::string> words;
  std::int64_t height = tile_rows, depth = tile_words;
};

/// Cuts the loops: those within a tile stay innermost and serial, those over its rows and columns are unrolled around
/// them, then come others as `outer` says, the loop that a single loop of words, "ci", is cut into as "ci_tile".
void schedule_tile_products(Stage update, const TileLoops& loops, const std::vector<std::string>& outer);

}  // namespace heddle::schedules
