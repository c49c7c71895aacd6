#include "autoscheduler/dependence.hpp"

#include <algorithm>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::autoscheduler {
namespace {

using Halide::Expr;
namespace hi = Halide::Internal;

/// What a call of a mathematical function costs, in additions.
constexpr double function_cost = 12;
/// A division's throughput on current processors, in additions.
constexpr double division_cost = 4;

/// The calls of an expression and its arithmetic.
class Walk : public hi::IRVisitor {
 public:
  std::vector<const hi::Call*> calls;
  double operations = 0;

 private:
  using hi::IRVisitor::visit;
  void visit(const hi::Call* call) override {
    if (call->call_type == hi::Call::Halide || call->call_type == hi::Call::Image) {
      calls.push_back(call);
      // Indices are addresses, not arithmetic.
      const double before = operations;
      hi::IRVisitor::visit(call);
      operations = before;
      return;
    }
    if (!call->is_intrinsic() || call->call_type == hi::Call::PureExtern) operations += function_cost;
    else operations += 1;
    hi::IRVisitor::visit(call);
  }
  template <class T>
  void count(const T* node, double cost = 1) {
    operations += cost;
    hi::IRVisitor::visit(node);
  }
  void visit(const hi::Add* n) override { count(n); }
  void visit(const hi::Sub* n) override { count(n); }
  void visit(const hi::Mul* n) override { count(n); }
  void visit(const hi::Div* n) override { count(n, division_cost); }
  void visit(const hi::Mod* n) override { count(n, division_cost); }
  void visit(const hi::Min* n) override { count(n); }
  void visit(const hi::Max* n) override { count(n); }
  void visit(const hi::Select* n) override { count(n); }
  void visit(const hi::Cast* n) override {
    if (n->type.bits() != n->value.type().bits()) operations += 0.5;
    hi::IRVisitor::visit(n);
  }
};

/// The different calls of Funcs and operands in an expression without lets.
std::vector<Expr> distinct_calls(const Expr& expression) {
  Walk walk;
  expression.accept(&walk);
  std::vector<Expr> distinct;
  for (const auto* call : walk.calls)
    if (std::ranges::none_of(distinct, [&](const Expr& known) { return hi::equal(known, Expr(call)); }))
      distinct.emplace_back(call);
  return distinct;
}

/// Replaces calls of pure Funcs without a role by their definitions.
class SeeThrough : public hi::IRMutator {
 public:
  explicit SeeThrough(const std::set<std::string>& known) : known_(known) {}

