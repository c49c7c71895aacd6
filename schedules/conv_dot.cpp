// Convolutions of narrow numbers on channels-last data: conv_direct's tiles, one to four products a lane at a time.
//
// Weights lie with the k of one sum innermost, then the block's channels. Where no instruction multiplies the numbers
// as they are, both sides are widened: weights beforehand, the input in a staged tile; what is broadcast is a 32-bit
// element, the k of one sum.
// Zen 3, bytes in pairs: an add for each product keeps multipliers waiting for a port; registers alone reach 81 % of
// twice the rate of f32.
#include "schedules/conv_support.hpp"
#include "schedules/dot_support.hpp"
#include "schedules/families.hpp"
#include "schedules/matrix_tiles.hpp"

namespace heddle::schedules {
namespace {

const ops::Dot* dot_for(const Workload& w, const Machine& m) {
  const auto in = w.anchor_inputs();
  const ops::Dot* dot = best_dot(m, in[0].dtype, in[1].dtype);
  return dot != nullptr && has_variant(w, dot->name) ? dot : nullptr;
}

bool dot_matches(const Workload& w, const Machine& m) {
  return is_two_dimensional_conv(w) && dot_for(w, m) != nullptr && is_constant(w, weights_operand) &&
         blocks_lie_in_groups(w, m);
}

std::vector<ConvTile> dot_candidates(const Workload& w, const Machine& m) {
  auto tiles = conv_tiles(w, m, registers_of(*dot_for(w, m), m));
  std::erase_if(tiles, [&](const ConvTile& k) { return !packs_in_vectors(k.vectors, extent_of(w, "co").value(), m); });
  return tiles;
}

/// A filter's channels, as many a word as a dot product takes.
std::int64_t words(const Workload& w, const ops::Dot& dot) {
  return chunk(w.input_type("w").shape[1].value(), dot.factor);
}

/// Instructions that add to one vector of results.
std::int64_t steps(const Workload& w, const ops::Dot& dot) {
  const auto& weights = w.input_type("w").shape;
  return words(w, dot) * weights[2].value() * weights[3].value();
}

ConvTile dot_rule(const Workload& w, const Machine& m) {
  return best_conv_tile(w, m, dot_candidates(w, m), steps(w, *dot_for(w, m)), rate_of(*dot_for(w, m), m));
}

/// Where data that cannot be read as they lie are made what the dot multiplies: of a tile's pixels, where that is all
/// that is computed of them, or of the whole image, vectors of pixels at a time.
enum class DataPlace { tile, image };

/// All but how the sums are computed.
Implementation dot_frame(const Workload& w, const Machine& m, const ConvTile& k, const ops::Dot& dot, DataPlace place) {
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t block = k.vectors * lanes;
  const Extent& ci = w.input_type("w").shape[1];
  Implementation implementation;
  implementation.variant = dot.name;
  // A single pixel reads every weight once: as few bytes as can be.
  implementation.packings = {
      dot_packing(dot, m, w.input_type("w").dtype, {"w", "ci", "co", k.vectors, k.pixels * k.rows > 1})};
  if (is_constant(w, bias_operand)) implementation.packings.push_back({"b", {{"co", block}}});
  const auto roles = stage_roles(w, dot.name);

  Schedule& s = implementation.schedule;
  schedule_conv_tiles(s, w, m, k);
  if (reads_in_place(dot, w.anchor_inputs()[0].dtype, ci)) {
    schedule_padding(s, roles, m);
  } else {
    Stage tile = s["x_tile"];
    if (k.blocks_inside != 0 && place == DataPlace::tile) tile.compute_at("out", "xo");
    else tile.compute_root().parallel("y");
    schedule_dot_data(tile, dot, m, "ci", ci);
    if (place == DataPlace::image) tile.vectorize("x", lanes, Tail::GuardWithIf);
  }
  if (has_role(roles, "w_sum")) schedule_dot_sums(s, "w_sum", m, "co");
  return implementation;
}

Implementation dot_make(const Workload& w, const Machine& m, const ConvTile& k) {
  const ops::Dot& dot = *dot_for(w, m);
  Implementation implementation = dot_frame(w, m, k, dot, DataPlace::tile);
  Stage update = implementation.schedule["acc"].update(0);
  update.reorder("k", "co", "x", "y", "ci", "kx", "ky");
  vectorize_dot(update, dot, m, "co");
  update.unroll("co").unroll("x").unroll("y");
  if (mod(w.input_type("w").shape[1], 2 * dot.factor) == Extent(0)) update.unroll("ci", 2);
  return implementation;
}

/// Loops over words that lie one behind the other in the input, innermost first: a pixel's channels and, where those of
/// a filter's row fill no more than a tile's, its pixels.
struct Run {
  std::vector<std::string> loops;
  std::int64_t words;

