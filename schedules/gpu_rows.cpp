// Reductions along whole dimensions on a device: reduce, softmax, normalisation, every stage in one launch.
//
// A block takes some rows. `lanes` threads share a row: each reduces every lanes-th element (so that neighbours read
// neighbours where the row is dense), then the partial results are combined through shared memory. Where rows lie side
// by side in memory instead, neighbours are rows and the lanes are on the other axis of the block; with enough rows a
// thread takes one alone. A result of few but long rows, or of one, is cut into chunks that go to a launch of their
// own: one block could not draw on the whole device's bandwidth.

#include "schedules/families.hpp"
#include "schedules/gpu_grid.hpp"
#include "schedules/gpu_row_groups.hpp"

namespace heddle::schedules {
namespace {

struct Knobs {
  BOOST_HANA_DEFINE_STRUCT(Knobs, (std::int64_t, lanes), (std::int64_t, rows), (std::int64_t, chunk));
};

/// Rows of at least this many elements may be cut into chunks.
constexpr std::int64_t long_row = 16 * 1024;

bool matches(const Workload& w, const Machine&) {
  return w.anchor().op->kind() == OperatorKind::reduction && w.anchor_inputs()[0].rank() > 0;
}

/// The rows of a workload.
struct Rows : RowLoops {
  std::int64_t length = 1;  ///< typical, of a row
  std::int64_t count = 1;   ///< typical, of rows
};

Rows rows_of(const Workload& w, const Pipeline& pipeline) {
  std::vector<std::string> reduced;
  for (const auto& stage : pipeline.stages)
    if (reduced.empty()) reduced = reductions_of(stage);
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

Implementation make(const Workload& w, const Machine& m, const Knobs& k) {
  Implementation implementation;
  const Pipeline pipeline = w.instantiate();
  schedule_rows(implementation.schedule, rows_of(w, pipeline), w, *m.gpu, pipeline, {k.lanes, k.rows, k.chunk});
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
