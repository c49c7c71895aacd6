// Convolutions of narrow numbers on channels-last data: conv_direct's tiles, one to four products a lane at a time.
//
// Weights lie with the k of one sum innermost, then the block's channels. Where no instruction multiplies the numbers
// as they are, both sides are widened: weights beforehand, the input in a staged tile; what is broadcast is a 32-bit
// element, the k of one sum.
// Zen 3, bytes in pairs: an add for each product keeps multipliers waiting for a port; registers alone reach 81 % of
// twice the rate of f32.
#include "schedules/conv_support.hpp"
#include "schedules/dot_support.hpp"
#include "schedules/families.hpp"

namespace heddle::schedules {
namespace {

const ops::Dot* dot_for(const Workload& w, const Machine& m) {
  const auto in = w.anchor_inputs();
  const ops::Dot* dot = best_dot(m, in[0].dtype, in[1].dtype);
  return dot != nullptr && has_variant(w, dot->name) ? dot : nullptr;
}

bool dot_matches(const Workload& w, const Machine& m) {
  return is_two_dimensional_conv(w) && dot_for(w, m) != nullptr && is_constant(w, weights_operand) &&
         blocks_lie_in_groups(w, m);
}

std::vector<ConvTile> dot_candidates(const Workload& w, const Machine& m) {
  auto tiles = conv_tiles(w, m, registers_of(*dot_for(w, m), m));
  std::erase_if(tiles, [&](const ConvTile& k) { return !packs_in_vectors(k.vectors, extent_of(w, "co").value(), m); });
  return tiles;
}

/// Instructions that add to one vector of results.
std::int64_t steps(const Workload& w, const Machine& m) {
  const auto& weights = w.input_type("w").shape;
  const std::int64_t factor = dot_for(w, m)->factor;
  return round_up(weights[1].value(), factor) / factor * weights[2].value() * weights[3].value();
}

ConvTile dot_rule(const Workload& w, const Machine& m) {
  return best_conv_tile(w, m, dot_candidates(w, m), steps(w, m), rate_of(*dot_for(w, m), m));
}

Implementation dot_make(const Workload& w, const Machine& m, const ConvTile& k) {
  const ops::Dot& dot = *dot_for(w, m);
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t block = k.vectors * lanes;
  const Extent& ci = w.input_type("w").shape[1];
  Implementation implementation;
  implementation.variant = dot.name;
  // A single pixel reads every weight once: as few bytes as can be.
  implementation.packings = {
      dot_packing(dot, m, w.input_type("w").dtype, {"w", "ci", "co", k.vectors, k.pixels * k.rows > 1})};
  if (is_constant(w, bias_operand)) implementation.packings.push_back({"b", {{"co", block}}});
  const auto roles = stage_roles(w, dot.name);

  Schedule& s = implementation.schedule;
  schedule_conv_tiles(s, w, m, k);
  Stage update = s["acc"].update(0);
  update.reorder("k", "co", "x", "y", "ci", "kx", "ky");
  vectorize_dot(update, dot, m, "co");
  update.unroll("co").unroll("x").unroll("y");
  if (mod(ci, 2 * dot.factor) == Extent(0)) update.unroll("ci", 2);
  if (reads_in_place(dot, w.anchor_inputs()[0].dtype, ci)) {
    schedule_padding(s, roles, m);
  } else {
    Stage tile = s["x_tile"];
    if (k.blocks_inside != 0) tile.compute_at("out", "xo");
    else tile.compute_root().parallel("y");
    schedule_dot_data(tile, dot, m, "ci", ci);
  }
  if (has_role(roles, "w_sum")) schedule_dot_sums(s, "w_sum", m, "co");
  return implementation;
}

}  // namespace

Family conv_dot() {
  return TypedFamily<ConvTile>{
      "conv_dot",     "narrow numbers: register tile of channel vectors x pixels, several products at a time",
      dot_matches,    dot_rule,
      dot_candidates, dot_make}
      .erase();
}

}  // namespace heddle::schedules
