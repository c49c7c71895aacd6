#include "autoscheduler/lowered_estimate.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "autoscheduler/estimate.hpp"
#include "base/error.hpp"
#include "generators/lower.hpp"
#include "targets/target.hpp"

namespace heddle::autoscheduler {
namespace {

constexpr double clock_hz = 3e9;
constexpr double operations_a_cycle = 2, loads_a_cycle = 2, stores_a_cycle = 1, instructions_a_cycle = 4.5;
/// What is bound by one unit still waits for the others now and then.
constexpr double other_units = 0.12;
/// Entering a loop, and leaving it: short loops of always the same length are predicted.
constexpr double loop_entry = 4, predicted_iterations = 24, misprediction = 14;
/// Lines that are written are read before, and leave the cache later.
constexpr double store_weight = 1.7;
constexpr double line = 64;
/// Where places follow from data, those that follow each other are near: bytes brought in for each byte that is used.
constexpr double near_places = 2;

struct Cache {
  const char* name;
  double bytes, bytes_a_cycle;
  /// Prefetchers have to find each stretch of memory first: bytes that could be moved meanwhile.
  double stretch_start;
  /// Places this far apart share the same few lines; 0: addresses are spread over all of them.
  double way_bytes;
};

double body_cycles(const LoopWork& loop) {
  const Instructions& i = loop.instructions;
  const std::array<double, 4> units = {
      i.arithmetic / operations_a_cycle, i.loads / loads_a_cycle, i.stores / stores_a_cycle,
      // Half of all loads are part of another instruction.
      (i.arithmetic + 0.5 * i.loads + i.stores + i.scalar + (loop.loops.empty() ? 1.5 : 3)) / instructions_a_cycle};
  double sum = 0, most = 0;
  for (const double u : units) {
    sum += u;
    most = std::max(most, u);
  }
  return std::max(most + other_units * (sum - most), loop.latency) + i.calls;
}

double compute_cycles(const LoopWork& loop) {
  double cycles = body_cycles(loop);
  for (const LoopWork& inner : loop.loops) cycles += inner.share * compute_cycles(inner);
  return loop_entry + (loop.extent > predicted_iterations ? misprediction : 0) + loop.extent * cycles;
}

/// An access with the extents of the loops around it, outermost first.
struct Reach {
  const MemoryAccess* access = nullptr;
  std::vector<double> extents;
};

/// Bytes of each buffer that loops touch.
class Footprints {
 public:
  Footprints(const LoweredProgram& program, const Cache& cache) : program_(program), cache_(cache) {}

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

  /// Of everything that the kernel touches.
  bool fits(const LoopWork& whole) const {
    std::vector<double> extents;
    std::vector<Reach> reached;
    collect(whole, extents, reached);
    return occupied(reached, 0) <= cache_.bytes;
  }

 private:
  /// Whether an iteration finds what the one before has left. Then each line that the loop touches comes once: what
  /// affine accesses use again, they use in the next iteration.
  bool next_finds_last(const LoopWork& loop, std::vector<double> extents) const {
    const std::size_t outer = extents.size() - 1;
    extents.back() = std::min(loop.extent, 2.0);
    std::vector<Reach> reached;
    collect(loop, extents, reached);
    return occupied(reached, outer) <= cache_.bytes;
  }

  static void collect(const LoopWork& loop, std::vector<double>& extents, std::vector<Reach>& reached) {
    for (const MemoryAccess& a : loop.accesses) reached.push_back({&a, extents});
    for (const LoopWork& inner : loop.loops) {
      extents.push_back(inner.extent);
      collect(inner, extents, reached);
      extents.pop_back();
    }
  }

  struct Group {
    double span = 0, pieces = 1, positions = 1;
    std::vector<double> offsets;
    /// `start`: bytes that each stretch costs besides its own.
    double bytes(double start) {
      std::ranges::sort(offsets);
      double covered = 0, end = -std::numeric_limits<double>::infinity();
      for (const double offset : offsets) {
        const double from = std::max(offset, end), to = offset + std::max(span, line);
        if (offset > end) covered += start;
        if (to > from) covered += to - from;
        end = std::max(end, to);
      }
      return covered * pieces;
    }
    /// By how much less a cache holds of it: pieces whose distance is a multiple of a way's size push each other out.
    double conflicts(double way_bytes) const {
      if (way_bytes == 0 || pieces == 1) return 1;
      return std::max(1.0, way_bytes / (positions * std::max(span, line)));
    }
  };

  enum class Count {
    touched,   ///< as it is
    occupied,  ///< what it takes in the cache
    moved,     ///< what bringing it there costs
  };