 private:
  using hi::IRMutator::visit;
  Expr visit(const hi::Call* call) override {
    const Expr mutated = hi::IRMutator::visit(call);
    call = mutated.as<hi::Call>();
    if (call == nullptr || call->call_type != hi::Call::Halide || known_.contains(call->name)) return mutated;
    const hi::Function function(call->func);
    if (!function.has_pure_definition() || function.has_update_definition()) return mutated;
    std::map<std::string, Expr> arguments;
    const auto& names = function.args();
    for (std::size_t i = 0; i < names.size(); ++i) arguments[names[i]] = call->args[i];
    const Expr value = function.values()[static_cast<std::size_t>(call->value_index)];
    return mutate(hi::substitute(arguments, value));
  }
  const std::set<std::string>& known_;
};

bool is_associative(const Expr& value) {
  // Halide names what an update uses twice.
  if (const auto* let = value.as<hi::Let>()) return is_associative(let->body);
  return value.as<hi::Add>() != nullptr || value.as<hi::Mul>() != nullptr || value.as<hi::Min>() != nullptr ||
         value.as<hi::Max>() != nullptr;
}

Interval hull(const Interval& a, const Interval& b) {
  const std::int64_t min = std::min(a.min, b.min);
  return {min, std::max(a.min + a.extent, b.min + b.extent) - min};
}

/// Of a stage's loops while it computes a box: its reductions run over their whole extent.
Box with_reductions(const StageNode& stage, Box box) {
  for (const auto& r : stage.reductions) box.push_back({0, r.extent});
  return box;
}

/// Whether computing `box` of a stage reads no operand outside of its extents, where no clamp keeps it from that.
bool within_operands(const Dependences& whole, const StageNode& stage, const Box& box) {
  const auto needed = whole.regions(stage.role, box);
  for (const StageNode& reader : whole.stages) {
    const auto mine = needed.find(reader.role);
    if (mine == needed.end()) continue;
    const Box loops = with_reductions(reader, mine->second);
    for (const Access& access : reader.accesses) {
      if (!access.operand) continue;
      for (std::size_t d = 0; d < access.index.size(); ++d) {
        if (access.index[d].clamped || (!access.index[d].affine && access.index[d].slopes.empty())) continue;
        const Interval read = reach(access.index[d], loops);
        if (read.min < 0 || read.min + read.extent > whole.operands.at(access.source).extents.at(d)) return false;
      }
    }
  }
  return true;
}

/// Of a stage's loop, as StageNode documents.
std::int64_t extensible(const Dependences& whole, const StageNode& stage, std::size_t loop) {
  if (stage.box.empty()) return 0;  // nobody reads it
  std::int64_t iterations = most_phases - 1;
  for (; iterations > 0; --iterations) {
    Box more = stage.box;
    more[loop] = {more[loop].min - iterations, more[loop].extent + 2 * iterations};
    if (within_operands(whole, stage, more)) break;
  }
  return iterations;
}

class Analyser {
 public:
  explicit Analyser(const Pipeline& pipeline) : pipeline_(pipeline) {
    for (const auto& stage : pipeline.stages) roles_[stage.func.name()] = stage.role;
    for (const auto& [role, param] : pipeline.operands) operand_roles_[param.name()] = role;
    for (const auto& [name, role] : roles_) known_.insert(name);
  }

  Dependences run(const std::vector<std::int64_t>& output_extents) {
    Dependences all;
    for (const auto& [role, param] : pipeline_.operands) all.operands[role] = operand(role, param);
    for (const auto& stage : pipeline_.stages) all.stages.push_back(node(stage));
    StageNode& out = all.stages.back();
    if (out.loops.size() != output_extents.size())
      throw Error(ErrorCode::internal, fmt::format("{} extents were given for an output of {} dimensions",
                                                   output_extents.size(), out.loops.size()));
    for (const std::int64_t extent : output_extents) out.box.push_back({0, extent});
    const auto regions = all.regions(out.role, out.box);
    for (auto& stage : all.stages)
      if (const auto found = regions.find(stage.role); found != regions.end()) stage.box = found->second;
    for (std::size_t i = 0; i < all.stages.size(); ++i) {
      StageNode& stage = all.stages[i];
      for (std::size_t l = 0; l < stage.loops.size(); ++l) stage.extensible.push_back(extensible(all, stage, l));
      take_phases(stage, pipeline_.stages[i].func);
    }
    return all;
  }

 private:
  OperandNode operand(const std::string& role, const Halide::ImageParam& param) const {
    OperandNode node{role, param.type().bytes(), {}, {}};
    if (const auto names = pipeline_.operand_dimensions.find(role); names != pipeline_.operand_dimensions.end())
      node.dimensions = names->second;
    for (int d = 0; d < param.dimensions(); ++d) {
      const Halide::Parameter parameter = param.parameter();
      const auto extent = constant_of(parameter.extent_constraint(d)),
                 stride = constant_of(parameter.stride_constraint(d));
      if (!extent)
        throw Error(
            ErrorCode::unsupported,
            fmt::format("operand '{}' has a symbolic extent: a search needs fixed shapes (--dim NAME=SIZE)", role));
      node.extents.push_back(*extent);
      node.strides.push_back(stride.value_or(0));
    }
    return node;
  }

