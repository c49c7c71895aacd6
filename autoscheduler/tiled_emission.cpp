#include "autoscheduler/tiled_emission.hpp"

#include <algorithm>
#include <cstdlib>

#include <fmt/format.h>

#include "autoscheduler/lane_reduction.hpp"

namespace heddle::autoscheduler {
namespace {

using Tail = Stage::Tail;

/// One point of the sketch.
class Emission {
 public:
  Emission(const TiledStructure& rule, const KnobValues& values) : rule_(rule), s_(rule.subject()), at_(rule, values) {}

  Candidate run() {
    if (s_.home) {
      // Whose tiles then begin with the first phase.
      Stage out = schedule()[this->out()];
      const std::vector<Phases> all = at_.phases(rule_.dependences().out());
      for (std::size_t l = 0; l < all.size(); ++l)
        if (all[l].count > 1 && all[l].repeat) out.align_bounds(rule_.dependences().out().loops[l], all[l].count);
    }
    nest().schedule(schedule());
    for (auto c = rule_.choices().rbegin(); c != rule_.choices().rend(); ++c) {
      if (c->role == TileRole::accumulator) schedule_accumulator(*c);
      if (c->role == TileRole::producer) schedule_producer(*c);
    }
    pack();
    features();
    return std::move(result_);
  }

 private:
  Schedule& schedule() { return result_.implementation.schedule; }
  const Nest& nest() const { return at_.nest(); }
  std::int64_t value(const std::string& knob, std::int64_t otherwise) const { return at_.value(knob, otherwise); }

  void schedule_accumulator(const StageChoice& c) {
    const StageNode& node = *c.node;
    Schedule& s = schedule();
    const std::string out = rule_.dependences().out().role;
    const auto& shape = nest().shape();
    const std::string vector = node.loops[*rule_.loop_of_place(node, 0)];
    const bool whole = !shape.guard_vector || s_.extent(0) % shape.tile[0] == 0 || rule_.whole_blocks_are_readable();
    const int lanes = nest().vector_lanes();
    std::vector<std::string> tile = {vector};
    for (std::size_t l = 0; l < node.loops.size(); ++l)
      if (node.loops[l] != vector) tile.push_back(node.loops[l]);
    const std::int64_t depth = value("depth_" + node.role, 0);
    Stage pure = s[node.role];
    const std::size_t level = depth > 0 ? at_.block_level() : 0;
    pure.compute_at(out, nest().loops()[level].name);
    // Elsewhere each lane would be stored on its own.
    if (vector != node.loops.front()) pure.reorder_storage(tile);
    if (whole && depth == 0) pure.bound_extent(vector, shape.tile[0]);
    const auto vectorize = [&](Stage& stage, const std::string& v) {
      if (lanes > 1) stage.vectorize(v, lanes);
      if (shape.tile[0] > lanes) stage.unroll(v);
    };
    const auto unroll_tile = [&](Stage& stage) {
      vectorize(stage, vector);
      for (std::size_t l = 0; l < node.loops.size(); ++l)
        if (node.loops[l] != vector && shape.tile[*c.place_of_loop[l]] > 1) stage.unroll(node.loops[l]);
    };
    if (depth > 0) {
      if (lanes > 1) pure.vectorize(vector, lanes);
    } else {
      unroll_tile(pure);
    }
    std::vector<std::string> reductions;
    const auto first = static_cast<std::size_t>(value("inner_" + node.role, 0));
    for (std::size_t r = 0; r < node.reductions.size(); ++r)
      reductions.push_back(node.reductions[(first + r) % node.reductions.size()].name);
    Stage update = s[node.role].update(0);
    if (depth == 0) {
      std::vector<std::string> order = tile;
      order.insert(order.end(), reductions.begin(), reductions.end());
      update.reorder(order);
      unroll_tile(update);
    } else {
      std::vector<std::string> inner, outer;
      for (std::size_t i = 0; i < tile.size(); ++i) {
        std::size_t place = 0;
        for (std::size_t l = 0; l < node.loops.size(); ++l)
          if (node.loops[l] == tile[i]) place = *c.place_of_loop[l];
        if (i > 0 && shape.tile[place] == 1) {
          outer.push_back(tile[i]);
          continue;
        }
        update.split(tile[i], tile[i] + "_t", tile[i] + "_i", shape.tile[place], Tail::Auto);
        inner.push_back(tile[i] + "_i");
        outer.push_back(tile[i] + "_t");
      }
      update.split(reductions[0], reductions[0] + "_b", reductions[0] + "_d", depth, Tail::Auto);
      std::vector<std::string> order = inner;
      order.push_back(reductions[0] + "_d");
      order.insert(order.end(), outer.begin(), outer.end());
      order.push_back(reductions[0] + "_b");
      update.reorder(order);
      vectorize(update, inner[0]);
      for (std::size_t i = 1; i < inner.size(); ++i) update.unroll(inner[i]);
      reductions[0] += "_d";
    }
    unroll_reductions(update, node, reductions);
    for (const std::string& role : rule_.panels(c))
      if (value("panel_" + role, 0) == 1) copy_panel(c, role);
  }

