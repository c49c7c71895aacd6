// Matrix products.
//
// matmul_packed: b is known beforehand and packed in panels of `vectors` vectors of columns; a register tile of
// `vectors` x `rows` accumulators; the panel stays in L2 while the rows pass (column block outermost). 98-99 % of FMA
// peak where the tile divides the extents.
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

std::vector<MatmulTile> candidates(const Workload& w, const Machine& m) { return matmul_tiles(w, m, fits_registers); }

MatmulTile rule(const Workload& w, const Machine& m) {
  return best_matmul_tile(w, m, candidates(w, m), register_tile_rate);
}

Implementation make(const Workload& w, const Machine& m, const MatmulTile& k, bool packed) {
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t block = k.vectors * lanes;
  Implementation implementation;
  if (packed) implementation.packings = {{"b", {{"n", block}}}};
  const bool bias_is_padded = packed && pack_bias(implementation, w, block);
  // Whole panels may only be computed where the packed operands are padded to them; elsewhere reading past the last
  // column would leave the buffer.
  const bool whole_panels = extent_of(w, "n").value() % block == 0 || bias_is_padded;
  Schedule& s = implementation.schedule;
  schedule_matmul_tiles(s, w, m, k, whole_panels);
  Stage update = s["acc"].update(0);
  update.reorder("n", "m", "k");
  if (whole_panels) update.vectorize("n", lanes).unroll("n").unroll("m");
  else update.vectorize("n", lanes, Tail::GuardWithIf);
  if (const auto depth = w.anchor_inputs()[0].shape.back().constant(); depth && *depth % 2 == 0) update.unroll("k", 2);
  return implementation;
}

Implementation packed_make(const Workload& w, const Machine& m, const MatmulTile& k) { return make(w, m, k, true); }
Implementation plain_make(const Workload& w, const Machine& m, const MatmulTile& k) { return make(w, m, k, false); }

}  // namespace

Family matmul_packed() {
  return TypedFamily<MatmulTile>{"matmul_packed", "register tile of column vectors x rows, b packed in column panels",
                                 packed_matches,  rule,
                                 candidates,      packed_make}
      .erase();
}

Family matmul_plain() {
  return TypedFamily<MatmulTile>{"matmul_plain", "register tile of column vectors x rows, b as it lies",
                                 plain_matches,  rule,
                                 candidates,     plain_make}
      .erase();
}

}  // namespace heddle::schedules
