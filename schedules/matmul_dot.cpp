// Matrix products of narrow numbers: matmul_packed's tiles, one to four products a lane at a time. See conv_dot.cpp.
// A b that is made at run time is rearranged first, into what packing makes of one known beforehand.
#include <algorithm>

#include "schedules/dot_support.hpp"
#include "schedules/families.hpp"
#include "schedules/matmul_support.hpp"
#include "schedules/matrix_tiles.hpp"

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

/// All but how the sums are computed.
Implementation dot_frame(const Workload& w, const Machine& m, const MatmulTile& k, const ops::Dot& dot) {
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
  if (!reads_in_place(dot, a.dtype, depth) || transposed) {
    s["a_tile"].compute_root().parallel("m");
    schedule_dot_data(s["a_tile"], dot, m, "k", depth);
  }
  if (!packed) s["b_tile"].compute_root().unroll("k").vectorize("n", m.lanes(2), Tail::GuardWithIf).parallel("ko");
  if (has_role(roles, "b_sum")) schedule_dot_sums(s, "b_sum", m, "n");
  return implementation;
}

Implementation dot_make(const Workload& w, const Machine& m, const MatmulTile& k) {
  const ops::Dot& dot = *dot_for(w, m);
  Implementation implementation = dot_frame(w, m, k, dot);
  Stage update = implementation.schedule["acc"].update(0);
  update.reorder("k", "n", "m", "ko");
  vectorize_dot(update, dot, m, "n");
  update.unroll("n").unroll("m");
  if (mod(products_depth(w), 2 * dot.factor) == Extent(0)) update.unroll("ko", 2);
  return implementation;
}

/// Words of a sum, where their number is known.
std::optional<std::int64_t> words(const Workload& w, const ops::Dot& dot) {
  return ceil_div(products_depth(w), dot.factor).constant();
}

/// Several rows, and sums that fill a good part of a tile's. A vector's product would read as many weights.
bool tiles_match(const Workload& w, const Machine& m) {
  if (!dot_matches(w, m)) return false;
  const ops::Dot* dot = tile_dot(w, m);
  if (dot == nullptr) return false;
  const auto depth = words(w, *dot);
  return depth && tile_depth(*depth) >= tile_words / 4 && extent_of(w, "n").value() >= tile_words &&
         typical(extent_of(w, "m"), w) > 1;
}

std::vector<MatmulTile> tiles_candidates(const Workload& w, const Machine& m) {
  const std::int64_t most = std::min<std::int64_t>(typical(extent_of(w, "m"), w), 6 * tile_rows);
  std::vector<MatmulTile> all;
  for (const std::int64_t vectors : tile_columns(extent_of(w, "n").value(), m))
    for (std::int64_t rows = most; rows >= 1; --rows)
      if (are_whole_tiles(rows) && fits_tiles(vectors, tiles_along(rows)))
        all.push_back({vectors, rows, task_count(w.composition().threads)});
  return all;
}

MatmulTile tiles_rule(const Workload& w, const Machine& m) {
  const ops::Dot& dot = *tile_dot(w, m);
  const std::int64_t factor = dot.factor;
  const std::int64_t row_bytes = typical(extent_of(w, "m"), w) * products_depth(w).value() * 4 / factor;
  const std::int64_t depth = words(w, dot).value(), products = depth / tile_depth(depth);
  return best_matmul_tile(w, m, tiles_candidates(w, m), [&](const MatmulTile& k, std::int64_t passing) {
    // All rows pass by for each panel of columns. What is a little larger than the first cache mostly stays (Granite
    // Rapids, 128 x 768 x 768 in bf16, panels of 48 KiB: tiles of 2 x 32 rows in 147 us, panels of half that and 1 x 32
    // in 157).
    const auto share = [&](std::int64_t bytes) {
      return std::clamp(static_cast<double>(bytes - m.l1_bytes) / static_cast<double>(m.l1_bytes), 0.0, 1.0);
    };
    return tile_rate({k.vectors, share(passing / factor)}, {tiles_along(k.rows), share(row_bytes)}, tile_height(k.rows),
                     products);
  });
}

Implementation tiles_make(const Workload& w, const Machine& m, const MatmulTile& k) {
  const ops::Dot& dot = *tile_dot(w, m);
  Implementation implementation = dot_frame(w, m, k, dot);
  schedule_tile_products(implementation.schedule["acc"].update(0),
                         {"m", "n", {"ko"}, tile_height(k.rows), tile_depth(*words(w, dot))}, {"ko_tile"});
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

Family matmul_matrix_tiles() {
  return TypedFamily<MatmulTile>{
      "matmul_matrix_tiles", "narrow numbers: tile registers of 16 columns x rows, 64 bytes of products at a time",
      tiles_match,           tiles_rule,
      tiles_candidates,      tiles_make}
      .erase();
}

}  // namespace heddle::schedules