  StageNode node(const PipelineStage& stage) const {
    StageNode node;
    node.role = stage.role;
    node.element_bytes = stage.func.type().bytes();
    std::vector<std::string> loops;  // Halide's names
    for (const auto& arg : stage.func.args()) {
      node.loops.push_back(arg.name());
      loops.push_back(arg.name());
    }
    SeeThrough see_through(known_);
    add_accesses(node, see_through.mutate(stage.func.value()), loops, false, node.pure_operations);
    node.updates = stage.func.num_update_definitions();
    if (node.updates == 0) return node;
    for (const hi::ReductionVariable& r : stage.func.function().update(0).schedule().rvars()) {
      const auto name = stage.reductions.find(r.var);
      const auto extent = constant_of(r.extent);
      if (!extent)
        throw Error(
            ErrorCode::unsupported,
            fmt::format("a reduction of stage '{}' has a symbolic extent: a search needs fixed shapes", stage.role));
      node.reductions.push_back({name == stage.reductions.end() ? r.var : name->second, *extent});
      loops.push_back(r.var);
    }
    const auto left = stage.func.update_args(0);
    const auto follows_loop = [&](std::size_t i) {
      const auto* variable = left[i].as<hi::Variable>();
      return variable != nullptr && variable->name == node.loops[i];
    };
    std::size_t followed = 0;
    for (std::size_t i = 0; i < left.size(); ++i) followed += follows_loop(i) ? 1 : 0;
    node.accumulates = node.updates == 1 && followed == left.size();
    node.scatters = node.updates == 1 && !node.accumulates && !left.empty() && follows_loop(0);
    for (int u = 0; u < node.updates; ++u) {
      // The first update's loops stand for all: more than one is rare, and then nothing but its place is chosen.
      const Expr value = see_through.mutate(stage.func.update_value(u));
      add_accesses(node, value, loops, true, node.update_operations);
      node.associative = u == 0 && is_associative(value);
    }
    return node;
  }

  /// What the pure definition asks of its loops, and what is computed and read of it once that is known.
  void take_phases(StageNode& node, const Halide::Func& func) const {
    const Expr value = hi::substitute_in_all_lets(SeeThrough(known_).mutate(func.value()));
    node.phases = find_phases(value, node.loops);
    bool any = false;
    for (std::size_t l = 0; l < node.loops.size(); ++l) {
      Phases& phases = node.phases[l];
      const std::int64_t extent = node.box.empty() ? 1 : node.box[l].extent;
      // `x == 0` in a long loop is a border, which is no kind of its iterations.
      if (!phases.repeat) phases = extent == 1 || extent > phases.count ? Phases{} : Phases{extent, false};
      any = any || phases.count > 1;
    }
    if (!any) return;
    double combinations = 0, operations = 0;
    std::map<Source, double> all, read;  // different calls, in the expression and in its phases
    const auto count = [&](const Expr& expression, std::map<Source, double>& calls) {
      for (const Expr& call : distinct_calls(expression))
        if (const auto source = source_of(*call.as<hi::Call>())) calls[*source] += 1;
    };
    count(value, all);
    each_phase(value, node.loops, node.phases, [&](const Expr& settled) {
      combinations += 1;
      Walk walk;
      settled.accept(&walk);
      operations += walk.operations;
      count(settled, read);
    });
    node.pure_operations = operations / combinations;
    for (Access& access : node.accesses) {
      const Source source{access.source, access.operand};
      if (!access.in_update) access.share = std::min(1.0, read[source] / (combinations * all[source]));
    }
  }

  /// A stage or an operand.
  struct Source {
    std::string role;
    bool operand = false;
    auto operator<=>(const Source&) const = default;
  };
  /// Whose value a call reads; none: it is no part of the pipeline.
  std::optional<Source> source_of(const hi::Call& call) const {
    if (const auto stage = roles_.find(call.name); stage != roles_.end()) return Source{stage->second, false};
    if (const auto operand = operand_roles_.find(call.name); operand != operand_roles_.end())
      return Source{operand->second, true};
    return std::nullopt;
  }

