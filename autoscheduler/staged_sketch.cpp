// Several nests, one after the other or one within the other.
//
// Some stages of a pipeline are worth loops of their own: reductions that another one reads (the scores of an
// attention), stencils of stencils. A knob says for each of them whether it is computed before everything, at the
// output's outermost loop, or with its reader; each nest is a tiled structure of what it computes, with its own knobs.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <set>

#include <fmt/format.h>

#include "autoscheduler/estimate.hpp"
#include "autoscheduler/tiled_emission.hpp"

namespace heddle::autoscheduler {
namespace {

/// Stages in the points that may be weighed before a search: some seconds.
constexpr double most_weighed = 120000;

/// Values of a stage's knob.
enum Nesting : std::int64_t { with_reader, before_everything, at_outermost_loop };

/// Some of a pipeline's stages with their own nest.
struct Part {
  Subject subject;
  TiledStructure structure;
  Part(Subject of) : subject(std::move(of)), structure(subject) {}  // NOLINT: parts are made in place
};

/// Names of knobs that belong to a stage, whatever nest it is in, carry the stage's name already.
bool names_stage(const std::string& knob) {
  for (const char* start : {"lanes_", "place_", "unroll_", "inner_", "depth_", "panel_", "partial_", "scatter_"})
    if (knob.starts_with(start)) return true;
  return false;
}

/// Where a stage is computed, and which of its loops is innermost in memory and fills the lanes of its nest.
struct Own {
  std::int64_t nesting = before_everything;
  std::int64_t lanes = 0;
};

/// Whose nests there are.
using Cut = std::map<std::string, Own>;

class Staged final : public SketchRule {
 public:
  explicit Staged(const Subject& subject) : subject_(subject) {
    sketch_.name = "staged";
    sketch_.summary = "several nests, each with its register tile";
    const TiledStructure whole(subject_);
    for (const StageChoice& c : whole.choices()) {
      const StageNode& node = *c.node;
      const bool has_loops = std::ranges::any_of(node.box, [](const Interval& i) { return i.extent > 1; });
      if (c.role != TileRole::producer || !has_loops || (node.updates > 0 && !node.accumulates)) continue;
      if (node.updates > 0 && !node.reads_again() && whole.row_reduction(node))
        continue;  // no tile: its rows are one value each
      candidates_.push_back(node.role);
    }
    if (candidates_.empty()) return;
    if (subject_.exact) exact_ = exact_stages(d());
    Cut all;
    for (const auto& role : candidates_) {
      all[role] = {};
      sketch_.knobs.push_back({"own_" + role, {with_reader, before_everything, at_outermost_loop}, false});
      if (const auto lanes = lanes_domain(d().stage(role)); lanes.size() > 1)
        sketch_.knobs.push_back({"lanes_" + role, lanes, false});
    }
    for (const auto& role : candidates_)
      for (const std::int64_t lanes : lanes_domain(d().stage(role))) {
        Cut turned = all;
        turned[role].lanes = lanes;
        add_knobs(root_part(turned, role).structure.knobs(), role);
      }
    add_knobs(whole.knobs(), d().out().role);
  }

  bool fits() const { return !candidates_.empty(); }
  const Sketch& sketch() const override { return sketch_; }

  std::variant<Candidate, Pruned> emit(const std::vector<std::int64_t>& values) const override {
    try {
      return make(values);
    } catch (const Pruned& pruned) {
      return pruned;
    }
  }

  std::vector<std::vector<std::int64_t>> defaults() const override;

 private:
  using Values = std::map<std::string, std::int64_t>;

  const Dependences& d() const { return subject_.dependences; }

  /// A reduction runs along the stage's first loop, so that lanes of another one need no horizontal steps or
  /// broadcasts.
  bool reduced_along_first(const StageNode& node) const {
    return std::ranges::any_of(d().consumers(node.role), [&](const StageNode* reader) {
      return std::ranges::any_of(reader->accesses, [&](const Access& access) {
        if (access.source != node.role || access.index.empty()) return false;
        for (std::size_t r = 0; r < reader->reductions.size(); ++r)
          if (follows(access.index.front(), reader->loops.size() + r)) return true;
        return false;
      });
    });
  }

  /// Loops of a stage that could be innermost in memory: its own order's, and others that fill vectors.
  std::vector<std::int64_t> lanes_domain(const StageNode& node) const {
    std::vector<std::int64_t> loops = {0};
    if (!node.reads_again() && !reduced_along_first(node)) return loops;
    for (std::size_t l = 1; l < node.loops.size(); ++l)
      if (node.box[l].extent >= subject_.machine.lanes(node.element_bytes))
        loops.push_back(static_cast<std::int64_t>(l));
    return loops;
  }

