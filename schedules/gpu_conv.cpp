// Convolutions on a device.
//
// gpu_conv: an implicit matrix product. A block's rows are a rectangle of output pixels, its columns output channels;
// each step brings what those pixels read at one tap (or one row of taps, where the channels are few) to shared memory.
// gpu_depthwise: a thread computes four channels of a few pixels straight from memory: neighbours' reads meet in the
// caches, and there is no reduction over channels that shared memory would serve.
#include <numeric>

#include <fmt/format.h>

#include "schedules/families.hpp"
#include "schedules/gpu_tiles.hpp"

namespace heddle::schedules {
namespace {

std::int64_t groups(const Workload& w) { return w.anchor().attributes.value("group", std::int64_t{1}); }

const TensorType& weights(const Workload& w) { return w.input_type("w"); }

bool is_depthwise(const Workload& w) { return groups(w) > 1 && weights(w).shape[1] == Extent(1); }

bool is_conv(const Workload& w) {
  // Shared memory is reckoned in elements of 4 bytes.
  return w.anchor().op->name() == "conv" && w.output_types().size() == 1 && size_of(w.anchor_output().dtype) <= 4 &&
         w.has_input("w") && weights(w).is_static() && extent_of(w, "co").is_constant();
}

bool is_constant_weight(const Workload& w) { return is_constant(w, 1); }

/// Spatial loops, innermost first: x, y, z.
std::vector<std::string> spatial(const Workload& w) {
  std::vector<std::string> loops(w.dimensions().rbegin(), w.dimensions().rend() - 2);
  return loops;
}

/// Taps, innermost first: kx, ky, kz.
std::vector<std::string> tap_loops(const Workload& w) {
  std::vector<std::string> taps;
  for (const auto& loop : spatial(w)) taps.push_back("k" + loop);
  return taps;
}

/// Extent of the d-th tap, innermost first.
std::int64_t taps(const Workload& w, std::size_t d) {
  const auto& shape = weights(w).shape;
  return shape[shape.size() - 1 - d].value();
}

/// Pixels (batches included) in blocks of the given rectangle, and how many blocks.
std::int64_t pixel_blocks(const Workload& w, std::int64_t across, std::int64_t down) {
  std::int64_t blocks = typical(extent_of(w, "n"), w);
  const auto loops = spatial(w);
  for (std::size_t d = 0; d < loops.size(); ++d)
    blocks *= chunk(typical(extent_of(w, loops[d]), w), d == 0 ? across : d == 1 ? down : 1);
  return blocks;
}

// --- gpu_conv ---

struct Knobs {
  BOOST_HANA_DEFINE_STRUCT(Knobs, (std::int64_t, columns), (std::int64_t, pixels_x), (std::int64_t, pixels_y),
                           (std::int64_t, thread_columns), (std::int64_t, thread_rows), (std::int64_t, depth),
                           (std::int64_t, slices), (std::int64_t, tap_slices));
};

ProductTile tile_of(const Knobs& k) {
  return {k.columns, k.pixels_x * k.pixels_y, k.thread_columns, k.thread_rows, k.depth, k.slices};
}

/// What the choice of knobs reckons with.
struct Facts {
  std::int64_t co, ci, group_outputs;      ///< ci and outputs of a group
  std::int64_t width, height = 1, others;  ///< of the result; others: batch and depth
  std::vector<std::int64_t> taps;          ///< innermost first
  bool takes_rows;                         ///< few input channels: a step takes all of them and a row of taps

  explicit Facts(const Workload& w)
      : co(extent_of(w, "co").value()),
        ci(weights(w).shape[1].value()),
        group_outputs(co / groups(w)),
        others(typical(extent_of(w, "n"), w)) {
    const auto loops = spatial(w);
    width = typical(extent_of(w, loops[0]), w);
    if (loops.size() > 1) height = typical(extent_of(w, loops[1]), w);
    if (loops.size() > 2) others *= typical(extent_of(w, loops[2]), w);
    for (std::size_t d = 0; d < loops.size(); ++d) taps.push_back(weights(w).shape[loops.size() + 1 - d].value());
    takes_rows = ci < 8 && taps[0] > 1;
  }

