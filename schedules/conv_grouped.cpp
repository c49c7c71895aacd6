// Convolutions in groups whose channels do not fill whole vectors (ShuffleNet, ResNeXt): conv_direct's register tile
// within a group. Weights are stored by group, so that a block of channels never reaches into the next one; a tile's
// results for all channels of a group wait in the first-level cache until `out` writes them as they lie together.
#include <algorithm>

#include <fmt/format.h>

#include "schedules/conv_support.hpp"
#include "schedules/dot_support.hpp"
#include "schedules/families.hpp"
#include "schedules/support.hpp"

namespace heddle::schedules {
namespace {

struct GroupedKnobs {
  BOOST_HANA_DEFINE_STRUCT(GroupedKnobs, (std::int64_t, vectors), (std::int64_t, pixels), (std::int64_t, tasks));
};

std::int64_t channels_of_group(const Workload& w) { return extent_of(w, "co").value() / groups(w); }

bool grouped_matches(const Workload& w, const Machine&) {
  return is_two_dimensional_conv(w) && is_constant(w, weights_operand) && has_variant(w, "grouped");
}

std::vector<GroupedKnobs> grouped_candidates(const Workload& w, const Machine& m) {
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t width = typical(extent_of(w, "x"), w);
  std::vector<GroupedKnobs> all;
  for (const std::int64_t vectors : {4, 3, 2, 1}) {
    if (vectors > 1 && (vectors - 1) * lanes >= channels_of_group(w)) continue;
    for (std::int64_t pixels = std::min<std::int64_t>(width, 28); pixels >= 1; --pixels)
      if (fits_registers(vectors, pixels, m)) all.push_back({vectors, pixels, task_count(w.composition().threads)});
  }
  return all;
}

GroupedKnobs grouped_rule(const Workload& w, const Machine& m) {
  Best best(GroupedKnobs{1, 1, task_count(w.composition().threads)});
  for (const GroupedKnobs& k : grouped_candidates(w, m)) {
    const double score = tile_efficiency(channels_of_group(w), k.vectors * m.lanes(4)) *
                         tile_efficiency(typical(extent_of(w, "x"), w), k.pixels) *
                         register_tile_rate(k.vectors, k.pixels);
    best.offer(k, score);
  }
  return best.value();
}

Implementation grouped_make(const Workload& w, const Machine& m, const GroupedKnobs& k) {
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t block = k.vectors * lanes;
  const std::int64_t channels = channels_of_group(w);
  const std::int64_t padded = round_up(channels, block);
  const std::int64_t groups = extent_of(w, "co").value() / channels;
  const Extent width = extent_of(w, "x"), height = extent_of(w, "y");
  Implementation implementation;
  implementation.variant = "grouped";
  implementation.packings = {{"w", {{"co", block}}, "grouped"}};
  // A pixel's groups lie side by side, also within a line: they are computed one after the other, by one thread, as
  // long as their weights stay in the second-level cache meanwhile.
  const auto& taps = w.input_type("w").shape;
  const std::int64_t steps = taps[1].value() * taps[2].value() * taps[3].value();
  const bool inside = groups * padded * steps * 4 <= m.l2_bytes / 4;
  const bool flat = height == Extent(1);
  const std::int64_t pieces = std::max<std::int64_t>(1, k.tasks / groups + (k.tasks > 1 ? 1 : 0));

  Schedule& s = implementation.schedule;
  const auto loops = [&](Stage out, const Tiling& x) {
    out.split("co", "group", "co", channels, Tail::RoundUp).split("x", "xo", "xi", x.tile, x.tail);
    // Never beyond the group: the vector before it writes the same values again.
    if (channels >= lanes) out.split("co", "co", "coi", lanes, shifted_tail(channels, lanes));
    else out.split("co", "co", "coi", channels, Tail::RoundUp);
    const std::int64_t lines = flat ? chunk(typical(width, w), x.tile) : typical(height, w);
    const std::int64_t run = inside ? run_of_task(lines, k.tasks) : chunk(lines, pieces);
    out.split(flat ? "xo" : "y", "task_run", flat ? "xo" : "y", run, Tail::GuardWithIf);
    if (inside) out.reorder("coi", "co", "xi", "group", "xo", "y", "task_run", "n").rename("task_run", "task");
    else out.reorder("coi", "co", "xi", "xo", "y", "task_run", "group", "n").fuse("task_run", "group", "task");
    out.vectorize("coi").unroll("xi").parallel("task");
  };
  tiled_where_it_fits(s["out"], loops, tile_loop(width, k.pixels, w));
  s["product"].compute_at("out", inside ? "group" : "xo").bound_extent("co", padded).bound_extent("g", 1);
  s["product"]
      .split("co", "co", "coi", block)
      .reorder("coi", "x", "co")
      .vectorize("coi", lanes)
      .unroll("coi")
      .unroll("x");
  s["acc"].compute_at("product", "co").bound_extent("co", block).vectorize("co", lanes).unroll("co").unroll("x");
  Stage update = s["acc"].update(0);
  update.reorder("co", "x", "ci", "kx", "ky").vectorize("co", lanes).unroll("co").unroll("x");
  if (w.input_type("w").shape[1].value() % 2 == 0) update.unroll("ci", 2);
  schedule_padding(s, stage_roles(w), m);
  const auto in = w.anchor_inputs();
  if (const ops::Dot* widened = ops::dot_of("singles", in[0].dtype, in[1].dtype))
    schedule_dot_data(s["x_tile"].compute_at("out", "xo"), *widened, m, "ci", w.input_type("w").shape[1]);
  return implementation;
}

}  // namespace

Family conv_grouped() {
  return TypedFamily<GroupedKnobs>{
      "conv_grouped",     "register tile of channel vectors x pixels within a group, weights packed by group",
      grouped_matches,    grouped_rule,
      grouped_candidates, grouped_make}
      .erase();
}

}  // namespace heddle::schedules
