#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "autoscheduler/device_blocks.hpp"
#include "autoscheduler/device_tile.hpp"
#include "autoscheduler/estimate.hpp"
#include "schedules/gpu_grid.hpp"

namespace heddle::autoscheduler {
namespace {

using Names = std::vector<std::string>;
using Tail = Stage::Tail;

/// Operations of a thread's step that are written out.
constexpr std::int64_t most_unrolled = 1024;
/// Elements of a producer that a thread keeps for itself.
constexpr std::int64_t most_kept = 64;

class Emission {
 public:
  Emission(const BlockStructure& structure, const KnobValues& values)
      : of_(structure),
        s_(structure.subject()),
        d_(structure.d()),
        values_(values),
        tile_(structure.subject(), structure.places(), values) {}

  Candidate run() {
    choose_places();
    check_vectors();
    launch_.stage = d_.out().role;
    launch_.threads = static_cast<double>(tile_.threads());
    launch_.blocks = tile_.blocks();
    for (const StageChoice& c : of_.tiles().choices())
      if (c.role == TileRole::producer) producer(*c.node);
    output();
    for (const StageChoice& c : of_.tiles().choices())
      if (c.role == TileRole::accumulator) accumulator(c);
    if (packing())
      for (const auto& role : of_.packable())
        result_.implementation.packings.push_back({role, {{*of_.tiles().packed_dimension(role), s_.extent(0)}}});
    finish();
    return std::move(result_);
  }

 private:
  std::int64_t value(const std::string& name, std::int64_t otherwise) const { return values_.get(name, otherwise); }
  bool packing() const { return value("pack", 0) == 1; }
  Schedule& schedule() { return result_.implementation.schedule; }

  /// What goes through shared memory, of each reduction.
  void choose_places() {
    bool in_pieces = true;
    for (const StageChoice& c : of_.tiles().choices()) {
      const std::string& role = c.node->role;
      if (c.role == TileRole::accumulator) {
        for (const SharedSource& source : of_.sources(c)) {
          const bool shared = source.operand ? value("share_" + source.role, 0) == 1 && !packed(source.role)
                                             : value("place_" + source.role, 0) == at_step;
          if (shared) shared_[role].push_back(source);
        }
        // Its sums wait in registers for the block's next step.
        places_[role] = shared_.contains(role) ? DevicePlace::block : DevicePlace::thread;
        in_pieces = in_pieces && shared_.contains(role);
        continue;
      }
      if (c.role == TileRole::expression) {
        // Read by a reduction alone, it may have been taken to shared memory.
        places_[role] = DevicePlace::expression;
        continue;
      }
      switch (value("place_" + role, before_all)) {
        case in_expression: places_[role] = DevicePlace::expression; break;
        case at_tile:
          places_[role] = DevicePlace::thread;
          in_pieces = false;
          break;
        case at_block:
        case at_step: places_[role] = DevicePlace::block; break;
        default: places_[role] = DevicePlace::launch;
      }
    }
    // A part in pieces has no region of its own that what a thread computes for itself could follow.
    tile_.interleave(in_pieces && value("interleave", 0) == 1);
    if (std::string why = misplaced(d_, places_); !why.empty()) throw Pruned{std::move(why)};
  }

  bool packed(const std::string& role) const {
    return packing() && std::ranges::find(of_.packable(), role) != of_.packable().end();
  }

  /// The source of a reduction that goes through shared memory, if it does.
  const SharedSource* shared_source(const std::string& role) const {
    for (const auto& [accumulator, sources] : shared_)
      for (const SharedSource& source : sources)
        if (source.role == role) return &source;
    return nullptr;
  }

  void check_vectors() const {
    if (tile_.lanes() == 1) return;
    for (const std::string& role : of_.apart()) {
      if (packed(role) && s_.extent(0) % tile_.lanes() == 0) continue;
      const SharedSource* source = shared_source(role);
      if (source != nullptr && source->along) continue;
      throw Pruned{fmt::format("the lanes of a vector would lie apart in {}", role)};
    }
  }

  // --- the output ---