  void add_knobs(const std::vector<SpaceKnob>& knobs, const std::string& role) {
    for (SpaceKnob knob : knobs) {
      if (!names_stage(knob.name)) knob.name = role + "." + knob.name;
      const auto known = std::ranges::find(sketch_.knobs, knob.name, &SpaceKnob::name);
      if (known == sketch_.knobs.end()) sketch_.knobs.push_back(std::move(knob));
      else known->domain = united(known->domain, knob);
    }
  }

  /// Small steps stay small ones.
  static std::vector<std::int64_t> united(std::vector<std::int64_t> domain, const SpaceKnob& knob) {
    for (const std::int64_t v : knob.domain)
      if (std::ranges::find(domain, v) == domain.end())
        domain.insert(knob.ordered ? std::ranges::upper_bound(domain, v) : domain.end(), v);
    return domain;
  }

  std::vector<std::string> anchors(const Cut& cut) const {
    std::vector<std::string> roles;
    for (const StageNode& stage : d().stages)
      if (const auto own = cut.find(stage.role); own != cut.end() && own->second.nesting != with_reader)
        roles.push_back(stage.role);
    roles.push_back(d().out().role);
    return roles;
  }

  static InnermostLoops innermost_loops(const Cut& cut) {
    InnermostLoops innermost;
    for (const auto& [anchor, own] : cut)
      if (own.lanes > 0 && own.nesting != with_reader) innermost[anchor] = static_cast<std::size_t>(own.lanes);
    return innermost;
  }

  bool is_exact(const std::string& role) const { return exact_.contains(role); }

  const Part& part(const Cut& cut, const std::string& role, const Box& box, int threads,
                   const std::optional<Subject::Home>& home, bool exact) const {
    std::string key = fmt::format("{} {} {}", role, threads, exact ? 1 : 0);
    if (home) key += fmt::format(" {} {}", home->stage, home->loop);
    for (const auto& interval : box) key += fmt::format(" {}+{}", interval.min, interval.extent);
    const std::vector<std::string> apart = anchors(cut);
    const std::set<std::string> members = isolated_stages(d(), apart, role);
    for (const auto& member : members) key += " " + member;
    const InnermostLoops innermost = innermost_loops(cut);
    for (const auto& [anchor, loop] : innermost) key += fmt::format(" {}:{}", anchor, loop);
    std::vector<std::string> within;
    if (role == d().out().role)
      for (const auto& [anchor, own] : cut)
        if (own.nesting == at_outermost_loop &&
            std::ranges::any_of(d().consumers(anchor),
                                [&](const StageNode* reader) { return members.contains(reader->role); }))
          within.push_back(copy_of(d().stage(anchor)));
    for (const auto& operand : within) key += " ^" + operand;
    const std::scoped_lock lock(mutex_);
    const auto known = parts_.find(key);
    if (known != parts_.end()) return *known->second;
    Dependences dependences = isolate(d(), apart, innermost, role, box);
    for (const auto& operand : within) dependences.operands.at(operand).within_loops = true;
    Subject made{subject_.workload, subject_.machine, std::move(dependences), {}, 1, threads, home, exact};
    if (role == d().out().role) {
      made.order = subject_.order;
      made.lanes = subject_.lanes;
    } else {
      order_loops(made, dense_strides(box, innermost, role));
    }
    return *parts_.emplace(key, std::make_unique<Part>(std::move(made))).first->second;
  }

  const Part& root_part(const Cut& cut, const std::string& role) const {
    std::optional<Subject::Home> home;
    if (role != d().out().role) home.emplace();
    return part(cut, role, d().stage(role).box, subject_.threads, home, is_exact(role));
  }

  /// At the outermost loop of the output's nest.
  const Part& nested_part(const Cut& cut, const std::string& role, const Nest& nest) const {
    const Subject& out = root_part(cut, d().out().role).subject;
    bool exact = is_exact(role) && out.exact;
    for (std::size_t p = 0; p < out.rank(); ++p) {
      const std::int64_t edge = nest.shape().tile[p] * std::max<std::int64_t>(1, nest.shape().block[p]);
      exact = exact && (nest.shape().block[p] == 0 || out.extent(p) % edge == 0);
    }
    const auto regions = d().regions(d().out().role, nest.region(nest.levels() - 1));
    return part(cut, role, regions.at(role), 1, Subject::Home{d().out().role, nest.loops().back().name}, exact);
  }

