// A block of threads computes a tile of the output, each thread its own part.
//
// Reductions whose result an element of the output reads once accumulate in registers. What they read comes straight
// from memory, or is brought to shared memory a step of the reduction at a time; constants can be packed along the
// threads. Other producers are written into their reader, computed by each thread or by the block, or launched before.
#include <algorithm>

#include "autoscheduler/device_blocks.hpp"
#include "autoscheduler/device_sketches.hpp"
#include "schedules/gpu_grid.hpp"

namespace heddle::autoscheduler {
namespace {

std::vector<std::int64_t> up_to(std::vector<std::int64_t> domain, std::int64_t most) {
  std::erase_if(domain, [&](std::int64_t v) { return v > most; });
  return domain;
}

/// Powers of two and what divides the extent: rows of 7 or 14 pixels are common.
std::vector<std::int64_t> thread_counts(std::int64_t extent) {
  std::set<std::int64_t> counts;
  for (const std::int64_t t : {1, 2, 4, 8, 16, 32, 64, 128, 256})
    if (t <= extent) counts.insert(t);
  for (std::int64_t t = 3; t <= std::min<std::int64_t>(extent, 32); ++t)
    if (extent % t == 0) counts.insert(t);
  return {counts.begin(), counts.end()};
}

/// Steps that divide a reduction; none other, since a guarded step has no fixed size.
std::vector<std::int64_t> step_lengths(std::int64_t extent) {
  std::vector<std::int64_t> lengths;
  for (std::int64_t t = 1; t <= std::min<std::int64_t>(extent, 64); ++t)
    if (extent % t == 0) lengths.push_back(t);
  return lengths;
}

class Blocks final : public SketchRule {
 public:
  explicit Blocks(const Subject& subject) : structure_(subject) {
    sketch_.name = "blocks";
    sketch_.summary = "a block's tile of the output, register tiles, operands staged in shared memory";
    sketch_.knobs = structure_.knobs();
  }

  bool fits() const { return !structure_.places().empty(); }
  const Sketch& sketch() const override { return sketch_; }
  std::variant<Candidate, Pruned> emit(const std::vector<std::int64_t>& values) const override {
    return emit_blocks(structure_, KnobValues(sketch_.knobs, values));
  }

  std::vector<std::vector<std::int64_t>> defaults() const override {
    struct Start {
      std::int64_t threads, tile, shared, place;
    };
    std::vector<std::vector<std::int64_t>> starts;
    for (const Start& start : {Start{16, 4, 1, in_expression}, Start{8, 2, 1, at_step}, Start{8, 4, 0, at_block},
                               Start{16, 1, 0, before_all}}) {
      std::vector<std::int64_t> values;
      for (const SpaceKnob& knob : sketch_.knobs) {
        // The nearest there is: a start that is pruned leads nowhere.
        const auto near = [&](std::int64_t wanted) {
          return *std::ranges::min_element(knob.domain, {}, [&](std::int64_t v) { return std::abs(v - wanted); });
        };
        std::int64_t v = knob.domain.front();
        if (knob.name.starts_with("threads_")) v = near(start.threads);
        if (knob.name.starts_with("tile_")) v = near(start.tile);
        if (knob.name.starts_with("share_")) v = near(start.shared);
        if (knob.name.starts_with("step_")) v = near(8);
        if (knob.name.starts_with("place_"))
          v = std::ranges::find(knob.domain, start.place) != knob.domain.end() ? start.place : knob.domain.back();
        values.push_back(v);
      }
      starts.push_back(shrunk(std::move(values)));
    }
    return best_by_estimate(sketch_.knobs, [this](const auto& values) { return emit(values); }, starts, 12);
  }

 private:
  /// With fewer threads, the last loops first, until a block of them may be had.
  std::vector<std::int64_t> shrunk(std::vector<std::int64_t> values) const {
    for (int tries = 0; tries < 16 && std::holds_alternative<Pruned>(emit(values)); ++tries)
      for (std::size_t k = sketch_.knobs.size(); k-- > 0;) {
        const auto& knob = sketch_.knobs[k];
        const bool threads = knob.name.starts_with("threads_"), tile = knob.name.starts_with("tile_");
        const auto at = std::ranges::find(knob.domain, values[k]);
        if ((!threads && !tile) || at == knob.domain.begin()) continue;
        values[k] = *(at - 1);
        break;
      }
    return values;
  }

