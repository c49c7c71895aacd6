// A register tile of the output.
//
// Reductions whose result an element of the output reads once (matrix products, convolutions, pooling) accumulate in
// the tile; other producers are placed at one of the loops around it, or written into their consumer's expression.
// Constants that follow the vector's dimension are packed in blocks of the tile's width; operands made at run time can
// be copied into such a panel, where the loop over panels is outside of one that uses the panel again.
#include <algorithm>
#include <numeric>
#include <set>

#include "autoscheduler/tiled_emission.hpp"

namespace heddle::autoscheduler {
namespace {

class Tiled final : public SketchRule {
 public:
  explicit Tiled(const Subject& subject) : subject_(subject), structure_(subject) {
    sketch_.name = "tiled";
    sketch_.summary = "a register tile of the output, producers placed around it";
    add_knobs();
  }

  const Sketch& sketch() const override { return sketch_; }
  std::variant<Candidate, Pruned> emit(const std::vector<std::int64_t>& values) const override {
    return emit_tiled(structure_, KnobValues(sketch_, values));
  }
  std::vector<std::vector<std::int64_t>> defaults() const override;
  bool fits() const { return !structure_.reduces_rows_only(); }

 private:
  static std::vector<std::int64_t> up_to(std::vector<std::int64_t> domain, std::int64_t most) {
    std::erase_if(domain, [&](std::int64_t v) { return v > most; });
    return domain;
  }

  void add_knobs() {
    const std::size_t rank = subject_.rank();
    const std::int64_t vectors = std::max<std::int64_t>(1, (subject_.extent(0) + subject_.lanes - 1) / subject_.lanes);
    sketch_.knobs.push_back({"vectors", up_to({1, 2, 3, 4, 6, 8}, vectors)});
    std::vector<std::int64_t> open = {0};
    for (std::size_t p = 1; p < rank; ++p) {
      if (subject_.extent(p) == 1) continue;
      open.push_back(static_cast<std::int64_t>(p));
      sketch_.knobs.push_back(
          {"tile_" + subject_.loop(p),
           up_to(structure_.accumulates() ? std::vector<std::int64_t>{1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 13, 14}
                                          : std::vector<std::int64_t>{1, 2, 4, 8},
                 subject_.extent(p))});
    }
    if (open.size() > 1) {
      sketch_.knobs.push_back({"innermost", open, false});
      sketch_.knobs.push_back({"outermost", open, false});
    }
    for (std::size_t p = 0; p < rank; ++p)
      if (subject_.extent(p) >= (p == 0 ? 8 * subject_.lanes : 16))
        sketch_.knobs.push_back({"block_" + subject_.loop(p), {0, 2, 4, 8, 16, 32, 64}});
    if (subject_.threads() > 1) {
      std::vector<std::int64_t> fused(std::min<std::size_t>(open.size() + 1, 4));
      std::iota(fused.begin(), fused.end(), 1);
      sketch_.knobs.push_back({"parallel", fused});
    }
    bool packable = false;
    for (const auto& c : structure_.choices()) {
      if (c.role == TileRole::accumulator) {
        sketch_.knobs.push_back({"unroll_" + c.node->role, c.node->reduction_steps() <= 32
                                                               ? std::vector<std::int64_t>{0, 1, 2, 4, 8}
                                                               : std::vector<std::int64_t>{1, 2, 4, 8}});
        if (c.node->reductions.size() > 1) {
          std::vector<std::int64_t> inner(c.node->reductions.size());
          std::iota(inner.begin(), inner.end(), 0);
          sketch_.knobs.push_back({"inner_" + c.node->role, inner, false});
        }
        if (c.node->reductions.size() == 1 && c.node->reductions[0].extent >= 256)
          sketch_.knobs.push_back({"depth_" + c.node->role, {0, 128, 256, 512}});
        for (const std::string& role : structure_.panels(c)) sketch_.knobs.push_back({"panel_" + role, {0, 1}, false});
      }
      if (c.role == TileRole::producer) {
        std::vector<std::int64_t> domain = {in_expression, at_tile, at_row, at_block, before_all};
        if (c.node->updates > 0) domain = {at_tile, at_row, at_block, before_all};
        sketch_.knobs.push_back({"place_" + c.node->role, domain, false});
      }
    }
    for (const auto& [role, operand] : structure_.dependences().operands) packable = packable || structure_.packs(role);
    if (packable) sketch_.knobs.push_back({"pack", {0, 1}, false});
  }