  void output() {
    Stage out = schedule()[d_.out().role];
    TileLoops loops;
    Names grid;
    for (const TileEdge& edge : tile_.edges()) {
      if (tile_.is_grid_only(edge)) {
        grid.push_back(edge.loop);
        continue;
      }
      // A tile that the extent does not divide lies within it, over a part of the one before: every block is whole.
      const Tail tail = edge.extent % edge.block() == 0 ? Tail::RoundUp : Tail::ShiftInwards;
      out.split(edge.loop, edge.loop + "_b", edge.loop + "_r", edge.block(), tail);
      grid.push_back(edge.loop + "_b");
      tile_.split(out, edge, edge.loop + "_r", loops);
    }
    for (std::size_t p = 0; p < s_.rank(); ++p)
      if (std::ranges::find(of_.places(), p) == of_.places().end()) grid.push_back(s_.loop(p));
    check_grid();
    block_loop_ = grid.front();
    thread_loop_ = loops.threads.front();
    Names order = loops.all();
    order.insert(order.end(), grid.begin(), grid.end());
    out.reorder(order);
    tile_.run(out, loops);
    schedules::spread_blocks(out, grid);
    add_work(launch_, d_, counted(), d_.out(), static_cast<double>(tile_.part()), static_cast<double>(tile_.lanes()));
    const double stores = static_cast<double>(tile_.part()) / static_cast<double>(tile_.lanes());
    launch_.memory_loads += stores * wide_loads(d_.out().element_bytes) * apart();
    launch_.bytes += static_cast<double>(tile_.part() * tile_.threads() * d_.out().element_bytes) * scattered();
    launch_.registers = 24 + static_cast<double>(tile_.part());
  }

  /// Along the second and the third dimension of a grid, which all loops beyond share, devices are sure to have so
  /// many.
  void check_grid() const {
    constexpr std::int64_t most = 65535;
    std::vector<std::int64_t> counts;
    for (const TileEdge& edge : tile_.edges()) counts.push_back(edge.blocks());
    for (std::size_t p = 0; p < s_.rank(); ++p)
      if (tile_.edge_of(p) == nullptr) counts.push_back(s_.extent(p));
    std::int64_t last = 1;
    for (std::size_t i = 2; i < counts.size(); ++i) last *= counts[i];
    const std::int64_t longest = std::max(last, counts.size() > 1 ? counts[1] : 1);
    if (longest > most)
      throw Pruned{fmt::format("blocks: {} along one dimension of the grid, {} at most", longest, most)};
  }

  /// Loads of 16 bytes that a thread's vector is worth.
  double wide_loads(int element_bytes) const { return static_cast<double>(tile_.lanes() * element_bytes) / 16; }
  /// How far apart neighbouring threads' vectors lie along the first edge, in vectors: banks and lines are met so
  /// often.
  double apart() const {
    return tile_.interleaves() ? 1.0 : static_cast<double>(tile_.edges()[0].tile) / static_cast<double>(tile_.lanes());
  }
  /// Bytes of memory's sectors over those that threads side by side use.
  double scattered() const {
    constexpr double sector_bytes = 32;
    const TileEdge& first = tile_.edges()[0];
    return std::max(1.0, sector_bytes / static_cast<double>(first.block() * d_.out().element_bytes));
  }

  /// Reductions are counted apart: their operands are used again.
  DevicePlaces counted() const {
    DevicePlaces places = places_;
    for (const StageChoice& c : of_.tiles().choices())
      if (c.role == TileRole::accumulator) places[c.node->role] = DevicePlace::block;
    return places;
  }

  // --- reductions in registers ---

  void accumulator(const StageChoice& c) {
    count(c);
    if (shared_.contains(c.node->role)) in_steps(c);
    else in_thread(c);
  }

