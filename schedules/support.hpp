#pragma once
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "dsl/reflect.hpp"
#include "dsl/stage.hpp"
#include "schedules/family.hpp"

// What the families share. Nothing here knows an operator.
namespace heddle::schedules {

using Tail = Stage::Tail;

/// Makes a Family of typed functions: knobs are a Hana struct everywhere but at the erased edge.
template <class Knobs>
struct TypedFamily {
  std::string name;
  std::string summary;
  bool (*matches)(const Workload&, const Machine&);
  Knobs (*rule)(const Workload&, const Machine&);
  std::vector<Knobs> (*candidates)(const Workload&, const Machine&);
  Implementation (*make)(const Workload&, const Machine&, const Knobs&);
  std::vector<ScheduleRequirement> (*requirements)(const Workload&, const Machine&, const Knobs&) = nullptr;
  bool gpu = false;

  Family erase() const {
    const TypedFamily self = *this;
    const auto parse = [self](const Json& knobs) { return reflect::from_json<Knobs>(knobs, "knobs of " + self.name); };
    return {
        name,
        summary,
        gpu,
        matches,
        [self](const Workload& w, const Machine& m) { return reflect::to_json(self.rule(w, m)); },
        [self](const Workload& w, const Machine& m) {
          std::vector<Json> all;
          for (const Knobs& knobs : self.candidates(w, m)) all.push_back(reflect::to_json(knobs));
          return all;
        },
        [self, parse](const Workload& w, const Machine& m, const Json& knobs) { return self.make(w, m, parse(knobs)); },
        [self, parse](const Workload& w, const Machine& m, const Json& knobs) {
          return self.requirements == nullptr ? std::vector<ScheduleRequirement>{}
                                              : self.requirements(w, m, parse(knobs));
        },
    };
  }
};

/// A loop of `out`.
struct Loop {
  std::string name;
  Extent extent;
};

/// `out`'s loops in the order of its memory, innermost first. Dimensions of extent 1 come last whatever their place:
/// a loop of one iteration is never worth a vector.
std::vector<Loop> loops_by_memory(const Workload& workload);

/// Whether an operand of the anchor, by its number, is an input that is known beforehand.
bool is_constant(const Workload& workload, std::size_t operand);

/// Whether the anchor's first operand is an input; otherwise other stages of the kernel make it.
bool reads_memory(const Workload& workload);

/// The names of the pipeline's stages in the given variant, producers first.
std::vector<std::string> stage_roles(const Workload& workload, const std::string& variant = "direct");
bool has_role(const std::vector<std::string>& roles, std::string_view role);

/// Whether a stage's pure definition has a loop of that name.
bool has_loop(const PipelineStage& stage, std::string_view name);

/// The extent of one of `out`'s loops.
Extent extent_of(const Workload& workload, std::string_view loop);

/// The extent if fixed, else the middle of its range: what an analytic rule reckons with.
std::int64_t typical(const Extent& extent, const Workload& workload);

/// A float that is accumulated as f32: vectors of sums hold machine.lanes(4).
bool sums_in_f32(DType type);

/// As a schedule's expression.
std::string expression(const Extent& extent);

/// How a loop that a tile may not divide is split: `tail` if the extent is fixed; otherwise the tile is used where a
/// condition on the symbols holds and single iterations elsewhere.
struct Tiling {
  std::int64_t tile = 1;
  Tail tail = Tail::RoundUp;             ///< of the tiled form
  std::optional<std::string> condition;  ///< of the tiled form; absent: always
};
Tiling tile_loop(const Extent& extent, std::int64_t tile, const Workload& workload);

/// Schedules a stage by `loops(stage, tiling...)` in tiles where the extents allow all of them, in single iterations
/// where they do not.
template <class Loops, class... Tilings>
void tiled_where_it_fits(Stage stage, const Loops& loops, const Tilings&... tilings) {
  std::vector<std::string> conditions;
  for (const Tiling* t : {&tilings...})
    if (t->condition) conditions.push_back(*t->condition);
  if (!conditions.empty()) {
    loops(stage.specialize(fmt::format("{}", fmt::join(conditions, " && "))), tilings...);
    loops(stage, Tilings{}...);
  } else {
    loops(stage, tilings...);
  }
}

/// The tail of a tile that may compute nothing beyond the extent: none where it divides it, else a guarded one.
Tail guarded_tail(const Extent& extent, std::int64_t tile);

/// The tail of a tile no wider than the extent, where elements may be computed twice: none where it divides it, else
/// the last tile begins earlier.
Tail shifted_tail(const Extent& extent, std::int64_t tile);

/// Lanes of the widest vector of floats that so many elements fill. Where nothing may be computed or read beyond them,
/// a last vector that begins earlier (ShiftInwards) is much faster than a predicated one: accumulators under a
/// predicate do not stay in registers.
std::int64_t filled_lanes(std::int64_t elements, const Machine& machine);

/// Share of a split's iterations that are useful: 12 of 14 for extent 12 in tiles of 7.
double tile_efficiency(std::int64_t extent, std::int64_t tile);

/// Which register tiles the machine holds, and the share of the multipliers' rate that one can reach.
using FitsRegisters = bool (*)(std::int64_t vectors, std::int64_t broadcasts, const Machine& machine);
using TileRate = double (*)(std::int64_t vectors, std::int64_t broadcasts);

/// A register tile of `vectors` x `broadcasts` accumulators, fed by `vectors` loads and `broadcasts` scalars a step, as
/// in convolutions and matrix products. Accumulators, the loaded vectors and a spare must fit: a tile one over spills
/// and halves the speed.
bool fits_registers(std::int64_t vectors, std::int64_t broadcasts, const Machine& machine);

/// Share of the multipliers' rate at which vectors of weights arrive, each used `broadcasts` times, that a tile reads
/// anew because `bytes` of them lie between two of its uses: from the second cache at about 26 bytes a cycle, from the
/// third at 16 (Cascade Lake; Zen 3 alike).
double arriving_rate(std::int64_t broadcasts, std::int64_t bytes, const Machine& machine);

/// Share of the FMA rate that such a tile can reach: the units need 2 x 4 independent accumulators in flight, and loads
/// compete with FMAs for issue slots.
double register_tile_rate(std::int64_t vectors, std::int64_t broadcasts);

/// The same of sums of products of bytes, `pairs` of ops/dot.hpp, where multiplying and adding are two instructions.
bool fits_registers_of_pairs(std::int64_t vectors, std::int64_t broadcasts, const Machine& machine);
double pairs_tile_rate(std::int64_t vectors, std::int64_t broadcasts);

/// The candidate of the highest score. Of scores that only rounding tells apart the first one's stands.
template <class T>
class Best {
 public:
  explicit Best(T otherwise) : value_(std::move(otherwise)) {}
  void offer(const T& candidate, double score) {
    if (score <= score_ + 1e-9) return;
    score_ = score;
    value_ = candidate;
  }
  const T& value() const { return value_; }

 private:
  T value_;
  double score_ = -1;
};

/// About how many pieces a loop should be cut into so that `threads` threads end together.
std::int64_t task_count(int threads);

/// ceil(extent / pieces), at least 1.
std::int64_t chunk(std::int64_t extent, std::int64_t pieces);

/// How many of a loop's iterations are a task where the loop alone is cut into about `tasks` (of task_count): up to
/// half as many as an even division gives, if its threads end together then. 28 are 7 tasks of 4, or 14 of 2 for 2
/// threads.
std::int64_t run_of_task(std::int64_t extent, std::int64_t tasks);

/// The least multiple that is not below a positive `x`.
std::int64_t round_up(std::int64_t x, std::int64_t multiple);

}  // namespace heddle::schedules