  /// Throws Pruned where a stage would have to be in two places.
  void check(const Cut& cut, const std::vector<const Part*>& parts) const {
    for (const auto& [role, own] : cut) {
      if (own.nesting != at_outermost_loop) continue;
      for (const Part* part : parts) {
        const StageNode& anchor = part->subject.dependences.out();
        const bool reads = part->subject.dependences.operands.contains(copy_of(d().stage(role)));
        if (!reads || anchor.role == d().out().role) continue;
        for (const auto& [other, where] : cut)
          if (copy_of(d().stage(other)) == anchor.role && where.nesting != at_outermost_loop)
            throw Pruned{fmt::format("{} is read before the output's loops, where it would be computed", role)};
      }
    }
  }

  /// Stages that several nests read without being one.
  std::set<std::string> shared(const std::vector<const Part*>& parts) const {
    std::set<std::string> seen, twice;
    for (const Part* part : parts)
      for (const StageNode& stage : part->subject.dependences.stages)
        if (!seen.insert(stage.role).second) twice.insert(stage.role);
    return twice;
  }

  /// What one step changes of a stage in a cut.
  std::vector<Own> other_places(const Cut& cut, const std::string& role) const {
    const Own& now = cut.at(role);
    std::vector<Own> others;
    for (const std::int64_t nesting : {with_reader, before_everything, at_outermost_loop})
      if (nesting != now.nesting) others.push_back({nesting, now.lanes});
    if (now.nesting != with_reader)
      for (const std::int64_t lanes : lanes_domain(d().stage(role)))
        if (lanes != now.lanes) others.push_back({now.nesting, lanes});
    return others;
  }

  Cut cut_of(const KnobValues& values) const {
    Cut cut;
    for (const auto& role : candidates_)
      cut[role] = {values.get("own_" + role, before_everything), values.get("lanes_" + role, 0)};
    return cut;
  }

  Candidate make(const std::vector<std::int64_t>& values) const {
    const KnobValues all(sketch_.knobs, values);
    const Cut cut = cut_of(all);
    const std::string& out = d().out().role;
    const auto knobs_of = [&](const std::string& role) { return all.preferring(role + "."); };
    const Nest nest = tiled_nest(root_part(cut, out).structure, knobs_of(out));
    const std::vector<std::string> roles = anchors(cut);
    std::vector<const Part*> parts;
    for (const auto& role : roles) {
      const auto own = cut.find(role);
      const bool nested = own != cut.end() && own->second.nesting == at_outermost_loop;
      if (nested && nest.levels() < 2) throw Pruned{"the output has one loop only, which is its tiles'"};
      parts.push_back(nested ? &nested_part(cut, role, nest) : &root_part(cut, role));
    }
    check(cut, parts);
    for (const auto& role : shared(parts)) {
      if (d().stage(role).updates > 0) throw Pruned{fmt::format("{} is read by two nests and is none", role)};
      if (knobs_of(out).get("place_" + role, in_expression) != in_expression)
        throw Pruned{fmt::format("{} cannot be placed in two nests", role)};
    }
    const InnermostLoops innermost = innermost_loops(cut);
    Candidate result;
    for (std::size_t i = roles.size(); i-- > 0;) {
      auto made = emit_tiled(parts[i]->structure, knobs_of(roles[i]));
      if (auto* pruned = std::get_if<Pruned>(&made)) throw Pruned{fmt::format("{}: {}", roles[i], pruned->reason)};
      add(result, std::get<Candidate>(made), roles[i], innermost, *parts[i], nest);
    }
    result.features["estimate"] = log_feature(result.estimate);
    result.features["nests"] = static_cast<double>(roles.size());
    for (const auto& [role, own] : cut) result.features["own." + role] = static_cast<double>(own.nesting);
    for (const auto& [role, loop] : innermost) result.features["lanes." + role] = static_cast<double>(loop);
    return result;
  }

  void add(Candidate& result, const Candidate& made, const std::string& role, const InnermostLoops& innermost,
           const Part& part, const Nest& nest) const {
    Schedule& schedule = result.implementation.schedule;
    const StageNode& anchor = d().stage(role);
    if (copy_of(anchor) != role) schedule[role].in(copy_of(anchor));
    if (const auto own = innermost.find(role); own != innermost.end()) {
      std::vector<std::string> storage = anchor.loops;
      const auto loop = storage.begin() + static_cast<std::ptrdiff_t>(own->second);
      std::rotate(storage.begin(), loop, loop + 1);
      schedule[copy_of(anchor)].reorder_storage(storage);
    }
    for (const auto& line : made.implementation.schedule.lines) schedule.lines.push_back(line);
    for (const auto& packing : made.implementation.packings) result.implementation.packings.push_back(packing);
    result.estimate += made.estimate * times(part, nest);
    const bool is_out = role == d().out().role;
    for (const auto& [name, value] : made.features)
      result.features[is_out ? name : fmt::format("{}/{}", role, name)] = value;
  }

