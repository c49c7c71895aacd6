#include "schedules/matrix_tiles.hpp"

#include <algorithm>
#include <vector>

namespace heddle::schedules {
namespace {

constexpr std::int64_t registers = 8;

// Cycles of Xeons since Sapphire Rapids: a sum until the next product may add to it, a product of full tiles and of the
// lowest ones, a vector of sums on its way to bytes, and loads of 16 lines of 64 bytes from the first cache and from
// the second one, where rows of the input, each of whose lines several taps read, wait less than weights. Fitted to the
// convolutions of ResNet-50 in 9 to 21 forms each (Granite Rapids; perf/results/matrix-tiles.md): other sums run
// beside, so that these weigh less than in a loop of their own, where a sum takes 52 and a load 45.
constexpr double latency = 20, product = 18, lowest_product = 11, epilogue = 6;
constexpr double load = 8, second_cache_rows = 16, second_cache_columns = 28;

}  // namespace

const ops::Dot* tile_dot(const Workload& w, const Machine& m) {
  if (!m.matrix_tiles) return nullptr;
  const auto in = w.anchor_inputs();
  const DType data = in[0].dtype, weights = in[1].dtype;
  for (const ops::Dot& dot : ops::dots(data, weights))
    if (dot.weights == Halide::Int(8) || dot.weights.is_bfloat()) return ops::dot_of(dot.name, data, weights);
  return nullptr;
}

std::int64_t tiles_along(std::int64_t rows) { return chunk(rows, tile_rows); }

bool are_whole_tiles(std::int64_t rows) { return rows % tiles_along(rows) == 0; }

std::int64_t tile_height(std::int64_t rows) { return rows / tiles_along(rows); }

std::vector<std::int64_t> tile_columns(std::int64_t extent, const Machine& m) {
  std::vector<std::int64_t> all = {2, 1, 3, 4, 5, 6};
  std::erase_if(all, [&](std::int64_t columns) {
    return (columns > 1 && (columns - 1) * tile_words >= extent) || !packs_in_vectors(columns, extent, m);
  });
  return all;
}

bool fits_tiles(std::int64_t columns, std::int64_t rows) {
  return columns * rows + std::min(columns, rows) + 1 <= registers;
}

std::int64_t tile_depth(std::int64_t words) {
  std::int64_t depth = std::min(words, tile_words);
  while (words % depth != 0) --depth;
  return depth;
}

double tile_rate(const TileOperand& columns, const TileOperand& rows, std::int64_t height, std::int64_t steps) {
  const auto loads = [](const TileOperand& operand, double second_cache_load) {
    return static_cast<double>(operand.tiles) * (load + (second_cache_load - load) * operand.from_second_cache);
  };
  const double loaded = loads(columns, second_cache_columns) + loads(rows, second_cache_rows);
  const double full = static_cast<double>(height) / tile_rows;
  const auto tiles = static_cast<double>(columns.tiles * rows.tiles);
  const double products = tiles * std::max(lowest_product, product * full);
  // Operands that do not all have a register beside the sums are loaded when products have done with others.
  const bool all_held = columns.tiles * rows.tiles + columns.tiles + rows.tiles <= registers;
  const double step = all_held ? std::max(products, loaded) : products + loaded;
  const double after = tiles * static_cast<double>(height) * epilogue / static_cast<double>(steps);
  return tiles * product * full / (std::max(step, latency) + after);
}

void schedule_tile_products(Stage update, const TileLoops& loops, const std::vector<std::string>& outer) {
  const auto tile = [](const std::string& loop) { return loop + "_tile"; };
  update.split(loops.rows, tile(loops.rows), loops.rows, loops.height)
      .split(loops.columns, tile(loops.columns), loops.columns, tile_words);
  if (loops.words.size() == 1) update.split(loops.words[0], tile(loops.words[0]), loops.words[0], loops.depth);
  std::vector<std::string> order = {"k", loops.columns, loops.rows};
  order.insert(order.end(), loops.words.begin(), loops.words.end());
  order.insert(order.end(), {tile(loops.columns), tile(loops.rows)});
  order.insert(order.end(), outer.begin(), outer.end());
  update.reorder(order).unroll(tile(loops.columns)).unroll(tile(loops.rows));
}

}  // namespace heddle::schedules
