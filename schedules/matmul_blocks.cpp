// Products with weights of few bits, known beforehand (ops/matmul_blocks.cpp).
//
// matmul_words: few rows. The weights are words of 32 bits, `vectors` vectors of columns at a time, read once, in the
// order of memory, for each tile of `rows` rows. A vector of weights costs a mask, a conversion and a product a row.
//
// matmul_panels: many rows. A panel of columns, `depth` of k at a time, becomes f32 in the first cache; then
// matmul_packed's register tile goes over it for all rows.
#include "schedules/families.hpp"
#include "schedules/matmul_support.hpp"

namespace heddle::schedules {
namespace {

constexpr std::int64_t many_rows = 24;

std::int64_t weights_in_word(const Workload& w) { return 32 / w.anchor().attributes.at("bits").get<std::int64_t>(); }
std::int64_t block_size(const Workload& w) { return w.anchor().attributes.at("block_size").get<std::int64_t>(); }

bool words_match(const Workload& w, const Machine&) {
  if (w.anchor().op->name() != "matmul_blocks" || !has_columns_innermost(w)) return false;
  for (std::size_t i = 1; i < w.anchor().operands.size(); ++i)
    if (!is_constant(w, i)) return false;
  return true;
}

std::int64_t least_rows(const Workload& w) { return extent_of(w, "m").bounds(w.composition().symbols).min; }

bool panels_match(const Workload& w, const Machine& m) { return words_match(w, m) && least_rows(w) >= many_rows; }

/// Sums, words, a row's element each, and a weight on its way from one to the other. Masks come from memory.
bool fits_registers_of_words(std::int64_t vectors, std::int64_t rows, const Machine& m) {
  return vectors * rows + vectors + rows + 1 <= m.vector_registers;
}

/// Two instructions a cycle, of which a row's products are the useful ones, and no sum is added to before the last
/// product has arrived.
double words_tile_rate(std::int64_t vectors, std::int64_t rows) {
  constexpr double latency = 4;
  const double cycles = static_cast<double>(vectors * (2 + rows)) / 2;
  return static_cast<double>(vectors * rows) / 2 / std::max(cycles, latency);
}

/// The same, and what is left of it where there is a single row only.
double words_any_rows_rate(std::int64_t vectors, std::int64_t rows) {
  return words_tile_rate(vectors, rows) * words_tile_rate(vectors, 1);
}

std::vector<MatmulTile> words_candidates(const Workload& w, const Machine& m) {
  return matmul_tiles(w, m, fits_registers_of_words);
}

MatmulTile words_rule(const Workload& w, const Machine& m) {
  const bool any_rows = least_rows(w) < many_rows && !extent_of(w, "m").is_constant();
  return best_matmul_tile(w, m, words_candidates(w, m), any_rows ? words_any_rows_rate : words_tile_rate);
}

/// So many of k, in whole blocks, that a panel stays in the first cache beside the rows that are multiplied with it.
std::int64_t panel_depth(const Workload& w, const Machine& m, std::int64_t vectors) {
  const std::int64_t block = block_size(w);
  const std::int64_t blocks = w.anchor_inputs()[1].shape[1].value();
  const std::int64_t fitting = std::max<std::int64_t>(1, m.l1_bytes / 2 / (vectors * m.vector_bytes * block));
  return block * chunk(blocks, chunk(blocks, fitting));
}

PanelTile panel_tile(const Workload& w, const Machine& m, const MatmulTile& k) {
  return {k.vectors, k.rows, panel_depth(w, m, k.vectors), k.tasks};
}

std::vector<PanelTile> panels_candidates(const Workload& w, const Machine& m) {
  std::vector<PanelTile> all;
  for (const MatmulTile& k : matmul_tiles(w, m, fits_registers)) {
    all.push_back(panel_tile(w, m, k));
    all.push_back(all.back());
    all.back().depth *= 2;
  }
  return all;
}

PanelTile panels_rule(const Workload& w, const Machine& m) {
  return panel_tile(w, m, best_matmul_tile(w, m, matmul_tiles(w, m, fits_registers), register_tile_rate));
}

Implementation packed_in_columns(const Workload& w, const char* variant, std::int64_t block) {
  Implementation implementation;
  implementation.variant = variant;
  implementation.packings = {{"b", {{"n", block}}, "words"}};
  for (const char* operand : {"scale", "zero", "c"})
    if (w.has_input(operand)) implementation.packings.push_back({operand, {{"n", block}}});
  return implementation;
}

Implementation words_make(const Workload& w, const Machine& m, const MatmulTile& k) {
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t block = k.vectors * lanes;
  // A panel's vectors lie apart where the columns fill whole tiles: memory delivers several streams faster than one,
  // by a tenth on Cascade Lake.
  const bool is_filled = round_up(extent_of(w, "n").value(), lanes) % block == 0;
  Implementation implementation = packed_in_columns(w, "words", is_filled ? lanes : block);
  Schedule& s = implementation.schedule;
  schedule_matmul_tiles(s, w, m, k, true);
  const auto tile = [&](Stage stage) { return stage.vectorize("n", lanes).unroll("n").unroll("m"); };
  tile(s["acc"].update(0).reorder("n", "m", "kb"));
  tile(s["part"].compute_at("acc", "kb").bound_extent("n", block));
  tile(s["part"].update(0).reorder("n", "m", "j", "w")).unroll("j");
  s["a_tile"].compute_root().vectorize("k", lanes, Tail::RoundUp).parallel("m");
  s["a_sum"].compute_root().parallel("m");
  s["a_sum"].update(0).atomic().vectorize("k", lanes).parallel("m");
  return implementation;
}

Implementation panels_make(const Workload& w, const Machine& m, const PanelTile& k) {
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t block = k.vectors * lanes;
  Implementation implementation = packed_in_columns(w, "panels", block);
  Schedule& s = implementation.schedule;
  schedule_matmul_panels(s, w, m, k);
  s["b_tile"]
      .compute_at("acc", "ko")
      .bound_extent("n", block)
      .split("k", "kb", "k", block_size(w), Tail::RoundUp)
      .split("k", "w", "j", weights_in_word(w), Tail::RoundUp)
      .reorder("n", "j", "w", "kb")
      .vectorize("n", lanes)
      .unroll("n")
      .unroll("j");
  return implementation;
}

}  // namespace

Family matmul_words() {
  return TypedFamily<MatmulTile>{
      "matmul_words",   "weights of few bits, few rows: words of them unpacked for a tile of rows",
      words_match,      words_rule,
      words_candidates, words_make}
      .erase();
}

Family matmul_panels() {
  return TypedFamily<PanelTile>{
      "matmul_panels",   "weights of few bits, many rows: a panel of columns unpacked, then matmul_packed's tile",
      panels_match,      panels_rule,
      panels_candidates, panels_make}
      .erase();
}

}  // namespace heddle::schedules
