// Reductions along whole dimensions on a device: reduce, softmax, normalisation, every stage in one launch.
//
// A block takes some rows. `lanes` threads share a row: each reduces every lanes-th element (so that neighbours read
// neighbours where the row is dense), then the partial results are combined through shared memory. Where rows lie side
// by side in memory instead, neighbours are rows and the lanes are on the other axis of the block; with enough rows a
// thread takes one alone. A result of few but long rows, or of one, is cut into chunks that go to a launch of their
// own: one block could not draw on the whole device's bandwidth.
#include <bit>

#include <fmt/format.h>

#include "schedules/families.hpp"
#include "schedules/gpu_grid.hpp"

namespace heddle::schedules {
namespace {

struct Knobs {
  BOOST_HANA_DEFINE_STRUCT(Knobs, (std::int64_t, lanes), (std::int64_t, rows), (std::int64_t, chunk));
};

/// More partial results than this are combined in two steps: one thread adds up no more.
constexpr std::int64_t combined_at_once = 32;

/// Rows of at least this many elements may be cut into chunks.
constexpr std::int64_t long_row = 16 * 1024;

bool matches(const Workload& w, const Machine&) {
  return w.anchor().op->kind() == OperatorKind::reduction && w.anchor_inputs()[0].rank() > 0;
}

/// A stage's reduction variables by the operator's names, innermost first.
std::vector<std::string> reductions(const PipelineStage& stage) {
  std::vector<std::string> names;
  if (!stage.func.has_update_definition()) return names;
  for (const auto& r : stage.func.rvars(0)) names.push_back(stage.reductions.at(r.name()));
  return names;
}

/// The rows of a workload: which of `out`'s loops run along them, which from row to row.
struct Rows {
  std::vector<std::string> along;  ///< loops of `out` that a row's elements lie on; empty where the result has none
  std::vector<Loop> across;        ///< innermost in memory first, those of extent 1 last
  std::int64_t length = 1;         ///< typical, of a row
  std::int64_t count = 1;          ///< typical, of rows
  bool dense = true;               ///< a row's elements are neighbours in memory, not the rows
};

Rows rows_of(const Workload& w, const Pipeline& pipeline) {
  std::vector<std::string> reduced;
  for (const auto& stage : pipeline.stages)
    if (reduced.empty()) reduced = reductions(stage);
  const auto is_reduced = [&](const std::string& loop) {
    return std::find(reduced.begin(), reduced.end(), "r" + loop) != reduced.end();
  };
  Rows rows;
  for (const auto& loop : loops_by_memory(w)) {
    const bool kept_of_length_one = loop.extent == Extent(1) && w.output_types()[0].shape != w.anchor_inputs()[0].shape;
    if (is_reduced(loop.name) && !kept_of_length_one) rows.along.push_back(loop.name);
    else rows.across.push_back(loop);
  }
  const TensorType in = w.anchor_inputs()[0];
  const auto names = default_dimensions(in.rank());
  bool innermost = true;
  const auto order = in.order();
  for (auto d = order.rbegin(); d != order.rend(); ++d) {
    const Extent& extent = in.shape[static_cast<std::size_t>(*d)];
    if (extent == Extent(1)) continue;
    const bool of_row = is_reduced(names[static_cast<std::size_t>(*d)]);
    if (innermost) rows.dense = of_row;
    innermost = false;
    (of_row ? rows.length : rows.count) *= typical(extent, w);
  }
  return rows;
}

std::int64_t power_of_two(std::int64_t value) {
  return static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(std::max<std::int64_t>(1, value))));
}

