// Reductions along rows: softmax, normalisation, sums.
//
// Where rows lie contiguously, a row's partial results are kept in vectors and combined at its end; elsewhere every
// lane reduces a row of its own. What a row's reductions produce is computed beside it, and what lies between
// (exponentials) is stored for the row or computed where it is read.
#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "autoscheduler/estimate.hpp"
#include "autoscheduler/lane_reduction.hpp"
#include "autoscheduler/subject.hpp"
#include "dsl/stage.hpp"

namespace heddle::autoscheduler {
namespace {

using Tail = Stage::Tail;

class Rows final : public SketchRule {
 public:
  explicit Rows(const Subject& subject) : subject_(subject) {
    sketch_.name = "reductions";
    sketch_.summary = "rows as tasks, partial results in vectors";
    classify();
    if (!fits_) return;
    if (contiguous_) {
      sketch_.knobs.push_back({"accumulators", {1, 2, 4, 8, 16}});
      sketch_.knobs.push_back({"lanes_in_vectors", {0, 1}, false});
      if (keeps_row()) {
        sketch_.knobs.push_back({"rows", {1, 2, 4, 8}});
        if (std::ranges::count_if(d().stages, [](const StageNode& s) { return s.updates > 0; }) > 1)
          sketch_.knobs.push_back({"last_by_row", {0, 1}, false});
      }
    } else {
      sketch_.knobs.push_back({"vectors", {1, 2, 4, 8}});
      sketch_.knobs.push_back({"unroll", {1, 2, 4, 8}});
    }
    sketch_.knobs.push_back({"unroll_out", {1, 2, 4}});
    for (const std::string& role : between_) sketch_.knobs.push_back({"store_" + role, {0, 1}, false});
    if (subject.threads > 1) sketch_.knobs.push_back({"tasks", {1, 2, 4, 8, 16}});
  }

  bool fits() const { return fits_; }
  const Sketch& sketch() const override { return sketch_; }

  std::variant<Candidate, Pruned> emit(const std::vector<std::int64_t>& values) const override;

  std::vector<std::vector<std::int64_t>> defaults() const override {
    std::vector<std::vector<std::int64_t>> best;
    for (const auto& [width, rows] : {std::pair{4, 4}, {4, 1}, {2, 1}, {8, 1}, {1, 1}})
      for (const std::int64_t stored : {1, 0}) {
        if (between_.empty() && stored == 0) continue;
        std::vector<std::int64_t> values;
        for (const auto& knob : sketch_.knobs) {
          std::int64_t v = knob.domain.front();
          if (knob.name == "accumulators" || knob.name == "vectors") v = width;
          if (knob.name == "lanes_in_vectors") v = 1;
          if (knob.name == "rows") v = rows;
          if (knob.name == "last_by_row") v = rows > 1 && !between_.empty() ? 1 : 0;
          if (knob.name == "tasks") v = 4;
          if (knob.name.starts_with("store_")) v = stored;
          values.push_back(v);
        }
        best.push_back(values);
      }
    std::ranges::stable_sort(best, {}, [&](const auto& v) {
      const auto made = emit(v);
      return std::holds_alternative<Candidate>(made) ? std::get<Candidate>(made).estimate : 1e30;
    });
    return best;
  }

 private:
  const Dependences& d() const { return subject_.dependences; }

  /// The output runs along rows, so that what is in them is read again.
  bool keeps_row() const { return std::ranges::find(along_row_, std::size_t{0}) != along_row_.end(); }

