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
  std::vector<DepthwiseKnobs> all;
  for (const DepthwiseTile& tile : depthwise_tiles(w, m))
    for (const std::int64_t blocks_inside : {1, 0})
      all.push_back({tile.pixels, tile.rows, task_count(w.composition().threads), blocks_inside});
  return all;
}

DepthwiseKnobs depthwise_rule(const Workload& w, const Machine& m) {
  Best best(DepthwiseKnobs{1, 1, task_count(w.composition().threads), 1});
  for (const DepthwiseKnobs& k : depthwise_candidates(w, m)) {
    // A pixel's other channels lie in the same line, or in lines that prefetchers bring along: they are used before
    // they are gone (Cascade Lake: 3x3 over 112x112 pixels of 32 channels in 157 us, with the blocks outside in 240).
    if (k.blocks_inside != 0) best.offer(k, depthwise_rate(w, m, {k.pixels, k.rows}));
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
    out.split("yo", "task_y", "yo", run_of_task(tiles, row_tasks), Tail::GuardWithIf)
        .split("coo", "task_co", "coo", chunk(blocks, block_tasks), Tail::GuardWithIf);
    if (inside) out.reorder("coi", "xi", "yi", "coo", "xo", "yo", "task_co", "task_y", "n");
    else out.reorder("coi", "xi", "yi", "xo", "yo", "coo", "task_co", "task_y", "n");
    out.fuse("task_co", "task_y", "task").vectorize("coi").unroll("xi").unroll("yi").parallel("task");
  };
  tiled_where_it_fits(s["out"], loops, across, down);
  schedule_depthwise_sums(s, w, lanes, inside ? "coo" : "xo");
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
