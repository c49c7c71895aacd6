#include "autoscheduler/memory_traffic.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>
#include <tuple>
#include <utility>

namespace heddle::autoscheduler {
namespace {

/// Lines that are written are read before, and leave the cache later.
constexpr double store_weight = 1.7;
constexpr double line = 64;
/// Where places follow from data, those that follow each other are near: bytes brought in for each byte that is used.
constexpr double near_places = 2;
/// Prefetchers follow so many stretches of memory at a time (Intel's second-level streamer: one a page, of 32), and see
/// a stretch go on where the next place is no further than a few lines.
constexpr double most_streams = 32, same_stream = 256;

/// An access with the extents of the loops around it, outermost first.
struct Reach {
  const MemoryAccess* access = nullptr;
  std::vector<double> extents;
  std::size_t followed = 0;  ///< from this loop on, prefetchers have not forgotten a stretch before it goes on
};

/// Parts of a buffer's memory, in order and apart.
class Intervals {
 public:
  /// In the order of `from`.
  void add(double from, double to) {
    if (parts_.empty() || from > parts_.back().second) parts_.emplace_back(from, to);
    else parts_.back().second = std::max(parts_.back().second, to);
  }
  /// In any order.
  void add(const Intervals& others) {
    std::vector<std::pair<double, double>> all;
    std::ranges::merge(parts_, others.parts_, std::back_inserter(all));
    parts_.clear();
    for (const auto& [from, to] : all) add(from, to);
  }
  double length() const {
    double sum = 0;
    for (const auto& [from, to] : parts_) sum += to - from;
    return sum;
  }
  std::size_t count() const { return parts_.size(); }
  /// With what lies between two parts no further apart than that.
  Intervals closed(double gap) const {
    Intervals wider, whole;
    for (const auto& [from, to] : parts_) wider.add(from, to + gap);
    for (const auto& [from, to] : wider.parts_) whole.add(from, to - gap);
    return whole;
  }
  /// The length that would fill a cache as much if lines were spread evenly over its sets: the mean over lines of how
  /// many share their set, times a way's size.
  double crowded(double way_bytes) const {
    std::vector<double> lines(static_cast<std::size_t>(way_bytes / line));
    double everywhere = 0;
    for (const auto& [from, to] : parts_) {
      const double whole = std::floor((to - from) / way_bytes);
      everywhere += whole;
      const auto first = static_cast<std::int64_t>(std::floor(from / line));
      const auto count = static_cast<std::int64_t>(std::ceil((to - from - whole * way_bytes) / line));
      const auto sets = static_cast<std::int64_t>(lines.size());
      for (std::int64_t l = 0; l < count; ++l) lines[static_cast<std::size_t>(((first + l) % sets + sets) % sets)] += 1;
    }
    double sum = 0, squares = 0;
    for (const double n : lines) {
      sum += n + everywhere;
      squares += (n + everywhere) * (n + everywhere);
    }
    return sum == 0 ? 0 : std::max(length(), squares / sum * way_bytes);
  }
  /// Adds what a loop makes of them, `step` further on with each iteration. Where that would be too many parts it adds
  /// none, and returns by how much they would be longer.
  double repeat(double step, double iterations) {
    constexpr double most_parts = 2048;
    Intervals all;
    if (std::ranges::all_of(parts_, [&](const auto& part) { return part.second - part.first >= step; })) {
      for (const auto& [from, to] : parts_) all.add(from, to + step * (iterations - 1));
    } else if (iterations <= 2 || static_cast<double>(parts_.size()) * iterations <= most_parts) {
      std::vector<std::pair<double, double>> copies;
      for (double i = 0; i < iterations; ++i)
        for (const auto& [from, to] : parts_) copies.emplace_back(from + i * step, to + i * step);
      std::ranges::sort(copies);
      for (const auto& [from, to] : copies) all.add(from, to);
    } else {
      Intervals twice = *this;
      twice.repeat(step, 2);
      return 1 + (iterations - 1) * (twice.length() - length()) / length();
    }
    parts_ = std::move(all.parts_);
    return 1;
  }