  bool is_whole_row() const { return loops.size() > 1; }
};

Run run_of(const Workload& w, const ops::Dot& dot) {
  const std::int64_t channels = words(w, dot), row = channels * w.input_type("w").shape[3].value();
  if (channels < tile_words / 4 && row <= tile_words && dilation(w, 1) == 1) return {{"ci", "kx"}, row};
  return {{"ci"}, channels};
}

/// Sums whose operands fill a good part of the rows of tile registers.
bool tiles_match(const Workload& w, const Machine& m) {
  if (!dot_matches(w, m)) return false;
  const ops::Dot* dot = tile_dot(w, m);
  return dot != nullptr && has_variant(w, dot->name) && tile_depth(run_of(w, *dot).words) >= tile_words / 4 &&
         extent_of(w, "co").value() >= tile_words;
}

std::vector<ConvTile> tiles_candidates(const Workload& w, const Machine& m) {
  const std::int64_t co = extent_of(w, "co").value();
  const std::int64_t width = typical(extent_of(w, "x"), w), height = typical(extent_of(w, "y"), w);
  std::vector<ConvTile> all;
  for (const std::int64_t vectors : tile_columns(co, m)) {
    if (groups(w) > 1 && co / groups(w) % (vectors * tile_words) != 0) continue;
    for (std::int64_t rows = 1; rows <= std::min<std::int64_t>(height, 6); ++rows)
      for (std::int64_t pixels = std::min<std::int64_t>(width, 6 * tile_rows); pixels >= 1; --pixels)
        if (are_whole_tiles(pixels) && fits_tiles(vectors, tiles_along(pixels) * rows))
          for (const std::int64_t blocks_inside : {0, 1})
            all.push_back({vectors, pixels, rows, task_count(w.composition().threads), blocks_inside});
  }
  return all;
}

ConvTile tiles_rule(const Workload& w, const Machine& m) {
  const std::int64_t reads = steps(w, *tile_dot(w, m)), co = extent_of(w, "co").value();
  const std::int64_t products = reads / tile_depth(run_of(w, *tile_dot(w, m)).words);
  return best_conv_tile(w, m, tiles_candidates(w, m), reads, [&](const ConvTile& k, std::int64_t passing) {
    // A filter's taps read a tile's input again and again; the first time, where it stays beside the panel of weights,
    // or always it comes from the second cache. Blocks of channels inside find it where the one before left it.
    const std::int64_t input = tile_input_bytes(w, k), panel = k.vectors * tile_words * reads * 4;
    const bool stays = input + panel <= m.l1_bytes;
    double fetched = stays ? static_cast<double>(input) / static_cast<double>(k.pixels * k.rows * reads * 4) : 1;
    if (stays && k.blocks_inside != 0) fetched /= static_cast<double>(chunk(co, k.vectors * tile_words));
    return tile_rate({k.vectors, passing < m.l1_bytes ? 0.0 : 1.0},
                     {tiles_along(k.pixels) * k.rows, std::min(fetched, 1.0)}, tile_height(k.pixels), products);
  });
}

Implementation tiles_make(const Workload& w, const Machine& m, const ConvTile& k) {
  const ops::Dot& dot = *tile_dot(w, m);
  const Run run = run_of(w, dot);
  Implementation implementation = dot_frame(w, m, k, dot, run.is_whole_row() ? DataPlace::image : DataPlace::tile);
  Stage update = implementation.schedule["acc"].update(0);
  const TileLoops tile{"x", "co", run.loops, tile_height(k.pixels), tile_depth(run.words)};
  std::vector<std::string> outer = {"y", "ci_tile", "kx", "ky"};
  if (run.is_whole_row()) outer = {"y", "ky"};
  schedule_tile_products(update, tile, outer);
  update.unroll("y");
  return implementation;
}

}  // namespace

Family conv_dot() {
  return TypedFamily<ConvTile>{
      "conv_dot",     "narrow numbers: register tile of channel vectors x pixels, several products at a time",
      dot_matches,    dot_rule,
      dot_candidates, dot_make}
      .erase();
}

Family conv_matrix_tiles() {
  return TypedFamily<ConvTile>{
      "conv_matrix_tiles", "narrow numbers: tile registers of 16 channels x pixels, 64 bytes of products at a time",
      tiles_match,         tiles_rule,
      tiles_candidates,    tiles_make}
      .erase();
}

}  // namespace heddle::schedules
