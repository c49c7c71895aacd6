// Matrix products.
//
// matmul_packed: b is known beforehand and packed in panels of `vectors` vectors of columns; a register tile of
// `vectors` x `rows` accumulators; the panel stays in L2 while the rows pass (column block outermost). 98-99 % of FMA
// peak where the tile divides the extents.
//
// matmul_plain: b is made at run time and read as it lies.
#include <fmt/format.h>

#include "schedules/families.hpp"
#include "schedules/support.hpp"

namespace heddle::schedules {
namespace {

struct Knobs {
  BOOST_HANA_DEFINE_STRUCT(Knobs, (std::int64_t, vectors), (std::int64_t, rows), (std::int64_t, tasks));
};

bool is_matmul(const Workload& w) {
  if (w.anchor().op->name() != "matmul") return false;
  const TensorType out = w.output_types()[0];
  if (out.dtype != DType::f32 || out.rank() < 2) return false;
  const Extent columns = out.shape.back();
  return columns.is_constant() && (out.innermost() == out.rank() - 1 || columns == Extent(1));
}

bool b_is_packable(const Workload& w) {
  const auto& composition = w.composition();
  const int b = w.anchor().operands.at(1);
  return b < static_cast<int>(composition.inputs.size()) && composition.inputs[static_cast<std::size_t>(b)].constant &&
         w.anchor_inputs()[1].is_static() && w.anchor_inputs()[1].rank() == 2;
}

bool packed_matches(const Workload& w, const Machine&) { return is_matmul(w) && b_is_packable(w); }
bool plain_matches(const Workload& w, const Machine&) { return is_matmul(w); }

std::vector<Knobs> candidates(const Workload& w, const Machine& m) {
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t n = extent_of(w, "n").value();
  const std::int64_t rows = typical(extent_of(w, "m"), w);
  std::vector<Knobs> all;
  for (const std::int64_t vectors : {3, 4, 2, 1, 6, 8}) {
    if (vectors > 1 && (vectors - 1) * lanes >= n) continue;
    if (vectors > 4 && rows > 2) continue;  // wide panels serve matrix-vector products only
    for (std::int64_t r = std::min<std::int64_t>(rows, 28); r >= 1; --r)
      if (fits_registers(vectors, r, m)) all.push_back({vectors, r, task_count(w.composition().threads)});
  }
  return all;
}

Knobs rule(const Workload& w, const Machine& m) {
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t n = extent_of(w, "n").value();
  const std::int64_t rows = typical(extent_of(w, "m"), w);
  Best best(Knobs{1, 1, task_count(w.composition().threads)});
  for (const Knobs& k : candidates(w, m)) {
    const double useful = tile_efficiency(n, k.vectors * lanes) * tile_efficiency(rows, k.rows);
    const double score = useful * register_tile_rate(k.vectors, k.rows);
    best.offer(k, score);
  }
  return best.value();
}

Implementation make(const Workload& w, const Machine& m, const Knobs& k, bool packed) {
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t block = k.vectors * lanes;
  const std::int64_t n = extent_of(w, "n").value();
  const Extent rows = extent_of(w, "m");
  Implementation implementation;
  if (packed) {
    implementation.packings = {{"b", {{"n", block}}}};
    if (w.has_input("c") && !w.input_type("c").shape.empty() && w.input_type("c").rank() == 1 &&
        w.composition().inputs[static_cast<std::size_t>(w.anchor().operands.at(2))].constant)
      implementation.packings.push_back({"c", {{"n", block}}});
  }
  const bool bias_is_padded = !w.has_input("c") || implementation.packings.size() == 2;
  // Whole panels may only be computed where the packed operands are padded to them; elsewhere reading past the last
  // column would leave the buffer.
  const bool whole_panels = n % block == 0 || (packed && bias_is_padded);
  std::vector<std::string> batch;
  for (const auto& dimension : w.dimensions())
    if (dimension != "m" && dimension != "n") batch.insert(batch.begin(), dimension);

  const Tiling tiling = tile_loop(rows, k.rows, w);
  const std::int64_t panels = (n + block - 1) / block;
  std::int64_t batches = 1;
  for (const auto& b : batch) batches *= typical(extent_of(w, b), w);
  const std::int64_t pieces =
      std::max<std::int64_t>(1, k.tasks / std::max<std::int64_t>(1, batch.empty() ? panels : batches));

  Schedule& s = implementation.schedule;
  const Tail tail = n % block == 0 ? Tail::RoundUp : Tail::GuardWithIf;
  const auto loops = [&](Stage out, std::int64_t tile, Tail row_tail) {
    const std::int64_t tiles = chunk(typical(rows, w), tile);
    out.split("n", "no", "ni", block, tail)
        .split("m", "mo", "mi", tile, row_tail)
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
  if (tiling.condition) {
    loops(s["out"].specialize(*tiling.condition), tiling.tile, tiling.tail);
    loops(s["out"], 1, Tail::RoundUp);
  } else {
    loops(s["out"], tiling.tile, tiling.tail);
  }
  s["acc"].compute_at("out", "mo");
  if (whole_panels) s["acc"].bound_extent("n", block).vectorize("n", lanes).unroll("n").unroll("m");
  else s["acc"].vectorize("n", lanes, Tail::GuardWithIf);
  Stage update = s["acc"].update(0);
  update.reorder("n", "m", "k");
  if (whole_panels) update.vectorize("n", lanes).unroll("n").unroll("m");
  else update.vectorize("n", lanes, Tail::GuardWithIf);
  if (const auto depth = w.anchor_inputs()[0].shape.back().constant(); depth && *depth % 2 == 0) update.unroll("k", 2);
  return implementation;
}

Implementation packed_make(const Workload& w, const Machine& m, const Knobs& k) { return make(w, m, k, true); }
Implementation plain_make(const Workload& w, const Machine& m, const Knobs& k) { return make(w, m, k, false); }

}  // namespace

Family matmul_packed() {
  return TypedFamily<Knobs>{"matmul_packed", "register tile of column vectors x rows, b packed in column panels",
                            packed_matches,  rule,
                            candidates,      packed_make}
      .erase();
}

Family matmul_plain() {
  return TypedFamily<Knobs>{"matmul_plain", "register tile of column vectors x rows, b as it lies",
                            plain_matches,  rule,
                            candidates,     plain_make}
      .erase();
}

}  // namespace heddle::schedules