 private:
  std::vector<std::pair<double, double>> parts_;
};

/// Accesses of one buffer that differ in nothing but where they begin.
struct Group {
  struct Loop {
    double step = 0, extent = 1;
    std::size_t level = 0;
  };
  double element = 0, lanes_apart = 1;  ///< an access's MemoryAccess::bytes and pieces
  std::size_t followed = 0;             ///< the most of their Reach's
  std::vector<Loop> loops;              ///< those that move it, short steps first
  std::vector<double> offsets;

  struct Touched {
    Intervals parts;
    double copies = 1;  ///< elsewhere
  };
  /// In the loops from a level on; `line`: bytes that come together.
  Touched touched(double line, std::size_t from_level = 0) const {
    Touched found{.copies = lanes_apart};
    double before = 0;  // offsets are those in the middle of the loops
    for (const auto& [step, iterations, level] : loops) before += step * std::floor((iterations - 1) / 2);
    for (const double offset : offsets) {
      const double from = std::floor((offset - before) / line) * line;
      found.parts.add(from, std::ceil((offset - before + element) / line) * line);
    }
    for (const auto& [step, iterations, level] : loops)
      if (level >= from_level) found.copies *= found.parts.repeat(step, iterations);
    return found;
  }
};
using Groups = std::map<int, std::map<std::vector<double>, Group>>;

/// By buffer, while the loops from `depth` on run. Without what follows from data.
Groups grouped(const std::vector<Reach>& reached, std::size_t depth) {
  Groups groups;
  for (const auto& [access, extents, followed] : reached) {
    if (access->scattered) continue;
    Group made{.element = access->bytes, .lanes_apart = access->pieces};
    for (std::size_t l = depth; l < std::min(extents.size(), access->steps.size()); ++l)
      if (access->steps[l] != 0 && extents[l] > 1) made.loops.push_back({std::abs(access->steps[l]), extents[l], l});
    std::ranges::sort(made.loops, {}, [](const Group::Loop& l) { return std::tuple(l.step, l.extent); });
    std::vector<double> key = {access->bytes, access->pieces};
    for (const Group::Loop& loop : made.loops) {
      key.push_back(loop.step);
      key.push_back(loop.extent);
    }
    Group& group = groups[access->buffer].try_emplace(std::move(key), std::move(made)).first->second;
    group.followed = std::max(group.followed, followed);
    group.offsets.push_back(access->offset);
  }
  for (auto& [buffer, of_buffer] : groups)
    for (auto& [key, group] : of_buffer) std::ranges::sort(group.offsets);
  return groups;
}

/// Adds the loops of which an iteration touches more stretches of memory than prefetchers follow.
std::vector<Reach> add_forgetting(const LoweredProgram& program, const LoopWork& loop, std::vector<double>& extents,
                                  std::set<const LoopWork*>& forgetting) {
  extents.push_back(loop.extent);
  std::vector<Reach> reached;
  for (const MemoryAccess& a : loop.accesses) reached.push_back({&a, extents});
  for (const LoopWork& inner : loop.loops)
    for (Reach& reach : add_forgetting(program, inner, extents, forgetting)) reached.push_back(std::move(reach));
  double streams = 0;
  constexpr double page = 4096;
  for (const auto& [number, groups] : grouped(reached, extents.size())) {
    const LoweredBuffer& buffer = program.buffers[static_cast<std::size_t>(number)];
    double most = 0;  // groups of one buffer mostly touch the same
    for (const auto& [key, group] : groups) {
      const Group::Touched touched = group.touched(line);
      most = std::max(most, static_cast<double>(touched.parts.closed(same_stream).count()) * touched.copies);
    }
    streams += buffer.bytes > 0 ? std::min(most, std::ceil(buffer.bytes / page)) : most;
  }
  if (streams > most_streams) forgetting.insert(&loop);
  extents.pop_back();
  return reached;
}

/// Bytes of each buffer that loops touch.
class Footprints {
 public:
  Footprints(const LoweredProgram& program, const std::set<const LoopWork*>& forgetting, const Cache& cache)
      : program_(program), forgetting_(forgetting), cache_(cache) {}

