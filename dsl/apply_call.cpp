#include <algorithm>

#include <fmt/format.h>

#include "base/error.hpp"
#include "dsl/schedule_call.hpp"

namespace heddle {
namespace {

using Kind = ArgumentKind;

/// A loop of one definition: as schedules call it, and as Halide does.
struct Loop {
  std::string name;
  std::string halide;
  bool is_rvar = false;
};

/// Halide calls the inner loop of a split of y `y.yi`.
std::string last_part(const std::string& name) { return name.substr(name.rfind('.') + 1); }

/// A loop that no schedule can name: Halide's outermost, and those made by `split_in_place`.
bool is_hidden(const std::string& name) { return name.find('$') != std::string::npos || name.starts_with("__"); }

std::string translated(const std::string& halide, const std::map<std::string, std::string>& names) {
  const auto found = names.find(halide);
  return found == names.end() ? halide : found->second;
}

std::vector<Loop> loops_of(const Halide::Internal::StageSchedule& schedule,
                           const std::map<std::string, std::string>& names) {
  std::vector<Loop> loops;
  for (const auto& dim : schedule.dims()) {
    std::string halide = last_part(dim.var);
    std::string name = translated(halide, names);
    if (!is_hidden(name)) loops.push_back({std::move(name), std::move(halide), dim.is_rvar()});
  }
  return loops;
}

/// The loops of a definition and of all its specialisations.
void collect_loops(const Halide::Internal::Definition& definition, const std::map<std::string, std::string>& names,
                   std::vector<Loop>& all) {
  for (Loop& loop : loops_of(definition.schedule(), names)) all.push_back(std::move(loop));
  for (const auto& special : definition.specializations()) collect_loops(special.definition, names, all);
}

const Loop* find_loop(const std::vector<Loop>& loops, std::string_view name) {
  const auto found = std::find_if(loops.begin(), loops.end(), [&](const Loop& l) { return l.name == name; });
  return found == loops.end() ? nullptr : &*found;
}

std::vector<std::string> names_of(const std::vector<Loop>& loops) {
  std::vector<std::string> names;
  for (const Loop& loop : loops)
    if (std::find(names.begin(), names.end(), loop.name) == names.end()) names.push_back(loop.name);
  return names;
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text.empty() ? "none" : text;
}

[[noreturn]] void fail_dimension(SourcePosition position, std::string_view what, std::string_view name,
                                 const std::vector<std::string>& existing) {
  throw ScheduleProblem{position, fmt::format("{} has no dimension '{}'{}; it has {}", what, name,
                                              did_you_mean(name, existing), listed(existing))};
}

Halide::VarOrRVar as_var(const Loop& loop) { return {loop.halide, loop.is_rvar}; }

/// The role and the number of `acc.update(2)`; -1 without one.
std::pair<std::string, int> parse_definition(const std::string& text) {
  const std::size_t at = text.rfind(".update(");
  if (at == std::string::npos) return {text, -1};
  return {text.substr(0, at), std::stoi(text.substr(at + 8))};
}

}  // namespace

const std::vector<std::pair<std::string, Halide::TailStrategy>>& tail_strategies() {
  using T = Halide::TailStrategy;
  static const std::vector<std::pair<std::string, T>> all{{"Auto", T::Auto},
                                                          {"RoundUp", T::RoundUp},
                                                          {"GuardWithIf", T::GuardWithIf},
                                                          {"Predicate", T::Predicate},
                                                          {"PredicateLoads", T::PredicateLoads},
                                                          {"PredicateStores", T::PredicateStores},
                                                          {"ShiftInwards", T::ShiftInwards},
                                                          {"ShiftInwardsAndBlend", T::ShiftInwardsAndBlend},
                                                          {"RoundUpAndBlend", T::RoundUpAndBlend}};
  return all;
}

const std::vector<std::pair<std::string, Halide::MemoryType>>& memory_types() {
  using T = Halide::MemoryType;
  static const std::vector<std::pair<std::string, T>> all{{"Auto", T::Auto},
                                                          {"Heap", T::Heap},
                                                          {"Stack", T::Stack},
                                                          {"Register", T::Register},
                                                          {"GPUShared", T::GPUShared},
                                                          {"GPUTexture", T::GPUTexture},
                                                          {"LockedCache", T::LockedCache},
                                                          {"VTCM", T::VTCM},
                                                          {"AMXTile", T::AMXTile}};
  return all;
}

const std::vector<std::pair<std::string, Halide::Partition>>& partitions() {
  using T = Halide::Partition;
  static const std::vector<std::pair<std::string, T>> all{
      {"Auto", T::Auto}, {"Never", T::Never}, {"Always", T::Always}};
  return all;
}

const std::vector<std::pair<std::string, Halide::LoopAlignStrategy>>& loop_alignments() {
  using T = Halide::LoopAlignStrategy;
  static const std::vector<std::pair<std::string, T>> all{
      {"Auto", T::Auto}, {"AlignStart", T::AlignStart}, {"AlignEnd", T::AlignEnd}, {"NoAlign", T::NoAlign}};
  return all;
}

const std::vector<std::pair<std::string, Halide::PrefetchBoundStrategy>>& prefetch_bounds() {
  using T = Halide::PrefetchBoundStrategy;
  static const std::vector<std::pair<std::string, T>> all{
      {"GuardWithIf", T::GuardWithIf}, {"Clamp", T::Clamp}, {"NonFaulting", T::NonFaulting}};
  return all;
}

PipelineStage* ScheduleCall::find(std::string_view role) const {
  const auto found = std::find_if(pipeline_.stages.begin(), pipeline_.stages.end(),
                                  [&](const PipelineStage& s) { return s.role == role; });
  return found == pipeline_.stages.end() ? nullptr : &*found;
}

void ScheduleCall::fail_stage(std::string_view role, SourcePosition position, bool operands) const {
  std::vector<std::string> roles;
  for (const auto& stage : pipeline_.stages) roles.push_back(stage.role);
  if (operands)
    for (const auto& operand : pipeline_.operands) roles.push_back(operand.first);
  throw ScheduleProblem{position,
                        fmt::format("no stage '{}'{}; there are {}", role, did_you_mean(role, roles), listed(roles))};
}

const PipelineStage& ScheduleCall::existing(std::size_t i) const {
  const PipelineStage* found = find(name_of(i));
  if (found == nullptr) fail_stage(name_of(i), directive_->arguments[i].position, false);
  return *found;
}

void ScheduleCall::start(const ScheduleLine& line) {
  line_ = &line;
  role_ = line.stage;
  func_ = Halide::Func();
  loops_.reset();
  names_.clear();
  const PipelineStage* stage = find(role_);
  if (stage == nullptr) {
    const auto operand = pipeline_.operands.find(role_);
    if (operand == pipeline_.operands.end()) fail_stage(role_, line.position, true);
    if (line.update >= 0)
      throw ScheduleProblem{line.position, fmt::format("'{}' is an operand and has no updates", role_)};
    return;
  }
  func_ = stage->func;
  names_ = stage->reductions;
  const int updates = func_.num_update_definitions();
  if (line.update >= updates)
    throw ScheduleProblem{line.position, updates == 0 ? fmt::format("'{}' has no updates", role_)
                                                      : fmt::format("'{}' has no update({}); the last is update({})",
                                                                    role_, line.update, updates - 1)};
  loops_ = line.update < 0 ? Halide::Stage(func_) : func_.update(line.update);
}

void ScheduleCall::apply(const Directive& directive) {
  directive_ = &directive;
  const DirectiveRow& row = row_of(directive);
  if (!func_.defined() && !row.on_operand)
    throw ScheduleProblem{
        directive.position,
        fmt::format("'{}' is an operand: only its copy can be scheduled, made by {}.in(NAME)", role_, role_)};
  check_arguments(row);
  row.apply(*this);
}

void ScheduleCall::check_arguments(const DirectiveRow& row) const {
  std::vector<Loop> loops;
  if (loops_) loops = loops_of(loops_->get_schedule(), names_);
  const auto kind = [&](std::size_t i) { return row.parameter(i).kind; };
  std::vector<std::string> named;  // dimensions that the directive takes
  std::vector<std::string> made;   // and makes
  for (std::size_t i = 0; i < size(); ++i)
    if (kind(i) == Kind::dimension || kind(i) == Kind::pure) {
      const auto& name = name_of(i);
      const SourcePosition position = directive_->arguments[i].position;
      const std::string what =
          line_->update < 0 ? fmt::format("'{}'", role_) : fmt::format("'{}.update({})'", role_, line_->update);
      if (kind(i) == Kind::dimension && find_loop(loops, name) == nullptr)
        fail_dimension(position, what, name, names_of(loops));
      const auto pures = pure_names();
      if (kind(i) == Kind::pure && std::find(pures.begin(), pures.end(), name) == pures.end())
        fail_dimension(position, fmt::format("'{}' itself", role_), name, pures);
      if (row.distinct && std::find(named.begin(), named.end(), name) != named.end())
        throw ScheduleProblem{position, fmt::format("'{}' is named twice", name)};
      named.push_back(name);
    }
  for (std::size_t i = 0; i < size(); ++i) {
    const SourcePosition position = directive_->arguments[i].position;
    switch (kind(i)) {
      case Kind::fresh: {
        const auto& name = name_of(i);
        const bool replaced = std::find(named.begin(), named.end(), name) != named.end();
        if (std::find(made.begin(), made.end(), name) != made.end())
          throw ScheduleProblem{position, fmt::format("'{}' is named twice", name)};
        if (!replaced && find_loop(loops, name) != nullptr)
          throw ScheduleProblem{position,
                                fmt::format("'{}' already has a dimension '{}': choose another name", role_, name)};
        if (is_hidden(name)) throw ScheduleProblem{position, fmt::format("names such as '{}' are Halide's own", name)};
        made.push_back(name);
        break;
      }
      case Kind::stage: existing(i); break;
      case Kind::source:
        if (find(name_of(i)) == nullptr && !pipeline_.operands.contains(name_of(i)))
          fail_stage(name_of(i), position, true);
        break;
      case Kind::definition: {
        const auto [role, update] = parse_definition(name_of(i));
        const PipelineStage* other = find(role);
        if (other == nullptr) fail_stage(role, position, false);
        if (update >= other->func.num_update_definitions())
          throw ScheduleProblem{position, fmt::format("'{}' has no update({})", role, update)};
        break;
      }
      case Kind::loop:
        if (kind(i - 1) == Kind::definition) loop(i);
        break;
      case Kind::fresh_stage:
        if (find(name_of(i)) != nullptr || pipeline_.operands.contains(name_of(i)))
          throw ScheduleProblem{position,
                                fmt::format("there is a stage '{}' already: choose another name", name_of(i))};
        break;
      case Kind::number:
      case Kind::factor:
      case Kind::condition: number(i); break;
      default: break;
    }
  }
}

std::vector<std::string> ScheduleCall::pure_names() const {
  std::vector<std::string> names;
  if (func_.defined())
    for (const auto& var : func_.args()) names.push_back(translated(var.name(), names_));
  return names;
}

Halide::VarOrRVar ScheduleCall::dimension(std::size_t i) const {
  const auto loops = loops_of(loops_->get_schedule(), names_);
  if (const Loop* found = find_loop(loops, name_of(i))) return as_var(*found);
  // After split_in_place the loop is there still; check_arguments has seen every other case.
  throw Error(ErrorCode::internal, fmt::format("the dimension '{}' vanished while it was scheduled", name_of(i)));
}

std::vector<Halide::VarOrRVar> ScheduleCall::dimensions() const {
  std::vector<Halide::VarOrRVar> all;
  for (std::size_t i = 0; i < size(); ++i) all.push_back(dimension(i));
  return all;
}

Halide::VarOrRVar ScheduleCall::fresh(std::size_t i, bool is_rvar) const { return {name_of(i), is_rvar}; }

Halide::Var ScheduleCall::pure(std::size_t i) const {
  for (const auto& var : func_.args())
    if (translated(var.name(), names_) == name_of(i)) return var;
  throw Error(ErrorCode::internal, fmt::format("'{}' lost its dimension '{}'", role_, name_of(i)));
}

Halide::Stage ScheduleCall::definition(std::size_t i) const {
  const auto [role, update] = parse_definition(name_of(i));
  Halide::Func func = find(role)->func;
  return update < 0 ? Halide::Stage(func) : func.update(update);
}

Halide::VarOrRVar ScheduleCall::loop(std::size_t i) const {
  const PipelineStage& other = *find(parse_definition(name_of(i - 1)).first);
  const auto loops = loops_of(definition(i - 1).get_schedule(), other.reductions);
  if (const Loop* found = find_loop(loops, name_of(i))) return as_var(*found);
  fail_dimension(directive_->arguments[i].position, fmt::format("'{}'", name_of(i - 1)), name_of(i), names_of(loops));
}

Halide::LoopLevel ScheduleCall::level(std::size_t i) {
  const auto& arguments = directive_->arguments;
  if (name_of(i) == role_)
    throw ScheduleProblem{arguments[i].position, fmt::format("'{}' cannot be placed within itself", role_)};
  pending_.push_back({Halide::LoopLevel(), name_of(i), name_of(i + 1), arguments[i + 1].position});
  return pending_.back().level;
}

void ScheduleCall::Pending::resolve(const Pipeline& pipeline) const {
  const auto consumer = std::find_if(pipeline.stages.begin(), pipeline.stages.end(),
                                     [&](const PipelineStage& s) { return s.role == stage; });
  const Halide::Internal::Function function = consumer->func.function();
  std::vector<Loop> loops;
  collect_loops(function.definition(), consumer->reductions, loops);
  for (const auto& update : function.updates()) collect_loops(update, consumer->reductions, loops);
  const Loop* found = find_loop(loops, loop);
  if (found == nullptr) fail_dimension(position, fmt::format("'{}'", stage), loop, names_of(loops));
  // Two updates may each have a reduction of this name, which are different loops to Halide.
  for (const Loop& other : loops)
    if (other.name == loop && other.halide != found->halide)
      throw ScheduleProblem{position,
                            fmt::format("several definitions of '{}' have a loop '{}': rename one", stage, loop)};
  Halide::LoopLevel(level).set(Halide::LoopLevel(consumer->func, as_var(*found)));
}

Halide::Expr ScheduleCall::number(std::size_t i) const {
  const ScheduleArgument& argument = directive_->arguments[i];
  if (const auto* integer = std::get_if<std::int64_t>(&argument.value)) return static_cast<int>(*integer);
  std::size_t used = 0;
  return expression(ScheduleExpression::parse(name_of(i), argument.position, used));
}

Halide::Expr ScheduleCall::expression(const ScheduleExpression& e) const {
  using Op = ScheduleExpression::Op;
  if (e.op == Op::integer) return static_cast<int>(e.value);
  if (e.op == Op::symbol) {
    std::vector<std::string> known;
    for (const auto& symbol : pipeline_.symbols) {
      if (symbol.name() == e.name) return symbol;
      known.push_back(symbol.name());
    }
    throw ScheduleProblem{e.position, fmt::format("no symbolic extent '{}'{}; there are {}", e.name,
                                                  did_you_mean(e.name, known), listed(known))};
  }
  const Halide::Expr a = expression(e.args[0]);
  if (e.op == Op::negate) return -a;
  const Halide::Expr b = expression(e.args[1]);
  switch (e.op) {
    case Op::add: return a + b;
    case Op::sub: return a - b;
    case Op::mul: return a * b;
    case Op::div: return a / b;
    case Op::mod: return a % b;
    case Op::min: return Halide::min(a, b);
    case Op::max: return Halide::max(a, b);
    case Op::lt: return a < b;
    case Op::le: return a <= b;
    case Op::gt: return a > b;
    case Op::ge: return a >= b;
    case Op::eq: return a == b;
    case Op::ne: return a != b;
    case Op::both: return a && b;
    default: return a || b;
  }
}

Halide::TailStrategy ScheduleCall::tail(std::size_t i) const {
  return enumerator(i, tail_strategies(), Halide::TailStrategy::Auto);
}

bool ScheduleCall::flag(std::size_t i, bool otherwise) const { return has(i) ? name_of(i) == "true" : otherwise; }

std::string ScheduleCall::text(std::size_t i) const { return name_of(i).substr(1, name_of(i).size() - 2); }

Halide::VarOrRVar ScheduleCall::split_in_place(std::size_t i) {
  const Halide::VarOrRVar v = dimension(i);
  std::size_t made = 0;
  for (const auto& dim : loops_->get_schedule().dims())
    made += last_part(dim.var).starts_with(name_of(i) + "$") ? 1 : 0;
  const Halide::VarOrRVar inner(fmt::format("{}${}", name_of(i), made), v.is_rvar);
  loops_->split(v, v, inner, number(i + 1), tail(i + 2));
  return inner;
}

void ScheduleCall::prefetch() {
  const Halide::VarOrRVar at = dimension(1), from = dimension(2);
  const Halide::Expr offset = has(3) ? number(3) : Halide::Expr(1);
  const auto bounds = enumerator(4, prefetch_bounds(), Halide::PrefetchBoundStrategy::GuardWithIf);
  if (const PipelineStage* stage = find(name_of(0))) loops_->prefetch(stage->func, at, from, offset, bounds);
  else loops_->prefetch(pipeline_.operands.at(name_of(0)).parameter(), at, from, offset, bounds);
}

void ScheduleCall::rfactor() {
  std::vector<std::pair<Halide::RVar, Halide::Var>> preserved;
  for (std::size_t i = 0; i + 1 < size(); i += 2) {
    const Halide::VarOrRVar r = dimension(i);
    if (!r.is_rvar)
      throw ScheduleProblem{directive_->arguments[i].position,
                            fmt::format("'{}' is no reduction dimension of '{}'", name_of(i), role_)};
    preserved.emplace_back(r.rvar, Halide::Var(name_of(i + 1)));
  }
  Halide::Func partial = loops_->rfactor(preserved);
  const auto at = std::find_if(pipeline_.stages.begin(), pipeline_.stages.end(),
                               [&](const PipelineStage& s) { return s.role == role_; });
  // What is left of the reduction keeps its names in both stages.
  pipeline_.stages.insert(at, {name_of(size() - 1), partial, names_});
}

void ScheduleCall::wrap() {
  std::vector<Halide::Func> consumers;
  for (std::size_t i = 1; i < size(); ++i) consumers.push_back(existing(i).func);
  const auto copy_of = [&](auto source) {
    if (consumers.empty()) return source.in();
    return consumers.size() == 1 ? source.in(consumers[0]) : source.in(consumers);
  };
  const auto at = std::find_if(pipeline_.stages.begin(), pipeline_.stages.end(),
                               [&](const PipelineStage& s) { return s.role == role_; });
  if (at != pipeline_.stages.end()) {
    const PipelineStage copy{name_of(0), copy_of(func_), names_};
    pipeline_.stages.insert(at + 1, copy);
    return;
  }
  PipelineStage copy{name_of(0), copy_of(pipeline_.operands.at(role_)), {}};
  if (const auto names = pipeline_.operand_dimensions.find(role_); names != pipeline_.operand_dimensions.end()) {
    const auto vars = copy.func.args();
    for (std::size_t i = 0; i < std::min(vars.size(), names->second.size()); ++i)
      copy.reductions[vars[i].name()] = names->second[i];
  }
  pipeline_.stages.insert(pipeline_.stages.begin(), copy);
}

}  // namespace heddle
