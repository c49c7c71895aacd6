// Matrix products.
//
// matmul_packed: b is known beforehand and packed in panels of `vectors` vectors of columns; a register tile of
// `vectors` x `rows` accumulators; the panel stays in L2 while the rows pass (column block outermost). A panel that
// would fill L2 comes in pieces of k.
//
// matmul_plain: b is made at run time and read as it lies.
#include "schedules/families.hpp"
#include "schedules/matmul_support.hpp"

namespace heddle::schedules {
namespace {

bool plain_matches(const Workload& w, const Machine&) {
  return is_matmul(w) && sums_in_f32(w.anchor_inputs()[0].dtype);
}
bool packed_matches(const Workload& w, const Machine& m) { return plain_matches(w, m) && b_is_packable(w); }

Implementation make(const Workload& w, const Machine& m, const PanelTile& k, bool packed) {
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t block = k.vectors * lanes;
  Implementation implementation;
  if (packed) implementation.packings = {{"b", {{"n", block}}}};
  const bool bias_is_padded = packed && pack_bias(implementation, w, block);
  // Whole panels may only be computed where the packed operands are padded to them; elsewhere reading past the last
  // column would leave the buffer.
  const bool whole_panels = extent_of(w, "n").value() % block == 0 || bias_is_padded;
  Schedule& s = implementation.schedule;
  if (whole_panels && k.depth > 0) {
    schedule_matmul_panels(s, w, m, k);
    return implementation;
  }
  schedule_matmul_tiles(s, w, m, {k.vectors, k.rows, k.tasks}, whole_panels);
  Stage update = s["acc"].update(0);
  update.reorder("n", "m", "k");
  if (whole_panels) update.vectorize("n", lanes).unroll("n").unroll("m");
  else update.vectorize("n", lanes, Tail::GuardWithIf);
  if (mod(products_depth(w), 2) == Extent(0)) update.unroll("k", 2);
  return implementation;
}

std::vector<MatmulTile> plain_candidates(const Workload& w, const Machine& m) {
  return matmul_tiles(w, m, fits_registers);
}

MatmulTile plain_rule(const Workload& w, const Machine& m) {
  return best_matmul_tile(w, m, plain_candidates(w, m), register_tile_rate);
}

Implementation plain_make(const Workload& w, const Machine& m, const MatmulTile& k) {
  return make(w, m, {k.vectors, k.rows, 0, k.tasks}, false);
}

/// The tile with k in pieces of `bytes` of a panel; k as a whole where that is no more, or where rows would be read
/// that there are not.
PanelTile in_pieces(const Workload& w, const Machine& m, const MatmulTile& k, std::int64_t bytes) {
  const std::int64_t depth = products_depth(w).value();
  const std::int64_t pieces = chunk(depth, bytes / (k.vectors * m.vector_bytes));
  const PanelTile tile{k.vectors, k.rows, round_up(chunk(depth, pieces), 2), k.tasks};
  if (pieces > 1 && panels_have_all_rows(w, m, tile)) return tile;
  return {k.vectors, k.rows, 0, k.tasks};
}

std::vector<PanelTile> packed_candidates(const Workload& w, const Machine& m) {
  std::vector<PanelTile> all;
  for (const MatmulTile& k : plain_candidates(w, m)) {
    all.push_back({k.vectors, k.rows, 0, k.tasks});
    for (const std::int64_t bytes : {m.l1_bytes, m.l2_bytes / 4})
      if (const PanelTile tile = in_pieces(w, m, k, bytes); tile.depth > 0) all.push_back(tile);
  }
  return all;
}

/// k as a whole while a panel stays in the second cache beside the next one, which is on its way.
PanelTile packed_rule(const Workload& w, const Machine& m) {
  const MatmulTile k = plain_rule(w, m);
  const PanelTile halves = in_pieces(w, m, k, m.l2_bytes / 2);
  return halves.depth == 0 ? halves : in_pieces(w, m, k, m.l2_bytes / 4);
}

Implementation packed_make(const Workload& w, const Machine& m, const PanelTile& k) { return make(w, m, k, true); }

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
