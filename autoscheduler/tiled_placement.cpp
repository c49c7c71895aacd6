#include "autoscheduler/tiled_placement.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include <fmt/format.h>

namespace heddle::autoscheduler {
namespace {

/// Unrolled operations of a tile's step beyond which instructions no longer fit their cache, and compiling takes long.
constexpr double most_unrolled = 256;
/// How often a producer's values may be computed again.
constexpr double most_recompute = 8;
/// How often a producer may be written out in its readers, over its elements.
constexpr double most_reads = 40;
/// Tiles computed twice or for nothing, over all.
constexpr double most_waste = 1.6;

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

TiledPlacement::TiledPlacement(const TiledStructure& structure, const KnobValues& values)
    : rule_(structure),
      s_(structure.subject()),
      values_(values),
      nest_(tiled_nest(structure, values)),
      regions_(structure.dependences(), nest_) {
  for (auto c = rule_.choices().rbegin(); c != rule_.choices().rend(); ++c) place(*c);
  check_registers();
  check_order();
}

int TiledPlacement::level_of(std::int64_t place) const {
  const int last = static_cast<int>(nest_.levels()) - 1;
  switch (place) {
    case in_expression: return -1;
    case at_tile: return 0;
    case at_row:
    case sliding: return std::min(1, last);
    case at_block: return last;
    default: return last + 1;
  }
}

void TiledPlacement::place(const StageChoice& c) {
  PlacedStage placed{.node = c.node};
  int consumer = -1;
  for (const StageNode* reader : rule_.dependences().consumers(c.node->role)) {
    const auto known = levels_.find(reader->role);
    if (known != levels_.end()) consumer = std::max(consumer, known->second);
  }
  if (c.role == TileRole::expression) {
    placed.level = -1;
    levels_[c.node->role] = consumer;
    placed.computed = static_cast<double>(c.node->elements()) * nest_.waste();
    placed.lanes = nest_.vector_lanes();
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
  if ((wanted == at_row || wanted == sliding) && nest_.levels() < 3)
    throw Pruned{"the row's loop is the tile's or the block's: the same as another choice"};
  if (wanted == at_block && nest_.levels() < 2)
    throw Pruned{"the block's loop is the tile's: the same as another choice"};
  if (wanted == sliding && !can_slide(*c.node))
    throw Pruned{fmt::format("before {} slides, more of it would be computed than there is to read", c.node->role)};
  placed.level = level;
  levels_[c.node->role] = level < 0 ? consumer : level;
  placed.computed = computed(*c.node, wanted == sliding ? level_of(at_block) : level);
  if (placed.computed > most_recompute * static_cast<double>(c.node->elements()) && level >= 0)
    throw Pruned{fmt::format("{} would be computed {:.0f} times over", c.node->role,
                             placed.computed / static_cast<double>(c.node->elements()))};
  if (level < 0 && placed.computed > most_reads * static_cast<double>(c.node->elements()))
    throw Pruned{fmt::format("{} would be written out too often", c.node->role)};
  placed.lanes = level < 0 ? nest_.vector_lanes() : vector_lanes(*c.node, level);
  const std::int64_t vectors = value("partial_" + c.node->role, 0);
  if (const auto row = vectors > 0 ? rule_.row_reduction(*c.node) : std::nullopt) {
    const int lanes = s_.machine.lanes(c.node->element_bytes);
    if (vectors * lanes > c.node->reductions[*row].extent)
      throw Pruned{fmt::format("{} vectors of partial results are more than {}'s rows fill", vectors, c.node->role)};
    placed.lanes = lanes;
    placed.partial_vectors = static_cast<double>(vectors);
  }
  if (c.node->accumulates || (c.node->scatters && value("scatter_" + c.node->role, 0) == 1))
    placed.update_lanes = placed.lanes;
  // Each lane's element is loaded and stored on its own.
  if (!c.node->accumulates && placed.update_lanes > 1) placed.step_gathering = 2.5 * placed.update_lanes;
  if (level >= 0 && placed.lanes > 1 && placed.partial_vectors == 0) {
    const std::int64_t apart = lane_distance(*c.node, phases(*c.node), level, placed.lanes);
    for (const Access& access : c.node->accesses)
      (access.in_update ? placed.step_gathering : placed.gathering) +=
          access.share * gathering(*c.node, access, 0, placed.lanes, apart);
  }
  stages_.push_back(placed);
}

/// Halide begins a window's loop earlier, until the first window is full. Where readers take several steps at once, or
/// none, that can be further than the window is wide.
bool TiledPlacement::can_slide(const StageNode& node) const {
  if (std::ranges::all_of(node.extensible, [](std::int64_t e) { return e > 0; })) return true;
  for (const StageNode* reader : rule_.dependences().consumers(node.role))
    for (const Access& access : reader->accesses)
      if (access.source == node.role && std::ranges::any_of(access.index, [](const AffineIndex& i) {
            return !i.affine || std::ranges::any_of(i.coefficients, [](std::int64_t c) { return std::abs(c) > 1; });
          }))
        return false;
  return true;
}

/// Instructions for a vector whose lanes, `apart` iterations of a loop from each other, read elements that do not lie
/// side by side.
double TiledPlacement::gathering(const StageNode& node, const Access& access, std::size_t loop, int lanes,
                                 std::int64_t apart) const {
  constexpr double shuffled = 4;  // strides up to here: whole vectors are loaded and what is wanted taken from each
  if (loop >= node.loops.size()) return 0;
  if (access.operand && ((packing() && rule_.packs(access.source)) || value("panel_" + access.source, 0) == 1))
    return 0;
  double instructions = 0;
  for (std::size_t i = 0; i < access.index.size(); ++i) {
    const AffineIndex& index = access.index[i];
    if (!follows(index, loop)) continue;
    const std::int64_t stride =
        access.operand ? rule_.dependences().operands.at(access.source).strides[i] : (i == 0 ? 1 : 0);
    double step = 0;  // elements from lane to lane; none known: anywhere
    if (index.affine) step = static_cast<double>(index.coefficients[loop]);
    else if (loop < index.slopes.size()) step = index.slopes[loop];
    step = std::abs(step * static_cast<double>(stride * apart));
    if (step != 1) instructions = std::max(instructions, step > 1 && step <= shuffled ? step : lanes);
  }
  return instructions;
}

std::vector<Phases> TiledPlacement::phases(const StageNode& node) const {
  std::vector<Phases> phases = phases_with_inlined(rule_.dependences(), node, [this](const StageNode& source) {
    return levels_.contains(source.role) && placed(source.role).level < 0;
  });
  // Whole phases may be more than is asked for.
  for (std::size_t l = 0; l < phases.size(); ++l)
    if (phases[l].repeat && phases[l].count - 1 > node.extensible[l]) phases[l] = {};
  return phases;
}

std::int64_t TiledPlacement::lane_distance(const StageNode& node, const std::vector<Phases>& phases, int level,
                                           int lanes) const {
  if (lanes == 1 || !phases[0].repeat) return 1;
  return region(node, level)[0].extent >= phases[0].count * lanes ? phases[0].count : 1;
}

/// Elements computed of a stage at a level; in expressions, once a read.
double TiledPlacement::computed(const StageNode& node, int level) const {
  if (level < 0) {
    double reads = 0;
    for (const StageNode* reader : rule_.dependences().consumers(node.role))
      for (const Access& access : reader->accesses)
        if (access.source == node.role)
          reads += access.share * evaluations(*reader) *
                   (access.in_update ? static_cast<double>(reader->reduction_steps()) : 1.0);
    return reads;
  }
  if (level >= static_cast<int>(nest_.levels())) return static_cast<double>(node.elements());
  return static_cast<double>(nest_.iterations(static_cast<std::size_t>(level))) * region_elements(node, level);
}

/// How often a stage's elements are computed, by whoever has its expression.
double TiledPlacement::evaluations(const StageNode& reader) const {
  const auto known = std::ranges::find_if(stages_, [&](const PlacedStage& s) { return s.node == &reader; });
  return known != stages_.end() && known->level < 0 ? std::max(known->computed, 1.0)
                                                    : static_cast<double>(reader.elements());
}

Box TiledPlacement::region(const StageNode& node, int level) const {
  const auto& regions = regions_.at(static_cast<std::size_t>(level));
  const auto found = regions.find(node.role);
  return found == regions.end() ? Box{} : found->second;
}

double TiledPlacement::region_elements(const StageNode& node, int level) const {
  const Box box = region(node, level);
  if (box.size() != node.loops.size()) return 0;
  double elements = 1;
  for (const auto& interval : box) elements *= static_cast<double>(interval.extent);
  return elements;
}

int TiledPlacement::vector_lanes(const StageNode& node, int level) const {
  const Box box = region(node, level);
  const int lanes = s_.machine.lanes(node.element_bytes);
  return !box.empty() && box[0].extent >= lanes ? lanes : 1;
}

/// Vectors of `out` in a tile.
double TiledPlacement::tile_vectors() const {
  double vectors = static_cast<double>(nest_.vectors());
  for (std::size_t p = 1; p < s_.rank(); ++p) vectors *= static_cast<double>(nest_.shape().tile[p]);
  return vectors;
}

void TiledPlacement::accumulate(const StageChoice& c, PlacedStage& placed) {
  const StageNode& node = *c.node;
  levels_[node.role] = 0;
  placed.level = 0;
  placed.lanes = nest_.vector_lanes();
  placed.computed = static_cast<double>(node.elements()) * nest_.waste();
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
        loads *= static_cast<double>(nest_.vectors());
      } else {
        loads *= static_cast<double>(nest_.shape().tile[*c.place_of_loop[l]]);
      }
    }
    (along ? placed.vector_loads : placed.scalar_loads) += loads;
    if (along) placed.step_gathering += loads * gathering(node, access, *rule_.loop_of_place(node, 0), placed.lanes, 1);
  }
  const std::int64_t unroll = unrolled_steps(node);
  placed.steps_unrolled = unroll == 0 ? static_cast<double>(node.reduction_steps()) : static_cast<double>(unroll);
  if (placed.accumulators * placed.steps_unrolled > most_unrolled)
    throw Pruned{"code size: too many operations unrolled"};
  const std::int64_t depth = value("depth_" + node.role, 0);
  if (depth > 0) {
    if (depth >= node.reductions[0].extent || node.reductions[0].extent % depth != 0)
      throw Pruned{"the depth's block does not divide the reduction"};
    const auto& shape = nest_.shape();
    if (nest_.levels() < 2) throw Pruned{"a depth's block needs a block of tiles around it"};
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

std::size_t TiledPlacement::block_level() const {
  for (std::size_t l = 0; l < nest_.levels(); ++l)
    if (nest_.loops()[l].name.ends_with("_b") || nest_.loops()[l].name == "task") return l;
  return nest_.levels() - 1;
}

void TiledPlacement::check_registers() const {
  for (const PlacedStage& s : stages_) {
    if (s.accumulators == 0) continue;
    const double needed = s.accumulators + std::min(s.vector_loads, static_cast<double>(nest_.vectors())) + 1;
    if (needed > s_.machine.vector_registers)
      throw Pruned{fmt::format("registers: {:.0f} of {}", needed, s_.machine.vector_registers)};
  }
  if (!rule_.accumulates() && tile_vectors() > 32) throw Pruned{"code size: too many vectors a tile"};
}

/// What is computed before the output's loops can read nothing that is computed in them.
void TiledPlacement::check_order() const {
  for (const PlacedStage& s : stages_)
    if (std::set<std::string> seen; s.level >= static_cast<int>(nest_.levels()))
      check_sources(*s.node, s.node->role, seen);
}

void TiledPlacement::check_sources(const StageNode& stage, const std::string& reader,
                                   std::set<std::string>& seen) const {
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

const ReductionLoop& TiledPlacement::inner_reduction(const StageNode& node) const {
  return node.reductions.at(static_cast<std::size_t>(value("inner_" + node.role, 0)));
}

std::int64_t TiledPlacement::unrolled_steps(const StageNode& node) const {
  std::int64_t unroll = value("unroll_" + node.role, 1);
  if (unroll == 0) return 0;
  const std::int64_t depth = value("depth_" + node.role, 0);
  const std::int64_t extent = depth > 0 ? depth : inner_reduction(node).extent;
  while (extent % unroll != 0) --unroll;
  return unroll;
}

const PlacedStage& TiledPlacement::placed(const std::string& role) const {
  return *std::ranges::find_if(stages_, [&](const PlacedStage& s) { return s.node->role == role; });
}

}  // namespace heddle::autoscheduler
