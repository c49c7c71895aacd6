// Matrix products.
//
// matmul_packed: b is known beforehand and packed in panels of `vectors` vectors of columns; a register tile of
// `vectors` x `rows` accumulators; the panel stays in L2 while the rows pass (column block outermost). A panel that
// would fill L2 comes in pieces of k.
//
// matmul_plain: b is made at run time and read as it lies.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "schedules/families.hpp"
#include "schedules/matmul_support.hpp"

namespace heddle::schedules {
namespace {

bool plain_matches(const Workload& w, const Machine&) {
  return is_matmul(w) && sums_in_f32(w.anchor_inputs()[0].dtype);
}
/// In vectors: no tile reaches beyond the last column.
std::int64_t widest_tile(const Workload& w, const Machine& m) {
  const std::int64_t n = extent_of(w, "n").value();
  return n / filled_lanes(n, m);
}

void schedule_sums(Schedule& s, const Workload& w, const Machine& m, const MatmulTile& k, bool padded) {
  schedule_matmul_tiles(s, w, m, k, padded);
  const std::int64_t lanes = padded ? m.lanes(4) : filled_lanes(extent_of(w, "n").value(), m);
  Stage update = s["acc"].update(0);
  update.reorder("n", "m", "k").vectorize("n", lanes).unroll("n").unroll("m");
  if (mod(products_depth(w), 2) == Extent(0)) update.unroll("k", 2);
}

// --- matmul_plain ---

std::vector<MatmulTile> plain_candidates(const Workload& w, const Machine& m) {
  auto tiles = matmul_tiles(w, m, fits_registers);
  std::erase_if(tiles, [&](const MatmulTile& k) { return k.vectors > widest_tile(w, m); });
  return tiles;
}

MatmulTile plain_rule(const Workload& w, const Machine& m) {
  return best_matmul_tile(w, m, plain_candidates(w, m), register_tile_rate);
}

Implementation plain_make(const Workload& w, const Machine& m, const MatmulTile& k) {
  Implementation implementation;
  schedule_sums(implementation.schedule, w, m, {std::min(k.vectors, widest_tile(w, m)), k.rows, k.tasks}, false);
  return implementation;
}

// --- matmul_packed ---

bool packed_matches(const Workload& w, const Machine& m) { return plain_matches(w, m) && b_is_packable(w); }

/// The tile with k in pieces of about `bytes` of a panel, alike where k allows it; k as a whole where that is no more,
/// or where rows would be read that there are not.
PanelTile in_pieces(const Workload& w, const Machine& m, const MatmulTile& k, std::int64_t bytes) {
  const std::int64_t depth = products_depth(w).value();
  const std::int64_t pieces = chunk(depth, bytes / (k.vectors * m.vector_bytes));
  std::int64_t each = round_up(chunk(depth, pieces), 2);
  for (std::int64_t more = pieces; more < 2 * pieces && depth % each != 0; ++more)
    if (depth % (2 * more) == 0) each = depth / more;
  const PanelTile tile{k.vectors, k.rows, each, k.tasks};
  if (pieces > 1 && panels_have_all_rows(w, m, tile)) return tile;
  return {k.vectors, k.rows, 0, k.tasks};
}

std::vector<PanelTile> packed_candidates(const Workload& w, const Machine& m) {
  std::vector<PanelTile> all;
  for (const MatmulTile& k : matmul_tiles(w, m, fits_registers)) {
    all.push_back({k.vectors, k.rows, 0, k.tasks});
    for (const std::int64_t bytes : {m.l1_bytes, m.l2_bytes / 8})
      if (const PanelTile tile = in_pieces(w, m, k, bytes); tile.depth > 0) all.push_back(tile);
  }
  return all;
}

/// k as a whole while a panel, the next one, which is on its way, and the rows stay in the second cache. Granite
/// Rapids, k = 3072 and 4096 (panels of 590 and 786 KB of 2 MiB) in pieces of 1024: 128 rows with weights from
/// memory 3.1 -> 2.9 ms, 64 rows 10.9 -> 9.7.
PanelTile packed_rule(const Workload& w, const Machine& m) {
  const MatmulTile k = best_matmul_tile(w, m, matmul_tiles(w, m, fits_registers), register_tile_rate);
  const PanelTile quarters = in_pieces(w, m, k, m.l2_bytes / 4);
  return quarters.depth == 0 ? quarters : in_pieces(w, m, k, m.l2_bytes / 8);
}

Implementation packed_make(const Workload& w, const Machine& m, const PanelTile& k) {
  const std::int64_t block = k.vectors * m.lanes(4);
  Implementation implementation;
  implementation.packings = {{"b", {{"n", block}}}};
  // The last panel is computed as a whole, so all that it reads has to be padded for it.
  if (!pack_bias(implementation, w, block) && extent_of(w, "n").value() % block != 0)
    return plain_make(w, m, {k.vectors, k.rows, k.tasks});
  if (k.depth > 0) schedule_matmul_panels(implementation.schedule, w, m, k);
  else schedule_sums(implementation.schedule, w, m, {k.vectors, k.rows, k.tasks}, true);
  return implementation;
}

}  // namespace

Family matmul_packed() {
  return TypedFamily<PanelTile>{"matmul_packed",   "register tile of column vectors x rows, b packed in column panels",
                                packed_matches,    packed_rule,
                                packed_candidates, packed_make}
      .erase();
}

Family matmul_plain() {
  return TypedFamily<MatmulTile>{"matmul_plain",   "register tile of column vectors x rows, b as it lies",
                                 plain_matches,    plain_rule,
                                 plain_candidates, plain_make}
      .erase();
}

}  // namespace heddle::schedules