  const Subject& subject_;
  TiledStructure structure_;
  Sketch sketch_;
};

std::vector<std::vector<std::int64_t>> Tiled::defaults() const {
  // Everything packed that can be; the best tiles, orders and places by estimate.
  std::vector<std::pair<double, std::vector<std::int64_t>>> found;
  std::vector<std::int64_t> base(sketch_.knobs.size());
  std::vector<std::size_t> tiles, orders, places;
  for (std::size_t k = 0; k < sketch_.knobs.size(); ++k) {
    const auto& knob = sketch_.knobs[k];
    base[k] = knob.domain.front();
    if (knob.name == "pack") base[k] = 1;
    // Short reductions are unrolled whole; others in twos, or in what else divides them.
    if (knob.name.starts_with("unroll_")) {
      const auto& reductions = structure_.dependences().stage(knob.name.substr(7)).reductions;
      base[k] = knob.domain.front() == 0 ? 0 : reductions.front().extent % 2 == 0 ? 2 : 4;
    }
    if (knob.name == "vectors" || knob.name.starts_with("tile_")) tiles.push_back(k);
    if (knob.name == "innermost" || knob.name == "outermost" || knob.name == "parallel") orders.push_back(k);
    if (knob.name.starts_with("place_")) places.push_back(k);
  }
  std::vector<std::vector<std::int64_t>> frames = {base};
  const auto spread = [&](const std::vector<std::size_t>& knobs, std::size_t most) {
    for (const std::size_t k : knobs) {
      std::vector<std::vector<std::int64_t>> next;
      for (const auto& frame : frames)
        for (const std::int64_t v : sketch_.knobs[k].domain) {
          next.push_back(frame);
          next.back()[k] = v;
        }
      if (next.size() > most) return;
      frames = std::move(next);
    }
  };
  for (const std::size_t k : places) {
    std::vector<std::vector<std::int64_t>> next;
    for (const auto& frame : frames)
      for (const std::int64_t v : {before_all, in_expression, at_row, at_block, at_tile})
        if (std::ranges::find(sketch_.knobs[k].domain, v) != sketch_.knobs[k].domain.end()) {
          next.push_back(frame);
          next.back()[k] = v;
        }
    if (next.size() <= 64) frames = std::move(next);
  }
  spread(orders, 512);
  spread(tiles, 60000);
  for (const auto& frame : frames)
    if (const auto made = emit(frame); std::holds_alternative<Candidate>(made))
      found.emplace_back(std::get<Candidate>(made).estimate, frame);
  std::ranges::stable_sort(found, {}, [](const auto& f) { return f.first; });
  std::vector<std::vector<std::int64_t>> best;
  std::set<std::string> texts;
  for (const auto& [estimate, values] : found) {
    if (!texts.insert(std::get<Candidate>(emit(values)).implementation.print()).second) continue;
    // Points that differ in nothing but the order of loops come one after the other; a few of each tile are enough.
    std::size_t same = 0;
    for (const auto& other : best)
      same += std::ranges::all_of(tiles, [&](std::size_t k) { return other[k] == values[k]; }) ? 1 : 0;
    if (same < 2) best.push_back(values);
    if (best.size() == 8) break;
  }
  return best;
}

}  // namespace

std::unique_ptr<SketchRule> tiled_sketch(const Subject& subject) {
  if (subject.rank() == 0) return nullptr;  // a scalar has no loops to tile
  auto rule = std::make_unique<Tiled>(subject);
  if (!rule->fits()) return nullptr;
  return rule;
}

}  // namespace heddle::autoscheduler
