// Convolutions on channels-last data with prepacked weights.
//
// conv_direct: a register tile of `vectors` x (`pixels` x `rows`) accumulators for one block of output channels; the
// block's weights stream from L2 in exactly the order of the loops, each input element is broadcast. Measured at
// 98-100 % of FMA peak where a tile of the 32 registers divides the row; 16 registers need tiles of several rows.
// conv_depthwise: a tile of pixels x rows for one vector of channels, the taps unrolled.
#include <fmt/format.h>

#include "schedules/conv_support.hpp"
#include "schedules/families.hpp"
#include "schedules/support.hpp"

namespace heddle::schedules {
namespace {

std::vector<std::int64_t> integers(const Json& attributes, const char* name) {
  const auto found = attributes.find(name);
  return found == attributes.end() ? std::vector<std::int64_t>{} : found->get<std::vector<std::int64_t>>();
}

std::int64_t groups(const Workload& w) { return w.anchor().attributes.value("group", std::int64_t{1}); }

bool is_depthwise(const Workload& w) {
  const auto& weights = w.input_type("w").shape;
  return groups(w) > 1 && weights[1] == Extent(1) && weights[0] == Extent(groups(w));
}

// --- conv_direct ---

struct DirectKnobs {
  BOOST_HANA_DEFINE_STRUCT(DirectKnobs, (std::int64_t, vectors), (std::int64_t, pixels), (std::int64_t, rows),
                           (std::int64_t, tasks), (std::int64_t, blocks_inside));
};

bool direct_matches(const Workload& w, const Machine& m) {
  if (!is_two_dimensional_conv(w) || is_depthwise(w)) return false;
  // A block of channels must lie in one group, or the input's index would differ from lane to lane.
  return groups(w) == 1 || (extent_of(w, "co").value() / groups(w)) % m.lanes(4) == 0;
}

std::vector<DirectKnobs> direct_candidates(const Workload& w, const Machine& m) {
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t co = extent_of(w, "co").value();
  const std::int64_t per_group = co / groups(w);
  const std::int64_t width = typical(extent_of(w, "x"), w), height = typical(extent_of(w, "y"), w);
  std::vector<DirectKnobs> all;
  for (const std::int64_t vectors : {4, 3, 2, 1}) {
    if (vectors > 1 && (vectors - 1) * lanes >= co) continue;
    if (groups(w) > 1 && per_group % (vectors * lanes) != 0) continue;
    for (std::int64_t rows = 1; rows <= std::min<std::int64_t>(height, 8); ++rows)
      for (std::int64_t pixels = std::min<std::int64_t>(width, 28); pixels >= 1; --pixels)
        if (fits_registers(vectors, pixels * rows, m))
          for (const std::int64_t blocks_inside : {0, 1})
            all.push_back({vectors, pixels, rows, task_count(w.composition().threads), blocks_inside});
  }
  return all;
}

DirectKnobs direct_rule(const Workload& w, const Machine& m) {
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t co = extent_of(w, "co").value();
  const std::int64_t width = typical(extent_of(w, "x"), w), height = typical(extent_of(w, "y"), w);
  const auto& weights = w.input_type("w").shape;
  const std::int64_t taps = weights[1].value() * weights[2].value() * weights[3].value();
  Best best(DirectKnobs{1, 1, 1, task_count(w.composition().threads), 0});
  for (const DirectKnobs& k : direct_candidates(w, m)) {
    // Where the second-level cache holds all weights, a tile's input is read once and its results are written together;
    // where it does not, a block's weights are read once and the input for every block.
    if ((k.blocks_inside != 0) != (co * taps * 4 <= m.l2_bytes / 4)) continue;
    // Tiles of several rows need as many tests of symbolic extents: they are for sizes that are known.
    if (k.rows > 1 && !(extent_of(w, "x").is_constant() && extent_of(w, "y").is_constant())) continue;
    const double useful =
        tile_efficiency(co, k.vectors * lanes) * tile_efficiency(width, k.pixels) * tile_efficiency(height, k.rows);
    double rate = register_tile_rate(k.vectors, k.pixels * k.rows);
    // A block's weights that do not stay in the second-level cache come from the third for every tile anew, at about
    // 16 bytes a cycle (Zen 3: 9.4 MB of weights at 4 vectors x 2 pixels run at half the speed of 3 x 4).
    if (k.vectors * m.vector_bytes * taps > m.l2_bytes / 2)
      rate = std::min(rate, static_cast<double>(k.pixels * k.rows) / 2 / (m.vector_bytes / 16.0));
    const double score = useful * rate;
    best.offer(k, score);
  }
  return best.value();
}

Implementation direct_make(const Workload& w, const Machine& m, const DirectKnobs& k) {
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t block = k.vectors * lanes;
  const auto roles = stage_roles(w);
  Implementation implementation;
  implementation.packings = {{"w", {{"co", block}}}};
  if (w.has_input("b")) implementation.packings.push_back({"b", {{"co", block}}});

  const Extent co = extent_of(w, "co");
  const Extent width = extent_of(w, "x");
  const Extent height = extent_of(w, "y");
  const Tiling across = tile_loop(width, k.pixels, w), down = tile_loop(height, k.rows, w);
  const Tail co_tail = co.value() % block == 0 ? Tail::RoundUp : Tail::GuardWithIf;
  // One row (pixels flattened by a 1x1 convolution): tasks are runs of tiles. Otherwise they are runs of rows.
  const bool flat = height == Extent(1);
  const bool inside = k.blocks_inside != 0;
  const std::int64_t blocks = inside ? 1 : (co.value() + block - 1) / block;
  const std::int64_t pieces = std::max<std::int64_t>(1, k.tasks / blocks + (k.tasks > 1 ? 1 : 0));

  Schedule& s = implementation.schedule;
  const auto loops = [&](Stage out, const Tiling& x, const Tiling& y) {
    out.split("co", "coo", "coi", block, co_tail).split("x", "xo", "xi", x.tile, x.tail);
    if (flat) {
      const std::int64_t tiles = chunk(typical(width, w), x.tile);
      out.split("xo", "task_x", "xo", chunk(tiles, pieces), Tail::GuardWithIf);
      if (inside) out.reorder("coi", "xi", "coo", "xo", "y", "task_x", "n").rename("task_x", "task");
      else out.reorder("coi", "xi", "xo", "y", "task_x", "coo", "n").fuse("task_x", "coo", "task");
    } else {
      out.split("y", "yo", "yi", y.tile, y.tail);
      out.split("yo", "task_y", "yo", chunk(chunk(typical(height, w), y.tile), pieces), Tail::GuardWithIf);
      if (inside) out.reorder("coi", "xi", "yi", "coo", "xo", "yo", "task_y", "n").rename("task_y", "task");
      else out.reorder("coi", "xi", "yi", "xo", "yo", "task_y", "coo", "n").fuse("task_y", "coo", "task");
      out.unroll("yi");
    }
    out.vectorize("coi", lanes).unroll("coi").unroll("xi").parallel("task");
  };
  tiled_where_it_fits(s["out"], across, down, loops);
  s["acc"]
      .compute_at("out", inside ? "coo" : "xo")
      .bound_extent("co", block)
      .vectorize("co", lanes)
      .unroll("co")
      .unroll("x")
      .unroll("y");
  Stage update = s["acc"].update(0);
  update.reorder("co", "x", "y", "ci", "kx", "ky").vectorize("co", lanes).unroll("co").unroll("x").unroll("y");
  const std::int64_t ci = w.input_type("w").shape[1].value();
  if (ci <= 4) update.unroll("ci");
  else if (ci % 2 == 0) update.unroll("ci", 2);
  schedule_padding(s, roles, m);
  return implementation;
}

// --- conv_depthwise ---

struct DepthwiseKnobs {
  BOOST_HANA_DEFINE_STRUCT(DepthwiseKnobs, (std::int64_t, pixels), (std::int64_t, rows), (std::int64_t, tasks),
                           (std::int64_t, blocks_inside));
};

bool depthwise_matches(const Workload& w, const Machine&) { return is_two_dimensional_conv(w) && is_depthwise(w); }

std::vector<DepthwiseKnobs> depthwise_candidates(const Workload& w, const Machine& m) {
  // Beside the accumulators a tap's weights and what LLVM loads ahead: of 16 registers 10 accumulators run at two thirds
  // of the speed of 8, 12 at half of it.
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
  const auto strides = integers(w.anchor().attributes, "strides");
  const auto& taps = w.input_type("w").shape;
  const auto reach = [&](std::int64_t outputs, std::size_t d) {
    return (outputs - 1) * (strides.empty() ? 1 : strides[d]) + taps[2 + d].value();
  };
  constexpr int line_bytes = 64;
  Best best(DepthwiseKnobs{1, 1, task_count(w.composition().threads), 1});
  for (const DepthwiseKnobs& k : depthwise_candidates(w, m)) {
    // A vector that is no whole cache line leaves its pixels' lines half used: the other blocks of channels come next,
    // before the lines are gone.
    if ((k.blocks_inside != 0) != (m.vector_bytes < line_bytes)) continue;
    const double accumulators = static_cast<double>(k.pixels * k.rows);
    const double reuse = accumulators / static_cast<double>(reach(k.pixels, 1) * reach(k.rows, 0));
    const double score = tile_efficiency(width, k.pixels) * tile_efficiency(height, k.rows) *
                         std::min(1.0, accumulators / 8.0) * (0.5 + reuse);
    best.offer(k, score);
  }
  return best.value();
}

Implementation depthwise_make(const Workload& w, const Machine& m, const DepthwiseKnobs& k) {
  const std::int64_t lanes = m.lanes(4);
  const auto roles = stage_roles(w);
  const std::int64_t co = extent_of(w, "co").value();
  Implementation implementation;
  implementation.packings = {{"w", {{"co", lanes}}}};
  if (w.has_input("b")) implementation.packings.push_back({"b", {{"co", lanes}}});
  const Tiling across = tile_loop(extent_of(w, "x"), k.pixels, w);
  const Tiling down = tile_loop(extent_of(w, "y"), k.rows, w);
  const bool inside = k.blocks_inside != 0;
  const std::int64_t blocks = (co + lanes - 1) / lanes;
  const Tail co_tail = co % lanes == 0 ? Tail::RoundUp : Tail::GuardWithIf;

  Schedule& s = implementation.schedule;
  const auto loops = [&](Stage out, const Tiling& x, const Tiling& y) {
    const std::int64_t tiles = chunk(typical(extent_of(w, "y"), w), y.tile);
    // Few rows of tiles are cut into runs of blocks besides.
    const std::int64_t row_tasks = std::min(tiles, inside ? k.tasks : std::max<std::int64_t>(1, k.tasks / blocks));
    const std::int64_t block_tasks = inside ? chunk(k.tasks, row_tasks) : blocks;
    out.split("co", "coo", "coi", lanes, co_tail)
        .split("x", "xo", "xi", x.tile, x.tail)
        .split("y", "yo", "yi", y.tile, y.tail);
    out.split("yo", "task_y", "yo", chunk(tiles, row_tasks), Tail::GuardWithIf)
        .split("coo", "task_co", "coo", chunk(blocks, block_tasks), Tail::GuardWithIf);
    if (inside) out.reorder("coi", "xi", "yi", "coo", "xo", "yo", "task_y", "task_co", "n");
    else out.reorder("coi", "xi", "yi", "xo", "yo", "coo", "task_y", "task_co", "n");
    out.fuse("task_y", "task_co", "task").vectorize("coi").unroll("xi").unroll("yi").parallel("task");
  };
  tiled_where_it_fits(s["out"], across, down, loops);
  // The input has no channels beyond the last: where the vector does not divide them, loads are predicated.
  const bool whole = co % lanes == 0;
  const auto vectors = [&](Stage stage) {
    if (whole) stage.vectorize("co");
    else stage.vectorize("co", lanes, Tail::GuardWithIf);
    stage.unroll("x").unroll("y");
  };
  Stage acc = s["acc"].compute_at("out", inside ? "coo" : "xo");
  if (whole) acc.bound_extent("co", lanes);
  vectors(acc);
  const auto& taps = w.input_type("w").shape;
  Stage update = s["acc"].update(0);
  update.reorder("co", "x", "y", "kx", "ky");
  vectors(update);
  if (taps[2].value() * taps[3].value() <= 25) update.unroll("kx").unroll("ky");
  schedule_padding(s, roles, m);
  return implementation;
}

}  // namespace

Family conv_direct() {
  return TypedFamily<DirectKnobs>{
      "conv_direct",     "register tile of channel vectors x pixels, weights packed by channel block",
      direct_matches,    direct_rule,
      direct_candidates, direct_make}
      .erase();
}

Family conv_depthwise() {
  return TypedFamily<DepthwiseKnobs>{
      "conv_depthwise",     "one vector of channels, a tile of pixels x rows, taps unrolled",
      depthwise_matches,    depthwise_rule,
      depthwise_candidates, depthwise_make}
      .erase();
}

}  // namespace heddle::schedules
