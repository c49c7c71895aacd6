#include "schedules/gpu_tiles.hpp"

#include <fmt/format.h>

namespace heddle::schedules {
namespace {

using Names = std::vector<std::string>;

Names joined(Names names, const Names& more) {
  names.insert(names.end(), more.begin(), more.end());
  return names;
}

/// How the tile's part along one loop of rows is shared out: for x: before; for xg: for xt (threads): for xv: after.
struct RowShare {
  std::string name;
  std::int64_t vector = 1, groups = 1, threads = 1;
  std::string part(const char* suffix) const { return name + suffix; }
};

/// A thread's rows are neighbours along the first loop as far as one vector of shared memory reaches, then `threads`
/// apart along the second, then along the first.
std::vector<RowShare> share_rows(const Product& p, const ProductTile& t) {
  std::vector<RowShare> shares;
  const std::int64_t vector = std::min(t.row_vector(), p.rows[0].tile);
  std::int64_t rest = t.thread_rows / vector;
  for (std::size_t d = p.rows.size(); d-- > 0;) {
    const std::int64_t within = d == 0 ? vector : 1;
    const std::int64_t groups = std::min(rest, p.rows[d].tile / within);
    shares.insert(shares.begin(), {p.rows[d].name, within, groups, p.rows[d].tile / within / groups});
    rest /= groups;
  }
  return shares;
}

/// The loops within a thread, innermost first, and the block's threads.
struct TileLoops {
  Names within = {"cv", "cg"}, threads = {"ct"};
};

/// Splits a whole tile into the threads' parts: no tails. `rows`: the tile's loops in this stage.
TileLoops split_tile(Stage& stage, const std::string& column, const Names& rows, const std::vector<RowShare>& shares,
                     const ProductTile& t) {
  TileLoops loops;
  if (!column.empty())
    stage.split(column, "cg", "cr", t.threads_across() * t.column_vector()).split("cr", "ct", "cv", t.column_vector());
  for (std::size_t d = 0; d < rows.size(); ++d) {
    const RowShare& share = shares[d];
    const bool vector = d == 0;
    stage.split(rows[d], share.part("g"), share.part(vector ? "r" : "t"), share.threads * share.vector);
    if (vector) {
      stage.split(share.part("r"), share.part("t"), share.part("v"), share.vector);
      loops.within.push_back(share.part("v"));
    }
    loops.within.push_back(share.part("g"));
    loops.threads.push_back(share.part("t"));
  }
  return loops;
}

void spread_threads(Stage& stage, const Names& threads) {
  if (threads.size() == 2) stage.gpu_threads(threads[0], threads[1]);
  else stage.gpu_threads(threads[0], threads[1], threads[2]);
}

void spread_tile(Stage& stage, const TileLoops& loops, bool vector_columns) {
  for (const auto& loop : loops.within)
    if (loop == "cv" && vector_columns) stage.vectorize(loop);
    else stage.unroll(loop);
  spread_threads(stage, loops.threads);
}

/// Brings an operand's tile to shared memory with all the block's threads.
void stage_tile(Schedule& s, const TileStage& operand, const std::string& consumer, const std::string& step,
                const Product& p, const std::vector<RowShare>& shares, const ProductTile& t, bool whole_steps) {
  Stage stage = s[operand.role];
  stage.compute_at(consumer, step).store_in(Halide::MemoryType::GPUShared);
  if (!whole_steps) stage.bound_extent(p.depth, t.depth);
  for (const auto& loop : operand.single) stage.bound_extent(loop, 1);
  std::int64_t elements = t.depth * p.step_tap_count;
  for (const auto& name : operand.across) {
    const auto row = std::find_if(p.rows.begin(), p.rows.end(), [&](const auto& r) { return r.name == name; });
    elements *= row == p.rows.end() ? t.columns : row->tile;
  }
  const bool along_depth = operand.dense == p.depth;
  const bool vectors = operand.vectors && (!along_depth || t.depth % 4 == 0);
  // Vectors of 16 bytes along what is dense in memory. Along the depth, two neighbouring threads fetch a sector of 32
  // bytes and the next ones go on in the next row: storing then meets at most two threads a bank.
  Names order;
  if (vectors && along_depth) {
    stage.split(p.depth, "d", "dv", 4);
    if (t.depth % 8 == 0) {
      stage.split("d", "dh", "dq", 2);
      order = joined(joined({"dq"}, operand.across), {"dh"});
    } else {
      order = joined({"d"}, operand.across);
    }
  } else if (vectors) {
    order = operand.across;
    stage.split(operand.dense, "d", "dv", 4);
    std::replace(order.begin(), order.end(), operand.dense, std::string("d"));
    order.push_back(p.depth);
  } else {
    order = along_depth ? joined({p.depth}, operand.across) : joined(operand.across, {p.depth});
  }
  if (vectors) elements /= 4;
  const std::string all = fuse_all(stage, joined(order, p.step_taps), "f");
  const std::int64_t threads = t.threads();
  stage.split(all, "fo", "ft", threads, guarded_tail(elements, threads));
  Names parts = {"ct", "t1"};
  stage.split("ft", "t1", "ct", t.threads_across());
  if (shares.size() > 1) {
    stage.split("t1", "t2", "t1", shares[0].threads);
    parts.push_back("t2");
  }
  const Names within = vectors ? Names{"dv", "fo"} : Names{"fo"};
  stage.reorder(joined(within, parts));
  if (vectors) stage.vectorize("dv");
  stage.unroll("fo");
  spread_threads(stage, parts);
}

/// The tile's accumulators in registers, fed from shared memory.
void accumulate(Schedule& s, const std::string& acc, const std::string& consumer, const Product& p,
                const ProductTile& t, const std::string& depth, bool whole_steps) {
  Names rows;
  for (const auto& row : p.rows) rows.push_back(row.name);
  Stage pure = s[acc].compute_at(consumer, "column_block").store_in(Halide::MemoryType::Register);
  pure.bound_extent(p.column, t.columns);
  for (const auto& row : p.rows) pure.bound_extent(row.name, row.tile);
  const auto shares = share_rows(p, t);
  const TileLoops loops = split_tile(pure, p.column, rows, shares, t);
  pure.reorder(joined(loops.within, loops.threads));
  spread_tile(pure, loops, true);

  Stage update = s[acc].update(0);
  split_tile(update, p.column, rows, shares, t);
  update.split(depth, "step", "in_step", t.depth);
  Names outer = p.taps;
  std::erase_if(outer, [&](const std::string& tap) {
    return std::find(p.tap_slices.begin(), p.tap_slices.end(), tap) != p.tap_slices.end();
  });
  // One loop of steps over depth and taps: what the next one needs can be fetched during this one.
  const std::string step = fuse_all(update, joined({"step"}, outer), "steps");
  update.reorder(joined(joined(joined(loops.within, {"in_step"}), p.step_taps), joined(loops.threads, {step})));
  spread_tile(update, loops, true);
  const std::int64_t work = t.thread_columns * t.thread_rows;
  if (t.depth * work <= 1024) update.unroll("in_step");
  else update.unroll("in_step", std::max<std::int64_t>(1, 1024 / work));
  for (const TileStage& operand : p.operands) stage_tile(s, operand, acc, step, p, shares, t, whole_steps);
}

}  // namespace

bool fits(const ProductTile& t, std::int64_t taps, const Gpu& gpu) {
  return t.columns % t.thread_columns == 0 && t.threads_across() > 1 && t.rows % t.thread_rows == 0 &&
         t.threads() <= gpu.block_threads && (t.columns + t.rows) * t.depth * taps * 4 <= gpu.shared_bytes &&
         t.thread_columns <= gpu.tile_edge && t.thread_rows <= gpu.tile_edge;
}

void schedule_product(Schedule& s, const Product& p, const ProductTile& t) {
  bool whole_depth = is_multiple(p.depth_extent, t.depth);
  const std::int64_t vector = t.column_vector();
  const bool vector_columns = is_multiple(p.columns, vector);
  const bool sliced = t.slices > 1 || !p.tap_slices.empty();
  const auto shares = share_rows(p, t);

  // The tile of `out`, or of the partial sums: those are a buffer of whole tiles and need no guards.
  const auto tile_loops = [&](Stage& out, Tail tail, bool vectors, const Names& batch) {
    Names tile_rows, blocks = {"column_block"};
    for (const auto& row : p.rows) {
      out.split(row.name, row.name + "_block", row.name + "_tile", row.tile, tail);
      tile_rows.push_back(row.name + "_tile");
      blocks.push_back(row.name + "_block");
    }
    std::string column = "column_tile";
    if (vectors && tail == Tail::GuardWithIf) {
      // The guard is then the same for a whole vector.
      out.split(p.column, "columns", "cv", vector, Tail::RoundUp)
          .split("columns", "column_block", "cr", t.columns / vector, tail)
          .split("cr", "cg", "ct", t.threads_across());
      column.clear();
    } else {
      out.split(p.column, "column_block", column, t.columns, tail);
    }
    const TileLoops loops = split_tile(out, column, tile_rows, shares, t);
    out.reorder(joined(joined(loops.within, loops.threads), joined(blocks, batch)));
    spread_tile(out, loops, vectors);
    spread_blocks(out, joined(blocks, batch));
  };

  if (!sliced) {
    Stage out = s["out"];
    tile_loops(out, Tail::GuardWithIf, vector_columns, p.batch);
    accumulate(s, "acc", "out", p, t, p.depth, whole_depth);
    return;
  }

  // Slices of the depth, each with blocks of its own, whose sums a second launch adds up.
  Names slices = p.tap_slices, preserved;
  std::string depth = p.depth;
  Stage update = s["acc"].update(0);
  if (t.slices > 1) {
    const std::int64_t steps = chunk(p.depth_extent.value(), t.depth);
    const std::int64_t slice = chunk(steps, t.slices) * t.depth;
    update.split(p.depth, "slice", "in_slice", slice);
    whole_depth = is_multiple(p.depth_extent, slice);
    depth = "in_slice";
    slices.push_back("slice");
  }
  for (const auto& slice : slices) preserved.push_back(slice + "_part");
  if (slices.size() == 1) update.rfactor(slices[0], preserved[0], "partial");
  else if (slices.size() == 2) update.rfactor(slices[0], preserved[0], slices[1], preserved[1], "partial");
  else update.rfactor(slices[0], preserved[0], slices[1], preserved[1], slices[2], preserved[2], "partial");
  Stage sums = s["partial"].in("partial_sums");
  sums.compute_root();
  tile_loops(sums, Tail::RoundUp, true, joined(preserved, p.batch));
  accumulate(s, "partial", "partial_sums", p, t, depth, whole_depth);

  Stage out = s["out"];
  Names loops = {p.column};
  if (vector_columns) {
    out.split(p.column, "columns", "cv", vector, Tail::RoundUp);
    loops = {"columns"};
  }
  for (const auto& row : p.rows) loops.push_back(row.name);
  const std::string all = fuse_all(out, joined(loops, p.batch), "f");
  out.split(all, "block", "thread", 128, Tail::GuardWithIf);
  if (vector_columns) out.reorder("cv", "thread", "block").vectorize("cv");
  out.gpu_blocks("block").gpu_threads("thread");
  Stage acc = s["acc"].compute_at("out", "thread");
  Stage sum = s["acc"].update(0);
  sum.reorder(joined({p.column}, slices));
  if (vector_columns) {
    s["acc"].bound_extent(p.column, vector).vectorize(p.column);
    s["acc"].update(0).vectorize(p.column);
  }
  if (t.slices > 1 && t.slices <= 16) s["acc"].update(0).unroll("slice");
}

double product_time(const ProductSize& size, const ProductTile& t, const Gpu& gpu) {
  // A multiprocessor of the last ten years: four schedulers that each start an instruction of 32 threads a cycle, 128
  // bytes of shared memory a cycle, 65536 registers, 2048 threads, 100 KiB of shared memory; some 700 cycles from a
  // load to its use behind a barrier.
  constexpr double cycles_per_microsecond = 1500, latency = 700, launch = 3;
  const auto real = [](std::int64_t v) { return static_cast<double>(v); };
  const double threads = std::max(32.0, real(t.threads())), warps = threads / 32;
  const double accumulators = real(t.thread_columns * t.thread_rows), edges = real(t.thread_columns + t.thread_rows);
  const double depth = real(t.depth * size.taps);
  const double shared = 4 * real(t.columns + t.rows) * depth;
  const double registers = accumulators + 2 * edges + shared / 4 / threads + 30;  // and what is fetched ahead
  const double resident =
      std::max(1.0, std::floor(std::min({2048 / threads, 65536 / (registers * threads), 100e3 / shared, 24.0})));

  const double each = std::ceil(real(size.tiles * size.slices) / gpu.processors);  // blocks of one multiprocessor
  const double together = std::min(each, resident);
  // Loads of 16 bytes: threads side by side read different columns, 128 bytes a cycle; their rows are the same.
  const double across = real(std::min<std::int64_t>(32, t.threads_across()));
  const double loads =
      std::max(edges / 4, real(t.thread_columns) * across / 32 + real(t.thread_rows) / 4 * 32 / across);
  const double issue = warps * depth * (accumulators + edges / 4) / 4;
  const double traffic = warps * depth * loads;
  // A multiprocessor's share of the second-level cache: about 24 bytes a cycle.
  const double memory = shared / 24;
  // An instruction's result comes after four cycles at least: fewer than eight warps leave schedulers idle unless their
  // accumulators are many.
  const double filled = std::min(1.0, warps * together * std::min(4.0, accumulators / 4) / 16);
  const double busy = std::max({issue / filled, traffic / filled, memory}) + 30;
  // The next step is fetched during this one.
  const double step = std::max(busy * together, latency);
  const double steps = real(chunk(size.steps, size.slices));
  double time = launch + each / together * (steps * step + latency) / cycles_per_microsecond;
  if (size.slices > 1) time += launch + real(size.elements * size.slices) * 8 / 3e6;
  return time;
}

}  // namespace heddle::schedules
