// Matrix products of narrow numbers: matmul_packed's tiles, one to four products a lane at a time. See conv_dot.cpp.
// A b that is made at run time is rearranged first, into what packing makes of one known beforehand.
#include "schedules/dot_support.hpp"
#include "schedules/families.hpp"
#include "schedules/matmul_support.hpp"

namespace heddle::schedules {
namespace {

const ops::Dot* dot_for(const Workload& w, const Machine& m) {
  const auto in = w.anchor_inputs();
  return best_dot(m, in[0].dtype, in[1].dtype);
}

bool dot_matches(const Workload& w, const Machine& m) { return is_matmul(w) && dot_for(w, m) != nullptr; }

std::vector<MatmulTile> dot_candidates(const Workload& w, const Machine& m) {
  auto tiles = matmul_tiles(w, m, registers_of(*dot_for(w, m), m));
  std::erase_if(tiles, [&](const MatmulTile& k) { return !packs_in_vectors(k.vectors, extent_of(w, "n").value(), m); });
  return tiles;
}

MatmulTile dot_rule(const Workload& w, const Machine& m) {
  return best_matmul_tile(w, m, dot_candidates(w, m), rate_of(*dot_for(w, m), m));
}

Implementation dot_make(const Workload& w, const Machine& m, const MatmulTile& k) {
  const ops::Dot& dot = *dot_for(w, m);
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t block = k.vectors * lanes;
  const bool transposed = w.anchor().attributes.value("transpose_a", false);
  const auto a = w.anchor_inputs()[0];
  const Extent depth = products_depth(w);
  const auto roles = stage_roles(w, dot.name);
  const bool packed = b_is_packable(w);
  Implementation implementation;
  implementation.variant = dot.name;
  // A single row reads every weight once: as few bytes as can be.
  if (packed)
    implementation.packings = {dot_packing(dot, m, w.input_type("b").dtype, {"b", "k", "n", k.vectors, k.rows > 1})};
  pack_bias(implementation, w, block);

  Schedule& s = implementation.schedule;
  schedule_matmul_tiles(s, w, m, k, true);
  Stage update = s["acc"].update(0);
  update.reorder("k", "n", "m", "ko");
  vectorize_dot(update, dot, m, "n");
  update.unroll("n").unroll("m");
  if (mod(depth, 2 * dot.factor) == Extent(0)) update.unroll("ko", 2);
  if (!reads_in_place(dot, a.dtype, depth) || transposed) {
    s["a_tile"].compute_root().parallel("m");
    schedule_dot_data(s["a_tile"], dot, m, "k", depth);
  }
  if (!packed) s["b_tile"].compute_root().unroll("k").vectorize("n", m.lanes(2), Tail::GuardWithIf).parallel("ko");
  if (has_role(roles, "b_sum")) schedule_dot_sums(s, "b_sum", m, "n");
  return implementation;
}

}  // namespace

Family matmul_dot() {
  return TypedFamily<MatmulTile>{
      "matmul_dot",   "narrow numbers: register tile of column vectors x rows, several products at a time",
      dot_matches,    dot_rule,
      dot_candidates, dot_make}
      .erase();
}

}  // namespace heddle::schedules