  void classify() {
    bool reduces = false, used_again = true;
    for (std::size_t i = 0; i + 1 < d().stages.size(); ++i) {
      const StageNode& stage = d().stages[i];
      if (stage.updates == 0) {
        if (reads_many(stage)) between_.push_back(stage.role);
        continue;
      }
      // A row's reduction has one or more loops of its own, and the output reads each value along a whole row.
      if (!stage.accumulates || !stage.associative || stage.reductions.empty()) return;
      for (const std::string& loop : stage.loops)
        if (!d().out().has_loop(loop)) return;
      reduces = true;
      // Where operands are used again and the result is read once, registers should hold more than a row.
      const auto readers = d().consumers(stage.role);
      const bool read_along_rows = std::ranges::any_of(
          readers, [&](const StageNode* r) { return r->updates > 0 || r->loops.size() > stage.loops.size(); });
      used_again = used_again && !read_along_rows && stage.reads_again();
    }
    if (!reduces || used_again || subject_.rank() == 0) return;
    // The reduction's loop that an operand's memory runs along.
    for (const StageNode& stage : d().stages) {
      if (stage.updates == 0) continue;
      for (const Access& access : stage.accesses) {
        if (!access.in_update) continue;
        const std::optional<std::size_t> loop = contiguous_loop(access);
        if (!loop || *loop < stage.loops.size()) continue;
        contiguous_ = true;
        inner_ = stage.reductions[*loop - stage.loops.size()].name;
        row_length_ = stage.reductions[*loop - stage.loops.size()].extent;
      }
    }
    // The place of `out` that runs along the row, if the output has kept it.
    for (std::size_t p = 0; p < subject_.rank(); ++p) {
      const std::string& loop = subject_.loop(p);
      const bool reduced =
          std::ranges::any_of(d().stages, [&](const StageNode& s) { return s.updates > 0 && !s.has_loop(loop); });
      if (reduced) along_row_.push_back(p);
    }
    if (!contiguous_ && !along_row_.empty() && along_row_[0] == 0) return;  // lanes would meet the reduction
    fits_ = true;
  }

  bool reads_many(const StageNode& stage) const {
    const auto readers = d().consumers(stage.role);
    return readers.size() > 1 || std::ranges::any_of(readers, [](const StageNode* r) { return r->updates > 0; });
  }

  /// The loop of the reader that runs along an operand's memory, through stages between them.
  std::optional<std::size_t> contiguous_loop(const Access& access) const {
    std::size_t dimension = 0;
    if (access.operand) {
      const auto& strides = d().operands.at(access.source).strides;
      const auto& extents = d().operands.at(access.source).extents;
      bool found = false;
      for (std::size_t i = 0; i < strides.size(); ++i)
        if (strides[i] == 1 && extents[i] > 1) {
          dimension = i;
          found = true;
        }
      if (!found) return std::nullopt;
    }
    if (dimension >= access.index.size() || !access.index[dimension].affine) return std::nullopt;
    for (std::size_t l = 0; l < access.index[dimension].coefficients.size(); ++l)
      if (access.index[dimension].coefficients[l] == 1) return l;
    return std::nullopt;
  }

