// Matrix products on a device: tiles of blocks and threads as gpu_tiles has them, for constant and run-time operands,
// batched or not.
#include <fmt/format.h>

#include "schedules/families.hpp"
#include "schedules/gpu_tiles.hpp"
#include "schedules/matmul_support.hpp"

namespace heddle::schedules {
namespace {

struct Knobs {
  BOOST_HANA_DEFINE_STRUCT(Knobs, (std::int64_t, columns), (std::int64_t, rows), (std::int64_t, thread_columns),
                           (std::int64_t, thread_rows), (std::int64_t, depth), (std::int64_t, slices));
};

ProductTile tile_of(const Knobs& k) { return {k.columns, k.rows, k.thread_columns, k.thread_rows, k.depth, k.slices}; }

bool flag(const Workload& w, const char* name) { return w.anchor().attributes.value(name, false); }

bool packs_b(const Workload& w) { return is_constant(w, 1) && w.anchor_inputs()[1].is_static() && w.has_input("b"); }

bool row_major(const TensorType& type) { return type.innermost() == type.rank() - 1 || type.shape.back() == Extent(1); }

bool matches(const Workload& w, const Machine&) {
  if (w.anchor().op->name() != "matmul" || w.output_types().size() != 1) return false;
  // Shared memory is reckoned in elements of 4 bytes.
  return row_major(w.output_types()[0]) && size_of(w.anchor_output().dtype) <= 4;
}

/// An operand's stage; `rows`: its loop beside k. `last` and `before_last`: its last two dimensions' loops.
TileStage stage_of(const std::string& role, const std::string& across, const TensorType& type, const std::string& last,
                   const std::string& before_last) {
  const int inner = type.innermost();
  const bool is_last = inner == type.rank() - 1;
  if (!is_last && inner != type.rank() - 2) return {role, {across}};
  return {role, {across}, is_last ? last : before_last, is_multiple(type.shape[static_cast<std::size_t>(inner)], 4)};
}

bool is_useful(const Workload& w, const Machine& m, const Knobs& k) {
  if (!fits(tile_of(k), 1, *m.gpu)) return false;
  const std::int64_t n = typical(extent_of(w, "n"), w), rows = typical(extent_of(w, "m"), w);
  const Extent deep = products_depth(w);
  if (k.slices > 1 && (!deep.is_constant() || chunk(deep.value(), k.depth) < 2 * k.slices)) return false;
  // No tile more than twice what there is.
  return (k.columns < 2 * n || k.columns == k.thread_columns * 4) && (k.rows < 2 * rows || k.rows == k.thread_rows);
}

std::vector<Knobs> candidates(const Workload& w, const Machine& m) {
  std::vector<Knobs> all;
  for (const std::int64_t columns : {16, 32, 64, 128})
    for (const std::int64_t rows : {1, 2, 4, 8, 16, 32, 64, 128})
      for (const std::int64_t thread_columns : {4, 8, 2})
        for (const std::int64_t thread_rows : {1, 2, 4, 8})
          for (const std::int64_t step : {8, 16, 32, 64})
            for (const std::int64_t slices : {1, 2, 3, 4, 6, 8, 12, 16, 24, 32}) {
              const Knobs k{columns, rows, thread_columns, thread_rows, step, slices};
              const std::int64_t threads = tile_of(k).threads();
              if (threads < 16 || (rows >= 16 && (threads < 32 || thread_rows < 2))) continue;
              if (is_useful(w, m, k)) all.push_back(k);
            }
  return all;
}

Knobs rule(const Workload& w, const Machine& m) {
  std::int64_t batches = 1;
  for (const auto& loop : batch_loops(w)) batches *= typical(extent_of(w, loop), w);
  const std::int64_t n = typical(extent_of(w, "n"), w), rows = typical(extent_of(w, "m"), w);
  const std::int64_t deep = typical(products_depth(w), w);
  Knobs best{16, 1, 4, 1, 8, 1};
  double least = 1e30;
  for (const Knobs& k : candidates(w, m)) {
    // A guarded last step costs more than it computes.
    const double ragged = deep % k.depth == 0 ? 1.0 : 1.2;
    const ProductSize size{.tiles = batches * chunk(rows, k.rows) * chunk(n, k.columns),
                           .steps = chunk(deep, k.depth),
                           .slices = k.slices,
                           .elements = batches * rows * n};
    const double time = ragged * product_time(size, tile_of(k), *m.gpu);
    if (time < least * 0.999) {
      least = time;
      best = k;
    }
  }
  return best;
}

Implementation make(const Workload& w, const Machine&, const Knobs& k) {
  Implementation implementation;
  implementation.variant = "tiled";
  const bool packed = packs_b(w) && w.anchor_inputs()[1].rank() == 2;
  if (packed) implementation.packings = {{"b", {{"n", k.columns}}}};
  Product p;
  p.column = "n";
  p.columns = extent_of(w, "n");
  p.rows = {{"m", k.rows}};
  p.batch = batch_loops(w);
  p.depth = "k";
  p.depth_extent = products_depth(w);
  const auto in = w.anchor_inputs();
  const bool ta = flag(w, "transpose_a"), tb = flag(w, "transpose_b");
  p.operands = {
      stage_of("a_tile", "m", in[0], ta ? "m" : "k", ta ? "k" : "m"),
      packed ? TileStage{"b_tile", {"n"}, "n", true} : stage_of("b_tile", "n", in[1], tb ? "k" : "n", tb ? "n" : "k")};
  // Whole vectors of the tile, too.
  if (k.rows % 4 != 0 && p.operands[0].dense == "m") p.operands[0].vectors = false;
  schedule_product(implementation.schedule, p, tile_of(k));
  return implementation;
}

}  // namespace

Family gpu_matmul() {
  return TypedFamily<Knobs>{.name = "gpu_matmul",
                            .summary = "tiles in shared memory, register tiles, slices of the depth for small grids",
                            .matches = matches,
                            .rule = rule,
                            .candidates = candidates,
                            .make = make,
                            .gpu = true}
      .erase();
}

}  // namespace heddle::schedules