Knobs rule(const Workload& w, const Machine& m) {
  const Gpu& gpu = *m.gpu;
  const Rows rows = rows_of(w, w.instantiate());
  const std::int64_t most = gpu.block_threads;
  const bool few = rows.count * 4 < gpu.processors;
  Knobs k{1, 1, 0};
  if (rows.across.empty() || (few && rows.length >= long_row))
    k.chunk = std::clamp<std::int64_t>(power_of_two(rows.length * rows.count / (2 * gpu.processors)), 1024, 1 << 16);
  if (k.chunk > 0 || rows.dense) {
    const std::int64_t length = k.chunk > 0 ? std::min(k.chunk, rows.length) : rows.length;
    // Four elements a thread hide the combining, but no row needs more threads than it has elements.
    k.lanes = std::clamp<std::int64_t>(power_of_two(length / 4),
                                       std::min<std::int64_t>(gpu.subgroup, power_of_two(length)), most);
    k.rows = std::clamp<std::int64_t>(power_of_two(rows.count / gpu.processors), 1,
                                      std::max<std::int64_t>(1, most / 2 / k.lanes));
  } else {
    // Threads in flight for the whole device: rows first, then lanes of each.
    const std::int64_t wanted = power_of_two(static_cast<std::int64_t>(gpu.processors) * most / rows.count);
    k.lanes = std::clamp<std::int64_t>(wanted, 1, std::min<std::int64_t>(8, power_of_two(rows.length / 4)));
    k.rows = block_threads(rows.count, most / k.lanes, gpu);
  }
  return k;
}

std::vector<Knobs> candidates(const Workload& w, const Machine& m) {
  const Knobs best = rule(w, m);
  std::vector<Knobs> all = {best};
  for (const std::int64_t lanes : {1, 8, 32, 64, 128, 256})
    for (const std::int64_t rows : {1, 4, 8, 32, 64, 128})
      if (lanes * rows >= m.gpu->subgroup && lanes * rows <= m.gpu->block_threads)
        all.push_back({lanes, rows, best.chunk});
  return all;
}

/// The loop of a stage's update that its row is reduced by.
std::string reduction_loop(Stage& update, const PipelineStage& stage) {
  return fuse_all(update, reductions(stage), "along");
}

/// Cuts a stage's reduction into `lanes` partial results, which become the stage `role`.
Stage cut(Schedule& s, const std::string& from, const std::string& loop, std::int64_t lanes, const std::string& lane,
          const std::string& role) {
  Stage update = s[from].update(0);
  update.split(loop, loop + "o", loop + "i", lanes, Tail::GuardWithIf);
  return update.rfactor(loop + "i", lane, role);
}

/// Which axis of a block the rows are on, and the loop of theirs that has threads.
struct Block {
  std::string row;  ///< the loop of `out`
  std::int64_t rows = 1;
  bool dense = true;

  /// Binds a definition's loops: rows and, if it has them, the lanes of each. `serial`: its reduction, inside.
  void bind(Stage definition, const std::string& lane, const std::string& serial = "") const {
    definition.split(row, "rows", "row", rows, Tail::GuardWithIf);
    std::vector<std::string> order;
    if (!serial.empty()) order.push_back(serial);
    if (lane.empty()) {
      order.insert(order.end(), {"row", "rows"});
      definition.reorder(order).gpu_threads("row");
    } else {
      const std::string x = dense ? lane : "row", y = dense ? "row" : lane;
      order.insert(order.end(), {x, y, "rows"});
      definition.reorder(order).gpu_threads(x, y);
    }
  }
};

/// One launch: each block reduces and finishes its rows.
void one_launch(Schedule& s, const Rows& rows, const Pipeline& pipeline, const Knobs& k) {
  Stage out = s["out"];
  std::vector<std::string> order = rows.along;
  for (const auto& loop : rows.across) order.push_back(loop.name);
  if (order.size() > 1) out.reorder(order);
  Block block{rows.across[0].name, k.rows, rows.dense};
  const std::string along = rows.along.empty() ? "" : fuse_all(out, rows.along, "along");
  out.split(block.row, "rows", "row", k.rows, Tail::GuardWithIf);
  std::vector<std::string> grid = {"rows"};
  for (std::size_t i = 1; i < rows.across.size(); ++i) grid.push_back(rows.across[i].name);
  std::string level;
  const bool lanes_write = !along.empty() && k.lanes > 1;
  if (lanes_write) {
    out.split(along, "tile", "lane", k.lanes, Tail::GuardWithIf);
    const std::string x = rows.dense ? "lane" : "row", y = rows.dense ? "row" : "lane";
    out.reorder("tile", x, y, "rows");
    level = fuse_all(out, grid, "grid");
    out.gpu_blocks(level).gpu_threads(x, y);
  } else {
    level = fuse_all(out, grid, "grid");
    out.gpu_blocks(level).gpu_threads("row");
  }

  for (const auto& stage : pipeline.stages) {
    if (!stage.func.has_update_definition()) continue;
    if (k.lanes == 1) {
      s[stage.role].compute_at("out", "row");
      continue;
    }
    Stage update = s[stage.role].update(0);
    std::string reduced = reduction_loop(update, stage);
    cut(s, stage.role, reduced, k.lanes, "lane", stage.role + "_lanes");
    s[stage.role + "_lanes"].compute_at("out", level);
    block.bind(s[stage.role + "_lanes"], "lane");
    block.bind(s[stage.role + "_lanes"].update(0), "lane", reduced + "o");
    reduced += "i";
    if (k.lanes > combined_at_once) {
      const std::int64_t half = power_of_two(k.lanes) >= 256 ? 16 : 8;
      cut(s, stage.role, reduced, half, "part", stage.role + "_parts");
      s[stage.role + "_parts"].compute_at("out", level);
      block.bind(s[stage.role + "_parts"], "part");
      block.bind(s[stage.role + "_parts"].update(0), "part", reduced + "o");
      reduced += "i";
    }
    s[stage.role].compute_at("out", level);
    block.bind(s[stage.role], "");
    block.bind(s[stage.role].update(0), "", reduced);
  }
}

