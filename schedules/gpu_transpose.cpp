// Movement between layouts on a device: the result's neighbours in memory are far apart in the operand, so that either
// loads or stores would fetch a whole line for an element. Square tiles go through shared memory: rows of the operand
// in, rows of the result out. One element of padding a row keeps the tile's columns in different banks.
#include <fmt/format.h>

#include "schedules/families.hpp"
#include "schedules/gpu_access.hpp"
#include "schedules/gpu_grid.hpp"

namespace heddle::schedules {
namespace {

struct Knobs {
  BOOST_HANA_DEFINE_STRUCT(Knobs, (std::int64_t, tile), (std::int64_t, rows));
};

/// Below this extent a tile would be mostly empty.
constexpr std::int64_t worth_tiling = 16;

/// The operand that lies across the result, and the two loops that a tile spans.
struct Across {
  std::string operand;
  std::vector<std::string> dimensions;  ///< of the operand, logical order
  std::string dense, other;             ///< its dimensions: of stride 1, and the one along the result's innermost loop
  std::string inner, outer;             ///< loops of the result: innermost in its memory, and in the operand's
};

std::optional<Across> across(const Workload& w) {
  const auto loops = loops_by_memory(w);
  if (loops.size() < 2 || typical(loops[0].extent, w) < worth_tiling) return std::nullopt;
  const std::string& inner = loops[0].name;
  const Pipeline pipeline = w.instantiate();
  std::optional<Across> found;
  for (const auto& access : accesses(w, pipeline)) {
    const TensorType& type = w.input_type(access.operand);
    std::optional<std::size_t> along;
    bool plain = true;
    for (std::size_t d = 0; d < access.index.size(); ++d) {
      const auto by = step(access.index[d], inner);
      plain = plain && by && (*by == 0 || (*by == 1 && !along));
      if (by == 1) along = d;
    }
    if (!plain) return std::nullopt;
    const auto innermost = static_cast<std::size_t>(std::max(0, type.innermost()));
    if (!along || *along == innermost) continue;
    // It lies across. Which loop walks along its rows, and along nothing else?
    Across one{access.operand, {}, "", "", inner, ""};
    for (std::size_t l = 1; l < loops.size(); ++l) {
      if (step(access.index[innermost], loops[l].name) != 1 || typical(loops[l].extent, w) < worth_tiling) continue;
      bool alone = true;
      for (std::size_t d = 0; d < access.index.size(); ++d)
        alone = alone && (d == innermost || step(access.index[d], loops[l].name) == 0);
      if (alone) one.outer = loops[l].name;
    }
    const auto info = std::find_if(w.inputs().begin(), w.inputs().end(),
                                   [&](const OperandInfo& i) { return i.role == access.operand; });
    one.dimensions = info->dimensions.empty() ? default_dimensions(type.rank()) : info->dimensions;
    if (one.outer.empty() || one.dimensions.size() != access.index.size()) return std::nullopt;
    one.dense = one.dimensions[innermost];
    one.other = one.dimensions[*along];
    if (found) return std::nullopt;  // a second one, or one read twice: two tiles, or two places of one
    found = one;
  }
  return found;
}

bool matches(const Workload& w, const Machine&) {
  const OperatorKind kind = w.anchor().op->kind();
  return (kind == OperatorKind::movement || kind == OperatorKind::elementwise) && across(w).has_value();
}

Knobs rule(const Workload&, const Machine& m) { return {m.gpu->subgroup, m.gpu->block_threads / m.gpu->subgroup}; }

std::vector<Knobs> candidates(const Workload& w, const Machine& m) {
  return {rule(w, m), {32, 4}, {16, 8}, {16, 16}, {64, 4}};
}

Implementation make(const Workload& w, const Machine&, const Knobs& k) {
  Implementation implementation;
  Schedule& s = implementation.schedule;
  const auto a = across(w);
  if (!a) throw Error(ErrorCode::internal, fmt::format("nothing lies across the result of {}", w.name()));

  Stage tile = s[a->operand].in("tile");
  std::vector<std::string> rest;
  for (const auto& name : a->dimensions)
    if (name != a->dense && name != a->other) rest.push_back(name);
  std::vector<std::string> storage = {a->dense, a->other};
  storage.insert(storage.end(), rest.begin(), rest.end());

  Stage out = s["out"];
  out.split(a->inner, "io", "ii", k.tile, Tail::GuardWithIf).split(a->outer, "oo", "oi", k.tile, Tail::GuardWithIf);
  out.split("oi", "pass", "oi", k.rows, Tail::GuardWithIf);
  std::vector<std::string> grid = {"io", "oo"};
  for (const auto& loop : loops_by_memory(w))
    if (loop.name != a->inner && loop.name != a->outer) grid.push_back(loop.name);
  std::vector<std::string> order = {"pass", "ii", "oi"};
  order.insert(order.end(), grid.begin(), grid.end());
  out.reorder(order);
  const std::string block = fuse_all(out, grid, "grid");
  out.gpu_blocks(block).gpu_threads("ii", "oi");

  tile = s["tile"];
  tile.compute_at("out", block).reorder_storage(storage).align_storage(a->dense, k.tile + 1);
  tile.split(a->dense, "denseo", "densei", k.tile, Tail::GuardWithIf);
  tile.split(a->other, "othero", "otheri", k.rows, Tail::GuardWithIf);
  std::vector<std::string> inside = {"othero", "densei", "otheri", "denseo"};
  inside.insert(inside.end(), rest.begin(), rest.end());
  tile.reorder(inside).gpu_threads("densei", "otheri");
  return implementation;
}

}  // namespace

Family gpu_transpose() {
  return TypedFamily<Knobs>{.name = "gpu_transpose",
                            .summary = "tiles through shared memory where operand and result lie across each other",
                            .matches = matches,
                            .rule = rule,
                            .candidates = candidates,
                            .make = make,
                            .gpu = true}
      .erase();
}

}  // namespace heddle::schedules
