// A pointwise convolution and the depthwise one that follows it (MobileNetV2's and EfficientNet's expansions) in one
// kernel: for a block of channels, rows of the first are computed as windows of the second reach them, and stay in the
// second-level cache until then. Alone, the first kernel writes its rows to the last cache or memory, from where the
// second reads them: they have few operations for each byte (96 channels over 112x112 pixels are 4.8 MB).
#include <algorithm>

#include <fmt/format.h>

#include "dsl/flatten.hpp"
#include "schedules/conv_support.hpp"
#include "schedules/families.hpp"
#include "schedules/support.hpp"

namespace heddle::schedules {
namespace {

/// The first convolution's tile is `vectors` of channels x `columns` accumulators, the second one's a vector x
/// (`pixels` x `rows`).
struct Knobs {
  BOOST_HANA_DEFINE_STRUCT(Knobs, (std::int64_t, vectors), (std::int64_t, columns), (std::int64_t, pixels),
                           (std::int64_t, rows), (std::int64_t, tasks));
};

/// The convolution among the nodes before the anchor, by number.
std::optional<std::size_t> expansion(const Workload& w) {
  const auto& c = w.composition();
  std::optional<std::size_t> found;
  for (std::size_t n = 0; n < c.nodes.size(); ++n) {
    if (static_cast<int>(n) == c.anchor || c.nodes[n].op->kind() == OperatorKind::elementwise) continue;
    if (found || static_cast<int>(n) > c.anchor || c.nodes[n].op->name() != "conv") return std::nullopt;
    found = n;
  }
  return found;
}

/// Its operand's role, if that is an input that is known beforehand.
std::optional<std::string> constant_operand(const Workload& w, std::size_t node, std::size_t operand) {
  const auto& operands = w.composition().nodes[node].operands;
  if (operand >= operands.size()) return std::nullopt;
  const auto input = static_cast<std::size_t>(operands[operand]);
  if (input >= w.inputs().size() || !w.composition().inputs[input].constant) return std::nullopt;
  return w.inputs()[input].role;
}

const TensorType& operand_type(const Workload& w, std::size_t node, std::size_t operand) {
  return w.value_types()[static_cast<std::size_t>(w.composition().nodes[node].operands[operand])];
}

bool matches(const Workload& w, const Machine& m) {
  const auto first = expansion(w);
  if (!first || w.anchor().op->name() != "conv") return false;
  const auto& c = w.composition();
  const Composition::Node& node = c.nodes[*first];
  const auto inputs = static_cast<int>(c.inputs.size());
  if (node.operands[0] >= inputs || w.anchor().operands[0] < inputs) return false;
  const TensorType &x = operand_type(w, *first, 0), between = w.anchor_inputs()[0], out = w.output_types()[0];
  if (!between.is_static() || between.rank() != 4 || x.dtype != DType::f32 || between.dtype != DType::f32) return false;
  return x.innermost() == 1 && out.innermost() == 1 && is_depthwise(w) && weights_are_packable(w) &&
         is_pointwise(node.attributes, operand_type(w, *first, weights_operand)) &&
         node.attributes.value("group", std::int64_t{1}) == 1 && constant_operand(w, *first, weights_operand) &&
         (node.operands.size() <= bias_operand || constant_operand(w, *first, bias_operand)) &&
         between.shape[1].value() % m.lanes(4) == 0;
}

/// The updates that write `padded` outside of the operand: their numbers and reductions.
std::vector<std::pair<int, std::string>> outer_updates(const Workload& w) {
  const Pipeline pipeline = w.instantiate("edged");
  const PipelineStage& padded = *std::ranges::find(pipeline.stages, "padded", &PipelineStage::role);
  std::vector<std::pair<int, std::string>> updates;
  for (int u = 1; u < padded.func.num_update_definitions(); ++u)
    updates.emplace_back(u, padded.reductions.at(padded.func.rvars(u).at(0).name()));
  return updates;
}

std::vector<Knobs> candidates(const Workload& w, const Machine& m) {
  const TensorType between = w.anchor_inputs()[0];
  const std::int64_t channels = between.shape[1].value(), across = between.shape[3].value();
  const std::int64_t width = extent_of(w, "x").value(), height = extent_of(w, "y").value();
  std::vector<Knobs> all;
  for (const std::int64_t vectors : {4, 3, 2, 1}) {
    if (channels % (vectors * m.lanes(4)) != 0) continue;
    for (std::int64_t columns = std::min<std::int64_t>(across, 28); columns >= 1; --columns) {
      // A tile that reaches beyond the last column would ask for elements that the input has not.
      if (across % columns != 0 || !fits_registers(vectors, columns, m)) continue;
      for (const DepthwiseTile& tile : depthwise_tiles(w, m))
        // Rows that overlap those before them would not slide.
        if (height % tile.rows == 0 && tile.pixels <= width)
          all.push_back({vectors, columns, tile.pixels, tile.rows, task_count(w.composition().threads)});
    }
  }
  return all;
}

Knobs rule(const Workload& w, const Machine& m) {
  Best best(Knobs{1, 1, 1, 1, task_count(w.composition().threads)});
  for (const Knobs& k : candidates(w, m))
    best.offer(k, register_tile_rate(k.vectors, k.columns) * depthwise_rate(w, m, {k.pixels, k.rows}));
  return best.value();
}

Implementation make(const Workload& w, const Machine& m, const Knobs& k) {
  const std::size_t first = *expansion(w);
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t block = k.vectors * lanes;
  Implementation implementation;
  implementation.variant = "edged";
  for (const std::size_t operand : {weights_operand, bias_operand})
    if (const auto role = constant_operand(w, first, operand))
      implementation.packings.push_back({*role, {{"co", block}}});
  implementation.packings.push_back({"w", {{"co", lanes}}});
  if (w.has_input("b")) implementation.packings.push_back({"b", {{"co", lanes}}});

  Schedule& s = implementation.schedule;
  const Tiling across = tile_loop(extent_of(w, "x"), k.pixels, w);
  const std::int64_t blocks = extent_of(w, "co").value() / block;
  const std::int64_t steps = extent_of(w, "y").value() / k.rows;
  // Each run of rows computes those of the first convolution that its first windows reach anew.
  const std::int64_t pieces = chunk(k.tasks, blocks);
  s["out"]
      .split("co", "block", "co", block, Tail::RoundUp)
      .split("co", "vector", "co", lanes, Tail::RoundUp)
      .split("x", "xo", "xi", across.tile, across.tail)
      .split("y", "yo", "yi", k.rows, Tail::RoundUp)
      .split("yo", "task_y", "yo", chunk(steps, pieces), Tail::GuardWithIf)
      .reorder("co", "xi", "yi", "vector", "xo", "yo", "block", "task_y", "n")
      .fuse("block", "task_y", "task")
      .vectorize("co")
      .unroll("xi")
      .unroll("yi")
      .parallel("task");
  schedule_depthwise_sums(s, w, lanes, "vector");

  s["padded"].store_at("out", "task").compute_at("out", "yo").bound_extent("ci", block);
  s["padded"]
      .update(0)
      .split("column", "tile", "column", k.columns)
      .reorder("ci", "column", "tile", "y")
      .vectorize("ci", lanes)
      .unroll("ci")
      .unroll("column");
  for (const auto& [update, along] : outer_updates(w))
    s["padded"].update(update).reorder("ci", along, "y").vectorize("ci", lanes);
  const std::string sums = fmt::format("conv{}.acc", first);
  s[sums].compute_at("padded", "tile").bound_extent("co", block).vectorize("co", lanes).unroll("co").unroll("x");
  Stage update = s[sums].update(0);
  update.reorder("co", "x", "y", "ci").vectorize("co", lanes).unroll("co").unroll("x");
  if (operand_type(w, first, 0).shape[1].value() % 2 == 0) update.unroll("ci", 2);
  return implementation;
}

}  // namespace

Family conv_expanded() {
  return TypedFamily<Knobs>{
      "conv_expanded", "rows of a pointwise convolution made as the depthwise one behind it reaches them",
      matches,         rule,
      candidates,      make}
      .erase();
}

}  // namespace heddle::schedules

namespace heddle {

bool pays_together(const Workload& w, const Machine& m) {
  if (m.gpu || !schedules::matches(w, m)) return false;
  // Tiles of whole rows: where those of the pointwise convolution alone, which may cross rows, are much better, it had
  // better be alone. (Granite Rapids, second caches of 2 MiB: 96 channels over 112x112 pixels 402 -> 290 us, 144 over
  // 56x56 224 -> 180; 384 over 14x14 62 -> 58, though all of it stays in the cache.)
  const schedules::Knobs k = schedules::rule(w, m);
  return schedules::register_tile_rate(k.vectors, k.columns) >= 0.85;
}

}  // namespace heddle