  /// The tile's loops of a reduction in the order of the output's edges; those without an edge come last.
  template <class F>
  Names each_edge(const StageChoice& c, const F& f) const {
    Names rest;
    for (const TileEdge& edge : tile_.edges())
      for (std::size_t l = 0; l < c.node->loops.size(); ++l)
        if (tile_.edge_of(c.place_of_loop[l]) == &edge) {
          if (tile_.is_grid_only(edge)) rest.push_back(c.node->loops[l]);
          else f(edge, c.node->loops[l]);
        }
    for (std::size_t l = 0; l < c.node->loops.size(); ++l)
      if (tile_.edge_of(c.place_of_loop[l]) == nullptr) rest.push_back(c.node->loops[l]);
    return rest;
  }

  void in_thread(const StageChoice& c) {
    const StageNode& node = *c.node;
    Stage pure = schedule()[node.role];
    pure.compute_at(d_.out().role, thread_loop_);
    std::string vector;
    Names tile;
    const Names rest = each_edge(c, [&](const TileEdge& edge, const std::string& loop) {
      if (tile_.is_first(edge)) vector = loop;
      tile.push_back(loop);
      pure.bound_extent(loop, edge.tile);
    });
    const auto run = [&](Stage& stage) {
      if (tile_.lanes() > 1) stage.vectorize(vector, tile_.lanes());
      for (const std::string& loop : tile)
        if (loop != vector || tile_.edges()[0].tile > tile_.lanes()) stage.unroll(loop);
    };
    run(pure);
    Stage update = schedule()[node.role].update(0);
    const std::size_t first = BlockStructure::step_reduction(node);
    Names order = tile;
    for (std::size_t r = 0; r < node.reductions.size(); ++r)
      order.push_back(node.reductions[(first + r) % node.reductions.size()].name);
    order.insert(order.end(), rest.begin(), rest.end());
    update.reorder(order);
    run(update);
    unroll(update, node.reductions[first].name, node.reductions[first].extent, node.role);
  }

  void unroll(Stage& update, const std::string& loop, std::int64_t extent, const std::string& role) const {
    std::int64_t steps = std::min(extent, value("unroll_" + role, 1));
    while (extent % steps != 0) --steps;
    if (steps * tile_.part() > most_unrolled) throw Pruned{"code size: too many operations written out"};
    if (steps == extent) update.unroll(loop);
    else if (steps > 1) update.unroll(loop, steps);
  }

  std::int64_t step_of(const StageNode& node) const { return std::max<std::int64_t>(1, value("step_" + node.role, 1)); }
  bool taps_within(const StageNode& node) const { return value("taps_" + node.role, 0) == 1; }

  void in_steps(const StageChoice& c) {
    const StageNode& node = *c.node;
    const std::size_t main = BlockStructure::step_reduction(node);
    const std::string& cut = node.reductions[main].name;
    Stage pure = schedule()[node.role];
    pure.compute_at(d_.out().role, block_loop_).store_in(Halide::MemoryType::Register);
    TileLoops loops;
    Names rest = each_edge(c, [&](const TileEdge& edge, const std::string& loop) {
      pure.bound_extent(loop, edge.block());
      tile_.split(pure, edge, loop, loops);
    });
    Names order = loops.all();
    order.insert(order.end(), rest.begin(), rest.end());
    pure.reorder(order);
    tile_.run(pure, loops);

    Stage update = schedule()[node.role].update(0);
    TileLoops again;
    each_edge(c, [&](const TileEdge& edge, const std::string& loop) { tile_.split(update, edge, loop, again); });
    const std::int64_t step = step_of(node);
    update.split(cut, cut + "_o", cut + "_i", step);
    Names inside, outside = {cut + "_o"};
    for (std::size_t r = 0; r < node.reductions.size(); ++r)
      if (r != main) (taps_within(node) ? inside : outside).push_back(node.reductions[r].name);
    const std::string steps = schedules::fuse_all(update, outside, "steps");
    order = again.within;
    order.push_back(cut + "_i");
    order.insert(order.end(), inside.begin(), inside.end());
    order.insert(order.end(), again.threads.begin(), again.threads.end());
    // With one loop outside, nothing was fused and it has kept its name.
    order.push_back(steps);
    order.insert(order.end(), rest.begin(), rest.end());
    update.reorder(order);
    tile_.run(update, again);
    unroll(update, cut + "_i", step, node.role);
    for (const SharedSource& source : shared_.at(node.role)) share(c, source, steps);
  }

