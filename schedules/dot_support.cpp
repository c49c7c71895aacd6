#include "schedules/dot_support.hpp"

namespace heddle::schedules {
namespace {

constexpr std::int64_t most_contiguous = 3;  // vectors of a packed block

/// Processors with dot products add their results in the same instruction, as a fused multiply-add does.
bool adds_apart(const ops::Dot& dot, const Machine& m) { return dot.is_integer() && !m.int8_dot; }

bool has(const ops::Dot& dot, const Machine& m) {
  if (dot.is_integer()) return dot.factor == 2 || m.int8_dot;
  return dot.factor == 1 || m.bf16_dot;
}

}  // namespace

const ops::Dot* best_dot(const Machine& m, DType data, DType weights) {
  const ops::Dot* best = nullptr;
  for (const ops::Dot& dot : ops::dots(data, weights))
    if (has(dot, m)) best = ops::dot_of(dot.name, data, weights);
  return best;
}

FitsRegisters registers_of(const ops::Dot& dot, const Machine& m) {
  return adds_apart(dot, m) ? fits_registers_of_pairs : fits_registers;
}

TileRate rate_of(const ops::Dot& dot, const Machine& m) {
  return adds_apart(dot, m) ? pairs_tile_rate : register_tile_rate;
}

void schedule_dot_data(Stage stage, const ops::Dot& dot, const Machine& m, const std::string& inner,
                       const Extent& extent) {
  const std::int64_t lanes = m.lanes(dot.data.bytes());
  const Extent stored = ceil_div(extent, dot.factor) * Extent(dot.factor);
  if (stored.is_constant() && stored.value() < lanes) stage.unroll(inner);
  else stage.vectorize(inner, lanes, stored.is_constant() ? Tail::ShiftInwards : Tail::GuardWithIf);
}

void vectorize_dot(Stage update, const ops::Dot& dot, const Machine& m, const std::string& vectors) {
  if (dot.factor > 1) update.atomic().vectorize("k");
  update.vectorize(vectors, m.lanes(4));
}

void schedule_dot_sums(Schedule& s, const std::string& role, const Machine& m, const std::string& vectors) {
  s[role].compute_root().vectorize(vectors, m.lanes(4), Tail::GuardWithIf);
  s[role].update(0).vectorize(vectors, m.lanes(4), Tail::GuardWithIf);
}

bool reads_in_place(const ops::Dot& dot, DType data, const Extent& depth) {
  return halide_type(data) == dot.data && mod(depth, dot.factor) == Extent(0);
}

Packing dot_packing(const ops::Dot& dot, const Machine& m, DType weights, const DotPacking& p) {
  const std::int64_t lanes = m.lanes(4);
  Packing packing{p.operand, {{p.dimension, p.vectors <= most_contiguous ? p.vectors * lanes : lanes}}, ""};
  if (dot.factor > 1) packing.blocks.insert(packing.blocks.begin(), {p.inner, dot.factor});
  if (p.widened && halide_type(weights) != dot.weights) packing.form = ops::widened_form(weights);
  return packing;
}

bool packs_in_vectors(std::int64_t vectors, std::int64_t extent, const Machine& m) {
  return vectors <= most_contiguous || round_up(extent, m.lanes(4)) % (vectors * m.lanes(4)) == 0;
}

}  // namespace heddle::schedules
