#include "schedules/matmul_support.hpp"

namespace heddle::schedules {

bool has_columns_innermost(const Workload& w) {
  const TensorType out = w.output_types()[0];
  if (out.rank() < 2) return false;
  const Extent columns = out.shape.back();
  return columns.is_constant() && (out.innermost() == out.rank() - 1 || columns == Extent(1));
}

bool is_matmul(const Workload& w) { return w.anchor().op->name() == "matmul" && has_columns_innermost(w); }

bool b_is_packable(const Workload& w) {
  return is_constant(w, 1) && w.anchor_inputs()[1].is_static() && w.anchor_inputs()[1].rank() == 2;
}

bool pack_bias(Implementation& implementation, const Workload& w, std::int64_t block) {
  if (!w.has_input("c")) return true;
  if (w.input_type("c").rank() != 1 || !is_constant(w, 2)) return false;
  implementation.packings.push_back({"c", {{"n", block}}});
  return true;
}

Extent products_depth(const Workload& w) {
  const TensorType a = w.anchor_inputs()[0];
  const bool transposed = w.anchor().attributes.value("transpose_a", false);
  return a.shape[a.shape.size() - (transposed ? 2 : 1)];
}

std::vector<MatmulTile> matmul_tiles(const Workload& w, const Machine& m, FitsRegisters fits) {
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t n = extent_of(w, "n").value();
  const std::int64_t rows = typical(extent_of(w, "m"), w);
  std::vector<MatmulTile> all;
  for (const std::int64_t vectors : {3, 4, 2, 1, 6, 8}) {
    if (vectors > 1 && (vectors - 1) * lanes >= n) continue;
    if (vectors > 4 && rows > 2) continue;  // wide panels serve matrix-vector products only
    for (std::int64_t r = std::min<std::int64_t>(rows, 28); r >= 1; --r)
      if (fits(vectors, r, m)) all.push_back({vectors, r, task_count(w.composition().threads)});
  }
  return all;
}

MatmulTile best_matmul_tile(const Workload& w, const Machine& m, const std::vector<MatmulTile>& candidates,
                            const MatmulRate& rate_of) {
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t n = extent_of(w, "n").value();
  const std::int64_t rows = typical(extent_of(w, "m"), w);
  Best best(MatmulTile{1, 1, task_count(w.composition().threads)});
  for (const MatmulTile& k : candidates) {
    const double useful = tile_efficiency(n, k.vectors * lanes) * tile_efficiency(rows, k.rows);
    // A single tile reads its columns once, whatever its form.
    const std::int64_t passing = rows > k.rows ? products_depth(w).constant().value_or(0) * k.vectors * lanes * 4 : 0;
    best.offer(k, useful * rate_of(k, passing));
  }
  return best.value();
}

MatmulTile best_matmul_tile(const Workload& w, const Machine& m, const std::vector<MatmulTile>& candidates,
                            TileRate registers) {
  return best_matmul_tile(w, m, candidates, [&](const MatmulTile& k, std::int64_t passing) {
    return registers(k.vectors, k.rows) * arriving_rate(k.rows, passing, m);
  });
}

std::vector<std::string> batch_loops(const Workload& w) {
  std::vector<std::string> batch;
  for (const auto& dimension : w.dimensions())
    if (dimension != "m" && dimension != "n") batch.insert(batch.begin(), dimension);
  return batch;
}

void schedule_matmul_tiles(Schedule& s, const Workload& w, const Machine& m, const MatmulTile& k, bool padded) {
  const std::int64_t n = extent_of(w, "n").value();
  const std::int64_t lanes = padded ? m.lanes(4) : filled_lanes(n, m);
  const std::int64_t block = k.vectors * lanes;
  const Extent rows = extent_of(w, "m");
  const std::vector<std::string> batch = batch_loops(w);

  const std::int64_t panels = (n + block - 1) / block;
  std::int64_t batches = 1;
  for (const auto& b : batch) batches *= typical(extent_of(w, b), w);
  const std::int64_t pieces =
      std::max<std::int64_t>(1, k.tasks / std::max<std::int64_t>(1, batch.empty() ? panels : batches));

  const Tail tail = padded ? guarded_tail(n, block) : shifted_tail(n, block);
  const auto loops = [&](Stage out, const Tiling& tiling) {
    const std::int64_t tiles = chunk(typical(rows, w), tiling.tile);
    out.split("n", "no", "ni", block, tail)
        .split("m", "mo", "mi", tiling.tile, tiling.tail)
        .split("mo", "task_m", "mo", chunk(tiles, pieces), Tail::GuardWithIf);
    std::vector<std::string> order = {"ni", "mi", "mo"};
    if (batch.empty()) {
      order.insert(order.end(), {"task_m", "no"});
    } else {
      order.insert(order.end(), {"no", "task_m"});
      order.insert(order.end(), batch.begin(), batch.end());
    }
    out.reorder(order);
    out.vectorize("ni", lanes).unroll("ni").unroll("mi");
    if (batch.empty()) {
      out.fuse("task_m", "no", "task").parallel("task");
    } else {
      std::string task = "task_m";
      for (const auto& b : batch) {
        out.fuse(task, b, "task_" + b);
        task = "task_" + b;
      }
      out.parallel(task);
    }
  };
  tiled_where_it_fits(s["out"], loops, tile_loop(rows, k.rows, w));
  s["acc"].compute_at("out", "mo").bound_extent("n", block).vectorize("n", lanes).unroll("n").unroll("m");
}

namespace {

/// The sums of a task's rows with a panel stay in the second cache while k passes. The same for all tasks where that
/// makes at most twice as many.
std::int64_t rows_of_task(const Workload& w, const Machine& m, const PanelTile& k) {
  const std::int64_t rows = typical(extent_of(w, "m"), w);
  const std::int64_t panels = chunk(extent_of(w, "n").value(), k.vectors * m.lanes(4));
  const std::int64_t fitting = m.l2_bytes / 4 / (k.vectors * m.vector_bytes);
  const std::int64_t pieces = std::max({chunk(rows, fitting), k.tasks / panels, std::int64_t(1)});
  for (std::int64_t even = pieces; even <= std::min(2 * pieces, rows / k.rows); ++even)
    if (rows % (even * k.rows) == 0) return rows / even;
  return round_up(chunk(rows, pieces), k.rows);
}

}  // namespace

bool panels_have_all_rows(const Workload& w, const Machine& m, const PanelTile& k) {
  const Extent rows = extent_of(w, "m");
  return rows.is_constant() && rows.value() % k.rows == 0 && rows.value() % rows_of_task(w, m, k) == 0;
}

void schedule_matmul_panels(Schedule& s, const Workload& w, const Machine& m, const PanelTile& k) {
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t block = k.vectors * lanes;
  const std::int64_t rows = rows_of_task(w, m, k);
  std::vector<std::string> order = {"ni", "mi", "task_m", "no"};
  for (const auto& batch : batch_loops(w)) order.push_back(batch);
  s["out"]
      .split("n", "no", "ni", block, guarded_tail(extent_of(w, "n"), block))
      .split("m", "task_m", "mi", rows, guarded_tail(extent_of(w, "m"), rows))
      .reorder(order)
      .fuse("task_m", "no", "task")
      .vectorize("ni", lanes)
      .unroll("ni")
      .parallel("task");

  const auto tile = [&](Stage stage, const char* columns, const char* in_tile) {
    return stage.vectorize(columns, lanes).unroll(columns).unroll(in_tile);
  };
  const Extent depth = products_depth(w);
  s["acc"].update(0).split("k", "ko", "ki", k.depth, Tail::GuardWithIf).rfactor("ko", "c", "part");
  s["acc"]
      .compute_at("out", "task")
      .bound_extent("n", block)
      .align_extent("m", k.rows)
      .vectorize("n", lanes)
      .unroll("n");
  tile(s["acc"].update(0).split("m", "mt", "mi", k.rows, Tail::RoundUp).reorder("n", "mi", "mt", "ko"), "n", "mi");
  tile(s["part"].compute_at("acc", "mt").bound_extent("n", block).bound_extent("m", k.rows), "n", "m");
  Stage sum = tile(s["part"].update(0).reorder("n", "m", "ki"), "n", "m");
  if (mod(depth, k.depth) == Extent(0) && k.depth % 2 == 0) sum.unroll("ki", 2);
}

}  // namespace heddle::schedules