  std::int64_t step_taps() const { return takes_rows ? taps[0] : 1; }
  std::int64_t all_taps() const {
    return std::accumulate(taps.begin(), taps.end(), std::int64_t{1}, std::multiplies<>());
  }
  /// Taps whose slices have blocks of their own: `count` of them, the outermost first. Where they start in `taps`.
  std::size_t first_sliced(std::int64_t count) const {
    const std::size_t whole = takes_rows ? 1 : 0;
    return std::max(whole, taps.size() - std::min(taps.size(), static_cast<std::size_t>(count)));
  }
  std::int64_t tap_slices(std::int64_t count) const {
    std::int64_t slices = 1;
    for (std::size_t d = first_sliced(count); d < taps.size(); ++d) slices *= taps[d];
    return slices;
  }
};

bool matches(const Workload& w, const Machine&) {
  if (!is_conv(w) || is_depthwise(w)) return false;
  // A block of columns lies in one group.
  return groups(w) == 1 || (extent_of(w, "co").value() / groups(w)) % 4 == 0;
}

bool is_useful(const Facts& f, const Knobs& k, const Gpu& gpu) {
  const ProductTile t = tile_of(k);
  if (!fits(t, f.step_taps(), gpu) || t.rows > 128) return false;
  if (t.threads() < (t.rows >= 16 && k.columns >= 16 ? 32 : 4)) return false;
  // A thread's vector of rows lies along x, unless there is less.
  if (t.row_vector() > k.pixels_x && k.pixels_x < f.width) return false;
  if (f.group_outputs != f.co && f.group_outputs % k.columns != 0) return false;
  if (k.columns >= 2 * f.co && k.columns > 8) return false;
  if (k.slices > 1 && chunk(f.ci, k.depth) < 2 * k.slices) return false;
  if (k.tap_slices > 0 && f.tap_slices(k.tap_slices) == f.tap_slices(k.tap_slices - 1)) return false;
  return (k.pixels_x < 2 * f.width || k.pixels_x == k.thread_rows) && k.pixels_y < 2 * f.height;
}

std::vector<Knobs> candidates_of(const Facts& f, const Gpu& gpu) {
  const std::vector<std::int64_t> depths = f.ci < 8 ? std::vector{f.ci} : std::vector<std::int64_t>{8, 16, 32, 64};
  std::vector<Knobs> all;
  for (const std::int64_t columns : {4, 8, 16, 32, 64, 128})
    for (const std::int64_t across : {128, 64, 32, 16, 8, 4, 2, 1})
      for (const std::int64_t down : {1, 2, 4, 8, 16})
        for (const std::int64_t thread_columns : {4, 8, 2})
          for (const std::int64_t thread_rows : {1, 2, 4, 8})
            for (const std::int64_t step : depths)
              for (const std::int64_t slices : {1, 2, 4, 8, 16})
                for (const std::int64_t tap_slices : {0, 1, 2}) {
                  const Knobs k{columns, across, down, thread_columns, thread_rows, step, slices, tap_slices};
                  if (is_useful(f, k, gpu)) all.push_back(k);
                }
  return all;
}

std::vector<Knobs> candidates(const Workload& w, const Machine& m) { return candidates_of(Facts(w), *m.gpu); }

Knobs rule(const Workload& w, const Machine& m) {
  const Facts f(w);
  const auto pixels = [&](std::int64_t across, std::int64_t down) {
    return f.others * chunk(f.width, across) * chunk(f.height, down);
  };
  Knobs best{4, 1, 1, 2, 1, std::min<std::int64_t>(8, f.ci), 1, 0};
  double least = 1e30;
  for (const Knobs& k : candidates_of(f, *m.gpu)) {
    const ProductSize size{.tiles = pixels(k.pixels_x, k.pixels_y) * chunk(f.co, k.columns),
                           .steps = chunk(f.ci, k.depth) * f.all_taps() / f.step_taps(),
                           .taps = f.step_taps(),
                           .slices = k.slices * f.tap_slices(k.tap_slices),
                           .elements = pixels(1, 1) * f.co};
    // A guarded last step costs more than it computes.
    const double ragged = f.ci % k.depth == 0 ? 1.0 : 1.2;
    const double time = ragged * product_time(size, tile_of(k), *m.gpu);
    if (time < least * 0.999) {
      least = time;
      best = k;
    }
  }
  return best;
}

Implementation make(const Workload& w, const Machine&, const Knobs& k) {
  Implementation implementation;
  implementation.variant = "tiled";
  const bool packed = is_constant_weight(w);
  if (packed) implementation.packings = {{"w", {{"co", k.columns}}}};
  const auto loops = spatial(w);
  Product p;
  p.column = "co";
  p.columns = extent_of(w, "co");
  p.rows = {{loops[0], k.pixels_x}};
  if (loops.size() > 1) p.rows.push_back({loops[1], k.pixels_y});
  if (loops.size() > 2) p.batch.push_back(loops[2]);
  p.batch.push_back("n");
  p.depth = "ci";
  p.depth_extent = weights(w).shape[1];
  const Facts facts(w);
  const auto all_taps = tap_loops(w);
  p.tap_slices = {all_taps.begin() + static_cast<std::ptrdiff_t>(facts.first_sliced(k.tap_slices)), all_taps.end()};
  p.taps = all_taps;
  if (facts.takes_rows) {
    p.step_taps = {all_taps[0]};
    p.step_tap_count = facts.step_taps();
    p.taps.erase(p.taps.begin());
  }

  const TensorType x = w.anchor_inputs()[0];
  const bool channels_last = x.innermost() == 1;
  TileStage pixels{"x_tile", {}, channels_last ? "ci" : loops[0], channels_last && is_multiple(p.depth_extent, 4)};
  for (const auto& row : p.rows) pixels.across.push_back(row.name);
  if (groups(w) > 1) pixels.single.push_back("group");
  p.operands = {pixels, {"w_tile", {"co"}, packed ? "co" : "", packed}};
  schedule_product(implementation.schedule, p, tile_of(k));
  return implementation;
}

// --- gpu_depthwise ---

struct DepthwiseKnobs {
  BOOST_HANA_DEFINE_STRUCT(DepthwiseKnobs, (std::int64_t, channels), (std::int64_t, pixels), (std::int64_t, rows),
                           (std::int64_t, threads_x));
};

bool depthwise_matches(const Workload& w, const Machine&) {
  return is_conv(w) && is_depthwise(w) && w.dimensions().size() <= 4;
}

std::vector<DepthwiseKnobs> depthwise_candidates(const Workload& w, const Machine& m) {
  const std::int64_t co = extent_of(w, "co").value();
  const auto loops = spatial(w);
  const std::int64_t width = typical(extent_of(w, loops[0]), w);
  const std::int64_t height = loops.size() > 1 ? typical(extent_of(w, loops[1]), w) : 1;
  std::vector<DepthwiseKnobs> all;
  for (const std::int64_t channels : {16, 32, 64, 128, 256})
    for (const std::int64_t pixels : {1, 2, 4, 7, 8})
      for (const std::int64_t rows : {1, 2, 4})
        for (const std::int64_t across : {1, 2, 4, 7, 8, 14, 16}) {
          const std::int64_t threads = channels / 4 * across;
          // A warp at least, if there is work for one.
          if (threads > m.gpu->block_threads || threads < std::min<std::int64_t>(m.gpu->subgroup, chunk(co, 4) * width))
            continue;
          if (channels >= 2 * co && channels > 16) continue;
          if (pixels > width || rows > height || pixels * rows > 16 || pixels * across >= 2 * width + pixels) continue;
          all.push_back({channels, pixels, rows, across});
        }
  if (all.empty()) all.push_back({16, 1, 1, 1});
  return all;
}

DepthwiseKnobs depthwise_rule(const Workload& w, const Machine& m) {
  const auto loops = spatial(w);
  const std::int64_t co = extent_of(w, "co").value(), kernel = taps(w, 0), down = loops.size() > 1 ? taps(w, 1) : 1;
  const auto strides = w.anchor().attributes.value("strides", std::vector<std::int64_t>{});
  const std::int64_t stride = strides.empty() ? 1 : strides.back();
  DepthwiseKnobs best{};
  double least = 1e30;
  const auto real = [](std::int64_t v) { return static_cast<double>(v); };
  for (const DepthwiseKnobs& k : depthwise_candidates(w, m)) {
    const std::int64_t blocks = pixel_blocks(w, k.pixels * k.threads_x, k.rows) * chunk(co, k.channels);
    const double threads = real(k.channels / 4 * k.threads_x);
    // Loads of 16 bytes that a thread waits for, shared by its pixels where windows overlap, and its weights.
    const double loads =
        real(((k.pixels - 1) * stride + kernel) * ((k.rows - 1) * stride + down)) + real(kernel * down);
    const double work = loads * 2 + real(kernel * down * k.pixels * k.rows) * 4;
    // 1024 threads hide memory's latency; a block starts and ends in some 1000 cycles, 20 of them its own.
    const double each = std::ceil(real(blocks) / m.gpu->processors);
    const double resident = std::min(each, std::max(1.0, std::floor(1024 / std::max(32.0, threads))));
    const double rounds = std::ceil(each / resident);
    const double time =
        20 * each + rounds * (1000 + std::max(resident * std::max(1.0, threads / 32) * work / 4, 400 + 8 * loads));
    if (time < least * 0.999) {
      least = time;
      best = k;
    }
  }
  return best;
}

Implementation depthwise_make(const Workload& w, const Machine&, const DepthwiseKnobs& k) {
  Implementation implementation;
  implementation.variant = "tiled";
  if (is_constant_weight(w)) implementation.packings = {{"w", {{"co", k.channels}}}};
  const auto loops = spatial(w);
  const bool vectors = is_multiple(extent_of(w, "co"), 4);
  const std::int64_t lanes = 4;

  Schedule& s = implementation.schedule;
  Stage out = s["out"];
  std::vector<std::string> within = {"cv"}, blocks = {"block_c"};
  if (vectors) {
    out.split("co", "channels", "cv", lanes).split("channels", "block_c", "ct", k.channels / lanes, Tail::GuardWithIf);
  } else {
    out.split("co", "block_c", "channels", k.channels, Tail::GuardWithIf).split("channels", "ct", "cv", lanes);
  }
  out.split(loops[0], "xs", "px", k.pixels, Tail::GuardWithIf)
      .split("xs", "block_x", "xt", k.threads_x, Tail::GuardWithIf);
  within.push_back("px");
  blocks.push_back("block_x");
  if (loops.size() > 1) {
    out.split(loops[1], "block_y", "py", k.rows, Tail::GuardWithIf);
    within.push_back("py");
    blocks.push_back("block_y");
  }
  blocks.push_back("n");
  std::vector<std::string> order = within;
  order.insert(order.end(), {"ct", "xt"});
  order.insert(order.end(), blocks.begin(), blocks.end());
  out.reorder(order);
  if (vectors) out.vectorize("cv");
  else out.unroll("cv");
  out.unroll("px");
  if (loops.size() > 1) out.unroll("py");
  spread_blocks(out, blocks);
  out.gpu_threads("ct", "xt");

  const auto tile = [&](Stage stage) {
    if (vectors) stage.vectorize("co");
    else stage.unroll("co");
    for (const auto& loop : loops) stage.unroll(loop);
  };
  s["acc"].compute_at("out", "ct").bound_extent("co", lanes).bound_extent(loops[0], k.pixels);
  if (loops.size() > 1) s["acc"].bound_extent(loops[1], k.rows);
  tile(s["acc"]);
  Stage update = s["acc"].update(0);
  std::vector<std::string> inner = {"co"};
  inner.insert(inner.end(), loops.begin(), loops.end());
  std::int64_t count = 1;
  for (std::size_t d = 0; d < loops.size(); ++d) {
    inner.push_back("k" + loops[d]);
    count *= taps(w, d);
  }
  update.reorder(inner);
  tile(update);
  if (count <= 25)
    for (const auto& loop : loops) update.unroll("k" + loop);
  return implementation;
}

}  // namespace

Family gpu_conv() {
  return TypedFamily<Knobs>{.name = "gpu_conv",
                            .summary = "implicit matrix product: tiles of pixels x channels in shared memory",
                            .matches = matches,
                            .rule = rule,
                            .candidates = candidates,
                            .make = make,
                            .gpu = true}
      .erase();
}

Family gpu_depthwise() {
  return TypedFamily<DepthwiseKnobs>{.name = "gpu_depthwise",
                                     .summary = "a thread computes four channels of a few pixels, the taps unrolled",
                                     .matches = depthwise_matches,
                                     .rule = depthwise_rule,
                                     .candidates = depthwise_candidates,
                                     .make = depthwise_make,
                                     .gpu = true}
      .erase();
}

}  // namespace heddle::schedules
