// Reductions along whole dimensions: reduce, softmax, normalisation.
//
// Where the reduced dimension is innermost in memory, a row's partial results are kept in vectors (rfactor) and
// combined once at its end: a scalar reduction runs 2-10 times slower. Where it is not, vectors run along the kept
// innermost dimension and every lane is a row of its own.
#include <fmt/format.h>

#include "schedules/families.hpp"
#include "schedules/row_reduction.hpp"
#include "schedules/support.hpp"

namespace heddle::schedules {
namespace {

struct Knobs {
  BOOST_HANA_DEFINE_STRUCT(Knobs, (std::int64_t, accumulators), (std::int64_t, rows), (std::int64_t, tasks));
};

bool matches(const Workload& w, const Machine&) {
  if (w.anchor().op->kind() != OperatorKind::reduction) return false;
  const TensorType in = w.anchor_inputs()[0];
  return sums_in_f32(in.dtype) && in.rank() > 0 && sums_in_f32(w.anchor_output().dtype);
}

/// Vectors of a row up to which nothing of it is a loop. A row of softmax is four loops of few steps each: unrolled,
/// rows of 4 to 16 vectors take a tenth less (Granite Rapids). Code grows with them; longer rows were not measured.
constexpr std::int64_t unrolled_vectors = 16;

/// A stage's reduction variables by the operator's names, innermost first.
std::vector<std::string> reductions(const PipelineStage& stage) {
  std::vector<std::string> names;
  if (!stage.func.has_update_definition()) return names;
  for (const auto& r : stage.func.rvars(0)) names.push_back(stage.reductions.at(r.name()));
  return names;
}

bool is_reduced(const PipelineStage& stage, const std::string& along) {
  const auto reduced = reductions(stage);
  return std::ranges::find(reduced, along) != reduced.end();
}

/// The innermost memory dimension of the anchor's operand, by the name of its reduction variable.
std::string innermost_reduction(const Workload& w) {
  const TensorType in = w.anchor_inputs()[0];
  const auto names = default_dimensions(in.rank());
  const auto order = in.order();
  for (auto d = order.rbegin(); d != order.rend(); ++d)
    if (!(in.shape[static_cast<std::size_t>(*d)] == Extent(1))) return "r" + names[static_cast<std::size_t>(*d)];
  return "";
}

Extent reduced_extent(const Workload& w, const std::string& reduction) {
  const TensorType in = w.anchor_inputs()[0];
  const auto names = default_dimensions(in.rank());
  for (std::size_t d = 0; d < names.size(); ++d)
    if ("r" + names[d] == reduction) return in.shape[d];
  return 1;
}

/// Rows whose intermediates are computed together, so that one row's partial results are combined while others' are
/// computed: combining waits for shuffles, and what follows waits for it. Rows of 64 to 768 elements take a tenth to a
/// quarter less so (softmax, layer norm; Granite Rapids), longer ones more: what is read again has left the first
/// cache.
std::int64_t rows_together(const Workload& w, const Machine& m) {
  constexpr std::int64_t most = 4;
  const std::int64_t length = typical(reduced_extent(w, innermost_reduction(w)), w);
  return std::clamp<std::int64_t>(m.l1_bytes / 6 / (4 * std::max<std::int64_t>(length, 1)), 1, most);
}

Knobs rule(const Workload& w, const Machine& m) {
  return {4, rows_together(w, m), task_count(w.composition().threads)};
}

std::vector<Knobs> candidates(const Workload& w, const Machine&) {
  std::vector<Knobs> all;
  for (const std::int64_t accumulators : {1, 2, 4, 8})
    for (const std::int64_t rows : {1, 2, 4, 8})
      all.push_back({accumulators, rows, task_count(w.composition().threads)});
  return all;
}

/// The loops of `out` outside of a row, fused into tasks; returns the loop that a row's intermediates are computed at.
std::string rows_of(Stage& out, std::vector<std::string> outer, std::int64_t rows, std::int64_t tasks) {
  std::string row = outer.front();
  for (std::size_t i = 1; i < outer.size(); ++i) {
    const std::string fused = fmt::format("row{}", i);
    out.fuse(row, outer[i], fused);
    row = fused;
  }
  if (tasks > 1 && rows > 1) out.split(row, "task", row, run_of_task(rows, tasks), Tail::GuardWithIf).parallel("task");
  return row;
}

/// Vectors run along the rows. `out` has the row itself as its innermost loop (softmax, normalisation) or has lost it
/// (reduce).
void reduce_along_rows(Schedule& s, Stage& out, const Workload& w, const Machine& m, const Knobs& k,
                       const Pipeline& pipeline, const std::vector<Loop>& loops, const std::string& inner) {
  const std::int64_t lanes = m.lanes(4);
  std::vector<std::string> outer;
  for (const auto& loop : loops) outer.push_back(loop.name);
  const std::string along = outer.empty() || "r" + outer.front() != inner ? "" : outer.front();
  if (!along.empty()) outer.erase(outer.begin());
  std::int64_t rows = 1;
  for (const auto& name : outer) rows *= typical(extent_of(w, name), w);

  const auto has_row = [&](const PipelineStage& stage) {
    return !along.empty() && reductions(stage).empty() && has_loop(stage, along);
  };
  std::vector<const PipelineStage*> intermediates;
  for (const auto& stage : pipeline.stages)
    if (stage.role != "out") intermediates.push_back(&stage);

  const std::string row_in_block = outer.empty() ? "" : outer.front();
  const bool has_blocks =
      !along.empty() && !outer.empty() &&
      std::ranges::all_of(intermediates, [&](const auto* stage) { return has_loop(*stage, row_in_block); });
  const std::int64_t block = has_blocks ? std::min(k.rows, typical(extent_of(w, row_in_block), w)) : 1;
  if (block > 1) {
    out.split(row_in_block, "rows", row_in_block, block, Tail::GuardWithIf);
    outer.front() = "rows";
    rows = chunk(rows, block);
  }
  // What sums up whole rows of intermediates follows each of them: a block's would come from further.
  const PipelineStage* row_by_row = nullptr;
  if (std::ranges::any_of(intermediates, [&](const auto* stage) { return has_row(*stage); }))
    for (const auto* stage : intermediates)
      if (is_reduced(*stage, inner)) row_by_row = stage;

  const Extent extent = reduced_extent(w, inner);
  const std::int64_t length = typical(extent, w);
  const bool unrolled = extent.is_constant() && length <= unrolled_vectors * lanes;
  const auto along_vectors = [&](Stage& stage) {
    stage.vectorize(along, lanes, Tail::GuardWithIf);
    if (unrolled) stage.unroll(along);
  };
  if (!along.empty()) along_vectors(out);
  const std::string row = outer.empty() ? "" : rows_of(out, outer, rows, k.tasks);
  const std::int64_t width = lanes * std::clamp<std::int64_t>(length / lanes, 1, k.accumulators);
  for (const auto* stage : intermediates) {
    const bool in_block = block > 1 && stage != row_by_row;
    const auto place = [&](Stage& definition) {
      if (row.empty()) definition.compute_root();
      else definition.compute_at("out", block == 1 || in_block ? row : row_in_block);
    };
    Stage definition = s[stage->role];
    place(definition);
    if (has_row(*stage)) {
      along_vectors(definition);
      if (in_block && unrolled) definition.unroll(row_in_block);
    }
    if (!is_reduced(*stage, inner) || length < 2 * lanes) continue;
    std::vector<std::string> others;
    for (const auto& r : reductions(*stage))
      if (r != inner) others.push_back(r);
    reduce_in_lanes(s, {stage->role, inner, others, width, lanes, unrolled}, [&](Stage& partial) {
      if (in_block) partial.compute_at(stage->role, row_in_block);
      else place(partial);
    });
  }
}

/// Every lane reduces a row of its own.
void reduce_in_rows_of_lanes(Schedule& s, Stage& out, const Workload& w, const Machine& m, const Knobs& k,
                             const Pipeline& pipeline, const std::vector<Loop>& loops) {
  if (loops.empty()) {
    for (const auto& stage : pipeline.stages)
      if (stage.role != "out") s[stage.role].compute_root();
    return;
  }
  const std::int64_t extent = typical(loops.front().extent, w);
  const bool fixed = loops.front().extent.is_constant();
  const std::int64_t vector_lanes = fixed ? filled_lanes(extent, m) : m.lanes(4);
  const std::int64_t block =
      fixed ? vector_lanes * std::clamp<std::int64_t>(extent / vector_lanes, 1, k.accumulators) : vector_lanes;
  const std::string vector = loops.front().name;
  out.split(vector, "block", vector, block, fixed ? shifted_tail(extent, block) : Tail::GuardWithIf);
  std::vector<std::string> outer = {"block"};
  std::int64_t rows = chunk(extent, extent / block);
  for (std::size_t i = 1; i < loops.size(); ++i) {
    outer.push_back(loops[i].name);
    rows *= typical(loops[i].extent, w);
  }
  out.vectorize(vector, vector_lanes);
  if (block > vector_lanes) out.unroll(vector);
  const std::string row = rows_of(out, outer, rows, k.tasks);
  for (const auto& stage : pipeline.stages) {
    if (stage.role == "out") continue;
    Stage definition = s[stage.role];
    definition.compute_at("out", row);
    if (!has_loop(stage, vector)) continue;
    const Tail tail = fixed ? Tail::RoundUp : Tail::GuardWithIf;
    definition.vectorize(vector, vector_lanes, tail);
    if (block > vector_lanes) definition.unroll(vector);
    const auto reduced = reductions(stage);
    if (reduced.empty()) continue;
    Stage update = s[stage.role].update(0);
    std::vector<std::string> update_order = {vector};
    update_order.insert(update_order.end(), reduced.begin(), reduced.end());
    update.reorder(update_order).vectorize(vector, vector_lanes, tail);
    if (block > vector_lanes) update.unroll(vector);
  }
}

Implementation make(const Workload& w, const Machine& m, const Knobs& k) {
  const Pipeline pipeline = w.instantiate();
  Implementation implementation;
  Schedule& s = implementation.schedule;
  const std::vector<Loop> loops = loops_by_memory(w);
  std::vector<std::string> order;
  for (const auto& loop : loops) order.push_back(loop.name);
  Stage out = s["out"];
  if (order.size() > 1) out.reorder(order);

  const std::string inner = innermost_reduction(w);
  const bool rows_are_contiguous =
      std::ranges::any_of(pipeline.stages, [&](const PipelineStage& stage) { return is_reduced(stage, inner); });
  if (rows_are_contiguous) reduce_along_rows(s, out, w, m, k, pipeline, loops, inner);
  else reduce_in_rows_of_lanes(s, out, w, m, k, pipeline, loops);
  return implementation;
}

}  // namespace

Family rows() {
  return TypedFamily<Knobs>{"rows",     "reductions along whole dimensions: partial results in vectors, rows as tasks",
                            matches,    rule,
                            candidates, make}
      .erase();
}

}  // namespace heddle::schedules
