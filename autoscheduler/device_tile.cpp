#include "autoscheduler/device_tile.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "schedules/gpu_support.hpp"

namespace heddle::autoscheduler {
namespace {

using Names = std::vector<std::string>;
using Tail = Stage::Tail;

/// Elements computed twice or for nothing, over all.
constexpr double most_waste = 2;
/// Elements of a thread: all are written out.
constexpr std::int64_t most_part = 64;
/// Rounds of a copy that are written out.
constexpr std::int64_t most_rounds = 16;

void run_threads(Stage& stage, const Names& threads) {
  if (threads.size() == 1) stage.gpu_threads(threads[0]);
  else if (threads.size() == 2) stage.gpu_threads(threads[0], threads[1]);
  else stage.gpu_threads(threads[0], threads[1], threads[2]);
}

}  // namespace

Names TileLoops::all() const {
  Names names = within;
  names.insert(names.end(), threads.begin(), threads.end());
  return names;
}

BlockTile::BlockTile(const Subject& subject, const std::vector<std::size_t>& places, const KnobValues& values)
    : subject_(subject) {
  const Gpu& gpu = *subject.machine.gpu;
  for (const std::size_t p : places) {
    TileEdge edge{p, subject.loop(p), subject.extent(p), values.get("threads_" + subject.loop(p), 1),
                  values.get("tile_" + subject.loop(p), 1)};
    if (edge.block() > edge.extent)
      throw Pruned{fmt::format("a block's {} are more than {}'s {} iterations", edge.block(), edge.loop, edge.extent)};
    waste_ *= static_cast<double>(edge.blocks() * edge.block()) / static_cast<double>(edge.extent);
    threads_ *= edge.threads;
    part_ *= edge.tile;
    edges_.push_back(std::move(edge));
  }
  std::int64_t all = 1;
  for (std::size_t p = 0; p < subject.rank(); ++p) all *= subject.extent(p);
  if (waste_ > most_waste) throw Pruned{"tiles compute too much twice"};
  if (threads_ > gpu.block_threads)
    throw Pruned{fmt::format("threads: {} a block, {} at most", threads_, gpu.block_threads)};
  if (threads_ < std::min<std::int64_t>(gpu.subgroup / 2, all / 2))
    throw Pruned{fmt::format("threads: {} a block leave most of {} that step together idle", threads_, gpu.subgroup)};
  if (part_ > most_part) throw Pruned{fmt::format("registers: {} elements a thread, {} at most", part_, most_part)};
  constexpr std::int64_t small = 1024;  // elements of a block that smaller tiles would not do better with
  if (blocks() < gpu.processors / 8 && threads_ * part_ > small)
    throw Pruned{fmt::format("blocks: {:.0f} for a device that runs {} at once", blocks(), gpu.processors)};
  lanes_ = values.get("lanes", 1);
  if (edges_[0].tile % lanes_ != 0)
    throw Pruned{
        fmt::format("a thread's {} along {} hold no whole vectors of {}", edges_[0].tile, edges_[0].loop, lanes_)};
}

const TileEdge* BlockTile::edge_of(std::optional<std::size_t> place) const {
  for (const TileEdge& edge : edges_)
    if (place && edge.place == *place) return &edge;
  return nullptr;
}

double BlockTile::blocks() const {
  double count = 1;
  for (std::size_t p = 0; p < subject_.rank(); ++p)
    if (edge_of(p) == nullptr) count *= static_cast<double>(subject_.extent(p));
  for (const TileEdge& edge : edges_) count *= static_cast<double>(edge.blocks());
  return count;
}

void BlockTile::split(Stage& stage, const TileEdge& edge, const std::string& loop, TileLoops& loops) const {
  const std::string& stem = edge.loop;
  if (!is_first(edge)) {
    if (edge.threads == 1) {
      loops.within.push_back(loop);
      return;
    }
    stage.split(loop, stem + "_t", stem + "_i", edge.tile);
    loops.within.push_back(stem + "_i");
    loops.threads.push_back(stem + "_t");
    return;
  }
  if (interleaves_)
    stage.split(loop, stem + "_g", stem + "_s", edge.threads * lanes_)
        .split(stem + "_s", stem + "_t", stem + "_v", lanes_);
  else stage.split(loop, stem + "_t", stem + "_i", edge.tile).split(stem + "_i", stem + "_g", stem + "_v", lanes_);
  loops.within.push_back(stem + "_v");
  loops.within.push_back(stem + "_g");
  loops.threads.push_back(stem + "_t");
}

void BlockTile::run(Stage& stage, const TileLoops& loops) const {
  for (std::size_t i = 0; i < loops.within.size(); ++i)
    if (i == 0 && lanes_ > 1) stage.vectorize(loops.within[i]);
    else stage.unroll(loops.within[i]);
  run_threads(stage, loops.threads);
}

void BlockTile::spread(Stage& stage, Names loops, std::int64_t elements, std::int64_t lanes,
                       const Names& serial) const {
  Names order = serial;
  if (lanes > 1) {
    stage.split(loops[0], "f_d", "f_v", lanes);
    loops[0] = "f_d";
    order.insert(order.begin(), "f_v");
    elements /= lanes;
  }
  const std::string all = schedules::fuse_all(stage, loops, "f_all");
  stage.split(all, "f_o", "f_t", threads_, elements % threads_ == 0 ? Tail::RoundUp : Tail::GuardWithIf);
  std::vector<std::int64_t> counts;
  for (const TileEdge& edge : edges_)
    if (is_first(edge) || (edge.block() > 1 && edge.threads > 1)) counts.push_back(edge.threads);
  Names threads = {"f_t"};
  if (counts.size() > 1) {
    stage.split("f_t", "f_r", "f_x", counts[0]);
    threads = {"f_x", "f_r"};
  }
  if (counts.size() > 2) {
    stage.split("f_r", "f_z", "f_y", counts[1]);
    threads = {"f_x", "f_y", "f_z"};
  }
  order.push_back("f_o");
  order.insert(order.end(), threads.begin(), threads.end());
  stage.reorder(order);
  if (lanes > 1) stage.vectorize("f_v");
  if (serial.empty() && (elements + threads_ - 1) / threads_ <= most_rounds) stage.unroll("f_o");
  run_threads(stage, threads);
}

}  // namespace heddle::autoscheduler