  /// Bytes that have to be brought into the cache for a whole execution of a loop.
  double traffic(const LoopWork& loop, std::vector<double>& extents) const {
    extents.push_back(loop.extent);
    const std::size_t depth = extents.size();
    double bytes = 0;
    if (next_finds_last(loop, extents)) {
      std::vector<Reach> reached;
      collect(loop, extents, reached);
      // Buffers that are allocated within the loop are in the cache when they are used.
      bytes = moved(reached, depth - 1, static_cast<int>(depth));
    } else {
      std::vector<Reach> own;
      for (const MemoryAccess& a : loop.accesses) own.push_back({&a, extents});
      for (const auto& [number, own_bytes] : by_buffer(own, depth, Count::touched)) bytes += own_bytes;
      for (const LoopWork& inner : loop.loops) bytes += inner.share * traffic(inner, extents);
      bytes *= loop.extent;
    }
    extents.pop_back();
    return bytes;
  }

  /// The same of nests one after the other, where the next one finds what the one before has left.
  std::vector<double> traffic(const LoopWork& whole) const {
    std::vector<double> bytes;
    std::vector<std::pair<int, double>> recent;  // buffers that were touched last, the newest at the end
    for (const LoopWork& nest : whole.loops) {
      std::vector<double> extents = {nest.extent};
      std::vector<Reach> reached;
      collect(nest, extents, reached);
      const std::map<int, double> touched = by_buffer(reached, 0, Count::touched);
      double all = 0;
      for (const auto& [buffer, size] : touched) all += size;
      extents.pop_back();
      double missed = traffic(nest, extents);
      if (all <= cache_.bytes) {
        double since = all;
        for (auto left = recent.rbegin(); left != recent.rend(); ++left) {
          const auto again = touched.find(left->first);
          if (again == touched.end()) since += left->second;
          else if (since <= cache_.bytes) missed -= std::min(missed, std::min(again->second, left->second));
        }
      } else {
        recent.clear();
      }
      for (const auto& [buffer, size] : touched) {
        std::erase_if(recent, [&](const auto& r) { return r.first == buffer; });
        if (all <= cache_.bytes) recent.emplace_back(buffer, size);
      }
      bytes.push_back(missed);
    }
    return bytes;
  }

  /// How much of everything that the kernel touches the next run no longer finds. Pages come to lie where chance has
  /// it: some sets overflow before the cache is full, and others still hold their lines when it is too small.
  double lost(const LoopWork& whole) const {
    std::vector<double> extents;
    std::vector<Reach> reached;
    collect(whole, extents, reached);
    constexpr double first = 0.8, all = 1.7;
    return std::clamp((occupied(reached, 0) / cache_.bytes - first) / (all - first), 0.0, 1.0);
  }

 private:
  /// Whether an iteration finds what the one before has left. Then each line that the loop touches comes once: what
  /// affine accesses use again, they use in the next iteration.
  bool next_finds_last(const LoopWork& loop, std::vector<double> extents) const {
    const std::size_t outer = extents.size() - 1;
    extents.back() = 1;  // what lies between two uses of a line
    std::vector<Reach> reached;
    collect(loop, extents, reached);
    return occupied(reached, outer) <= cache_.bytes;
  }

  /// `followed`: as Reach's, of the loops around.
  void collect(const LoopWork& loop, std::vector<double>& extents, std::vector<Reach>& reached,
               std::size_t followed = 0) const {
    if (forgetting_.contains(&loop)) followed = extents.size();
    for (const MemoryAccess& a : loop.accesses) reached.push_back({&a, extents, followed});
    for (const LoopWork& inner : loop.loops) {
      extents.push_back(inner.extent);
      collect(inner, extents, reached, followed);
      extents.pop_back();
    }
  }

