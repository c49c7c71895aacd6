#include "schedules/gpu_row_groups.hpp"

#include <bit>

#include <fmt/format.h>

#include "schedules/gpu_grid.hpp"

namespace heddle::schedules {
namespace {

/// More partial results than this are combined in two steps: one thread adds up no more.
constexpr std::int64_t combined_at_once = 32;

/// The loop of a stage's update that its row is reduced by.
std::string reduction_loop(Stage& update, const PipelineStage& stage) {
  return fuse_all(update, reductions_of(stage), "along");
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
void one_launch(Schedule& s, const RowLoops& rows, const Pipeline& pipeline, const RowTile& k) {
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
void chunked(Schedule& s, const Workload& w, const Gpu& gpu, const Pipeline& pipeline, const RowTile& k) {
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
      one.split(fuse_all(one, across, "flat"), "block", "thread", gpu.subgroup, Tail::GuardWithIf)
          .gpu_blocks("block")
          .gpu_threads("thread");
    }
  }
  stream_loops(s, "out", loops_by_memory(w), vector_lanes(w.output_types()[0].dtype), gpu.block_threads, gpu, w);
}

}  // namespace

std::vector<std::string> reductions_of(const PipelineStage& stage) {
  std::vector<std::string> names;
  if (!stage.func.has_update_definition()) return names;
  for (const auto& r : stage.func.rvars(0)) names.push_back(stage.reductions.at(r.name()));
  return names;
}

std::int64_t power_of_two(std::int64_t value) {
  return static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(std::max<std::int64_t>(1, value))));
}

void schedule_rows(Schedule& s, const RowLoops& rows, const Workload& w, const Gpu& gpu, const Pipeline& pipeline,
                   const RowTile& k) {
  if (k.chunk > 0) chunked(s, w, gpu, pipeline, k);
  else one_launch(s, rows, pipeline, k);
}

}  // namespace heddle::schedules