  /// Bytes of each buffer while the loops from `depth` on run.
  std::map<int, double> by_buffer(const std::vector<Reach>& reached, std::size_t depth, Count count) const {
    std::map<int, std::map<std::vector<double>, Group>> groups;
    std::map<int, double> counted;
    for (const auto& [access, extents] : reached) {
      if (access->scattered) {
        double bytes = access->bytes * access->pieces * near_places;
        for (std::size_t l = depth; l < extents.size(); ++l) bytes *= extents[l];
        counted[access->buffer] += bytes;
        continue;
      }
      std::vector<std::pair<double, double>> loops;  // step, extent
      for (std::size_t l = depth; l < std::min(extents.size(), access->steps.size()); ++l)
        if (access->steps[l] != 0 && extents[l] > 1) loops.emplace_back(std::abs(access->steps[l]), extents[l]);
      std::ranges::sort(loops);
      std::vector<double> key = {access->bytes, access->pieces};
      Group made{access->bytes, access->pieces, 1, {}};
      for (const auto& [step, extent] : loops) {
        key.push_back(step);
        key.push_back(extent);
        if (step <= std::max(made.span, line)) {
          made.span += step * (extent - 1);
          continue;
        }
        made.pieces *= extent;
        const auto way = static_cast<std::int64_t>(cache_.way_bytes);
        if (way > 0)
          made.positions *= std::min(extent, static_cast<double>(way / std::gcd(way, static_cast<std::int64_t>(step))));
      }
      Group& group = groups[access->buffer].try_emplace(std::move(key), made).first->second;
      group.offsets.push_back(access->offset);
    }
    // Groups of one buffer mostly touch the same: what one loop writes and the next one reads.
    for (auto& [buffer, of_buffer] : groups)
      for (auto& [key, group] : of_buffer) {
        double bytes = group.bytes(count == Count::moved ? cache_.stretch_start : 0);
        if (count == Count::occupied) bytes *= group.conflicts(cache_.way_bytes);
        counted[buffer] = std::max(counted[buffer], bytes);
      }
    if (count == Count::touched)
      for (auto& [buffer, bytes] : counted)
        if (const double size = this->buffer(buffer).bytes; size > 0) bytes = std::min(bytes, size);
    return counted;
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
  const Cache& cache_;
};

Instructions all_instructions(const LoopWork& loop) {
  Instructions sum = loop.instructions;
  for (const LoopWork& inner : loop.loops) {
    const Instructions i = all_instructions(inner);
    sum.arithmetic += inner.share * i.arithmetic;
    sum.loads += inner.share * i.loads;
    sum.stores += inner.share * i.stores;
    sum.scalar += inner.share * i.scalar;
    sum.calls += inner.share * i.calls;
  }
  sum.arithmetic *= loop.extent, sum.loads *= loop.extent, sum.stores *= loop.extent;
  sum.scalar *= loop.extent, sum.calls *= loop.extent;
  return sum;
}

}  // namespace

double program_seconds(const LoweredProgram& program, const Machine& machine, std::map<std::string, double>& features) {
  if (!program.complete) return std::numeric_limits<double>::infinity();
  const std::array<Cache, 3> caches = {Cache{"l1", static_cast<double>(machine.l1_bytes) * 0.8, 40, 0, 4096},
                                       Cache{"l2", static_cast<double>(machine.l2_bytes) * 0.8, 20, 100, 0},
                                       Cache{"l3", static_cast<double>(machine.l3_bytes) * 0.4, 6, 100, 0}};
  const LoopWork& whole = program.body;
  double cycles = body_cycles(whole), computing = cycles, moving = 0;
  std::array<double, 3> bytes{};
  std::array<std::vector<double>, 3> missed;
  for (std::size_t c = 0; c < caches.size(); ++c) {
    const Footprints footprints(program, caches[c]);
    // What fits stays from run to run: a kernel is timed with warm caches.
    missed[c] = footprints.fits(whole) ? std::vector<double>(whole.loops.size(), 0.0) : footprints.traffic(whole);
  }
  for (std::size_t n = 0; n < whole.loops.size(); ++n) {
    const double compute = whole.loops[n].share * compute_cycles(whole.loops[n]);
    double transfer = 0;
    for (std::size_t c = 0; c < caches.size(); ++c) {
      const double moved = whole.loops[n].share * missed[c][n];
      bytes[c] += moved;
      transfer = std::max(transfer, moved / caches[c].bytes_a_cycle);
    }
    cycles += std::max(compute, transfer) + 0.3 * std::min(compute, transfer);
    computing += compute;
    moving += transfer;
  }
  const Instructions all = all_instructions(whole);
  const double seconds = cycles / clock_hz;
  features["lowered.arithmetic"] = log_feature(all.arithmetic);
  features["lowered.loads"] = log_feature(all.loads);
  features["lowered.stores"] = log_feature(all.stores);
  features["lowered.scalar"] = log_feature(all.scalar);
  features["lowered.values"] = log_feature(program.values);
  features["lowered.computing"] = log_feature(computing);
  features["lowered.moving"] = log_feature(moving);
  for (std::size_t c = 0; c < caches.size(); ++c)
    features[std::string("lowered.") + caches[c].name] = log_feature(bytes[c]);
  features["lowered.estimate"] = log_feature(seconds);
  return seconds;
}

double lowered_seconds(const Workload& workload, const Implementation& implementation, const Machine& machine,
                       std::map<std::string, double>& features) {
  KernelRequest request{&workload, implementation, find_target(machine.target)};
  request.target.machine = machine;
  // A parallel loop's body would be a function of its own, whose loops nobody could count.
  for (ScheduleLine& scheduled : request.implementation.schedule.lines)
    std::erase_if(scheduled.directives, [](const Directive& d) { return d.name == "parallel"; });
  std::erase_if(request.implementation.schedule.lines,
                [](const ScheduleLine& scheduled) { return scheduled.directives.empty(); });
  double seconds = 0;
  with_halide(request, [&] {
    const Pipeline pipeline = workload.instantiate(request.implementation);
    std::map<std::string, double> arguments;
    for (const auto& [role, param] : pipeline.operands) {
      double bytes = param.type().bytes();
      for (int d = 0; d < param.dimensions(); ++d) {
        const auto extent = Halide::Internal::as_const_int(param.parameter().extent_constraint(d));
        bytes *= extent ? static_cast<double>(*extent) : 0;
      }
      arguments[param.name()] = bytes;
    }
    const Halide::Module module =
        Halide::Pipeline(pipeline.outputs).compile_to_module(pipeline.arguments(), "counted", halide_target(request));
    seconds = program_seconds(analyse_lowered(module, machine, arguments), machine, features);
  });
  return seconds;
}

}  // namespace heddle::autoscheduler