  void add_accesses(StageNode& node, const Expr& value, const std::vector<std::string>& loops, bool in_update,
                    double& operations) const {
    Walk walk;
    value.accept(&walk);
    operations += walk.operations;
    for (const Expr& expression : distinct_calls(hi::substitute_in_all_lets(value))) {
      const auto* call = expression.as<hi::Call>();
      const auto source = source_of(*call);
      if (!source || source->role == node.role) continue;
      Access access{source->role, source->operand, in_update, {}};
      for (const auto& index : call->args) access.index.push_back(affine_index(index, loops));
      node.accesses.push_back(std::move(access));
    }
  }

  const Pipeline& pipeline_;
  std::map<std::string, std::string> roles_, operand_roles_;  // by Halide's names
  std::set<std::string> known_;
};

}  // namespace

std::int64_t StageNode::elements() const {
  std::int64_t count = 1;
  for (const auto& interval : box) count *= interval.extent;
  return count;
}

bool StageNode::reads_again() const {
  return std::ranges::any_of(accesses, [&](const Access& access) {
    if (!access.in_update) return false;
    for (std::size_t l = 0; l < loops.size() + reductions.size(); ++l) {
      const std::int64_t extent = l < loops.size() ? box[l].extent : reductions[l - loops.size()].extent;
      if (extent > 1 && std::ranges::none_of(access.index, [&](const AffineIndex& i) { return i.depends.at(l); }))
        return true;
    }
    return false;
  });
}

std::int64_t StageNode::reduction_steps() const {
  std::int64_t count = 1;
  for (const auto& r : reductions) count *= r.extent;
  return count;
}

double StageNode::operations() const {
  return static_cast<double>(elements()) *
         (pure_operations + update_operations * (updates > 0 ? static_cast<double>(reduction_steps()) : 0));
}

const StageNode& Dependences::stage(std::string_view role) const {
  for (const auto& stage : stages)
    if (stage.role == role) return stage;
  throw Error(ErrorCode::internal, fmt::format("the pipeline has no stage '{}'", role));
}

bool Dependences::has_stage(std::string_view role) const {
  return std::ranges::any_of(stages, [&](const StageNode& stage) { return stage.role == role; });
}

std::vector<const StageNode*> Dependences::consumers(std::string_view role) const {
  std::vector<const StageNode*> readers;
  for (const auto& stage : stages)
    if (std::ranges::any_of(stage.accesses, [&](const Access& a) { return a.source == role; }))
      readers.push_back(&stage);
  return readers;
}

std::map<std::string, Box> Dependences::regions(std::string_view consumer, const Box& box) const {
  std::map<std::string, Box> needed;
  needed[std::string(consumer)] = box;
  for (auto stage = stages.rbegin(); stage != stages.rend(); ++stage) {
    const auto mine = needed.find(stage->role);
    if (mine == needed.end()) continue;
    const Box loops = with_reductions(*stage, mine->second);
    for (const auto& access : stage->accesses) {
      Box read;
      read.reserve(access.index.size());
      for (std::size_t d = 0; d < access.index.size(); ++d) {
        if (access.index[d].affine || !access.index[d].slopes.empty()) {
          read.push_back(reach(access.index[d], loops));
        } else if (access.operand) {
          read.push_back({0, operands.at(access.source).extents.at(d)});
        } else {
          // What a stage covers as a whole is known once the outputs' boxes are.
          const StageNode& source = this->stage(access.source);
          read.push_back(d < source.box.size() ? source.box[d] : Interval{0, 1});
        }
      }
      const auto [known, fresh] = needed.try_emplace(access.source);
      if (fresh) known->second = std::move(read);
      else
        for (std::size_t d = 0; d < read.size(); ++d) known->second[d] = hull(known->second[d], read[d]);
    }
  }
  return needed;
}

std::string copy_of(const StageNode& anchor) { return anchor.updates > 0 ? anchor.role + "_all" : anchor.role; }

std::set<std::string> isolated_stages(const Dependences& whole, const std::vector<std::string>& anchors,
                                      const std::string& anchor) {
  std::set<std::string> members = {anchor};
  for (auto stage = whole.stages.rbegin(); stage != whole.stages.rend(); ++stage)
    if (members.contains(stage->role))
      for (const Access& access : stage->accesses)
        if (!access.operand && std::ranges::find(anchors, access.source) == anchors.end())
          members.insert(access.source);
  return members;
}

