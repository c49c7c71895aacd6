// 3x3 convolutions of stride 1 by Winograd's algorithm on channels-last data: see ops/winograd.hpp.
//
// Per block of tile rows: every tile of the input is transformed, (m + 2)^2 small matrix products run over the channels
// with their accumulators in registers and weights transformed beforehand, and the products are transformed back, a
// vector of output channels at a time. Large images take a few rows at once, so that what lies between the passes stays
// in a cache; others take all of their tiles, so that weights come from memory once. Images of unknown size take a row
// at once.
#include <algorithm>
#include <limits>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "ops/winograd.hpp"
#include "schedules/conv_support.hpp"
#include "schedules/families.hpp"
#include "schedules/support.hpp"

namespace heddle::schedules {
namespace {

struct WinogradKnobs {
  BOOST_HANA_DEFINE_STRUCT(WinogradKnobs, (std::int64_t, tile), (std::int64_t, vectors), (std::int64_t, tiles),
                           (std::int64_t, rows), (std::int64_t, channels));
};

/// What the rules reckon with: of symbolic extents their middle.
struct Problem {
  std::int64_t ci, co, width, height;
  bool fixed;  ///< width and height are known

  std::int64_t across(std::int64_t tile) const { return chunk(width, tile); }
  std::int64_t down(std::int64_t tile) const { return chunk(height, tile); }
  /// Rows of tiles that there can be at once: one where their number is not known.
  std::int64_t most_rows(std::int64_t tile) const { return fixed ? down(tile) : 1; }
};

/// Ascending.
std::vector<std::int64_t> divisors(std::int64_t n) {
  std::vector<std::int64_t> all;
  for (std::int64_t i = 1; i <= n; ++i)
    if (n % i == 0) all.push_back(i);
  return all;
}

Problem problem(const Workload& w) {
  const Extent width = extent_of(w, "x"), height = extent_of(w, "y");
  return {w.input_type("w").shape[1].value(), extent_of(w, "co").value(), typical(width, w), typical(height, w),
          width.is_constant() && height.is_constant()};
}

std::vector<WinogradKnobs> winograd_candidates(const Workload& w, const Machine& m) {
  const Problem p = problem(w);
  const std::int64_t lanes = m.lanes(4);
  std::vector<WinogradKnobs> all;
  for (const std::int64_t tile : {4, 2})
    for (const std::int64_t vectors : {2, 3, 4, 1}) {
      if (vectors > 1 && (vectors - 1) * lanes >= p.co) continue;
      const std::int64_t block = vectors * lanes;
      for (const std::int64_t rows : divisors(p.most_rows(tile)))
        for (const std::int64_t blocks : divisors(chunk(p.co, block)))
          for (std::int64_t tiles = 14; tiles >= 1; --tiles)
            if (fits_registers(vectors, tiles, m) && tiles <= rows * p.across(tile))
              all.push_back({tile, vectors, tiles, rows, blocks * block});
    }
  return all;
}

/// Cycles of one core, for choosing among forms: FMAs at the register tile's rate, a vector's transformations with
/// their loads and stores (150 for F(4) if the first cache held all of it, measured at 250 to 300 with 36 lines from
/// the second one and 36 to it), weights at what a core reads from memory (of 2.5 to 3.6 GHz: 12 to 15 GB/s), and again
/// for each further block of rows from the last-level cache (30 GB/s at 3.8 GHz). Fitted to 170 schedules of ten
/// layers, see perf/results/register-tiles.md.
constexpr double fmas_a_cycle = 2, weight_bytes_a_cycle = 4, cached_bytes_a_cycle = 10;

constexpr double transform_cycles(std::int64_t tile) { return tile == 4 ? 250 : 80; }

/// Weights arrive while products run, the better the more tiles pass over a panel while the next one is fetched: cold
/// products on Granite Rapids took as long as the slower of the two and 0.4, 0.2 and 0.1 of the other at 2, 4 and 6
/// tiles.
double beside_arriving(double products, double arriving, std::int64_t tiles_a_panel) {
  const double unhidden = std::min(1.0, 0.8 / static_cast<double>(tiles_a_panel));
  return std::max(products, arriving) + unhidden * std::min(products, arriving);
}

/// Of so many channels of the transformed tiles in a block of rows.
std::int64_t tile_bytes(const Problem& p, const WinogradKnobs& k, std::int64_t channels) {
  return (k.tile + 2) * (k.tile + 2) * k.rows * p.across(k.tile) * 4 * channels;
}

/// What the passes hand on of a block of rows, tiles' inputs and products of the channels at once, comes to be written,
/// leaves and is read where the second cache does not keep it: along as many streams as a tile has elements, each slow,
/// but for the inputs, which products read in one. Beyond a core's share of the last cache writes wait for memory.
/// Cascade Lake, F(4), rows and channels at once (MB of inputs + products), ms: 128 channels at 56x56 2 (0.5 +
/// 0.5) 2.81, 7 (1.8 + 1.8) 2.97, 14 (3.6 + 3.6) 4.0; 512 at 28x28 7 rows of 512 (3.6 + 3.6) 12.0, of 128 (3.6 +
/// 0.9) 11.0, of 64 (3.6 + 0.5) 9.9.
double passing_cycles(const Problem& p, const WinogradKnobs& k, const Machine& m) {
  constexpr double bytes_a_cycle = 16, read_bytes_a_cycle = 64;
  const std::int64_t inputs = tile_bytes(p, k, p.ci), products = tile_bytes(p, k, k.channels);
  const double slower = inputs + products > m.l3_bytes / 8 ? 2 : 1;
  const auto chunks = static_cast<double>(chunk(p.co, k.channels));
  const auto leaving = [&](std::int64_t bytes) {  // weights take the other half
    const auto second = static_cast<double>(m.l2_bytes);
    return std::clamp((static_cast<double>(bytes) - second / 2) / second, 0.0, 1.0);
  };
  const double cycles =
      static_cast<double>(inputs) * (2 / bytes_a_cycle + chunks / read_bytes_a_cycle) * leaving(inputs + products) +
      static_cast<double>(products) * chunks * 3 / bytes_a_cycle * leaving(products);
  return static_cast<double>(chunk(p.down(k.tile), k.rows)) * cycles * slower;
}

double winograd_cycles(const Problem& p, const WinogradKnobs& k, const Machine& m) {
  const auto lanes = static_cast<double>(m.lanes(4));
  const auto tiles = static_cast<double>(p.across(k.tile) * p.down(k.tile));
  const auto elements = static_cast<double>((k.tile + 2) * (k.tile + 2));
  const auto weights = static_cast<double>(p.ci * p.co);
  const double useful = tile_efficiency(p.co, k.vectors * m.lanes(4)) *
                        tile_efficiency(k.rows * p.across(k.tile), k.tiles) * register_tile_rate(k.vectors, k.tiles) *
                        arriving_rate(k.tiles, k.vectors * m.vector_bytes * p.ci, m);
  const double products = elements * tiles * weights / lanes / fmas_a_cycle / useful;
  const double transforms = tiles * static_cast<double>(p.ci + p.co) / lanes * transform_cycles(k.tile);
  const auto blocks = static_cast<double>(chunk(p.down(k.tile), k.rows));
  const double bytes = elements * weights * 4;
  const bool stay = bytes + static_cast<double>(tile_bytes(p, k, p.ci + k.channels)) <= static_cast<double>(m.l2_bytes);
  const double arriving = bytes * (1 / weight_bytes_a_cycle + (stay ? 0 : (blocks - 1) / cached_bytes_a_cycle));
  return beside_arriving(products, arriving, chunk(k.rows * p.across(k.tile), k.tiles)) + transforms +
         passing_cycles(p, k, m);
}

double direct_cycles(const Problem& p, const Machine& m) {
  const auto weights = static_cast<double>(9 * p.ci * p.co);
  constexpr double usual_rate = 0.88;
  constexpr std::int64_t usual_tile = 7;
  const std::int64_t pixels = p.width * p.height;
  return beside_arriving(weights * static_cast<double>(pixels) / m.lanes(4) / fmas_a_cycle / usual_rate,
                         weights * 4 / weight_bytes_a_cycle, chunk(pixels, usual_tile));
}

/// Channels at once: of whole blocks that divide all of them, and a task's share at most where threads take channels.
std::vector<std::int64_t> channels_at_once(const Problem& p, const WinogradKnobs& k, const Workload& w,
                                           const Machine& m) {
  const int threads = w.composition().threads;
  const std::int64_t block = k.vectors * m.lanes(4), blocks = chunk(p.co, block);
  const std::int64_t tasks = threads > 1 && k.rows == p.down(k.tile) ? task_count(threads) : 1;
  std::vector<std::int64_t> all;
  for (const std::int64_t each : divisors(blocks))
    if (each <= chunk(blocks, tasks)) all.push_back(each * block);
  std::ranges::reverse(all);  // of equals the most
  return all;
}

/// Rows of tiles at once. Threads take blocks of rows where there are enough for all, else channels.
std::vector<std::int64_t> rows_at_once(const Problem& p, std::int64_t tile, int threads) {
  std::vector<std::int64_t> all = divisors(p.most_rows(tile));
  std::erase_if(all, [&](std::int64_t rows) {
    return threads > 1 && p.down(tile) / rows < 2 * threads && rows != p.most_rows(tile);
  });
  return all;
}

WinogradKnobs winograd_rule(const Workload& w, const Machine& m) {
  const Problem p = problem(w);
  WinogradKnobs best;
  double least = std::numeric_limits<double>::infinity();
  for (const std::int64_t tile : {4, 2})
    for (const std::int64_t rows : rows_at_once(p, tile, w.composition().threads))
      for (const std::int64_t vectors : {2, 3, 4, 1})
        for (std::int64_t tiles = 14; tiles >= 1; --tiles) {
          WinogradKnobs k{tile, vectors, tiles, rows, 1};
          if (!fits_registers(vectors, tiles, m) || tiles > rows * p.across(tile)) continue;
          for (const std::int64_t channels : channels_at_once(p, k, w, m)) {
            k.channels = channels;
            if (const double cycles = winograd_cycles(p, k, m); cycles < least) {
              least = cycles;
              best = k;
            }
          }
        }
  return best;
}

bool winograd_matches(const Workload& w, const Machine& m) {
  if (w.composition().exact || !is_two_dimensional_conv(w) || !weights_are_packable(w)) return false;
  if (!has_variant(w, ops::winograd_name(4))) return false;
  const Problem p = problem(w);
  if (p.ci % m.lanes(4) != 0) return false;
  return winograd_cycles(p, winograd_rule(w, m), m) < direct_cycles(p, m);
}

/// Storage whose planes, one an element of the transformed tiles, start an odd number of cache lines apart: a
/// transformation reads or writes one line of each plane, and lines a power of two apart would evict one another.
/// Where the number of tiles is not known, nothing is done about it.
void spread_planes(Stage stage, const char* channel, std::int64_t channels, std::optional<std::int64_t> tiles) {
  constexpr std::int64_t line = 16;  // floats
  const std::int64_t lines = chunk(channels, line);
  stage.align_storage(channel, (lines % 2 == 0 ? lines + 1 : lines) * line);
  if (tiles && *tiles % 2 == 0) stage.align_storage("t", *tiles + 1);
}

Implementation winograd_make(const Workload& w, const Machine& m, const WinogradKnobs& k) {
  const std::int64_t lanes = m.lanes(4);
  const std::int64_t block = k.vectors * lanes;
  const std::int64_t edge = k.tile + 2;
  const Problem p = problem(w);
  const Extent width = extent_of(w, "x"), height = extent_of(w, "y");
  const Extent tiles = ceil_div(width, k.tile) * k.rows;
  // Weights are stored in whole blocks, and no further.
  if (k.channels % block != 0 || chunk(p.co, block) % (k.channels / block) != 0 || p.most_rows(k.tile) % k.rows != 0)
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("conv_winograd: channels={} and rows={} must divide the {} blocks of {} channels and the {} "
                    "rows of tiles",
                    k.channels, k.rows, chunk(p.co, block), block, p.most_rows(k.tile)));
  const bool whole = p.fixed && k.rows == p.down(k.tile);
  const bool parallel = w.composition().threads > 1;
  const Tail co_tail = guarded_tail(p.co, lanes);
  const auto roles = stage_roles(w);