  /// How often a nest runs, over the threads that share its runs.
  double times(const Part& part, const Nest& nest) const {
    if (!part.subject.home || part.subject.home->stage.empty()) return 1;
    const double runs = static_cast<double>(nest.iterations(nest.levels() - 1));
    return runs / std::min<double>(static_cast<double>(nest.tasks()), subject_.threads);
  }

  struct Found {
    Values values;
    double estimate = std::numeric_limits<double>::infinity();
  };
  const Found& optimum(const Part& part, const std::set<std::string>& inlined) const;
  Found total(const Cut& cut) const;
  Cut descend(Cut cut, Found& best) const;
  std::vector<std::int64_t> vector_of(const Cut& cut, const Values& values) const;

  const Subject& subject_;
  Sketch sketch_;
  std::vector<std::string> candidates_;
  std::set<std::string> exact_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::unique_ptr<Part>> parts_;
  mutable std::map<std::pair<const Part*, std::set<std::string>>, Found> optima_;
  mutable double weighed_ = 0;  ///< stages of points whose estimates were asked for
};

/// The best knobs of a nest by estimate: from a few starts, one knob after the other.
const Staged::Found& Staged::optimum(const Part& part, const std::set<std::string>& inlined) const {
  const auto key = std::pair(&part, inlined);
  if (const auto known = optima_.find(key); known != optima_.end()) return known->second;
  const std::vector<SpaceKnob> knobs = part.structure.knobs();
  std::vector<std::int64_t> best(knobs.size());
  double least = std::numeric_limits<double>::infinity();
  const auto is_inlined = [&](const SpaceKnob& knob) {
    return knob.name.starts_with("place_") && inlined.contains(knob.name.substr(6));
  };
  const auto estimate = [&](const std::vector<std::int64_t>& values) {
    subject_.heed_stop();
    weighed_ += static_cast<double>(part.subject.dependences.stages.size());
    const auto made = emit_tiled(part.structure, KnobValues(knobs, values));
    return std::holds_alternative<Candidate>(made) ? std::get<Candidate>(made).estimate
                                                   : std::numeric_limits<double>::infinity();
  };
  for (const std::size_t start : {1U, 0U, 2U}) {
    std::vector<std::int64_t> values(knobs.size());
    for (std::size_t k = 0; k < knobs.size(); ++k) {
      values[k] = is_inlined(knobs[k]) ? static_cast<std::int64_t>(in_expression) : part.structure.usual(knobs[k]);
      if (knobs[k].name == "vectors" || knobs[k].name == "innermost")
        values[k] = knobs[k].domain[std::min(start, knobs[k].domain.size() - 1)];
    }
    double now = estimate(values);
    for (int sweep = 0; sweep < 3; ++sweep) {
      const double before = now;
      for (std::size_t k = 0; k < knobs.size(); ++k) {
        if (is_inlined(knobs[k]) || weighed_ > 2 * most_weighed) continue;
        for (const std::int64_t v : knobs[k].domain) {
          std::vector<std::int64_t> other = values;
          other[k] = v;
          const double e = estimate(other);
          if (e < now) {
            now = e;
            values = other;
          }
        }
      }
      if (!(now < before)) break;
    }
    if (now < least) {
      least = now;
      best = values;
    }
  }
  Found found;
  found.estimate = least;
  for (std::size_t k = 0; k < knobs.size(); ++k) found.values[knobs[k].name] = best[k];
  return optima_.emplace(key, std::move(found)).first->second;
}

/// Every nest at its best under a cut.
Staged::Found Staged::total(const Cut& cut) const {
  const std::string& out = d().out().role;
  Found all;
  all.estimate = 0;
  std::vector<const Part*> parts;
  const std::vector<std::string> roles = anchors(cut);
  for (const auto& role : roles) parts.push_back(&root_part(cut, role));
  const std::set<std::string> inlined = shared(parts);
  for (const auto& role : inlined)
    if (d().stage(role).updates > 0) return {};
  const auto add = [&](const std::string& role, const Found& found, double runs) {
    all.estimate += found.estimate * runs;
    for (const auto& [name, value] : found.values)
      if (!names_stage(name)) all.values[fmt::format("{}.{}", role, name)] = value;
      else all.values.emplace(name, value);
  };
  const Found& last = optimum(*parts.back(), inlined);
  if (!std::isfinite(last.estimate)) return {};
  add(out, last, 1);
  std::vector<SpaceKnob> names;
  std::vector<std::int64_t> chosen;
  for (const auto& [name, value] : last.values) {
    names.push_back({name, {value}});
    chosen.push_back(value);
  }
  try {
    const Nest nest = tiled_nest(parts.back()->structure, KnobValues(names, chosen));
    for (std::size_t i = 0; i + 1 < roles.size(); ++i) {
      if (cut.at(roles[i]).nesting == at_outermost_loop) {
        if (nest.levels() < 2) return {};
        parts[i] = &nested_part(cut, roles[i], nest);
      }
      add(roles[i], optimum(*parts[i], inlined), times(*parts[i], nest));
    }
    check(cut, parts);
  } catch (const Pruned&) {
    return {};
  }
  return all;
}

/// One stage after the other to where it is best.
Cut Staged::descend(Cut cut, Found& best) const {
  constexpr double worth_it = 0.995;
  best = total(cut);
  for (int sweep = 0; sweep < 3; ++sweep) {
    bool better = false;
    for (auto role = candidates_.rbegin(); role != candidates_.rend(); ++role)
      for (const Own& own : other_places(cut, *role)) {
        // What is not weighed here is left to the search.
        if (weighed_ > most_weighed) continue;
        Cut other = cut;
        other[*role] = own;
        Found found = total(other);
        if (!(found.estimate < best.estimate * worth_it)) continue;
        best = std::move(found);
        cut = other;
        better = true;
      }
    if (!better) break;
  }
  return cut;
}

std::vector<std::int64_t> Staged::vector_of(const Cut& cut, const Values& values) const {
  std::vector<std::int64_t> result;
  for (const auto& knob : sketch_.knobs) {
    std::int64_t v = knob.domain.front();
    if (knob.name.starts_with("own_")) v = cut.at(knob.name.substr(4)).nesting;
    else if (knob.name.starts_with("lanes_")) v = cut.at(knob.name.substr(6)).lanes;
    else if (const auto known = values.find(knob.name); known != values.end()) v = known->second;
    // A nest that this cut's stages make smaller may know values that the widest has not.
    if (std::ranges::find(knob.domain, v) == knob.domain.end()) v = knob.domain.front();
    result.push_back(v);
  }
  return result;
}

std::vector<std::vector<std::int64_t>> Staged::defaults() const {
  struct Start {
    Cut cut;
    Found found;
  };
  std::vector<Start> found;
  // Lanes of one stage are seldom any good beside others of the next.
  Cut apart, within, turned;
  bool turns = false;
  for (const auto& role : candidates_) {
    const auto lanes = lanes_domain(d().stage(role));
    apart[role] = {before_everything};
    within[role] = {with_reader};
    turned[role] = {before_everything, lanes[std::min<std::size_t>(1, lanes.size() - 1)]};
    turns = turns || turned[role].lanes > 0;
  }
  std::vector<Cut> starts = {apart, within};
  if (turns) starts.push_back(turned);
  for (const Cut& cut : starts) {
    Start start;
    Found first = total(cut);
    start.cut = descend(cut, start.found);
    found.push_back(std::move(start));
    found.push_back({cut, std::move(first)});
  }
  // Neighbours of the best: what its estimate is wrong about shows first there.
  const Start best = *std::ranges::min_element(found, {}, [](const Start& s) { return s.found.estimate; });
  for (const auto& role : candidates_)
    for (const Own& own : other_places(best.cut, role)) {
      Cut cut = best.cut;
      if (weighed_ > 1.5 * most_weighed) continue;
      cut[role] = own;
      found.push_back({cut, total(cut)});
    }
  std::ranges::stable_sort(found, {}, [](const Start& s) { return s.found.estimate; });
  std::vector<std::vector<std::int64_t>> points;
  std::set<std::string> texts;
  for (const auto& [cut, values] : found) {
    if (!std::isfinite(values.estimate) || points.size() == 8) continue;
    auto point = vector_of(cut, values.values);
    const auto made = emit(point);
    if (!std::holds_alternative<Candidate>(made)) continue;
    if (texts.insert(std::get<Candidate>(made).implementation.print()).second) points.push_back(std::move(point));
  }
  return points;
}

}  // namespace

std::unique_ptr<SketchRule> staged_sketch(const Subject& subject) {
  if (subject.rank() == 0) return nullptr;
  auto rule = std::make_unique<Staged>(subject);
  if (!rule->fits()) return nullptr;
  return rule;
}

}  // namespace heddle::autoscheduler
