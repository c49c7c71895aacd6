#include "autoscheduler/tiled_emission.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <set>

#include <fmt/format.h>

#include "autoscheduler/estimate.hpp"
#include "autoscheduler/lane_reduction.hpp"

namespace heddle::autoscheduler {
namespace {

using Tail = Stage::Tail;

/// Unrolled operations of a tile's step beyond which instructions no longer fit their cache, and compiling takes long.
constexpr double most_unrolled = 256;
/// How often a producer's values may be computed again.
constexpr double most_recompute = 8;
/// How often a producer may be written out in its readers, over its elements.
constexpr double most_reads = 40;
/// Tiles computed twice or for nothing, over all.
constexpr double most_waste = 1.6;

/// One point of the sketch.
class Emission {
 public:
  Emission(const TiledStructure& rule, const KnobValues& values) : rule_(rule), s_(rule.subject()), values_(values) {}

  Candidate run() {
    nest_ = tiled_nest(rule_, values_);
    regions_.emplace(rule_.dependences(), *nest_);
    for (auto c = rule_.choices().rbegin(); c != rule_.choices().rend(); ++c) place(*c);
    check_registers();
    check_order();
    nest_->schedule(schedule());
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
  std::int64_t value(const std::string& name, std::int64_t otherwise) const { return values_.get(name, otherwise); }
  bool packing() const { return value("pack", 0) == 1; }

  /// A level of the nest, its end for what is computed before everything, -1 for expressions.
  int level_of(std::int64_t place) const {
    const int last = static_cast<int>(nest_->levels()) - 1;
    switch (place) {
      case in_expression: return -1;
      case at_tile: return 0;
      case at_row:
      case sliding: return std::min(1, last);
      case at_block: return last;
      default: return last + 1;
    }
  }

  void place(const StageChoice& c) {
    PlacedStage placed{.node = c.node};
    int consumer = -1;
    for (const StageNode* reader : rule_.dependences().consumers(c.node->role)) {
      const auto known = levels_.find(reader->role);
      if (known != levels_.end()) consumer = std::max(consumer, known->second);
    }
    if (c.role == TileRole::expression) {
      placed.level = -1;
      levels_[c.node->role] = consumer;
      placed.computed = static_cast<double>(c.node->elements()) * nest_->waste();
      placed.lanes = nest_->vector_lanes();
      stages_.push_back(placed);
      return;
    }
    if (c.role == TileRole::accumulator) {
      accumulate(c, placed);
      return;
    }
    const std::int64_t wanted = value("place_" + c.node->role, before_all);
    int level = level_of(wanted);
    if (level < 0 && rule_.dependences().consumers(c.node->role).empty()) level = 0;
    if (level >= 0 && level < consumer)
      throw Pruned{fmt::format("{} is read outside of where it would be computed", c.node->role)};
    if ((wanted == at_row || wanted == sliding) && nest_->levels() < 3)
      throw Pruned{"the row's loop is the tile's or the block's: the same as another choice"};
    if (wanted == at_block && nest_->levels() < 2)
      throw Pruned{"the block's loop is the tile's: the same as another choice"};
    placed.level = level;
    levels_[c.node->role] = level < 0 ? consumer : level;
    placed.computed = computed(*c.node, wanted == sliding ? level_of(at_block) : level);
    if (placed.computed > most_recompute * static_cast<double>(c.node->elements()) && level >= 0)
      throw Pruned{fmt::format("{} would be computed {:.0f} times over", c.node->role,
                               placed.computed / static_cast<double>(c.node->elements()))};
    if (level < 0 && placed.computed > most_reads * static_cast<double>(c.node->elements()))
      throw Pruned{fmt::format("{} would be written out too often", c.node->role)};
    placed.lanes = level < 0 ? nest_->vector_lanes() : vector_lanes(*c.node, level);
    const std::int64_t vectors = value("partial_" + c.node->role, 0);
    if (const auto row = vectors > 0 ? rule_.row_reduction(*c.node) : std::nullopt) {
      const int lanes = s_.machine.lanes(c.node->element_bytes);
      if (vectors * lanes > c.node->reductions[*row].extent)
        throw Pruned{fmt::format("{} vectors of partial results are more than {}'s rows fill", vectors, c.node->role)};
      placed.lanes = lanes;
      placed.partial_vectors = static_cast<double>(vectors);
    }
    if (level >= 0 && placed.lanes > 1 && placed.partial_vectors == 0)
      for (const Access& access : c.node->accesses)
        if (gathers(*c.node, access, 0)) (access.in_update ? placed.step_gathers : placed.gathers) += 1;
    stages_.push_back(placed);
  }

  /// Lanes along a loop read elements that do not lie side by side.
  bool gathers(const StageNode& node, const Access& access, std::size_t loop) const {
    if (loop >= node.loops.size()) return false;
    if (access.operand && ((packing() && rule_.packs(access.source)) || value("panel_" + access.source, 0) == 1))
      return false;
    for (std::size_t i = 0; i < access.index.size(); ++i) {
      if (!follows(access.index[i], loop)) continue;
      const std::int64_t stride =
          access.operand ? rule_.dependences().operands.at(access.source).strides[i] : (i == 0 ? 1 : 0);
      if (!access.index[i].affine || access.index[i].coefficients[loop] * stride != 1) return true;
    }
    return false;
  }

  /// Elements computed of a stage at a level; in expressions, once a read.
  double computed(const StageNode& node, int level) const {
    if (level < 0) {
      double reads = 0;
      for (const StageNode* reader : rule_.dependences().consumers(node.role))
        for (const Access& access : reader->accesses)
          if (access.source == node.role)
            reads += evaluations(*reader) * (access.in_update ? static_cast<double>(reader->reduction_steps()) : 1.0);
      return reads;
    }
    if (level >= static_cast<int>(nest_->levels())) return static_cast<double>(node.elements());
    return static_cast<double>(nest_->iterations(static_cast<std::size_t>(level))) * region_elements(node, level);
  }

  /// How often a stage's elements are computed, by whoever has its expression.
  double evaluations(const StageNode& reader) const {
    const auto known = std::ranges::find_if(stages_, [&](const PlacedStage& s) { return s.node == &reader; });
    return known != stages_.end() && known->level < 0 ? std::max(known->computed, 1.0)
                                                      : static_cast<double>(reader.elements());
  }

  /// What one iteration of a level's loop needs of a stage.
  Box region(const StageNode& node, int level) const {
    const auto& regions = regions_->at(static_cast<std::size_t>(level));
    const auto found = regions.find(node.role);
    return found == regions.end() ? Box{} : found->second;
  }

  double region_elements(const StageNode& node, int level) const {
    const Box box = region(node, level);
    if (box.size() != node.loops.size()) return 0;
    double elements = 1;
    for (const auto& interval : box) elements *= static_cast<double>(interval.extent);
    return elements;
  }

  int vector_lanes(const StageNode& node, int level) const {
    const Box box = region(node, level);
    const int lanes = s_.machine.lanes(node.element_bytes);
    return !box.empty() && box[0].extent >= lanes ? lanes : 1;
  }

  /// Vectors of `out` in a tile.
  double tile_vectors() const {
    double vectors = static_cast<double>(nest_->vectors());
    for (std::size_t p = 1; p < s_.rank(); ++p) vectors *= static_cast<double>(nest_->shape().tile[p]);
    return vectors;
  }

  void accumulate(const StageChoice& c, PlacedStage& placed) {
    const StageNode& node = *c.node;
    levels_[node.role] = 0;
    placed.level = 0;
    placed.lanes = nest_->vector_lanes();
    placed.computed = static_cast<double>(node.elements()) * nest_->waste();
    placed.accumulators = tile_vectors();
    for (const Access& access : node.accesses) {
      if (!access.in_update) continue;
      double loads = 1;
      bool along = false;
      for (std::size_t l = 0; l < node.loops.size(); ++l) {
        if (!c.place_of_loop[l]) continue;
        const bool moves = std::ranges::any_of(access.index, [&](const AffineIndex& i) { return follows(i, l); });
        if (!moves) continue;
        if (*c.place_of_loop[l] == 0) {
          along = true;
          loads *= static_cast<double>(nest_->vectors());
        } else {
          loads *= static_cast<double>(nest_->shape().tile[*c.place_of_loop[l]]);
        }
      }
      (along ? placed.vector_loads : placed.scalar_loads) += loads;
      if (along && gathers(node, access, *rule_.loop_of_place(node, 0))) placed.step_gathers += loads;
    }
    const std::int64_t unroll = unrolled_steps(node);
    placed.steps_unrolled = unroll == 0 ? static_cast<double>(node.reduction_steps()) : static_cast<double>(unroll);
    if (placed.accumulators * placed.steps_unrolled > most_unrolled)
      throw Pruned{"code size: too many operations unrolled"};
    const std::int64_t depth = value("depth_" + node.role, 0);
    if (depth > 0) {
      if (depth >= node.reductions[0].extent || node.reductions[0].extent % depth != 0)
        throw Pruned{"the depth's block does not divide the reduction"};
      const auto& shape = nest_->shape();
      if (nest_->levels() < 2) throw Pruned{"a depth's block needs a block of tiles around it"};
      for (std::size_t p = 0; p < s_.rank(); ++p) {
        const std::int64_t edge = shape.tile[p] * std::max<std::int64_t>(1, shape.block[p]);
        if (s_.extent(p) % edge != 0) throw Pruned{"a depth's block needs blocks that divide the output"};
      }
      // The accumulators wait in memory between blocks.
      placed.depth_blocks = static_cast<double>(node.reductions[0].extent) / static_cast<double>(depth);
      levels_[node.role] = static_cast<int>(block_level());
    }
    stages_.push_back(placed);
  }

  /// The innermost loop over blocks, or the outermost loop of all.
  std::size_t block_level() const {
    for (std::size_t l = 0; l < nest_->levels(); ++l)
      if (nest_->loops()[l].name.ends_with("_b") || nest_->loops()[l].name == "task") return l;
    return nest_->levels() - 1;
  }

  void check_registers() const {
    for (const PlacedStage& s : stages_) {
      if (s.accumulators == 0) continue;
      const double needed = s.accumulators + std::min(s.vector_loads, static_cast<double>(nest_->vectors())) + 1;
      if (needed > s_.machine.vector_registers)
        throw Pruned{fmt::format("registers: {:.0f} of {}", needed, s_.machine.vector_registers)};
    }
    if (!rule_.accumulates() && tile_vectors() > 32) throw Pruned{"code size: too many vectors a tile"};
  }

  /// What is computed before the output's loops can read nothing that is computed in them.
  void check_order() const {
    for (const PlacedStage& s : stages_)
      if (std::set<std::string> seen; s.level >= static_cast<int>(nest_->levels()))
        check_sources(*s.node, s.node->role, seen);
  }

  void check_sources(const StageNode& stage, const std::string& reader, std::set<std::string>& seen) const {
    if (!seen.insert(stage.role).second) return;
    for (const Access& access : stage.accesses) {
      if (access.operand) {
        if (rule_.dependences().operands.at(access.source).within_loops)
          throw Pruned{fmt::format("{} reads {} outside of where it would be computed", reader, access.source)};
      } else if (placed(access.source).level < 0) {
        check_sources(rule_.dependences().stage(access.source), reader, seen);
      }
    }
  }

  void schedule_accumulator(const StageChoice& c) {
    const StageNode& node = *c.node;
    Schedule& s = schedule();
    const std::string out = rule_.dependences().out().role;
    const auto& shape = nest_->shape();
    const std::string vector = node.loops[*rule_.loop_of_place(node, 0)];
    const bool whole = !shape.guard_vector || s_.extent(0) % shape.tile[0] == 0 || rule_.whole_blocks_are_readable();
    const int lanes = nest_->vector_lanes();
    std::vector<std::string> tile = {vector};
    for (std::size_t l = 0; l < node.loops.size(); ++l)
      if (node.loops[l] != vector) tile.push_back(node.loops[l]);
    const std::int64_t depth = value("depth_" + node.role, 0);
    Stage pure = s[node.role];
    const std::size_t level = depth > 0 ? block_level() : 0;
    pure.compute_at(out, nest_->loops()[level].name);
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

  /// The reduction's loop that is innermost.
  const ReductionLoop& inner_reduction(const StageNode& node) const {
    return node.reductions.at(static_cast<std::size_t>(value("inner_" + node.role, 0)));
  }

  /// Steps of the innermost reduction a time; 0: all steps of all reductions. As many as divide it: what is left over
  /// would cost more than the unrolling gains.
  std::int64_t unrolled_steps(const StageNode& node) const {
    std::int64_t unroll = value("unroll_" + node.role, 1);
    if (unroll == 0) return 0;
    const std::int64_t depth = value("depth_" + node.role, 0);
    const std::int64_t extent = depth > 0 ? depth : inner_reduction(node).extent;
    while (extent % unroll != 0) --unroll;
    return unroll;
  }

  void unroll_reductions(Stage& update, const StageNode& node, const std::vector<std::string>& names) const {
    const std::int64_t unroll = unrolled_steps(node);
    if (unroll == 0)
      for (const std::string& name : names) update.unroll(name);
    else if (unroll == inner_reduction(node).extent) update.unroll(names[0]);
    else if (unroll > 1) update.unroll(names[0], unroll);
  }

  /// A copy of the columns that the tiles of one panel read, side by side in memory.
  void copy_panel(const StageChoice& c, const std::string& role) {
    const auto level = nest_->level_of(0, nest_->shape().block[0] > 0);
    if (!level || *level == 0) throw Pruned{"a panel's copy needs a loop inside that uses it again"};
    const StageNode& node = *c.node;
    const Access* access = nullptr;
    for (const Access& a : node.accesses)
      if (a.source == role && a.in_update) access = &a;
    const std::size_t along = *TiledStructure::dimension_along(*access, *rule_.loop_of_place(node, 0));
    const auto& names = rule_.dependences().operands.at(role).dimensions;
    Stage copy = schedule()[role].in(role + "_panel", node.role);
    copy.compute_at(rule_.dependences().out().role, nest_->loops()[*level].name);
    if (nest_->vector_lanes() > 1) copy.vectorize(names[along], nest_->vector_lanes(), Tail::GuardWithIf);
    std::vector<std::string> storage = {names[along]};
    for (std::size_t i = 0; i < names.size(); ++i)
      if (i != along) storage.push_back(names[i]);
    if (storage.size() == 2) copy.reorder_storage(storage[0], storage[1]);
    else if (storage.size() == 3) copy.reorder_storage(storage[0], storage[1], storage[2]);
    else if (along != 0) throw Pruned{"an operand of this rank cannot be copied into a panel"};
    panels_.push_back(role);
  }

  void schedule_producer(const StageChoice& c) {
    const StageNode& node = *c.node;
    const PlacedStage& where = placed(node.role);
    const int level = where.level;
    if (level < 0) return;
    Stage stage = schedule()[node.role];
    const bool outside = level >= static_cast<int>(nest_->levels());
    const auto place = [&](Stage& placed) {
      if (!outside) placed.compute_at(out(), loop(level));
      else if (s_.home) s_.home->place(placed);
      else placed.compute_root();
    };
    place(stage);
    if (value("place_" + node.role, before_all) == sliding) stage.store_at(out(), loop(level_of(at_block)));
    if (node.loops.empty() && node.updates == 0) return;
    std::size_t widest = node.loops.size();
    for (std::size_t l = 1; l < node.loops.size(); ++l)
      if (node.box[l].extent > 1) widest = l;
    const auto share = [&](Stage& definition) {
      if (outside && s_.threads > 1 && widest < node.loops.size()) definition.parallel(node.loops[widest]);
    };
    if (const std::int64_t vectors = value("partial_" + node.role, 0); vectors > 0) {
      if (const auto row = rule_.row_reduction(node)) {
        const int lanes = s_.machine.lanes(node.element_bytes);
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
    const int lanes = where.lanes;
    if (lanes > 1) stage.vectorize(node.loops[0], lanes, Tail::GuardWithIf);
    share(stage);
    if (node.updates == 0 || !node.accumulates || node.loops.empty()) return;
    Stage update = schedule()[node.role].update(0);
    std::vector<std::string> order = {node.loops[0]};
    for (const auto& r : node.reductions) order.push_back(r.name);
    update.reorder(order);
    if (lanes > 1) update.vectorize(node.loops[0], lanes, Tail::GuardWithIf);
    share(update);
  }

  const std::string& out() const { return rule_.dependences().out().role; }
  const std::string& loop(int level) const { return nest_->loops()[static_cast<std::size_t>(level)].name; }

  const PlacedStage& placed(const std::string& role) const {
    return *std::ranges::find_if(stages_, [&](const PlacedStage& s) { return s.node->role == role; });
  }

  void pack() {
    if (!packing()) return;
    for (const auto& [role, operand] : rule_.dependences().operands)
      if (rule_.packs(role))
        result_.implementation.packings.push_back({role, {{*rule_.packed_dimension(role), nest_->shape().tile[0]}}});
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
      o.packed = (packing() && rule_.packs(role)) || std::ranges::find(panels_, role) != panels_.end();
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
    result_.estimate = estimate_seconds(s_, *nest_, *regions_, stages_, operands, f);
    const auto& shape = nest_->shape();
    f["vectors"] = static_cast<double>(nest_->vectors());
    f["lanes"] = nest_->vector_lanes();
    for (std::size_t p = 1; p < s_.rank(); ++p) f[fmt::format("tile.{}", p)] = static_cast<double>(shape.tile[p]);
    f["innermost"] = static_cast<double>(shape.innermost);
    f["outermost"] = static_cast<double>(shape.outermost);
    f["blocked"] = static_cast<double>(std::ranges::count_if(shape.block, [](std::int64_t b) { return b > 0; }));
    f["packing"] = packing() ? 1 : 0;
    f["panels"] = static_cast<double>(panels_.size());
    for (const PlacedStage& s : stages_) {
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
  const KnobValues& values_;
  std::optional<Nest> nest_;
  std::map<std::string, int> levels_;
  std::optional<NestRegions> regions_;
  std::vector<PlacedStage> stages_;
  std::vector<std::string> panels_;
  Candidate result_;
};

}  // namespace

Nest tiled_nest(const TiledStructure& rule, const KnobValues& values) {
  const Subject& s = rule.subject();
  const bool packing = values.get("pack", 0) == 1;
  NestShape shape;
  const std::size_t rank = s.rank();
  const std::int64_t lanes = static_cast<std::int64_t>(
      std::bit_floor(static_cast<std::uint64_t>(std::clamp<std::int64_t>(s.extent(0), 1, s.lanes))));
  shape.tile.assign(rank, 1);
  shape.block.assign(rank, 0);
  // A tile may reach beyond the end only where all that follows the vector was padded when it was packed.
  const bool padded = packing && rule.whole_blocks_are_readable();
  shape.tile[0] = values.get("vectors", 1) * (padded && s.extent(0) < s.lanes ? s.lanes : lanes);
  if (shape.tile[0] >= s.extent(0) + s.lanes) throw Pruned{"the last vector of the tile is beyond the end"};
  shape.guard_vector = packing;
  if (packing && s.extent(0) % shape.tile[0] != 0 && !padded)
    throw Pruned{"blocks reach beyond the end, and not every operand is padded there"};
  for (std::size_t p = 0; p < rank; ++p) {
    if (p > 0) shape.tile[p] = values.get("tile_" + s.loop(p), 1);
    shape.block[p] = values.get("block_" + s.loop(p), 0);
  }
  shape.innermost = static_cast<std::size_t>(values.get("innermost", 0));
  shape.outermost = static_cast<std::size_t>(values.get("outermost", 0));
  shape.parallel = s.threads > 1 ? values.get("parallel", 1) : 0;
  // An accumulator has the size of a whole tile, and the last one of what varies is none.
  if (!s.exact && rule.accumulates()) throw Pruned{"what is asked for of a reduction varies"};
  std::string why;
  auto nest = Nest::make(s, shape, why);
  if (!nest) throw Pruned{why};
  if (nest->waste() > most_waste) throw Pruned{"tiles compute too much beyond the ends"};
  if (s.threads > 1 && nest->tasks() < s.threads && nest->iterations(0) >= s.threads)
    throw Pruned{fmt::format("{} tasks for {} threads", nest->tasks(), s.threads)};
  return *nest;
}

std::variant<Candidate, Pruned> emit_tiled(const TiledStructure& structure, const KnobValues& values) {
  try {
    return Emission(structure, values).run();
  } catch (const Pruned& pruned) {
    return pruned;
  }
}

}  // namespace heddle::autoscheduler