  Implementation implementation;
  const std::string variant = ops::winograd_name(static_cast<int>(k.tile));
  implementation.variant = variant;
  implementation.packings = {{"w", {{"co", block}}, variant}};
  if (w.has_input("b")) implementation.packings.push_back({"b", {{"co", lanes}}});

  Schedule& s = implementation.schedule;
  Stage out = s["out"];
  out.split("co", "chunk", "co", k.channels, guarded_tail(p.co, k.channels)).split("co", "coo", "coi", lanes, co_tail);
  out.split("x", "tx", "i", k.tile, guarded_tail(width, k.tile))
      .split("y", "ty", "j", k.tile, guarded_tail(height, k.tile));
  out.split("ty", "rows", "ty", k.rows);
  out.reorder("coi", "i", "j", "coo", "tx", "ty", "chunk", "rows", "n").vectorize("coi").unroll("i").unroll("j");
  if (parallel) out.parallel(whole ? "chunk" : "rows");

  s["out_rows"].compute_at("out", "coo").bound_extent("co", lanes).vectorize("co", lanes).unroll("kb").unroll("i");
  Stage product = s["product"].compute_at("out", "chunk").bound_extent("co", k.channels);
  if (const auto known = tiles.constant()) product.bound_extent("t", *known);
  spread_planes(product, "co", k.channels, tiles.constant());
  const auto loops = [&](Stage stage, const Tiling& tiling) {
    stage.split("co", "co", "coi", block).split("t", "t", "ti", tiling.tile, tiling.tail);
    stage.reorder("coi", "ti", "t", "co", "n", "kb", "ka").vectorize("coi", lanes).unroll("coi").unroll("ti");
  };
  tiled_where_it_fits(product, loops, tile_loop(tiles, k.tiles, w));
  s["acc"].compute_at("product", "t").bound_extent("co", block).vectorize("co", lanes).unroll("co").unroll("t");
  Stage update = s["acc"].update(0);
  update.reorder("co", "t", "ci").vectorize("co", lanes).unroll("co").unroll("t");
  if (p.ci % 2 == 0) update.unroll("ci", 2);