std::vector<std::int64_t> dense_strides(const Box& box, const InnermostLoops& innermost, const std::string& anchor) {
  std::vector<std::int64_t> strides(box.size(), 1);
  if (box.empty()) return strides;
  const auto known = innermost.find(anchor);
  const std::size_t first = known == innermost.end() ? 0 : known->second;
  std::int64_t stride = box.at(first).extent;
  for (std::size_t l = 0; l < box.size(); ++l) {
    if (l == first) continue;
    strides[l] = stride;
    stride *= box[l].extent;
  }
  return strides;
}

Dependences isolate(const Dependences& whole, const std::vector<std::string>& anchors, const InnermostLoops& innermost,
                    const std::string& anchor, const Box& box) {
  const std::set<std::string> members = isolated_stages(whole, anchors, anchor);
  Dependences part;
  for (const StageNode& stage : whole.stages) {
    if (!members.contains(stage.role)) continue;
    StageNode node = stage;
    for (Access& access : node.accesses) {
      if (access.operand) {
        OperandNode operand = whole.operands.at(access.source);
        for (const StageNode* reader : whole.consumers(access.source))
          operand.read_elsewhere = operand.read_elsewhere || !members.contains(reader->role);
        part.operands.emplace(access.source, operand);
      } else if (!members.contains(access.source)) {
        const StageNode& source = whole.stage(access.source);
        access.source = copy_of(source);
        access.operand = true;
        OperandNode operand{
            access.source, source.element_bytes, {}, dense_strides(source.box, innermost, source.role), source.loops,
            true};
        for (const Interval& interval : source.box) operand.extents.push_back(interval.extent);
        part.operands.emplace(access.source, operand);
      }
    }
    part.stages.push_back(std::move(node));
  }
  if (const StageNode& last = part.stages.back(); last.updates > 0) {
    StageNode copy;
    copy.role = copy_of(last);
    copy.loops = last.loops;
    copy.phases.resize(last.loops.size());
    copy.extensible = last.extensible;
    copy.element_bytes = last.element_bytes;
    Access access{last.role, false, false, {}};
    for (std::size_t d = 0; d < last.loops.size(); ++d) {
      AffineIndex index;
      index.coefficients.assign(last.loops.size(), 0);
      index.depends.assign(last.loops.size(), false);
      index.coefficients[d] = 1;
      index.depends[d] = true;
      access.index.push_back(std::move(index));
    }
    copy.accesses.push_back(std::move(access));
    part.stages.push_back(std::move(copy));
  }
  part.stages.back().box = box;
  const auto regions = part.regions(part.out().role, box);
  for (StageNode& stage : part.stages)
    if (const auto found = regions.find(stage.role); found != regions.end()) stage.box = found->second;
  return part;
}

std::set<std::string> exact_stages(const Dependences& dependences) {
  std::set<std::string> exact = {dependences.out().role};
  for (auto stage = dependences.stages.rbegin() + 1; stage != dependences.stages.rend(); ++stage) {
    const auto readers = dependences.consumers(stage->role);
    const bool all = std::ranges::all_of(readers, [&](const StageNode* reader) {
      return exact.contains(reader->role) && std::ranges::all_of(reader->accesses, [&](const Access& access) {
               return access.source != stage->role ||
                      std::ranges::all_of(access.index, [](const AffineIndex& i) { return i.affine && !i.clamped; });
             });
    });
    if (all) exact.insert(stage->role);
  }
  return exact;
}

Dependences analyse(const Pipeline& pipeline, const std::vector<std::int64_t>& output_extents) {
  if (pipeline.outputs.size() != 1)
    throw Error(ErrorCode::unsupported, fmt::format("a search schedules pipelines with one output, and this one has {}",
                                                    pipeline.outputs.size()));
  try {
    return Analyser(pipeline).run(output_extents);
  } catch (const Halide::Error& error) {
    throw Error(ErrorCode::internal, fmt::format("Halide: {}", error.what()));
  }
}

}  // namespace heddle::autoscheduler