  /// Elements of a source that a step reads, along each dimension; `whole`: that the whole reduction reads.
  std::vector<std::int64_t> region(const StageChoice& c, const Access& access, bool whole) const {
    const StageNode& node = *c.node;
    const std::size_t main = BlockStructure::step_reduction(node);
    std::vector<std::int64_t> extents;
    for (const AffineIndex& index : access.index) {
      std::int64_t extent = 1;
      for (std::size_t l = 0; l < index.coefficients.size(); ++l) {
        std::int64_t range = 1;
        if (l < node.loops.size()) {
          const TileEdge* edge = tile_.edge_of(c.place_of_loop[l]);
          range = edge == nullptr ? 1 : edge->block();
        } else {
          const std::size_t r = l - node.loops.size();
          if (whole || (r != main && taps_within(node))) range = node.reductions[r].extent;
          else if (r == main) range = step_of(node);
        }
        extent += std::abs(index.coefficients[l]) * (range - 1);
      }
      extents.push_back(extent);
    }
    return extents;
  }

  static std::int64_t product(const std::vector<std::int64_t>& extents) {
    std::int64_t all = 1;
    for (const std::int64_t e : extents) all *= e;
    return all;
  }

  /// The order in which threads copy a source's dimensions: neighbours fetch neighbours.
  std::vector<std::size_t> copy_order(const SharedSource& source, const std::vector<std::int64_t>& extents) const {
    std::vector<std::size_t> order(extents.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    if (!source.operand) return order;
    const auto& strides = d_.operands.at(source.role).strides;
    std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
      if ((extents[a] == 1) != (extents[b] == 1)) return extents[a] != 1;
      return strides[a] < strides[b];
    });
    return order;
  }

  /// Elements that a thread copies at once: whole vectors of them lie side by side in memory, or one.
  std::int64_t copy_lanes(const StageChoice& c, const SharedSource& source) const {
    const std::int64_t lanes = value("copy_" + c.node->role, 1);
    if (!source.operand) return 1;
    const auto extents = region(c, *source.access, false);
    const std::size_t first = copy_order(source, extents)[0];
    const OperandNode& operand = d_.operands.at(source.role);
    const bool whole = operand.strides[first] == 1 && extents[first] % lanes == 0 &&
                       operand.extents[first] % lanes == 0 && operand.element_bytes * lanes <= 16;
    return whole ? lanes : 1;
  }

  void share(const StageChoice& c, const SharedSource& source, const std::string& steps) {
    const auto extents = region(c, *source.access, false);
    Stage stage = source.operand ? schedule()[source.role].in(source.role + "_shared") : schedule()[source.role];
    stage.compute_at(c.node->role, steps).store_in(Halide::MemoryType::GPUShared);
    for (std::size_t i = 0; i < extents.size(); ++i) stage.bound_extent(source.dimensions[i], extents[i]);
    // What the threads' vectors follow lies densely.
    if (const auto first = source.along; first && *first > 0 && extents.size() > 1) {
      Names storage = {source.dimensions[*first]};
      for (std::size_t i = 0; i < extents.size(); ++i)
        if (i != *first) storage.push_back(source.dimensions[i]);
      if (storage.size() == 2) stage.reorder_storage(storage[0], storage[1]);
      else if (storage.size() == 3) stage.reorder_storage(storage[0], storage[1], storage[2]);
      else if (storage.size() == 4) stage.reorder_storage(storage[0], storage[1], storage[2], storage[3]);
    }
    Names dimensions;
    for (const std::size_t i : copy_order(source, extents)) dimensions.push_back(source.dimensions[i]);
    tile_.spread(stage, dimensions, product(extents), copy_lanes(c, source), {});
  }

  // --- other producers ---

  void producer(const StageNode& node) {
    const DevicePlace place = places_.at(node.role);
    if (place == DevicePlace::expression || shared_source(node.role) != nullptr) return;
    if (place == DevicePlace::launch) {
      launched_.push_back(&node);
      return;
    }
    kept_.push_back(&node);
  }

