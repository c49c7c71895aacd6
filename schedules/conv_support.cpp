#include "schedules/conv_support.hpp"

#include <algorithm>

namespace heddle::schedules {

bool is_two_dimensional_conv(const Workload& w) {
  if (w.anchor().op->name() != "conv" || !reads_memory(w)) return false;
  const TensorType out = w.output_types()[0];
  const TensorType in = w.anchor_inputs()[0];
  if (out.rank() != 4 || !w.input_type("w").is_static() || !extent_of(w, "co").is_constant()) return false;
  // Vectors run over channels: both sides must have them innermost (or only one pixel, where order means nothing).
  return (out.innermost() == 1 || loops_by_memory(w)[0].name == "co") &&
         (in.innermost() == 1 || in.shape[1] == Extent(1) || in.shape[1] == Extent(3));
}

std::int64_t groups(const Workload& w) { return w.anchor().attributes.value("group", std::int64_t{1}); }

bool is_depthwise(const Workload& w) {
  const auto& weights = w.input_type("w").shape;
  return groups(w) > 1 && weights[1] == Extent(1) && weights[0] == Extent(groups(w));
}

bool blocks_lie_in_groups(const Workload& w, const Machine& m) {
  if (groups(w) == 1) return true;
  return !is_depthwise(w) && (extent_of(w, "co").value() / groups(w)) % m.lanes(4) == 0;
}

bool has_variant(const Workload& w, const std::string& variant) {
  const auto variants = w.anchor().op->variants(w.anchor().attributes, w.anchor_inputs());
  return std::ranges::find(variants, variant) != variants.end();
}

bool weights_are_packable(const Workload& w) {
  return is_constant(w, weights_operand) && (!w.has_input("b") || is_constant(w, bias_operand));
}

std::vector<ConvTile> conv_tiles(const Workload& w, const Machine& m, FitsRegisters fits) {
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t co = extent_of(w, "co").value();
  const std::int64_t per_group = co / groups(w);
  const std::int64_t width = typical(extent_of(w, "x"), w), height = typical(extent_of(w, "y"), w);
  std::vector<ConvTile> all;
  for (const std::int64_t vectors : {4, 3, 2, 1}) {
    if (vectors > 1 && (vectors - 1) * lanes >= co) continue;
    if (groups(w) > 1 && per_group % (vectors * lanes) != 0) continue;
    for (std::int64_t rows = 1; rows <= std::min<std::int64_t>(height, 8); ++rows)
      for (std::int64_t pixels = std::min<std::int64_t>(width, 28); pixels >= 1; --pixels)
        if (fits(vectors, pixels * rows, m))
          for (const std::int64_t blocks_inside : {0, 1})
            all.push_back({vectors, pixels, rows, task_count(w.composition().threads), blocks_inside});
  }
  return all;
}

namespace {

/// A value for each spatial dimension, 1 where none are given.
std::int64_t spatial(const Workload& w, const char* attribute, std::size_t d) {
  const auto& attributes = w.anchor().attributes;
  const auto found = attributes.find(attribute);
  return found == attributes.end() || found->empty() ? 1 : found->at(d).get<std::int64_t>();
}

/// The rate of blocks over so many vectors of channels. The last one is guarded by vectors: it computes those that
/// there are, in a tile of fewer accumulators.
double rate_of_blocks(const ConvTile& k, std::int64_t vectors, std::int64_t passing, const ConvRate& rate_of) {
  const std::int64_t rest = vectors % k.vectors;
  double time = static_cast<double>(vectors - rest) / rate_of(k, passing);
  if (rest > 0) {
    ConvTile last = k;
    last.vectors = rest;
    time += static_cast<double>(rest) / rate_of(last, passing);
  }
  return static_cast<double>(vectors) / time;
}

}  // namespace

std::int64_t stride(const Workload& w, std::size_t d) { return spatial(w, "strides", d); }

std::int64_t dilation(const Workload& w, std::size_t d) { return spatial(w, "dilations", d); }

std::int64_t reach(const Workload& w, std::int64_t outputs, std::size_t d) {
  return (outputs - 1) * stride(w, d) + (w.input_type("w").shape[2 + d].value() - 1) * dilation(w, d) + 1;
}

std::int64_t tile_input_bytes(const Workload& w, const ConvTile& k) {
  return reach(w, k.rows, 0) * reach(w, k.pixels, 1) * w.input_type("w").shape[1].value() *
         static_cast<std::int64_t>(size_of(w.anchor_inputs()[0].dtype));
}

ConvTile best_conv_tile(const Workload& w, const Machine& m, const std::vector<ConvTile>& candidates,
                        std::int64_t steps, const ConvRate& rate_of) {
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t co = extent_of(w, "co").value();
  const std::int64_t width = typical(extent_of(w, "x"), w), height = typical(extent_of(w, "y"), w);
  Best best(ConvTile{1, 1, 1, task_count(w.composition().threads), 0});
  for (const ConvTile& k : candidates) {
    // Where the second-level cache holds all weights, a tile's input is read once and its results are written together;
    // where it does not, a block's weights are read once and the input for every block.
    const bool inside = k.blocks_inside != 0;
    if (inside != (co * steps * 4 <= m.l2_bytes / 4)) continue;
    // Tiles of several rows need as many tests of symbolic extents: they are for sizes that are known.
    if (k.rows > 1 && !(extent_of(w, "x").is_constant() && extent_of(w, "y").is_constant())) continue;
    const double useful =
        tile_efficiency(co, lanes) * tile_efficiency(width, k.pixels) * tile_efficiency(height, k.rows);
    // A single tile reads its weights once, whatever its form.
    const bool repeated = width * height > k.pixels * k.rows;
    const std::int64_t passing = repeated ? (inside ? co : k.vectors * lanes) * steps * 4 : 0;
    // A tile's input that does not stay in the first-level cache beside the weights that pass by is fetched again for
    // every block (Cascade Lake: 512 -> 128 channels in tiles of 2 x 14 take 1.2 times as long as of 4 x 4).
    const double fetched_again = inside && tile_input_bytes(w, k) > m.l1_bytes / 2 ? 0.8 : 1;
    // Weights that pass once are fetched into both caches, an instruction each beside their use (Granite Rapids, 960 ->
    // 160 and 320 channels over 7x7 pixels, beside the tile's rate: 0.89 with 4 broadcasts, 0.91 to 0.95 with 5 to 7,
    // 0.97 with 10 and 13).
    const auto broadcasts = static_cast<double>(k.pixels * k.rows);
    const double fetches = inside ? 1 : broadcasts / (broadcasts + 0.5);
    best.offer(k, useful * rate_of_blocks(k, chunk(co, lanes), passing, rate_of) * fetched_again * fetches);
  }
  return best.value();
}

ConvTile best_conv_tile(const Workload& w, const Machine& m, const std::vector<ConvTile>& candidates,
                        std::int64_t steps, TileRate registers) {
  return best_conv_tile(w, m, candidates, steps, [&](const ConvTile& k, std::int64_t passing) {
    const std::int64_t broadcasts = k.pixels * k.rows;
    return registers(k.vectors, broadcasts) * arriving_rate(broadcasts, passing, m);
  });
}

void schedule_conv_tiles(Schedule& s, const Workload& w, const Machine& m, const ConvTile& k) {
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t block = k.vectors * lanes;
  const Extent co = extent_of(w, "co");
  const Extent width = extent_of(w, "x");
  const Extent height = extent_of(w, "y");
  const Tiling across = tile_loop(width, k.pixels, w), down = tile_loop(height, k.rows, w);
  const Tail co_tail = guarded_tail(co, block);
  // One row (pixels flattened by a 1x1 convolution): tasks are runs of tiles. Otherwise they are runs of rows.
  const bool flat = height == Extent(1);
  const bool inside = k.blocks_inside != 0;
  const std::int64_t blocks = chunk(co.value(), block);
  const std::int64_t pieces = std::max<std::int64_t>(1, k.tasks / blocks + (k.tasks > 1 ? 1 : 0));
  const auto run = [&](std::int64_t tiles) { return inside ? run_of_task(tiles, k.tasks) : chunk(tiles, pieces); };

  const auto loops = [&](Stage out, const Tiling& x, const Tiling& y) {
    out.split("co", "coo", "coi", block, co_tail).split("x", "xo", "xi", x.tile, x.tail);
    if (flat) {
      const std::int64_t tiles = chunk(typical(width, w), x.tile);
      out.split("xo", "task_x", "xo", run(tiles), Tail::GuardWithIf);
      if (inside) out.reorder("coi", "xi", "coo", "xo", "y", "task_x", "n").rename("task_x", "task");
      else out.reorder("coi", "xi", "xo", "y", "task_x", "coo", "n").fuse("task_x", "coo", "task");
    } else {
      out.split("y", "yo", "yi", y.tile, y.tail);
      out.split("yo", "task_y", "yo", run(chunk(typical(height, w), y.tile)), Tail::GuardWithIf);
      if (inside) out.reorder("coi", "xi", "yi", "coo", "xo", "yo", "task_y", "n").rename("task_y", "task");
      else out.reorder("coi", "xi", "yi", "xo", "yo", "task_y", "coo", "n").fuse("task_y", "coo", "task");
      out.unroll("yi");
    }
    out.vectorize("coi", lanes).unroll("coi").unroll("xi").parallel("task");
  };
  tiled_where_it_fits(s["out"], loops, across, down);
  s["acc"]
      .compute_at("out", inside ? "coo" : "xo")
      .bound_extent("co", block)
      .vectorize("co", lanes)
      .unroll("co")
      .unroll("x")
      .unroll("y");
}

Implementation make_conv_tiles(const Workload& w, const Machine& m, const ConvTile& k, std::int64_t channels) {
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t block = k.vectors * lanes;
  Implementation implementation;
  implementation.packings = {{"w", {{"co", block}}}};
  if (w.has_input("b")) implementation.packings.push_back({"b", {{"co", block}}});
  Schedule& s = implementation.schedule;
  schedule_conv_tiles(s, w, m, k);
  Stage update = s["acc"].update(0);
  update.reorder("co", "x", "y", "ci", "kx", "ky").vectorize("co", lanes).unroll("co").unroll("x").unroll("y");
  if (channels <= 4) update.unroll("ci");
  else if (channels % 2 == 0) update.unroll("ci", 2);
  schedule_padding(s, stage_roles(w), m);
  return implementation;
}

std::vector<DepthwiseTile> depthwise_tiles(const Workload& w, const Machine& m) {
  // Beside the accumulators a tap's weights and what LLVM loads ahead: of 16 registers 10 accumulators run at two
  // thirds of the speed of 8, 12 at half of it.
  constexpr int others = 8;
  const std::int64_t width = typical(extent_of(w, "x"), w), height = typical(extent_of(w, "y"), w);
  std::vector<DepthwiseTile> all;
  for (const std::int64_t rows : {2, 1, 4, 3})
    for (const std::int64_t pixels : {4, 7, 2, 5, 8, 14, 3, 1})
      if (pixels * rows <= m.vector_registers - others && pixels <= width && rows <= height)
        all.push_back({pixels, rows});
  return all;
}

double depthwise_rate(const Workload& w, const Machine& m, const DepthwiseTile& tile) {
  // More rows or accumulators run at two thirds to four fifths of the speed (Cascade Lake: 3x3 over 14x14 pixels in
  // tiles of 2 x 7 in 25 us, 3 x 7 in 36; 5x5 over 28x28 2 x 7 in 125, 4 x 4 in 163).
  if (tile.rows > 2 || tile.pixels * tile.rows > m.vector_registers / 2) return 0;
  const auto accumulators = static_cast<double>(tile.pixels * tile.rows);
  const double reuse = accumulators / static_cast<double>(reach(w, tile.pixels, 1) * reach(w, tile.rows, 0));
  return tile_efficiency(typical(extent_of(w, "x"), w), tile.pixels) *
         tile_efficiency(typical(extent_of(w, "y"), w), tile.rows) * std::min(1.0, accumulators / 8.0) * (0.5 + reuse);
}

void schedule_depthwise_sums(Schedule& s, const Workload& w, std::int64_t lanes, const std::string& loop) {
  const auto vectors = [](Stage stage) { stage.vectorize("co").unroll("x").unroll("y"); };
  Stage acc = s["acc"].compute_at("out", loop).bound_extent("co", lanes);
  vectors(acc);
  Stage update = s["acc"].update(0);
  update.reorder("co", "x", "y", "kx", "ky");
  vectors(update);
  // A loop over the taps' rows parts sums from epilogues: LLVM mixes what stands in one block until registers do not
  // suffice (EfficientNet's 5x5 layers with swish take 1.15 to 2 times as long unrolled). 3x3 taps leave enough, and
  // rows share what they read (Granite Rapids: 576 channels over 14x14 in 19.4 us with the loop, 16.6 without).
  const auto& shape = w.input_type("w").shape;
  const std::int64_t taps = shape[2].value() * shape[3].value();
  if (taps <= 25) update.unroll("kx");
  if (taps <= 9) update.unroll("ky");
}

void schedule_padding(Schedule& s, const std::vector<std::string>& roles, const Machine& m) {
  if (!has_role(roles, "padded")) return;
  s["padded"].compute_root().vectorize("ci", m.lanes(4), Tail::GuardWithIf).parallel("y");
}

}  // namespace heddle::schedules