  Stage transformed = s["x_tile"];
  if (whole && parallel) transformed.compute_root();
  else transformed.compute_at("out", "rows");
  transformed.bound_extent("ci", p.ci).bound_extent("ka", edge).bound_extent("kb", edge);
  if (const auto known = tiles.constant()) transformed.bound_extent("t", *known);
  transformed.split("ci", "ci", "cii", lanes)
      .reorder("cii", "kb", "ka", "ci", "t", "n")
      .vectorize("cii")
      .unroll("kb")
      .unroll("ka");
  if (whole && parallel)
    transformed.split("t", "task", "t", chunk(tiles.value(), task_count(w.composition().threads)), Tail::GuardWithIf)
        .parallel("task");
  spread_planes(transformed, "ci", p.ci, tiles.constant());
  s["x_rows"].compute_at("x_tile", "ci").bound_extent("ci", lanes).vectorize("ci", lanes).unroll("j").unroll("ka");
  schedule_padding(s, roles, m);
  return implementation;
}

}  // namespace

Family conv_winograd() {
  return TypedFamily<WinogradKnobs>{
      "conv_winograd",     "Winograd's F(m x m, 3 x 3): tiles transformed, a product per element, transformed back",
      winograd_matches,    winograd_rule,
      winograd_candidates, winograd_make}
      .erase();
}

}  // namespace heddle::schedules