  /// Of a producer, what a block's or a thread's part of the output reads.
  Box box(const StageNode& node, bool block) const {
    Box part(d_.out().loops.size());
    for (std::size_t i = 0; i < part.size(); ++i) part[i] = {d_.out().box[i].min, 1};
    for (const TileEdge& edge : tile_.edges()) part[s_.order[edge.place]].extent = block ? edge.block() : edge.tile;
    const auto regions = d_.regions(d_.out().role, part);
    const auto found = regions.find(node.role);
    if (found == regions.end()) throw Pruned{fmt::format("{} is not read", node.role)};
    return found->second;
  }

  void keep(const StageNode& node) {
    const bool block = places_.at(node.role) == DevicePlace::block;
    if (!of_.is_exact(node.role)) throw Pruned{fmt::format("what is asked for of {} varies", node.role)};
    if (node.updates > 1) throw Pruned{fmt::format("{} has several updates", node.role)};
    const Box region = box(node, block);
    std::int64_t elements = 1;
    Stage pure = schedule()[node.role];
    pure.compute_at(d_.out().role, block ? block_loop_ : thread_loop_);
    for (std::size_t l = 0; l < node.loops.size(); ++l) {
      elements *= region[l].extent;
      pure.bound_extent(node.loops[l], region[l].extent);
    }
    Names reductions;
    for (const auto& r : node.reductions) reductions.push_back(r.name);
    const double each = static_cast<double>(elements) / (block ? static_cast<double>(tile_.threads()) : 1.0);
    add_work(launch_, d_, counted(), node, each, 1);
    if (block) {
      pure.store_in(Halide::MemoryType::GPUShared);
      if (node.loops.empty()) throw Pruned{fmt::format("{} is one value", node.role)};
      tile_.spread(pure, node.loops, elements, 1, {});
      if (node.updates == 1) {
        Stage update = schedule()[node.role].update(0);
        tile_.spread(update, node.loops, elements, 1, reductions);
      }
      launch_.shared_bytes += static_cast<double>(elements * node.element_bytes);
      launch_.waits += 1;
      return;
    }
    if (elements > most_kept) throw Pruned{fmt::format("registers: a thread would keep {} of {}", elements, node.role)};
    launch_.registers += static_cast<double>(elements);
    if (node.updates > 0) return;
    for (std::size_t l = 0; l < node.loops.size(); ++l)
      if (region[l].extent > 1) pure.unroll(node.loops[l]);
  }

  // --- what it costs ---

  void count(const StageChoice& c) {
    const StageNode& node = *c.node;
    const double part = static_cast<double>(tile_.part()), steps = static_cast<double>(node.reduction_steps());
    launch_.instructions +=
        part * (std::max(node.pure_operations, 1.0) + steps * std::max(1.0, node.update_operations - 1));
    launch_.accumulators = std::max(launch_.accumulators, part);
    const bool stepped = shared_.contains(node.role);
    for (const Access& access : node.accesses) {
      if (!access.in_update || access.source == node.role) continue;
      double loads = 1;
      bool along = false;
      for (std::size_t l = 0; l < node.loops.size(); ++l) {
        const TileEdge* edge = tile_.edge_of(c.place_of_loop[l]);
        if (edge == nullptr || std::ranges::none_of(access.index, [&](const AffineIndex& i) { return follows(i, l); }))
          continue;
        loads *= static_cast<double>(edge->tile) / (tile_.is_first(*edge) ? static_cast<double>(tile_.lanes()) : 1.0);
        along = along || tile_.is_first(*edge);
      }
      launch_.registers += loads * (along ? static_cast<double>(tile_.lanes()) : 1.0);
      const int bytes =
          access.operand ? d_.operands.at(access.source).element_bytes : d_.stage(access.source).element_bytes;
      // What does not follow the first edge is the same for neighbouring threads.
      constexpr double broadcast = 0.25;
      launch_.instructions += loads * steps;
      loads *= along ? wide_loads(bytes) * apart() : broadcast;
      const SharedSource* source = shared_source(access.source);
      if (source != nullptr) {
        const auto elements = static_cast<double>(product(region(c, access, false)));
        const double rounds = static_cast<double>(node.reduction_steps()) / step_size(node);
        const double copied = rounds * elements / static_cast<double>(tile_.threads()) * bytes / 16;
        launch_.instructions += 2 * rounds * elements / static_cast<double>(tile_.threads() * copy_lanes(c, *source));
        launch_.shared_loads += loads * steps + copied;
        launch_.memory_loads += copied;
        launch_.shared_bytes += elements * bytes;
        launch_.bytes += rounds * elements * bytes;
        launch_.registers += elements / static_cast<double>(tile_.threads());  // fetched a step ahead
        continue;
      }
      launch_.memory_loads += loads * steps;
      // The first cache has most of it again, and not all.
      constexpr double again = 1.5;
      launch_.bytes +=
          again * static_cast<double>(product(region(c, access, true))) * bytes * (along ? scattered() : 1.0);
      if (!access.operand && places_.at(access.source) == DevicePlace::expression)
        launch_.instructions += loads * steps * std::max(1.0, d_.stage(access.source).pure_operations);
    }
    launch_.waits += stepped ? steps / step_size(node) : steps / 8;
  }

