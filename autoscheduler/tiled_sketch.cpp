// A register tile of the output.
//
// Reductions whose result an element of the output reads once (matrix products, convolutions, pooling) accumulate in
// the tile; other producers are placed at one of the loops around it, or written into their consumer's expression.
// Constants that follow the vector's dimension are packed in blocks of the tile's width; operands made at run time can
// be copied into such a panel, where the loop over panels is outside of one that uses the panel again.
#include <algorithm>
#include <set>

#include "autoscheduler/tiled_emission.hpp"

namespace heddle::autoscheduler {
namespace {

class Tiled final : public SketchRule {
 public:
  explicit Tiled(const Subject& subject) : subject_(subject), structure_(subject) {
    sketch_.name = "tiled";
    sketch_.summary = "a register tile of the output, producers placed around it";
    sketch_.knobs = structure_.knobs();
  }

  const Sketch& sketch() const override { return sketch_; }
  std::variant<Candidate, Pruned> emit(const std::vector<std::int64_t>& values) const override {
    return emit_tiled(structure_, KnobValues(sketch_.knobs, values));
  }
  std::vector<std::vector<std::int64_t>> defaults() const override;
  bool fits() const { return !structure_.reduces_rows_only(); }

 private:
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
    base[k] = structure_.usual(knob);
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
  // A point of a long pipeline takes longer to weigh.
  const std::size_t stages = structure_.dependences().stages.size();
  for (const std::size_t k : places) {
    std::vector<std::vector<std::int64_t>> next;
    for (const auto& frame : frames)
      for (const std::int64_t v : {before_all, in_expression, at_row, at_block, at_tile, sliding})
        if (std::ranges::find(sketch_.knobs[k].domain, v) != sketch_.knobs[k].domain.end()) {
          next.push_back(frame);
          next.back()[k] = v;
        }
    if (next.size() <= (stages <= 8 ? 64U : 16U)) frames = std::move(next);
  }
  spread(orders, stages <= 8 ? 512 : 64);
  spread(tiles, stages <= 8 ? 60000 : 60000 / (stages * stages));
  for (const auto& frame : frames) {
    subject_.heed_stop();
    if (const auto made = emit(frame); std::holds_alternative<Candidate>(made))
      found.emplace_back(std::get<Candidate>(made).estimate, frame);
  }
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