  const Subject& subject_;
  Sketch sketch_;
  bool fits_ = false, contiguous_ = false;
  std::string inner_;  ///< the reduction's loop along memory
  std::int64_t row_length_ = 1;
  std::vector<std::size_t> along_row_;  ///< places of `out` that row reductions have lost
  std::vector<std::string> between_;    ///< pure stages that reductions read
};

std::variant<Candidate, Pruned> Rows::emit(const std::vector<std::int64_t>& values) const {
  const KnobValues knobs(sketch_.knobs, values);
  const auto value = [&](const std::string& name, std::int64_t otherwise) { return knobs.get(name, otherwise); };
  const Subject& s = subject_;
  Candidate candidate;
  Schedule& schedule = candidate.implementation.schedule;
  const StageNode& output = d().out();
  const int lanes = s.lanes;
  const std::int64_t tasks = value("tasks", 1) * s.threads;

  std::vector<std::string> order, outer;
  std::int64_t rows = 1;
  for (std::size_t p = 0; p < s.rank(); ++p) order.push_back(s.loop(p));
  Stage out = schedule[output.role];
  if (order.size() > 1) out.reorder(order);

  // Loops along the row are inside; the others, fused, count rows.
  const bool lane_rows = !contiguous_;
  const std::string vector = s.loop(0);
  const std::int64_t block = lane_rows ? value("vectors", 1) * lanes : lanes;
  if (lane_rows && s.extent(0) < lanes) return Pruned{"rows are too few for a vector of them"};
  if (lane_rows && block > s.extent(0)) return Pruned{"a block of rows is longer than all of them"};
  std::vector<std::string> inside;
  std::int64_t nearest_rows = 1;  // of the innermost loop over rows
  for (std::size_t p = 0; p < s.rank(); ++p) {
    const bool in_row = std::ranges::find(along_row_, p) != along_row_.end();
    if (in_row) {
      inside.push_back(s.loop(p));
      continue;
    }
    if (lane_rows && p == 0) continue;
    if (outer.empty()) nearest_rows = s.extent(p);
    outer.push_back(s.loop(p));
    rows *= s.extent(p);
  }
  const std::int64_t unroll_out = value("unroll_out", 1);
  if (lane_rows) {
    out.split(vector, "block", vector, block, s.extent(0) % block == 0 ? Tail::RoundUp : Tail::ShiftInwards);
    std::vector<std::string> all = {vector};
    all.insert(all.end(), inside.begin(), inside.end());
    all.emplace_back("block");
    all.insert(all.end(), outer.begin(), outer.end());
    out.reorder(all);
    out.vectorize(vector, lanes);
    if (block > lanes) out.unroll(vector);
    outer.insert(outer.begin(), "block");
    rows *= (s.extent(0) + block - 1) / block;
    if (unroll_out > 1) return Pruned{"the block is unrolled already"};
  } else {
    std::vector<std::string> all = inside;
    all.insert(all.end(), outer.begin(), outer.end());
    if (all.size() > 1) out.reorder(all);
    if (keeps_row()) {
      if (s.extent(0) < lanes) return Pruned{"a row is shorter than a vector"};
      if (unroll_out > 1 && s.extent(0) < unroll_out * lanes)
        return Pruned{"a row is shorter than the unrolled vectors"};
      if (unroll_out > 1) {
        out.split(vector, vector, "lane", unroll_out * lanes, Tail::GuardWithIf)
            .vectorize("lane", lanes)
            .unroll("lane");
      } else {
        out.vectorize(vector, lanes, Tail::GuardWithIf);
      }
    } else if (unroll_out > 1) {
      return Pruned{"the output has no row to unroll"};
    }
  }
  // A block's rows are reduced one after the other before anything else of them is computed: none waits for what
  // combining its partial results takes.
  const std::int64_t together = value("rows", 1);
  const std::string row_in_block = outer.empty() ? "" : outer.front();
  if (together > 1) {
    if (nearest_rows < together) return Pruned{"rows are fewer than a block"};
    out.split(row_in_block, "rows", row_in_block, together, Tail::GuardWithIf);
    outer.front() = "rows";
    rows = rows / nearest_rows * ((nearest_rows + together - 1) / together);
  } else if (value("last_by_row", 0) == 1) {
    return Pruned{"a block has one row"};
  }
  std::string row = outer.empty() ? "" : outer.front();
  for (std::size_t i = 1; i < outer.size(); ++i) {
    const std::string fused = fmt::format("row{}", i);
    out.fuse(row, outer[i], fused);
    row = fused;
  }
  const std::int64_t pieces = std::min(tasks, rows);
  if (s.threads > 1 && rows > 1 && !row.empty())
    out.split(row, "task", row, (rows + pieces - 1) / pieces, Tail::GuardWithIf).parallel("task");

  const StageNode* last = nullptr;
  for (const StageNode& stage : d().stages)
    if (stage.updates > 0) last = &stage;
  const auto in_block = [&](const StageNode& stage) {
    return together > 1 && (&stage != last || value("last_by_row", 0) == 0);
  };
  const auto place = [&](const StageNode& stage, Stage& definition) {
    if (row.empty()) definition.compute_root();
    else definition.compute_at(output.role, together == 1 || in_block(stage) ? row : row_in_block);
  };
  const std::int64_t accumulators = value("accumulators", 1);
  const std::int64_t width = std::min(accumulators * lanes, row_length_ / lanes * lanes);
  double cycles = static_cast<double>(output.elements()) / lanes * (output.pure_operations / 2 + 1);
  for (const StageNode& stage : d().stages) {
    if (&stage == &output) continue;
    const bool between = std::ranges::find(between_, stage.role) != between_.end();
    if (stage.updates == 0) {
      const bool stored = between && value("store_" + stage.role, 0) == 1;
      const double reads = between && !stored ? static_cast<double>(d().consumers(stage.role).size()) : 1;
      cycles +=
          static_cast<double>(stage.elements()) * reads / lanes * (stage.pure_operations / 2 + (stored ? 1.5 : 0));
      if (!stored) continue;
      Stage definition = schedule[stage.role];
      place(stage, definition);
      if (!stage.loops.empty() && stage.box[0].extent >= lanes)
        definition.vectorize(stage.loops[0], lanes, Tail::GuardWithIf);
      constexpr std::int64_t most_vectors = 32;
      if (together > 1 && stage.has_loop(row_in_block) && together * row_length_ <= most_vectors * lanes)
        definition.unroll(stage.loops[0]).unroll(row_in_block);
      continue;
    }
    Stage definition = schedule[stage.role];
    place(stage, definition);
    const double steps = static_cast<double>(stage.reduction_steps()) * static_cast<double>(stage.elements());
    if (lane_rows) {
      const bool has_vector = stage.has_loop(vector);
      cycles += steps / (has_vector ? lanes : 1) *
                std::max(stage.update_operations / 2, 4.0 * lanes / static_cast<double>(block));
      if (!has_vector) continue;
      definition.vectorize(vector, lanes);
      if (block > lanes) definition.unroll(vector);
      Stage update = schedule[stage.role].update(0);
      std::vector<std::string> update_order = {vector};
      for (const auto& r : stage.reductions) update_order.push_back(r.name);
      update.reorder(update_order).vectorize(vector, lanes);
      if (block > lanes) update.unroll(vector);
      const std::int64_t unroll = value("unroll", 1);
      if (unroll > 1) {
        if (stage.reductions[0].extent % unroll != 0) return Pruned{"the unrolled steps do not divide the reduction"};
        update.unroll(stage.reductions[0].name, unroll);
      }
      continue;
    }
    const bool along = std::ranges::any_of(stage.reductions, [&](const ReductionLoop& r) { return r.name == inner_; });
    const bool in_vectors = value("lanes_in_vectors", 1) == 1 && along && row_length_ >= 2 * lanes && width >= lanes;
    if (!in_vectors) {
      cycles += steps * std::max(stage.update_operations, 4.0);
      if (accumulators > 1 && value("lanes_in_vectors", 1) == 0) return Pruned{"one scalar sum has one accumulator"};
      continue;
    }
    const auto& row_loop =
        *std::ranges::find_if(stage.reductions, [&](const ReductionLoop& r) { return r.name == inner_; });
    const bool overlapped = in_block(stage) && stage.has_loop(row_in_block);
    const LaneReduction reduction{stage, row_loop, width, lanes, overlapped};
    reduction.schedule(schedule, [&](Stage& partial) {
      if (overlapped) partial.compute_at(stage.role, row_in_block);
      else place(stage, partial);
    });
    cycles += reduction.cycles(static_cast<double>(stage.elements()));
  }
  const double speedup =
      s.threads > 1 ? std::max<double>(1, static_cast<double>(std::min<std::int64_t>(pieces, s.threads))) : 1;
  const double bytes = static_cast<double>(s.workload->bytes().value());
  const double transfer = bytes <= static_cast<double>(s.machine.l2_bytes) / 2 ? bytes / 14 : bytes / 5;
  candidate.estimate = (std::max(cycles, transfer) + 0.25 * std::min(cycles, transfer)) / speedup / 3e9;
  auto& f = candidate.features;
  f["estimate"] = log_feature(candidate.estimate);
  f["cycles"] = log_feature(cycles);
  f["accumulators"] = static_cast<double>(lane_rows ? block / lanes : width / lanes);
  f["lane_rows"] = lane_rows ? 1 : 0;
  f["tasks"] = log_feature(static_cast<double>(pieces));
  for (std::size_t k = 0; k < values.size(); ++k) f["rows." + sketch_.knobs[k].name] = static_cast<double>(values[k]);
  return candidate;
}

}  // namespace

std::unique_ptr<SketchRule> rows_sketch(const Subject& subject) {
  auto rule = std::make_unique<Rows>(subject);
  if (!rule->fits()) return nullptr;
  return rule;
}

}  // namespace heddle::autoscheduler