  /// Iterations of the reduction between two meetings of a block's threads.
  double step_size(const StageNode& node) const {
    double size = static_cast<double>(step_of(node));
    const std::size_t main = BlockStructure::step_reduction(node);
    for (std::size_t r = 0; r < node.reductions.size(); ++r)
      if (r != main && taps_within(node)) size *= static_cast<double>(node.reductions[r].extent);
    return size;
  }

  void finish() {
    for (const StageNode* node : kept_) keep(*node);
    constexpr std::int64_t usual_threads = 128;
    std::vector<DeviceLaunch> launches;
    for (const StageNode* node : launched_) {
      schedules::launch_stage(schedule(), node->role, node->loops, of_.reductions(node->role), usual_threads);
      launches.push_back(flat_launch(d_, places_, *node, static_cast<double>(usual_threads), 1));
    }
    launches.push_back(launch_);
    for (const DeviceLaunch& launch : launches)
      if (std::string why = obstacle(launch, of_.gpu()); !why.empty()) throw Pruned{std::move(why)};
    auto& f = result_.features;
    result_.estimate = estimate_seconds(launches, of_.gpu(), f);
    f["lanes"] = static_cast<double>(tile_.lanes());
    f["interleaved"] = tile_.interleaves() ? 1 : 0;
    f["packing"] = packing() ? 1 : 0;
    f["waste"] = tile_.waste();
    f["part"] = static_cast<double>(tile_.part());
    for (std::size_t e = 0; e < tile_.edges().size(); ++e) {
      f[fmt::format("threads.{}", e)] = static_cast<double>(tile_.edges()[e].threads);
      f[fmt::format("tile.{}", e)] = static_cast<double>(tile_.edges()[e].tile);
    }
    double shared = 0;
    for (const auto& [role, sources] : shared_) {
      shared += static_cast<double>(sources.size());
      f["step"] = log_feature(step_size(d_.stage(role)));
    }
    f["shared"] = shared;
    for (const auto& [role, place] : places_) f["place." + role] = static_cast<double>(place);
  }

  const BlockStructure& of_;
  const Subject& s_;
  const Dependences& d_;
  const KnobValues& values_;
  BlockTile tile_;
  DevicePlaces places_;
  std::map<std::string, std::vector<SharedSource>> shared_;  ///< by the reduction that reads them
  std::vector<const StageNode*> kept_, launched_;
  std::string block_loop_, thread_loop_;  ///< of the output, the innermost ones
  DeviceLaunch launch_;
  Candidate result_;
};

}  // namespace

std::variant<Candidate, Pruned> emit_blocks(const BlockStructure& structure, const KnobValues& values) {
  try {
    return Emission(structure, values).run();
  } catch (const Pruned& pruned) {
    return pruned;
  }
}

}  // namespace heddle::autoscheduler
