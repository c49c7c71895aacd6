// attention_fused: softmax(q k^T) v without the whole score matrix. A task is a head and a share of its query rows; it
// makes a dense copy of the head's keys and values, then for each block of `rows` query rows the scores of all keys,
// with the rows as lanes: maximum, exponential and sum are vertical, and the number of keys is nobody's multiple.
//
// Both products run in register tiles: `query_vectors` vectors of rows x `keys` for the scores, `value_vectors` vectors
// of columns x `value_rows` rows for the weighted values. Where a block's exponentials and the columns of v beside them
// exceed the first cache, the second product goes over `chunk` keys at a time.
//
// One Zen 3 core (AVX2), 12 heads of 64: 75 % of FMA peak at 128 tokens, 71 % at 512, 70 % at 1500. At 128 the time
// goes to the scores (36 %), the weighted values (43 %: 8 accumulators just cover the latency), exponentials, maxima
// and sums (8 %), the transposes (6 %) and the copies (4 %).
#include <fmt/format.h>

#include "schedules/families.hpp"
#include "schedules/support.hpp"

namespace heddle::schedules {
namespace {

struct Knobs {
  BOOST_HANA_DEFINE_STRUCT(Knobs, (std::int64_t, rows), (std::int64_t, query_vectors), (std::int64_t, keys),
                           (std::int64_t, value_vectors), (std::int64_t, value_rows), (std::int64_t, chunk),
                           (std::int64_t, tasks));
};

/// The edge of the blocks that the operator's network transposes.
constexpr std::int64_t edge = 8;

struct Extents {
  std::int64_t heads, queries, keys, depth, columns;
};

Extents extents(const Workload& w) {
  const auto in = w.anchor_inputs();
  return {typical(extent_of(w, "b"), w) * typical(extent_of(w, "h"), w), typical(extent_of(w, "m"), w),
          typical(in[1].shape[2], w), in[0].shape[3].value(), in[2].shape[3].value()};
}

bool matches(const Workload& w, const Machine& m) {
  if (w.anchor().op->name() != "attention") return false;
  const auto in = w.anchor_inputs();
  const TensorType out = w.output_types()[0];
  return sums_in_f32(in[0].dtype) && sums_in_f32(out.dtype) && in[0].shape[3].is_constant() &&
         in[2].shape[3].is_constant() && m.lanes(4) % edge == 0 && out.innermost() == 3;
}

/// Blocks of as many rows as fill vectors without waste, and keep their logits and exponentials in half of the second
/// cache.
std::int64_t block_rows(const Extents& x, const Machine& m) {
  const std::int64_t lanes = m.lanes(4);
  std::int64_t best = lanes;
  double best_score = 0;
  // More rows a block read keys and values less often, and the running maxima and sums need several vectors to hide
  // the latency of their additions.
  for (const std::int64_t vectors : {4, 2, 1}) {
    const std::int64_t rows = vectors * lanes;
    if (vectors > 1 && 2 * rows * x.keys * 4 > m.l2_bytes / 2) continue;
    const double score = tile_efficiency(x.queries, rows) * (vectors == 4 ? 1.0 : vectors == 2 ? 0.97 : 0.8);
    if (score > best_score) {
      best_score = score;
      best = rows;
    }
  }
  return best;
}

struct Tile {
  std::int64_t vectors, broadcasts;
};

/// The register tile that wastes least of `columns` x `rows` and feeds the FMA units.
template <class Allowed>
Tile best_tile(std::int64_t columns, std::int64_t rows, const Machine& m, Allowed allowed) {
  const std::int64_t lanes = m.lanes(4);
  Best best(Tile{1, 1});
  for (const std::int64_t vectors : {2, 3, 4, 1})
    for (std::int64_t broadcasts = 1; broadcasts <= 14; ++broadcasts) {
      if (!fits_registers(vectors, broadcasts, m) || !allowed(vectors, broadcasts)) continue;
      const double score = tile_efficiency(columns, vectors * lanes) * tile_efficiency(rows, broadcasts) *
                           register_tile_rate(vectors, broadcasts);
      best.offer({vectors, broadcasts}, score);
    }
  return best.value();
}

Knobs with_rows(const Workload& w, const Machine& m, std::int64_t rows) {
  const Extents x = extents(w);
  const std::int64_t lanes = m.lanes(4);
  const Tile scores =
      best_tile(rows, x.keys, m, [&](std::int64_t vectors, std::int64_t) { return rows % (vectors * lanes) == 0; });
  const Tile values =
      best_tile(x.columns, rows, m, [&](std::int64_t, std::int64_t broadcasts) { return rows % broadcasts == 0; });
  // A step over a key reads a row of exponentials and one of the panel of v.
  const std::int64_t chunk = m.l1_bytes * 3 / 4 / (4 * (rows + values.vectors * lanes)) / 8 * 8;
  return {rows,
          scores.vectors,
          scores.broadcasts,
          values.vectors,
          values.broadcasts,
          x.keys > chunk + chunk / 2 ? chunk : 0,
          task_count(w.composition().threads)};
}

Knobs rule(const Workload& w, const Machine& m) { return with_rows(w, m, block_rows(extents(w), m)); }

std::vector<Knobs> candidates(const Workload& w, const Machine& m) {
  std::vector<Knobs> all;
  for (const std::int64_t vectors : {1, 2, 3, 4, 6}) {
    const Knobs chosen = with_rows(w, m, vectors * m.lanes(4));
    all.push_back(chosen);
    for (const std::int64_t chunk : {64, 128, 256}) {
      if (chunk >= extents(w).keys || chunk == chosen.chunk) continue;
      all.push_back(chosen);
      all.back().chunk = chunk;
    }
  }
  return all;
}

Implementation make(const Workload& w, const Machine& m, const Knobs& k) {
  const Extents x = extents(w);
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t panel = k.value_vectors * lanes;
  Implementation implementation;
  implementation.variant = "blocks";
  Schedule& s = implementation.schedule;

  // Guards stand around the stores only: whatever a block computes beyond the last row or column is dropped there.
  const Extent rows = extent_of(w, "m");
  const Tail row_tail = guarded_tail(rows, k.rows);
  const Tail column_tail = guarded_tail(x.columns, panel);
  const std::int64_t blocks = chunk(x.queries, chunk(x.queries, k.rows));
  const std::int64_t pieces = std::clamp<std::int64_t>((k.tasks + x.heads - 1) / x.heads, 1, blocks);
  Stage out = s["out"];
  out.split("m", "block", "mi", k.rows, row_tail)
      .split("block", "piece", "block", chunk(blocks, pieces), Tail::GuardWithIf)
      .split("mi", "mt", "mi", k.value_rows, Tail::RoundUp)
      .split("e", "eo", "ei", panel, column_tail)
      .reorder("ei", "mi", "mt", "eo", "block", "piece", "h", "b")
      .fuse("piece", "h", "head")
      .fuse("head", "b", "task")
      .vectorize("ei", lanes)
      .unroll("ei")
      .unroll("mi")
      .parallel("task");

  // Copying a head's keys and values pays when several blocks read them.
  const Tail depth_tail = guarded_tail(x.depth, lanes);
  if (blocks > 2) s["keys"].compute_at("out", "task").vectorize("d", lanes, depth_tail);
  if (blocks > 2 || x.columns % lanes != 0) s["values"].compute_at("out", "task").vectorize("e", lanes);

  const std::int64_t depth = round_up(x.depth, edge);
  s["columns"]
      .compute_at("out", "block")
      .bound_extent("m", k.rows)
      .bound_extent("d", depth)
      .split("m", "mb", "mi", edge)
      .split("d", "db", "di", edge)
      .reorder("mi", "di", "mb", "db")
      .vectorize("mi")
      .unroll("di");
  for (const char* swap : {"swap0", "swap1", "swap2"})
    s[swap]
        .compute_at("columns", "mb")
        .bound_extent("l", 2 * edge)
        .bound_extent("i", edge / 2)
        .vectorize("l")
        .unroll("i")
        .store_in(Halide::MemoryType::Register);
  s["queries"]
      .compute_at("columns", "mb")
      .bound_extent("d", edge)
      .bound_extent("m", edge)
      .vectorize("d")
      .unroll("m")
      .store_in(Halide::MemoryType::Register);

  const std::int64_t score_rows = k.query_vectors * lanes;
  s["logits"]
      .compute_at("out", "block")
      .bound_extent("m", k.rows)
      .split("m", "mo", "mi", score_rows, Tail::RoundUp)
      .split("n", "no", "ni", k.keys, Tail::RoundUp)
      .reorder("mi", "ni", "mo", "no")
      .vectorize("mi", lanes)
      .unroll("mi")
      .unroll("ni");
  s["scores"]
      .compute_at("logits", "mo")
      .bound_extent("m", score_rows)
      .bound_extent("n", k.keys)
      .vectorize("m", lanes)
      .unroll("m")
      .unroll("n");
  Stage score = s["scores"].update(0);
  score.reorder("m", "n", "d").vectorize("m", lanes).unroll("m").unroll("n");
  if (x.depth % 2 == 0) score.unroll("d", 2);

  const auto by_rows = [&](Stage stage) { return stage.vectorize("m", lanes).unroll("m"); };
  for (const char* reduced : {"max", "sum"}) {
    by_rows(s[reduced].compute_at("out", "block").bound_extent("m", k.rows));
    by_rows(s[reduced].update(0).reorder("m", "rn"));
  }
  by_rows(s["exp"].compute_at("out", "block").bound_extent("m", k.rows));
  by_rows(s["inverse"].compute_at("out", "block").bound_extent("m", k.rows));

  const auto tile = [&](Stage stage) { stage.vectorize("e", lanes).unroll("e").unroll("m"); };
  if (k.chunk == 0) {
    Stage acc = s["acc"].compute_at("out", "mt");
    tile(acc.bound_extent("e", panel).bound_extent("m", k.value_rows));
    tile(s["acc"].update(0).reorder("e", "m", "n"));
    // Two keys a turn halve the share of the loop's own instructions.
    if (const auto keys = w.anchor_inputs()[1].shape[2].constant(); keys && *keys % 2 == 0)
      s["acc"].update(0).unroll("n", 2);
    return implementation;
  }
  s["acc"].update(0).split("n", "no", "ni", k.chunk, Tail::GuardWithIf).rfactor("no", "c", "part");
  s["acc"]
      .compute_at("out", "block")
      .bound_extent("e", round_up(x.columns, panel))
      .bound_extent("m", k.rows)
      .vectorize("e", lanes);
  Stage sum = s["acc"].update(0);
  sum.split("e", "eo", "ei", panel, Tail::RoundUp)
      .split("m", "mt", "mi", k.value_rows, Tail::RoundUp)
      .reorder("ei", "mi", "mt", "eo", "no")
      .vectorize("ei", lanes)
      .unroll("ei")
      .unroll("mi");
  Stage part = s["part"].compute_at("acc", "mt");
  tile(part.bound_extent("e", panel).bound_extent("m", k.value_rows));
  tile(s["part"].update(0).reorder("e", "m", "ni"));
  if (const auto keys = w.anchor_inputs()[1].shape[2].constant(); keys && *keys % k.chunk == 0 && k.chunk % 2 == 0)
    s["part"].update(0).unroll("ni", 2);
  return implementation;
}

}  // namespace

Family attention_fused() {
  return TypedFamily<Knobs>{"attention_fused",
                            "blocks of query rows keep their scores in cache, rows as lanes, register tiles for both "
                            "products",
                            matches,
                            rule,
                            candidates,
                            make}
      .erase();
}

}  // namespace heddle::schedules