/// Each reducing stage by launches of its own: chunks of rows over the grid, then their sums, then the result.
void chunked(Schedule& s, const Workload& w, const Machine& m, const Pipeline& pipeline, const Knobs& k) {
  for (const auto& stage : pipeline.stages) {
    if (!stage.func.has_update_definition()) continue;
    const std::string lanes = stage.role + "_lanes", chunks = stage.role + "_chunks", grid = stage.role + "_grid";
    std::vector<std::string> across;
    for (const auto& v : stage.func.args()) across.push_back(v.name());
    Stage update = s[stage.role].update(0);
    const std::string reduced = reduction_loop(update, stage);
    update.split(reduced, "chunk", "within", k.chunk, Tail::GuardWithIf);
    update.rfactor("chunk", "piece", chunks);
    cut(s, chunks, "within", k.lanes, "lane", lanes);
    s[chunks].in(grid);

    std::vector<std::string> blocks = {"piece"};
    blocks.insert(blocks.end(), across.begin(), across.end());
    Stage root = s[grid];
    root.compute_root().reorder(blocks);
    const std::string level = fuse_all(root, blocks, "grid");
    root.gpu_blocks(level);
    s[lanes].compute_at(grid, level).gpu_threads("lane");
    s[lanes].update(0).reorder("withino", "lane").gpu_threads("lane");
    s[chunks].compute_at(grid, level);

    s[stage.role].compute_root();
    for (int definition = -1; definition < 1; ++definition) {
      Stage one = definition < 0 ? s[stage.role] : s[stage.role].update(0);
      if (across.empty()) {
        one.gpu_single_thread();
        continue;
      }
      if (definition >= 0) {
        std::vector<std::string> order = {"chunk"};
        order.insert(order.end(), across.begin(), across.end());
        one.reorder(order);
      }
      one.split(fuse_all(one, across, "flat"), "block", "thread", m.gpu->subgroup, Tail::GuardWithIf)
          .gpu_blocks("block")
          .gpu_threads("thread");
    }
  }
  stream_loops(s, "out", loops_by_memory(w), vector_lanes(w.output_types()[0].dtype), m.gpu->block_threads, *m.gpu, w);
}

Implementation make(const Workload& w, const Machine& m, const Knobs& k) {
  Implementation implementation;
  const Pipeline pipeline = w.instantiate();
  const Rows rows = rows_of(w, pipeline);
  if (k.chunk > 0) chunked(implementation.schedule, w, m, pipeline, k);
  else one_launch(implementation.schedule, rows, pipeline, k);
  return implementation;
}

}  // namespace

Family gpu_rows() {
  return TypedFamily<Knobs>{.name = "gpu_rows",
                            .summary = "reductions along whole dimensions: threads share rows, one launch",
                            .matches = matches,
                            .rule = rule,
                            .candidates = candidates,
                            .make = make,
                            .gpu = true}
      .erase();
}

}  // namespace heddle::schedules