  void unroll_reductions(Stage& update, const StageNode& node, const std::vector<std::string>& names) const {
    const std::int64_t unroll = at_.unrolled_steps(node);
    if (unroll == 0)
      for (const std::string& name : names) update.unroll(name);
    else if (unroll == at_.inner_reduction(node).extent) update.unroll(names[0]);
    else if (unroll > 1) update.unroll(names[0], unroll);
  }

  /// A copy of the columns that the tiles of one panel read, side by side in memory.
  void copy_panel(const StageChoice& c, const std::string& role) {
    const auto level = nest().level_of(0, nest().shape().block[0] > 0);
    if (!level || *level == 0) throw Pruned{"a panel's copy needs a loop inside that uses it again"};
    const StageNode& node = *c.node;
    const Access* access = nullptr;
    for (const Access& a : node.accesses)
      if (a.source == role && a.in_update) access = &a;
    const std::size_t along = *TiledStructure::dimension_along(*access, *rule_.loop_of_place(node, 0));
    const auto& names = rule_.dependences().operands.at(role).dimensions;
    Stage copy = schedule()[role].in(role + "_panel", node.role);
    copy.compute_at(rule_.dependences().out().role, nest().loops()[*level].name);
    if (nest().vector_lanes() > 1) copy.vectorize(names[along], nest().vector_lanes(), Tail::GuardWithIf);
    std::vector<std::string> storage = {names[along]};
    for (std::size_t i = 0; i < names.size(); ++i)
      if (i != along) storage.push_back(names[i]);
    copy.reorder_storage(storage);
    const bool side_by_side = rule_.dependences().operands.at(role).strides[along] == 1;
    panels_[role] = {*level, side_by_side ? nest().vector_lanes() : 1};
  }

  void schedule_producer(const StageChoice& c) {
    const StageNode& node = *c.node;
    const PlacedStage& where = at_.placed(node.role);
    const int level = where.level;
    if (level < 0) return;
    Stage stage = schedule()[node.role];
    const bool outside = level >= static_cast<int>(nest().levels());
    const auto place = [&](Stage& placed) {
      if (!outside) placed.compute_at(out(), loop(level));
      else if (s_.home) s_.home->place(placed);
      else placed.compute_root();
    };
    place(stage);
    if (value("place_" + node.role, before_all) == sliding) stage.store_at(out(), loop(at_.level_of(at_block)));
    if (node.loops.empty() && node.updates == 0) return;
    const int lanes = where.lanes;
    std::vector<std::string> unrolled;
    const auto share = [&](Stage& definition) {
      if (!outside || s_.threads == 1) return;
      for (std::size_t l = node.loops.size(); l-- > 1;)
        if (node.box[l].extent > 1 && std::ranges::find(unrolled, node.loops[l]) == unrolled.end()) {
          definition.parallel(node.loops[l]);
          return;
        }
    };
    if (const std::int64_t vectors = value("partial_" + node.role, 0); vectors > 0) {
      if (const auto row = rule_.row_reduction(node)) {
        LaneReduction{node, node.reductions[*row], vectors * lanes, lanes}.schedule(schedule(), [&](Stage& partial) {
          if (node.loops.empty()) place(partial);
          else partial.compute_at(node.role, node.loops[0]);
        });
        share(stage);
        Stage update = schedule()[node.role].update(0);
        share(update);
        return;
      }
    }
    if (node.updates == 0) unrolled = unroll_phases(stage, node, where);
    if (lanes > 1) stage.vectorize(node.loops[0], lanes, Tail::GuardWithIf);
    share(stage);
    if (node.updates != 1 || node.loops.empty() || node.reductions.empty()) return;
    Stage update = schedule()[node.role].update(0);
    std::vector<std::string> order;
    if (node.accumulates || where.update_lanes > 1) order.push_back(node.loops[0]);
    for (const auto& r : node.reductions) order.push_back(r.name);
    update.reorder(order);
    if (where.update_lanes > 1) update.vectorize(node.loops[0], where.update_lanes, Tail::GuardWithIf);
    if (node.accumulates) share(update);
  }

