#include "autoscheduler/tiled_structure.hpp"

#include <algorithm>
#include <numeric>

#include "autoscheduler/tiled_placement.hpp"

namespace heddle::autoscheduler {
namespace {

/// The index is the only one that its dimension has: broadcasting writes no loop for it.
bool is_only_one(const AffineIndex& index, const Interval& dimension) {
  return dimension.extent == 1 && index.affine && index.offset == dimension.min &&
         std::ranges::all_of(index.coefficients, [](std::int64_t c) { return c == 0; });
}

bool is_permutation(const Access& access, const StageNode& source, const StageNode& reader) {
  std::vector<int> used(reader.loops.size(), 0);
  for (std::size_t d = 0; d < access.index.size(); ++d) {
    const AffineIndex& index = access.index[d];
    if (is_only_one(index, source.box[d])) continue;
    if (!index.affine || index.offset != 0) return false;
    int ones = 0;
    for (std::size_t i = 0; i < index.coefficients.size(); ++i) {
      if (index.coefficients[i] == 0) continue;
      if (index.coefficients[i] != 1 || i >= used.size()) return false;
      ++ones;
      ++used[i];
    }
    if (ones != 1) return false;
  }
  for (std::size_t l = 0; l < used.size(); ++l)
    if (used[l] != 1 && (used[l] > 1 || reader.box[l].extent > 1)) return false;
  return true;
}

/// Each value of the stage is read once, at the place of its reader.
const Access* read_once(const Dependences& d, const StageNode& stage) {
  const Access* only = nullptr;
  for (const StageNode* reader : d.consumers(stage.role))
    for (const Access& access : reader->accesses) {
      if (access.source != stage.role) continue;
      if (access.in_update || !is_permutation(access, stage, *reader)) return nullptr;
      only = &access;
    }
  return only;
}

}  // namespace

bool follows(const AffineIndex& index, std::size_t loop) { return loop < index.depends.size() && index.depends[loop]; }

TiledStructure::TiledStructure(const Subject& subject) : subject_(subject) {
  for (std::size_t i = 0; i + 1 < d().stages.size(); ++i) {
    const StageNode& stage = d().stages[i];
    StageChoice c{&stage};
    const bool once = read_once(d(), stage) != nullptr;
    if (stage.updates == 0 && once) c.role = TileRole::expression;
    if (stage.accumulates && stage.associative && once && d().consumers(stage.role).size() == 1)
      c.role = TileRole::accumulator;
    choices_.push_back(c);
  }
  // Accumulators that are read by another reduction are no part of the output's tile.
  for (auto& c : choices_) {
    if (c.role != TileRole::accumulator) continue;
    c.place_of_loop = places(*c.node);
    const bool in_tile = std::ranges::all_of(c.place_of_loop, [](const auto& p) { return p.has_value(); });
    const bool in_vectors = std::ranges::find(c.place_of_loop, std::optional<std::size_t>(0)) != c.place_of_loop.end();
    if (in_tile && in_vectors) accumulates_ = true;
    else c.role = TileRole::producer;
  }
}

const StageChoice* TiledStructure::choice(std::string_view role) const {
  for (const auto& c : choices_)
    if (c.node->role == role) return &c;
  return nullptr;
}

/// The place of `out` that each loop of a stage follows, through the expressions between them.
std::vector<std::optional<std::size_t>> TiledStructure::places(const StageNode& stage) const {
  std::vector<std::optional<std::size_t>> result(stage.loops.size());
  const StageNode* reader = d().consumers(stage.role).front();
  const Access* access = nullptr;
  for (const Access& a : reader->accesses)
    if (a.source == stage.role) access = &a;
  std::vector<std::optional<std::size_t>> above;
  if (reader == &d().out()) {
    above.resize(reader->loops.size());
    for (std::size_t p = 0; p < subject_.rank(); ++p) above[subject_.order[p]] = p;
  } else {
    const StageChoice* c = choice(reader->role);
    if (c == nullptr || c->role != TileRole::expression) return result;
    above = places(*reader);
  }
  std::vector<bool> followed(reader->loops.size());
  for (std::size_t l = 0; l < access->index.size(); ++l)
    for (std::size_t i = 0; i < reader->loops.size(); ++i)
      if (access->index[l].coefficients[i] == 1) {
        result[l] = above[i];
        followed[i] = true;
      }
  // Loops of one iteration stand for each other.
  for (std::size_t l = 0; l < access->index.size(); ++l)
    for (std::size_t i = 0; i < reader->loops.size(); ++i)
      if (!result[l] && !followed[i] && is_only_one(access->index[l], stage.box[l])) {
        result[l] = above[i];
        followed[i] = true;
      }
  return result;
}

bool TiledStructure::reduces_rows_only() const {
  bool rows = false;
  for (const auto& c : choices_)
    rows = rows || (c.role == TileRole::producer && c.node->associative && c.node->accumulates);
  // One number has no elements whose rows could be lanes.
  return rows && !accumulates_ && d().out().elements() > 1;
}

std::optional<std::size_t> TiledStructure::dimension_along(const Access& access, std::size_t loop) {
  std::optional<std::size_t> found;
  for (std::size_t i = 0; i < access.index.size(); ++i) {
    if (!follows(access.index[i], loop)) continue;
    if (found || !access.index[i].affine || access.index[i].coefficients[loop] != 1 || access.index[i].offset != 0)
      return std::nullopt;
    found = i;
  }
  return found;
}

bool TiledStructure::packs(const std::string& role) const {
  const auto& infos = subject_.workload->inputs();
  for (std::size_t i = 0; i < infos.size(); ++i) {
    if (infos[i].role != role) continue;
    if (infos[i].packing_order.empty() || !subject_.workload->composition().inputs[i].constant) return false;
    if (d().operands.at(role).read_elsewhere) return false;  // there in blocks of another width
    return packed_dimension(role).has_value();
  }
  return false;
}

std::optional<std::string> TiledStructure::packed_dimension(const std::string& role) const {
  std::optional<std::string> name;
  for (const StageNode& reader : d().stages)
    for (const Access& access : reader.accesses) {
      if (access.source != role) continue;
      const auto loop = loop_of_place(reader, 0);
      if (!loop) return std::nullopt;
      const auto dimension = dimension_along(access, *loop);
      if (!dimension || d().operands.at(role).extents[*dimension] != subject_.extent(0)) return std::nullopt;
      const auto& infos = subject_.workload->inputs();
      for (const auto& info : infos)
        if (info.role == role) name = info.dimensions[info.dimensions.size() - 1 - *dimension];
    }
  return name;
}

std::optional<std::size_t> TiledStructure::loop_of_place(const StageNode& stage, std::size_t place) const {
  if (&stage == &d().out()) return subject_.order[place];
  const StageChoice* c = choice(stage.role);
  if (c == nullptr || c->role == TileRole::producer) return std::nullopt;
  const auto of_loop = c->role == TileRole::accumulator ? c->place_of_loop : places(stage);
  for (std::size_t l = 0; l < of_loop.size(); ++l)
    if (of_loop[l] == place) return l;
  return std::nullopt;
}

std::vector<std::string> TiledStructure::panels(const StageChoice& c) const {
  std::vector<std::string> roles;
  const auto vector = loop_of_place(*c.node, 0);
  if (!vector) return roles;
  for (const Access& access : c.node->accesses) {
    if (!access.operand || !access.in_update || packs(access.source)) continue;
    bool reused = false;
    for (std::size_t l = 0; l < c.node->loops.size(); ++l)
      reused = reused || (l != *vector && c.place_of_loop[l] && subject_.extent(*c.place_of_loop[l]) > 1 &&
                          std::ranges::none_of(access.index, [&](const AffineIndex& i) { return follows(i, l); }));
    const bool plain = std::ranges::all_of(access.index, [](const AffineIndex& i) { return i.affine; });
    if (reused && plain && access.index.size() >= 2 && dimension_along(access, *vector)) roles.push_back(access.source);
  }
  return roles;
}

bool TiledStructure::whole_blocks_are_readable() const {
  return std::ranges::none_of(d().stages, [&](const StageNode& stage) {
    const auto loop = loop_of_place(stage, 0);
    return loop && &stage != &d().out() && reads_unpadded(stage, *loop);
  });
}

bool TiledStructure::reads_unpadded(const StageNode& reader, std::size_t loop) const {
  for (const Access& access : reader.accesses)
    for (std::size_t i = 0; i < access.index.size(); ++i) {
      if (!follows(access.index[i], loop) || access.index[i].clamped) continue;
      if (access.operand) {
        if (!packs(access.source)) return true;
      } else if (const StageChoice* c = choice(access.source); c != nullptr && c->role == TileRole::producer) {
        if (reads_unpadded(*c->node, i)) return true;
      }
    }
  return false;
}

std::optional<std::size_t> TiledStructure::row_reduction(const StageNode& stage) const {
  if (stage.updates != 1 || !stage.accumulates || !stage.associative) return std::nullopt;
  std::optional<std::size_t> along;
  for (const Access& access : stage.accesses) {
    if (!access.in_update || access.index.empty()) continue;
    if (access.operand && d().operands.at(access.source).strides[0] != 1) return std::nullopt;
    if (!access.index[0].affine) return std::nullopt;
    for (std::size_t l = 0; l < access.index[0].coefficients.size(); ++l) {
      if (access.index[0].coefficients[l] == 0) continue;
      if (l < stage.loops.size() || access.index[0].coefficients[l] != 1) return std::nullopt;
      if (along && *along != l - stage.loops.size()) return std::nullopt;
      along = l - stage.loops.size();
    }
  }
  if (along &&
      stage.reductions[*along].extent < 2 * static_cast<std::int64_t>(subject_.machine.lanes(stage.element_bytes)))
    return std::nullopt;
  return along;
}

std::int64_t TiledStructure::usual(const SpaceKnob& knob) const {
  if (knob.name == "pack") return 1;
  if (knob.name.starts_with("place_")) return before_all;
  if (knob.name.starts_with("partial_")) return 2;
  // Short reductions are unrolled whole; others in twos, or in what else divides them.
  if (knob.name.starts_with("unroll_") && knob.domain.front() != 0)
    return d().stage(knob.name.substr(7)).reductions.front().extent % 2 == 0 ? 2 : 4;
  return knob.domain.front();
}

std::vector<SpaceKnob> TiledStructure::knobs() const {
  const auto up_to = [](std::vector<std::int64_t> domain, std::int64_t most) {
    std::erase_if(domain, [&](std::int64_t v) { return v > most; });
    return domain;
  };
  std::vector<SpaceKnob> knobs;
  const Subject& s = subject_;
  const std::size_t rank = s.rank();
  const std::int64_t vectors = std::max<std::int64_t>(1, (s.extent(0) + s.lanes - 1) / s.lanes);
  knobs.push_back({"vectors", up_to({1, 2, 3, 4, 6, 8}, vectors)});
  std::vector<std::int64_t> open = {0};
  for (std::size_t p = 1; p < rank; ++p) {
    if (s.extent(p) == 1) continue;
    open.push_back(static_cast<std::int64_t>(p));
    std::vector<std::int64_t> tiles =
        up_to(accumulates_ ? std::vector<std::int64_t>{1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 13, 14}
                           : std::vector<std::int64_t>{1, 2, 4, 8},
              s.extent(p));
    // A picture's channels are three.
    if (s.extent(p) == 3 && !accumulates_) tiles.push_back(3);
    knobs.push_back({"tile_" + s.loop(p), std::move(tiles)});
  }
  if (open.size() > 1) {
    knobs.push_back({"innermost", open, false});
    knobs.push_back({"outermost", open, false});
  }
  for (std::size_t p = 0; p < rank; ++p)
    if (s.extent(p) >= (p == 0 ? 8 * s.lanes : 16)) knobs.push_back({"block_" + s.loop(p), {0, 2, 4, 8, 16, 32, 64}});
  if (s.threads > 1) {
    std::vector<std::int64_t> fused(std::min<std::size_t>(open.size() + 1, 4));
    std::iota(fused.begin(), fused.end(), 1);
    knobs.push_back({"parallel", fused});
  }
  for (const auto& c : choices_) {
    if (c.role == TileRole::accumulator) {
      knobs.push_back({"unroll_" + c.node->role, c.node->reduction_steps() <= 32
                                                     ? std::vector<std::int64_t>{0, 1, 2, 4, 8}
                                                     : std::vector<std::int64_t>{1, 2, 4, 8}});
      if (c.node->reductions.size() > 1) {
        std::vector<std::int64_t> inner(c.node->reductions.size());
        std::iota(inner.begin(), inner.end(), 0);
        knobs.push_back({"inner_" + c.node->role, inner, false});
      }
      if (c.node->reductions.size() == 1 && c.node->reductions[0].extent >= 256)
        knobs.push_back({"depth_" + c.node->role, {0, 128, 256, 512}});
      for (const std::string& role : panels(c)) knobs.push_back({"panel_" + role, {0, 1}, false});
    }
    if (c.role == TileRole::producer) {
      std::vector<std::int64_t> domain = {at_tile, at_row, at_block, before_all};
      if (c.node->updates == 0) {
        domain.insert(domain.begin(), in_expression);
        domain.push_back(sliding);
      }
      knobs.push_back({"place_" + c.node->role, domain, false});
      if (c.node->scatters) knobs.push_back({"scatter_" + c.node->role, {0, 1}, false});
      if (row_reduction(*c.node)) knobs.push_back({"partial_" + c.node->role, {0, 1, 2, 4}});
    }
  }
  bool packable = false;
  for (const auto& [role, operand] : d().operands) packable = packable || packs(role);
  if (packable) knobs.push_back({"pack", {0, 1}, false});
  return knobs;
}

}  // namespace heddle::autoscheduler
