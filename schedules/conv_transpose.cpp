// Transposed convolutions on channels-last data with prepacked weights: conv_direct's register tile. Its pixels are a
// multiple of the stride, so that each meets the same taps in every tile and a tap's weights serve all pixels of its
// phase.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "schedules/conv_support.hpp"
#include "schedules/families.hpp"
#include "schedules/support.hpp"

namespace heddle::schedules {
namespace {

bool transpose_matches(const Workload& w, const Machine& m) {
  if (w.anchor().op->name() != "conv_transpose" || groups(w) != 1 || !weights_are_packable(w)) return false;
  const TensorType in = w.anchor_inputs()[0], out = w.output_types()[0];
  if (out.rank() != 4 || !sums_in_f32(in.dtype) || !extent_of(w, "co").is_constant()) return false;
  // Fewer channels than half a vector are better off with vectors of pixels.
  return loops_by_memory(w)[0].name == "co" && in.innermost() == 1 && 2 * extent_of(w, "co").value() > m.lanes(4);
}

std::vector<ConvTile> transpose_candidates(const Workload& w, const Machine& m) {
  auto tiles = conv_tiles(w, m, fits_registers);
  // Of several rows, each would meet taps of its own too.
  std::erase_if(tiles, [&](const ConvTile& k) { return k.rows > 1 || k.pixels % stride(w, 1) != 0; });
  if (tiles.empty()) tiles.push_back({1, 1, 1, task_count(w.composition().threads), 0});
  return tiles;
}

ConvTile transpose_rule(const Workload& w, const Machine& m) {
  const std::int64_t co = extent_of(w, "co").value(), width = typical(extent_of(w, "x"), w);
  const auto& weights = w.input_type("w").shape;
  const std::int64_t bytes = 4 * co * weights[0].value() * weights[2].value() * weights[3].value();
  const auto candidates = transpose_candidates(w, m);
  Best best(candidates.front());
  for (const ConvTile& k : candidates) {
    // As for conv_direct: where the second-level cache holds all weights, a tile's input is read once.
    if ((k.blocks_inside != 0) != (bytes <= m.l2_bytes / 4)) continue;
    const double useful = tile_efficiency(co, k.vectors * m.lanes(4)) * tile_efficiency(width, k.pixels);
    // Each phase of the stride has weights of its own, and all phases read the same inputs.
    best.offer(k, useful * register_tile_rate(k.vectors, k.pixels) *
                      arriving_rate(std::max<std::int64_t>(1, k.pixels / stride(w, 1)), bytes, m));
  }
  return best.value();
}

Implementation transpose_make(const Workload& w, const Machine& m, const ConvTile& k) {
  return make_conv_tiles(w, m, k, w.input_type("w").shape[0].value());
}

}  // namespace

Family conv_transpose() {
  return TypedFamily<ConvTile>{
      "conv_transpose",     "register tile of channel vectors x pixels of all phases, weights packed by channel block",
      transpose_matches,    transpose_rule,
      transpose_candidates, transpose_make}
      .erase();
}

}  // namespace heddle::schedules