  /// Which phase an iteration is of is known while compiling once each has instructions of its own. The loops that are
  /// unrolled.
  std::vector<std::string> unroll_phases(Stage& stage, const StageNode& node, const PlacedStage& where) const {
    const std::vector<Phases> all = at_.phases(node);
    const Box box = at_.region(node, where.level);
    std::vector<std::string> inside, outside;  // of the first loop
    for (std::size_t l = 0; l < all.size(); ++l) {
      const std::string& loop = node.loops[l];
      if (!all[l].repeat && box[l].extent == node.box[l].extent && box[l].extent <= all[l].count) {
        // All of them in every iteration of the loops around.
        stage.bound(loop, box[l].min, box[l].extent);
        inside.push_back(loop);
        continue;
      }
      if (l > 0) outside.push_back(loop);
      if (!all[l].repeat || all[l].count == 1) continue;
      stage.align_bounds(loop, all[l].count);
      if (l == 0 && at_.lane_distance(node, all, where.level, where.lanes) == 1) continue;
      stage.split(loop, loop, loop + "_phase", all[l].count);
      inside.push_back(loop + "_phase");
    }
    if (inside.empty()) return inside;
    std::vector<std::string> order = inside;
    if (std::ranges::find(inside, node.loops[0]) == inside.end()) order.push_back(node.loops[0]);
    order.insert(order.end(), outside.begin(), outside.end());
    stage.reorder(order);
    for (const std::string& loop : inside) stage.unroll(loop);
    return inside;
  }

  const std::string& out() const { return rule_.dependences().out().role; }
  const std::string& loop(int level) const { return nest().loops()[static_cast<std::size_t>(level)].name; }

  void pack() {
    if (!at_.packing()) return;
    for (const auto& [role, operand] : rule_.dependences().operands)
      if (rule_.packs(role))
        result_.implementation.packings.push_back({role, {{*rule_.packed_dimension(role), nest().shape().tile[0]}}});
  }

  /// The innermost reduction's steps are more than a few cache lines apart.
  bool steps_far(const StageNode& stage, const Access& access, const OperandNode& operand) const {
    constexpr std::int64_t few_lines = 256;
    const std::size_t loop = stage.loops.size() + static_cast<std::size_t>(value("inner_" + stage.role, 0));
    std::int64_t step = 0;
    for (std::size_t i = 0; i < access.index.size(); ++i)
      if (access.index[i].affine) step += access.index[i].coefficients.at(loop) * operand.strides[i];
    return std::abs(step) * operand.element_bytes > few_lines;
  }

  void features() {
    std::vector<PlacedOperand> operands;
    for (const auto& [role, operand] : rule_.dependences().operands) {
      PlacedOperand o{role, operand.element_bytes, true, false};
      const auto panel = panels_.find(role);
      if (panel != panels_.end()) o.copied = panel->second;
      o.packed = (at_.packing() && rule_.packs(role)) || panel != panels_.end();
      for (const StageNode& stage : rule_.dependences().stages) {
        const auto loop = rule_.loop_of_place(stage, 0);
        if (!loop) continue;
        for (const Access& access : stage.accesses) {
          if (access.source != role) continue;
          const bool along = std::ranges::any_of(access.index, [&](const AffineIndex& i) { return follows(i, *loop); });
          if (access.in_update && along && !o.packed) o.strided = o.strided || steps_far(stage, access, operand);
          for (std::size_t i = 0; i < access.index.size(); ++i) {
            if (!follows(access.index[i], *loop)) continue;
            const bool step = access.index[i].affine && access.index[i].coefficients[*loop] * operand.strides[i] == 1;
            o.contiguous = o.contiguous && (step || o.packed);
          }
        }
      }
      operands.push_back(o);
    }
    auto& f = result_.features;
    result_.estimate = estimate_seconds(s_, nest(), at_.regions(), at_.stages(), operands, f);
    const auto& shape = nest().shape();
    f["vectors"] = static_cast<double>(nest().vectors());
    f["lanes"] = nest().vector_lanes();
    for (std::size_t p = 1; p < s_.rank(); ++p) f[fmt::format("tile.{}", p)] = static_cast<double>(shape.tile[p]);
    f["innermost"] = static_cast<double>(shape.innermost);
    f["outermost"] = static_cast<double>(shape.outermost);
    f["blocked"] = static_cast<double>(std::ranges::count_if(shape.block, [](std::int64_t b) { return b > 0; }));
    f["packing"] = at_.packing() ? 1 : 0;
    f["panels"] = static_cast<double>(panels_.size());
    for (const PlacedStage& s : at_.stages()) {
      if (s.accumulators == 0) continue;
      f["accumulators"] = s.accumulators;
      f["loads"] = s.vector_loads + s.scalar_loads;
      f["intensity"] = s.accumulators / (s.vector_loads + s.scalar_loads);
      f["unrolled"] = log_feature(s.steps_unrolled);
      f["depth"] = log_feature(static_cast<double>(std::max<std::int64_t>(1, value("depth_" + s.node->role, 0))));
      f["inner"] = static_cast<double>(value("inner_" + s.node->role, 0));
    }
  }

  const TiledStructure& rule_;
  const Subject& s_;
  TiledPlacement at_;
  std::map<std::string, PlacedOperand::Copy> panels_;  ///< by operand
  Candidate result_;
};

}  // namespace

std::variant<Candidate, Pruned> emit_tiled(const TiledStructure& structure, const KnobValues& values) {
  try {
    return Emission(structure, values).run();
  } catch (const Pruned& pruned) {
    return pruned;
  }
}

}  // namespace heddle::autoscheduler