  BlockStructure structure_;
  Sketch sketch_;
};

}  // namespace

BlockStructure::BlockStructure(const Subject& subject) : subject_(subject), tiles_(subject) {
  constexpr std::size_t most_places = 3;  // a block has three dimensions
  for (std::size_t p = 0; p < subject.rank() && places_.size() < most_places; ++p)
    if (subject.extent(p) > 1 || (p == 0 && subject.rank() > 0)) places_.push_back(p);
  exact_ = exact_stages(d());
  for (const StageChoice& c : tiles_.choices())
    if (c.role == TileRole::accumulator) sources_[c.node->role] = find_sources(c);
  for (const auto& [role, operand] : d().operands) {
    std::vector<std::string> others;
    for (const auto& [other, node] : d().operands)
      if (other != role) others.push_back(other);
    if (!reads_dense_along(subject, others)) apart_.insert(role);
    if (tiles_.packs(role)) packable_.push_back(role);
  }
  reductions_ = update_reductions(*subject.workload);
}

std::size_t BlockStructure::step_reduction(const StageNode& accumulator) {
  std::size_t longest = 0;
  for (std::size_t r = 1; r < accumulator.reductions.size(); ++r)
    if (accumulator.reductions[r].extent > accumulator.reductions[longest].extent) longest = r;
  return longest;
}

const std::vector<SharedSource>& BlockStructure::sources(const StageChoice& c) const {
  static const std::vector<SharedSource> none;
  const auto found = sources_.find(c.node->role);
  return found == sources_.end() ? none : found->second;
}

std::vector<SharedSource> BlockStructure::find_sources(const StageChoice& c) const {
  std::vector<SharedSource> found;
  for (const Access& access : c.node->accesses) {
    if (!access.in_update || access.source == c.node->role) continue;
    std::size_t readers = 0;
    for (const StageNode& stage : d().stages)
      readers += static_cast<std::size_t>(
          std::ranges::count_if(stage.accesses, [&](const Access& a) { return a.source == access.source; }));
    const bool plain = std::ranges::all_of(access.index, [](const AffineIndex& i) { return i.affine && !i.clamped; });
    if (readers != 1 || !plain || access.index.empty()) continue;
    SharedSource source{.role = access.source, .operand = access.operand, .access = &access, .dimensions = {}};
    if (access.operand) {
      const OperandNode& operand = d().operands.at(access.source);
      source.dimensions = operand.dimensions;
      source.element_bytes = operand.element_bytes;
    } else {
      const StageNode& stage = d().stage(access.source);
      if (stage.updates > 0) continue;
      source.dimensions = stage.loops;
      source.element_bytes = stage.element_bytes;
    }
    if (source.dimensions.size() != access.index.size()) continue;
    for (std::size_t l = 0; l < c.node->loops.size(); ++l)
      if (c.place_of_loop[l] == std::optional<std::size_t>(0))
        source.along = TiledStructure::dimension_along(access, l);
    found.push_back(std::move(source));
  }
  return found;
}

std::vector<SpaceKnob> BlockStructure::knobs() const {
  std::vector<SpaceKnob> knobs;
  const Subject& s = subject_;
  for (const std::size_t p : places_) {
    knobs.push_back({"threads_" + s.loop(p), thread_counts(s.extent(p))});
    knobs.push_back({"tile_" + s.loop(p), up_to({1, 2, 3, 4, 7, 8}, s.extent(p))});
  }
  const std::int64_t widest = schedules::vector_lanes(s.workload->output_types()[0].dtype);
  knobs.push_back({"lanes", up_to({1, 2, 4}, std::min(widest, places_.empty() ? 1 : s.extent(0)))});
  knobs.push_back({"interleave", {0, 1}, false});
  for (const StageChoice& c : tiles_.choices()) {
    if (c.role == TileRole::accumulator) {
      const StageNode& node = *c.node;
      bool shares = false;
      for (const SharedSource& source : sources(c)) {
        shares = true;
        if (source.operand) knobs.push_back({"share_" + source.role, {0, 1}, false});
      }
      if (shares) {
        knobs.push_back({"step_" + node.role, step_lengths(node.reductions[step_reduction(node)].extent)});
        if (node.reductions.size() > 1) knobs.push_back({"taps_" + node.role, {0, 1}, false});
        knobs.push_back({"copy_" + node.role, {1, 4}});
      }
      knobs.push_back({"unroll_" + node.role, {1, 2, 4, 8}});
    }
    if (c.role != TileRole::producer) continue;
    std::vector<std::int64_t> places = {at_tile, at_block, before_all};
    if (c.node->updates == 0) {
      places.insert(places.begin(), in_expression);
      for (const StageChoice& reader : tiles_.choices())
        for (const SharedSource& source : sources(reader))
          if (source.role == c.node->role) places.push_back(at_step);
    }
    knobs.push_back({"place_" + c.node->role, places, false});
  }
  if (!packable_.empty()) knobs.push_back({"pack", {0, 1}, false});
  return knobs;
}

std::unique_ptr<SketchRule> device_blocks_sketch(const Subject& subject) {
  if (subject.rank() == 0) return nullptr;  // a scalar has no tile
  auto rule = std::make_unique<Blocks>(subject);
  if (!rule->fits()) return nullptr;
  return rule;
}

}  // namespace heddle::autoscheduler
