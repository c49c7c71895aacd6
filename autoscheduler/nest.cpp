#include "autoscheduler/nest.hpp"

#include <algorithm>
#include <bit>

#include <fmt/format.h>

namespace heddle::autoscheduler {
namespace {

using Tail = Stage::Tail;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

std::string tile_loop(const Subject& s, const NestShape& shape, std::size_t place) {
  return place > 0 && shape.tile[place] == 1 ? s.loop(place) : s.loop(place) + "_o";
}
std::string block_loop(const Subject& s, std::size_t place) { return s.loop(place) + "_b"; }

}  // namespace

std::optional<Nest> Nest::make(const Subject& subject, const NestShape& shape, std::string& why) {
  Nest nest(subject);
  nest.shape_ = shape;
  const std::size_t rank = subject.rank();
  for (std::size_t p = 0; p < rank; ++p)
    if (shape.tile[p] > subject.extent(p) && !(p == 0 && shape.guard_vector)) {
      why = fmt::format("a tile of {} is longer than {}'s {} iterations", shape.tile[p], subject.loop(p),
                        subject.extent(p));
      return std::nullopt;
    }
  nest.lanes_ = static_cast<int>(std::bit_floor(static_cast<std::uint64_t>(
      std::clamp<std::int64_t>(subject.extent(0), 1, std::min<std::int64_t>(subject.lanes, shape.tile[0])))));
  if (shape.tile[0] % nest.lanes_ != 0) {
    why = fmt::format("a tile of {} holds no whole vectors of {}", shape.tile[0], nest.lanes_);
    return std::nullopt;
  }
  std::vector<std::size_t> places;
  for (std::size_t p = 0; p < rank; ++p)
    if (p == 0 || ceil_div(subject.extent(p), shape.tile[p]) > 1) places.push_back(p);
  const auto is_open = [&](std::size_t p) { return std::ranges::find(places, p) != places.end(); };
  // A loop of one iteration is neither: the nearest choice that means something stands for it.
  NestShape& kept = nest.shape_;
  if (!is_open(kept.innermost)) kept.innermost = places.front();
  if (!is_open(kept.outermost) || (places.size() > 1 && kept.outermost == kept.innermost))
    kept.outermost = places.back() != kept.innermost ? places.back() : places.front();
  for (std::size_t p = 0; p < rank; ++p)
    if (kept.block[p] >= ceil_div(subject.extent(p), kept.tile[p])) kept.block[p] = 0;
  std::vector<std::size_t> order = {kept.innermost};
  for (const std::size_t p : places)
    if (p != kept.innermost && p != kept.outermost) order.push_back(p);
  if (kept.outermost != kept.innermost) order.push_back(kept.outermost);

  std::vector<NestLoop> blocks;
  for (const std::size_t p : order) {
    const std::int64_t tiles = ceil_div(subject.extent(p), shape.tile[p]);
    const std::int64_t block = kept.block[p];
    if (block == 0) {
      nest.loops_.push_back({tile_loop(subject, shape, p), tiles, {p}});
      continue;
    }
    nest.loops_.push_back({tile_loop(subject, shape, p), block, {p}});
    blocks.push_back({block_loop(subject, p), ceil_div(tiles, block), {p}});
  }
  nest.loops_.insert(nest.loops_.end(), blocks.begin(), blocks.end());
  nest.unfused_ = nest.loops_;
  kept.parallel = std::min(kept.parallel, static_cast<std::int64_t>(nest.loops_.size()));
  if (kept.parallel > 1) {
    NestLoop task{"task", 1, {}};
    for (std::int64_t i = 0; i < kept.parallel; ++i) {
      const NestLoop& outer = nest.loops_[nest.loops_.size() - 1];
      task.count *= outer.count;
      task.places.insert(task.places.end(), outer.places.begin(), outer.places.end());
      nest.loops_.pop_back();
    }
    nest.loops_.push_back(task);
  }
  return nest;
}

std::int64_t Nest::tasks() const { return shape_.parallel == 0 ? 1 : loops_.back().count; }

std::int64_t Nest::iterations(std::size_t level) const {
  std::int64_t count = 1;
  for (std::size_t l = level; l < loops_.size(); ++l) count *= loops_[l].count;
  return count;
}

Box Nest::region(std::size_t level) const {
  std::vector<std::int64_t> extents(subject_->rank());
  for (std::size_t p = 0; p < extents.size(); ++p) extents[p] = shape_.tile[p];
  for (std::size_t l = 0; l < std::min(level, loops_.size()); ++l)
    for (const std::size_t p : loops_[l].places) extents[p] *= loops_[l].count;
  const bool everything = level >= loops_.size();
  Box box(extents.size());
  for (std::size_t p = 0; p < extents.size(); ++p)
    box[subject_->order[p]] = {subject_->dependences.out().box[subject_->order[p]].min,
                               everything ? subject_->extent(p) : std::min(extents[p], subject_->extent(p))};
  return box;
}

double Nest::waste() const {
  double factor = 1;
  for (std::size_t p = 0; p < shape_.tile.size(); ++p) {
    const std::int64_t e = subject_->extent(p), t = shape_.tile[p];
    factor *= static_cast<double>(ceil_div(e, t) * t) / static_cast<double>(e);
  }
  return factor;
}

std::optional<std::size_t> Nest::level_of(std::size_t place, bool block) const {
  for (std::size_t l = 0; l < loops_.size(); ++l) {
    const auto& places = loops_[l].places;
    if (std::ranges::find(places, place) == places.end()) continue;
    if (!block || loops_[l].name == block_loop(*subject_, place) || loops_[l].name == "task") return l;
  }
  return std::nullopt;
}

void Nest::schedule(Schedule& schedule) const {
  const Subject& s = *subject_;
  Stage out = schedule[s.dependences.out().role];
  if (s.home) s.home->place(out);
  const auto tail = [&](std::size_t p) {
    if (!s.exact) return Tail::GuardWithIf;
    if (s.extent(p) % shape_.tile[p] == 0) return Tail::RoundUp;
    return p == 0 && shape_.guard_vector ? Tail::GuardWithIf : Tail::ShiftInwards;
  };
  for (std::size_t p = 0; p < s.rank(); ++p)
    if (p == 0 || shape_.tile[p] > 1) out.split(s.loop(p), s.loop(p) + "_o", s.loop(p) + "_i", shape_.tile[p], tail(p));
  for (std::size_t p = 0; p < s.rank(); ++p)
    if (shape_.block[p] > 0) {
      const std::string loop = tile_loop(s, shape_, p);
      out.split(loop, block_loop(s, p), loop, shape_.block[p], Tail::GuardWithIf);
    }
  std::vector<std::string> order;
  for (std::size_t p = 0; p < s.rank(); ++p)
    if (p == 0 || shape_.tile[p] > 1) order.push_back(s.loop(p) + "_i");
  for (const NestLoop& loop : unfused_) order.push_back(loop.name);
  // Loops of one iteration go outside, where they separate nothing.
  for (std::size_t p = 0; p < s.rank(); ++p)
    if (const std::string name = tile_loop(s, shape_, p); std::ranges::find(order, name) == order.end())
      order.push_back(name);
  out.reorder(order);
  if (lanes_ > 1) out.vectorize(s.loop(0) + "_i", lanes_);
  if (shape_.tile[0] > lanes_) out.unroll(s.loop(0) + "_i");
  for (std::size_t p = 1; p < s.rank(); ++p)
    if (shape_.tile[p] > 1) out.unroll(s.loop(p) + "_i");
  if (shape_.parallel == 0) return;
  std::string task = unfused_.back().name;
  for (std::int64_t i = 1; i < shape_.parallel; ++i) {
    const std::string inner = unfused_[unfused_.size() - 1 - static_cast<std::size_t>(i)].name;
    const std::string fused = i + 1 == shape_.parallel ? "task" : fmt::format("task_{}", i);
    out.fuse(inner, task, fused);
    task = fused;
  }
  out.parallel(task);
}

}  // namespace heddle::autoscheduler