  enum class Count {
    touched,   ///< as it is
    occupied,  ///< what it takes in the cache
    moved,     ///< what bringing it there costs
  };

  /// Bytes of each buffer while the loops from `depth` on run.
  std::map<int, double> by_buffer(const std::vector<Reach>& reached, std::size_t depth, Count count) const {
    std::map<int, double> counted;
    for (const auto& [access, extents, followed] : reached) {
      if (!access->scattered) continue;
      double bytes = access->bytes * access->pieces * near_places;
      for (std::size_t l = depth; l < extents.size(); ++l) bytes *= extents[l];
      counted[access->buffer] += bytes;
    }
    for (const auto& [buffer, of_buffer] : grouped(reached, depth)) {
      // What one loop writes and the next one reads is the same, and a loop's last iterations are often a loop apart.
      Intervals together;
      double alone = 0, bytes = 0, moved = 0;
      for (const auto& [key, group] : of_buffer) {
        const Group::Touched touched = group.touched(cache_.line);
        const double own = touched.parts.length() * touched.copies;
        if (touched.copies == 1) together.add(touched.parts);
        else alone = std::max(alone, in_cache(touched.parts, count) * touched.copies);
        bytes += own;
        moved += own * (count == Count::moved ? moving(group) : 1);
      }
      counted[buffer] += std::max(alone, in_cache(together, count)) * (moved / bytes);
    }
    if (count == Count::touched)
      for (auto& [buffer, bytes] : counted)
        if (const double size = this->buffer(buffer).bytes; size > 0) bytes = std::min(bytes, size);
    return counted;
  }

  /// Lines whose distance is a multiple of a way's size push each other out.
  double in_cache(const Intervals& parts, Count count) const {
    return count == Count::occupied && cache_.way_bytes > 0 ? parts.crowded(cache_.way_bytes) : parts.length();
  }

  /// What bringing something to the cache costs, over its bytes.
  double moving(const Group& group) const {
    const Intervals used = group.touched(cache_.line, group.followed).parts, stretches = used.closed(same_stream);
    const double brought = (cache_.brings_between ? stretches : used).length();
    return (brought + static_cast<double>(stretches.count()) * cache_.stretch_start * cache_.bytes_a_cycle) /
           used.length();
  }

  const LoweredBuffer& buffer(int number) const { return program_.buffers[static_cast<std::size_t>(number)]; }

  double occupied(const std::vector<Reach>& reached, std::size_t depth) const {
    double sum = 0;
    for (const auto& [number, bytes] : by_buffer(reached, depth, Count::occupied)) sum += bytes;
    return sum;
  }

  /// Of buffers that are allocated outside of so many loops; what is written weighs more.
  double moved(const std::vector<Reach>& reached, std::size_t depth, int outside_of) const {
    std::map<int, bool> stored;
    for (const Reach& r : reached) stored[r.access->buffer] = stored[r.access->buffer] || r.access->store;
    double sum = 0;
    for (const auto& [number, bytes] : by_buffer(reached, depth, Count::moved))
      if (buffer(number).depth < outside_of) sum += bytes * (stored[number] ? store_weight : 1);
    return sum;
  }

  const LoweredProgram& program_;
  const std::set<const LoopWork*>& forgetting_;
  const Cache& cache_;
};

}  // namespace

MemoryTraffic::MemoryTraffic(const LoweredProgram& program) : program_(program) {
  std::vector<double> extents;
  for (const LoopWork& nest : program.body.loops) add_forgetting(program, nest, extents, forgetting_);
}

std::vector<double> MemoryTraffic::of_nests(const Cache& cache) const {
  const Footprints footprints(program_, forgetting_, cache);
  // What fits stays from run to run: a kernel is timed with warm caches.
  const double lost = footprints.lost(program_.body);
  if (lost == 0) return std::vector<double>(program_.body.loops.size(), 0.0);
  std::vector<double> bytes = footprints.traffic(program_.body);
  for (double& of_nest : bytes) of_nest *= lost;
  return bytes;
}

}  // namespace heddle::autoscheduler
