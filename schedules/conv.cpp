// Convolutions on channels-last data with prepacked weights.
//
// conv_direct: a register tile of `vectors` x (`pixels` x `rows`) accumulators for one block of output channels; the
// block's weights stream from L2 in exactly the order of the loops, each input element is broadcast. Measured at
// 98-100 % of FMA peak where a tile of the 32 registers divides the row; 16 registers need tiles of several rows.
// conv_depthwise: a tile of pixels x rows for one vector of channels, a row of taps unrolled.
#include <fmt/format.h>

#include "schedules/conv_support.hpp"
#include "schedules/families.hpp"
#include "schedules/support.hpp"

namespace heddle::schedules {
namespace {

// --- conv_direct ---

bool direct_matches(const Workload& w, const Machine& m) {
  return is_two_dimensional_conv(w) && weights_are_packable(w) && sums_in_f32(w.anchor_inputs()[0].dtype) &&
         blocks_lie_in_groups(w, m);
}

std::vector<ConvTile> direct_candidates(const Workload& w, const Machine& m) {
  return conv_tiles(w, m, fits_registers);
}

ConvTile direct_rule(const Workload& w, const Machine& m) {
  const auto& weights = w.input_type("w").shape;
  const std::int64_t taps = weights[1].value() * weights[2].value() * weights[3].value();
  return best_conv_tile(w, m, direct_candidates(w, m), taps, register_tile_rate);
}

Implementation direct_make(const Workload& w, const Machine& m, const ConvTile& k) {
  return make_conv_tiles(w, m, k, w.input_type("w").shape[1].value());
}

// --- conv_depthwise ---

struct DepthwiseKnobs {
  BOOST_HANA_DEFINE_STRUCT(DepthwiseKnobs, (std::int64_t, pixels), (std::int64_t, rows), (std::int64_t, tasks),
                           (std::int64_t, blocks_inside));
};

bool depthwise_matches(const Workload& w, const Machine&) {
  if (!is_two_dimensional_conv(w) || !is_depthwise(w) || !weights_are_packable(w)) return false;
  const DType type = w.anchor_inputs()[0].dtype;
  return sums_in_f32(type) || size_of(type) == 1;
}

std::vector<DepthwiseKnobs> depthwise_candidates(const Workload& w, const Machine& m) {
  // Beside the accumulators a tap's weights and what LLVM loads ahead: of 16 registers 10 accumulators run at two
  // thirds of the speed of 8, 12 at half of it.
  constexpr int others = 8;
  const std::int64_t width = typical(extent_of(w, "x"), w), height = typical(extent_of(w, "y"), w);
  std::vector<DepthwiseKnobs> all;
  for (const std::int64_t rows : {2, 1, 4, 3})
    for (const std::int64_t pixels : {4, 7, 2, 5, 8, 14, 3, 1})
      if (pixels * rows <= m.vector_registers - others && pixels <= width && rows <= height)
        for (const std::int64_t blocks_inside : {1, 0})
          all.push_back({pixels, rows, task_count(w.composition().threads), blocks_inside});
  return all;
}

DepthwiseKnobs depthwise_rule(const Workload& w, const Machine& m) {
  const std::int64_t width = typical(extent_of(w, "x"), w), height = typical(extent_of(w, "y"), w);
  Best best(DepthwiseKnobs{1, 1, task_count(w.composition().threads), 1});
  for (const DepthwiseKnobs& k : depthwise_candidates(w, m)) {
    // A pixel's other channels lie in the same line, or in lines that prefetchers bring along: they are used before
    // they are gone (Cascade Lake: 3x3 over 112x112 pixels of 32 channels in 157 us, with the blocks outside in 240).
    if (k.blocks_inside == 0) continue;
    // More rows or accumulators run at two thirds to four fifths of the speed (Cascade Lake: 3x3 over 14x14 pixels in
    // tiles of 2 x 7 in 25 us, 3 x 7 in 36; 5x5 over 28x28 2 x 7 in 125, 4 x 4 in 163).
    if (k.rows > 2 || k.pixels * k.rows > m.vector_registers / 2) continue;
    const double accumulators = static_cast<double>(k.pixels * k.rows);
    const double reuse = accumulators / static_cast<double>(reach(w, k.pixels, 1) * reach(w, k.rows, 0));
    const double score = tile_efficiency(width, k.pixels) * tile_efficiency(height, k.rows) *
                         std::min(1.0, accumulators / 8.0) * (0.5 + reuse);
    best.offer(k, score);
  }
  return best.value();
}

Implementation depthwise_make(const Workload& w, const Machine& m, const DepthwiseKnobs& k) {
  const auto roles = stage_roles(w);
  const std::int64_t co = extent_of(w, "co").value();
  // The input has no channels beyond the last: where vectors do not divide them, the last vector begins earlier, and
  // weights lie without gaps for it.
  const std::int64_t lanes = filled_lanes(co, m);
  const bool whole = co % lanes == 0;
  Implementation implementation;
  implementation.packings = {{"w", {{"co", whole ? lanes : co}}}};
  if (w.has_input("b")) implementation.packings.push_back({"b", {{"co", whole ? lanes : co}}});
  const Tiling across = tile_loop(extent_of(w, "x"), k.pixels, w);
  const Tiling down = tile_loop(extent_of(w, "y"), k.rows, w);
  const bool inside = k.blocks_inside != 0;
  const std::int64_t blocks = (co + lanes - 1) / lanes;

  Schedule& s = implementation.schedule;
  const auto loops = [&](Stage out, const Tiling& x, const Tiling& y) {
    const std::int64_t tiles = chunk(typical(extent_of(w, "y"), w), y.tile);
    // Few rows of tiles are cut into runs of blocks besides.
    const std::int64_t row_tasks = std::min(tiles, inside ? k.tasks : std::max<std::int64_t>(1, k.tasks / blocks));
    const std::int64_t block_tasks = inside ? chunk(k.tasks, row_tasks) : blocks;
    out.split("co", "coo", "coi", lanes, shifted_tail(co, lanes))
        .split("x", "xo", "xi", x.tile, x.tail)
        .split("y", "yo", "yi", y.tile, y.tail);
    out.split("yo", "task_y", "yo", chunk(tiles, row_tasks), Tail::GuardWithIf)
        .split("coo", "task_co", "coo", chunk(blocks, block_tasks), Tail::GuardWithIf);
    if (inside) out.reorder("coi", "xi", "yi", "coo", "xo", "yo", "task_y", "task_co", "n");
    else out.reorder("coi", "xi", "yi", "xo", "yo", "coo", "task_y", "task_co", "n");
    out.fuse("task_y", "task_co", "task").vectorize("coi").unroll("xi").unroll("yi").parallel("task");
  };
  tiled_where_it_fits(s["out"], loops, across, down);
  const auto vectors = [](Stage stage) { stage.vectorize("co").unroll("x").unroll("y"); };
  Stage acc = s["acc"].compute_at("out", inside ? "coo" : "xo").bound_extent("co", lanes);
  vectors(acc);
  const auto& taps = w.input_type("w").shape;
  Stage update = s["acc"].update(0);
  update.reorder("co", "x", "y", "kx", "ky");
  vectors(update);
  // A loop over the taps' rows parts sums from epilogues: LLVM mixes what stands in one block until registers do not
  // suffice (EfficientNet's 5x5 layers with swish take 1.15 to 2 times as long unrolled).
  if (taps[2].value() * taps[3].value() <= 25) update.unroll("kx");
  schedule_padding(s, roles, m);
  return implementation;
}

}  // namespace

Family conv_direct() {
  return TypedFamily<ConvTile>{
      "conv_direct",     "register tile of channel vectors x pixels, weights packed by channel block",
      direct_matches,    direct_rule,
      direct_candidates, direct_make}
      .erase();
}

Family conv_depthwise() {
  return TypedFamily<DepthwiseKnobs>{
      "conv_depthwise",     "one vector of channels, a tile of pixels x rows, a row of taps unrolled",
      depthwise_matches,    depthwise_rule,
      depthwise_candidates, depthwise_make}
      .erase();
}

}  // namespace heddle::schedules
