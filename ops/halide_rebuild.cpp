#include "ops/halide_rebuild.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <optional>

#include <fmt/format.h>

namespace heddle::ops {
namespace {

using Halide::Expr;
namespace hi = Halide::Internal;

[[noreturn]] void refuse(const std::string& why) { throw Error(ErrorCode::unsupported, why); }

/// Without the number that Halide gives to what its author did not name, which counts what the process made:
/// "lambda_5", "f3", "v12", "r4".
std::string uncounted(const std::string& name) {
  for (const std::string_view begin : {"lambda_", "f", "v", "r"}) {
    if (!name.starts_with(begin) || name.size() == begin.size()) continue;
    if (name.find_first_not_of("0123456789", begin.size()) == std::string::npos)
      return begin == "lambda_" ? "lambda" : std::string(begin);
  }
  return name;
}

std::string unique(const std::string& wanted, std::set<std::string>& taken) {
  std::string name = wanted;
  for (int i = 1; !taken.insert(name).second; ++i) name = fmt::format("{}_{}", wanted, i);
  return name;
}

/// The function's name without the type that Halide ends it with; empty if it is none of Halide's mathematics.
std::string mathematical(const std::string& name) {
  static const std::set<std::string> known = {
      "sqrt",  "sin",  "cos",    "tan",    "asin",      "acos",         "atan",
      "atan2", "sinh", "cosh",   "tanh",   "asinh",     "acosh",        "atanh",
      "exp",   "log",  "pow",    "floor",  "ceil",      "trunc",        "round",
      "exp2",  "log2", "is_nan", "is_inf", "is_finite", "fast_inverse", "fast_inverse_sqrt"};
  const std::size_t end = name.rfind("_f");
  if (end == std::string::npos) return "";
  const std::string suffix = name.substr(end);
  if (suffix != "_f16" && suffix != "_f32" && suffix != "_f64") return "";
  const std::string base = name.substr(0, end);
  return known.contains(base) ? base : "";
}

bool is_floating(const Halide::Type& type) { return type.is_float() || type.is_bfloat(); }

/// Images that are read, in order, and what cannot be made again.
class Reads : public hi::IRGraphVisitor {
 public:
  std::vector<Halide::Parameter> images;
  std::string stage;

 private:
  using hi::IRGraphVisitor::visit;
  void visit(const hi::Call* call) override {
    if (call->call_type == hi::Call::Image && call->param.defined()) add(call->param);
    const bool outside = call->call_type == hi::Call::Extern || call->call_type == hi::Call::ExternCPlusPlus ||
                         call->call_type == hi::Call::PureExtern;
    if (outside && mathematical(call->name).empty())
      refuse(
          fmt::format("stage '{}' calls the function '{}', which is outside of Halide: workers that measure do not "
                      "have it. Write it with Halide's own functions",
                      stage, call->name));
    hi::IRGraphVisitor::visit(call);
  }
  void visit(const hi::Variable* variable) override {
    if (variable->param.defined() && variable->param.is_buffer()) add(variable->param);
  }
  void add(const Halide::Parameter& parameter) {
    for (const auto& known : images)
      if (known.same_as(parameter) || known.name() == parameter.name()) return;
    images.push_back(parameter);
  }
};

/// The one domain whose variables stand in a definition.
class FindDomain : public hi::IRGraphVisitor {
 public:
  hi::ReductionDomain domain;

 private:
  using hi::IRGraphVisitor::visit;
  void visit(const hi::Variable* variable) override {
    if (variable->reduction_domain.defined()) domain = variable->reduction_domain;
  }
};

hi::ReductionDomain domain_of(const hi::Definition& definition) {
  FindDomain find;
  for (const Expr& e : definition.args()) e.accept(&find);
  for (const Expr& e : definition.values()) e.accept(&find);
  return find.domain;
}

/// The image that a Func of Halide's own reads, if it does nothing else.
Halide::Parameter wrapped_image(const hi::Function& f) {
  if (f.has_update_definition() || f.values().size() != 1) return {};
  const auto* call = f.values()[0].as<hi::Call>();
  if (call == nullptr || call->call_type != hi::Call::Image || !call->param.defined()) return {};
  if (f.name().rfind(call->param.name() + "_im", 0) != 0) return {};
  for (std::size_t i = 0; i < call->args.size(); ++i) {
    const auto* variable = call->args[i].as<hi::Variable>();
    if (variable == nullptr || i >= f.args().size() || variable->name != f.args()[i]) return {};
  }
  return call->param;
}

void check(const hi::Function& f) {
  if (f.has_extern_definition())
    refuse(
        fmt::format("stage '{}' is defined outside of Halide (define_extern), so nothing can be known of it; "
                    "autoschedule the pipelines before and after it",
                    f.name()));
  if (!f.has_pure_definition()) refuse(fmt::format("stage '{}' has no definition", f.name()));
  if (f.outputs() != 1)
    refuse(fmt::format("stage '{}' has {} values (a Tuple): split it into one Func for each", f.name(), f.outputs()));
}

class Rewriter : public hi::IRGraphMutator {
 public:
  Rewriter(const HalideParts& parts, const Rebuild& how) : parts_(parts), how_(how) {}

  std::vector<Halide::Func> run() {
    std::vector<Halide::Func> made;
    for (const HalideStage& stage : parts_.stages) {
      hi::Function f(how_.name(stage.role));
      define(stage, f);
      new_.emplace(stage.function.name(), f);
      made.emplace_back(f);
    }
    return made;
  }

 private:
  using hi::IRGraphMutator::visit;

  void define(const HalideStage& stage, hi::Function& f) {
    is_out_ = &stage == &parts_.out() && !how_.output_min.empty();
    own_ = stage.function.name();
    pure_.clear();
    const auto& old = stage.function.args();
    for (std::size_t d = 0; d < old.size(); ++d) {
      Expr loop = hi::Variable::make(Halide::Int(32), stage.dimensions[d]);
      if (is_out_) loop = hi::simplify(loop + how_.output_min[d]);
      pure_[old[d]] = loop;
    }
    start({}, stage);
    f.define(stage.dimensions, {rewritten(stage.function.definition().values()[0])});
    new_self_ = f;
    for (const hi::Definition& update : stage.function.updates()) {
      start(domain_of(update), stage);
      std::vector<Expr> left;
      for (std::size_t d = 0; d < update.args().size(); ++d) {
        Expr index = rewritten(update.args()[d]);
        if (is_out_) index = hi::simplify(index - how_.output_min[d]);
        left.push_back(index);
      }
      const Expr value = rewritten(update.values()[0]);
      f.define_update(left, {value}, domain_);
    }
    new_self_ = {};
  }

  Expr rewritten(const Expr& e) { return mutate(hi::substitute_in_all_lets(e)); }

  /// Makes ready for one definition. Its reductions count from 0, so that their extents say everything.
  void start(const hi::ReductionDomain& old, const HalideStage& stage) {
    expr_replacements.clear();
    domain_ = {};
    first_.clear();
    names_ = &stage.reductions;
    old_domain_ = old;
    if (!old.defined()) return;
    std::vector<hi::ReductionVariable> variables;
    for (const auto& variable : old.domain()) {
      const Expr min = hi::simplify(mutate(variable.min)), extent = hi::simplify(mutate(variable.extent));
      if (!hi::is_const(min) || !hi::is_const(extent))
        refuse(fmt::format("a reduction of stage '{}' runs over [{}, {}) long: a search needs fixed extents",
                           stage.role, to_string(min), to_string(extent)));
      first_[variable.var] = min;
      variables.push_back({names_->at(variable.var), 0, extent});
    }
    domain_ = hi::ReductionDomain(variables);
    expr_replacements.clear();
    const Expr predicate = hi::simplify(mutate(hi::substitute_in_all_lets(old.predicate())));
    domain_.set_predicate(predicate);
  }

  static std::string to_string(const Expr& e) {
    std::ostringstream text;
    text << e;
    return text.str();
  }

  Halide::Type widened(const Halide::Type& type) const {
    return how_.in_double && is_floating(type) ? Halide::Float(64) : type;
  }

  std::vector<Expr> mutated(const std::vector<Expr>& list) {
    std::vector<Expr> result;
    for (const Expr& e : list) result.push_back(mutate(e));
    return result;
  }

  Expr visit(const hi::Variable* variable) override {
    if (variable->reduction_domain.defined()) {
      if (!variable->reduction_domain.same_as(old_domain_) && !first_.contains(variable->name))
        refuse(fmt::format("'{}' belongs to no reduction of its definition", variable->name));
      return hi::simplify(hi::Variable::make(Halide::Int(32), names_->at(variable->name), domain_) +
                          first_.at(variable->name));
    }
    if (variable->param.defined()) {
      const Expr value = how_.parameter(*variable);
      return how_.in_double && is_floating(value.type()) ? Halide::cast<double>(value) : value;
    }
    if (const auto found = pure_.find(variable->name); found != pure_.end()) return found->second;
    return hi::IRGraphMutator::visit(variable);
  }

  Expr visit(const hi::FloatImm* value) override {
    return how_.in_double ? hi::FloatImm::make(Halide::Float(64), value->value) : Expr(value);
  }

  Expr visit(const hi::Cast* cast) override { return hi::Cast::make(widened(cast->type), mutate(cast->value)); }

  Expr visit(const hi::Call* call) override {
    if (call->call_type == hi::Call::Halide) {
      std::vector<Expr> index = mutated(call->args);
      for (std::size_t o = 0; o < parts_.operands.size(); ++o)
        if (parts_.operands[o].wrapper.get_contents().defined() && parts_.operands[o].wrapper.name() == call->name)
          return element(o, index);
      if (call->name == own_) {
        if (is_out_)
          for (std::size_t d = 0; d < index.size(); ++d) index[d] = hi::simplify(index[d] - how_.output_min[d]);
        return hi::Call::make(new_self_, index);
      }
      return hi::Call::make(new_.at(call->name), index);
    }
    if (call->call_type == hi::Call::Image && call->param.defined()) {
      for (std::size_t o = 0; o < parts_.operands.size(); ++o)
        if (parts_.operands[o].parameter.name() == call->param.name()) return element(o, mutated(call->args));
    }
    if (!how_.in_double || (!is_floating(call->type) && call->call_type != hi::Call::PureExtern))
      return hi::IRGraphMutator::visit(call);
    if (call->call_type == hi::Call::Image) return Halide::cast<double>(hi::IRGraphMutator::visit(call));
    const std::string function = mathematical(call->name);
    const std::vector<Expr> arguments = mutated(call->args);
    // What Halide offers for f32 alone is an approximation of this.
    if (function == "fast_inverse") return Expr(1.0) / arguments[0];
    if (function == "fast_inverse_sqrt") return Expr(1.0) / Halide::sqrt(arguments[0]);
    return hi::Call::make(widened(call->type), function.empty() ? call->name : function + "_f64", arguments,
                          call->call_type);
  }

  Expr element(std::size_t operand, const std::vector<Expr>& index) {
    const Expr value = how_.read(operand, index);
    return how_.in_double && is_floating(value.type()) ? Halide::cast<double>(value) : value;
  }

  const HalideParts& parts_;
  const Rebuild& how_;
  std::map<std::string, hi::Function> new_;  ///< by the old one's name
  hi::Function new_self_;
  std::string own_;
  bool is_out_ = false;
  std::map<std::string, Expr> pure_;
  hi::ReductionDomain old_domain_, domain_;
  std::map<std::string, Expr> first_;  ///< of each reduction, by its old name
  const std::map<std::string, std::string>* names_ = nullptr;
};

/// Arithmetic of an expression, and what its floats decide.
class Arithmetic : public hi::IRGraphVisitor {
 public:
  explicit Arithmetic(HalideCharacter& character) : character_(character) {}
  double operations = 0;

 private:
  using hi::IRGraphVisitor::visit;
  void note(const Halide::Type& type) {
    if (!is_floating(type)) return;
    character_.has_floats = true;
    const int mantissa = type.is_bfloat() ? 8 : type.bits() == 16 ? 11 : type.bits() == 32 ? 24 : 53;
    character_.least_mantissa = std::min(character_.least_mantissa, mantissa);
  }
  template <class T>
  void count(const T* node) {
    operations += 1;
    note(node->type);
    hi::IRGraphVisitor::visit(node);
  }
  template <class T>
  void compare(const T* node) {
    operations += 1;
    character_.has_jumps |= is_floating(node->a.type());
    hi::IRGraphVisitor::visit(node);
  }
  void visit(const hi::Add* n) override { count(n); }
  void visit(const hi::Sub* n) override { count(n); }
  void visit(const hi::Mul* n) override { count(n); }
  void visit(const hi::Div* n) override { count(n); }
  void visit(const hi::Mod* n) override {
    character_.has_jumps |= is_floating(n->type);
    count(n);
  }
  void visit(const hi::Min* n) override { count(n); }
  void visit(const hi::Max* n) override { count(n); }
  void visit(const hi::Select* n) override { count(n); }
  void visit(const hi::EQ* n) override { compare(n); }
  void visit(const hi::NE* n) override { compare(n); }
  void visit(const hi::LT* n) override { compare(n); }
  void visit(const hi::LE* n) override { compare(n); }
  void visit(const hi::GT* n) override { compare(n); }
  void visit(const hi::GE* n) override { compare(n); }
  void visit(const hi::Reinterpret* n) override {
    character_.has_jumps |= is_floating(n->type) || is_floating(n->value.type());
    hi::IRGraphVisitor::visit(n);
  }
  void visit(const hi::Cast* n) override {
    note(n->type);
    note(n->value.type());
    if (is_floating(n->value.type()) && !is_floating(n->type))
      character_.has_jumps = character_.rounds_to_integers = true;
    hi::IRGraphVisitor::visit(n);
  }
  void visit(const hi::Call* call) override {
    note(call->type);
    if (call->call_type == hi::Call::Halide || call->call_type == hi::Call::Image) {
      // Indices are addresses, not arithmetic.
      const double before = operations;
      hi::IRGraphVisitor::visit(call);
      operations = before;
      return;
    }
    operations += 1;
    bool floats = is_floating(call->type);
    for (const Expr& e : call->args) floats = floats || is_floating(e.type());
    static const std::set<std::string> steps = {"floor", "ceil", "trunc", "round", "is_nan", "is_inf", "is_finite"};
    const std::string function = mathematical(call->name);
    const bool smooth = (!function.empty() && !steps.contains(function)) || call->is_intrinsic(hi::Call::abs) ||
                        call->is_intrinsic(hi::Call::likely) || call->is_intrinsic(hi::Call::likely_if_innermost);
    character_.has_jumps |= floats && !smooth;
    hi::IRGraphVisitor::visit(call);
  }

  HalideCharacter& character_;
};

/// Halide names what a definition uses twice, by numbers of the process.
class NumberLets : public hi::IRMutator {
 private:
  using hi::IRMutator::visit;
  Expr visit(const hi::Let* let) override {
    const Expr value = mutate(let->value);
    const std::string name = fmt::format("let{}", next_++);
    const auto hidden = names_.find(let->name);
    const std::optional<std::string> before = hidden == names_.end() ? std::nullopt : std::optional(hidden->second);
    names_[let->name] = name;
    const Expr body = mutate(let->body);
    if (before) names_[let->name] = *before;
    else names_.erase(let->name);
    return hi::Let::make(name, value, body);
  }
  Expr visit(const hi::Variable* variable) override {
    const auto known = names_.find(variable->name);
    if (known == names_.end()) return Expr(variable);
    return hi::Variable::make(variable->type, known->second);
  }

  int next_ = 0;
  std::map<std::string, std::string> names_;
};

double steps_of(const hi::Definition& definition) {
  double steps = 1;
  if (const auto domain = domain_of(definition); domain.defined())
    for (const auto& variable : domain.domain())
      if (const auto extent = hi::as_const_int(hi::simplify(variable.extent)); extent)
        steps *= static_cast<double>(std::max<std::int64_t>(*extent, 1));
  return steps;
}

}  // namespace

std::string readable_name(const std::string& name) {
  std::string result;
  for (const char c : name.substr(0, name.find('$')))
    result += std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' ? c : '_';
  // Names that begin so are Halide's own.
  while (result.starts_with("__")) result.erase(0, 1);
  if (result.empty() || std::isdigit(static_cast<unsigned char>(result[0])) != 0) result = "s" + result;
  return result;
}

HalideParts::HalideParts(const Halide::Pipeline& pipeline) {
  if (!pipeline.defined()) throw Error(ErrorCode::invalid_argument, "the pipeline is not defined");
  const auto outputs = pipeline.outputs();
  if (outputs.size() != 1)
    refuse(fmt::format("the pipeline has {} outputs: make one pipeline for each", outputs.size()));
  const hi::Function out = outputs[0].function();
  check(out);
  const auto functions = hi::find_transitive_calls(out);

  Reads reads;
  std::vector<hi::Function> found;
  std::map<std::string, hi::Function> wrappers;  // by the image's name
  for (const std::string& name : hi::topological_order({out}, functions)) {
    const hi::Function& f = functions.at(name);
    check(f);
    reads.stage = f.name();
    f.accept(&reads);
    for (const auto& update : f.updates())
      if (const auto domain = domain_of(update); domain.defined()) domain.accept(&reads);
    if (const auto image = wrapped_image(f); image.defined() && f.name() != out.name()) wrappers[image.name()] = f;
    else found.push_back(f);
  }
  std::set<std::string> taken = {"out"};
  for (const auto& image : reads.images) {
    if (image.type().is_bool()) refuse(fmt::format("input '{}' is Boolean in memory: use UInt(8)", image.name()));
    HalideOperand operand{unique(readable_name(image.name()), taken), image, {}};
    if (const auto wrapper = wrappers.find(image.name()); wrapper != wrappers.end()) operand.wrapper = wrapper->second;
    operands.push_back(std::move(operand));
  }
  std::set<std::string> loops;
  for (const hi::Function& f : found) {
    HalideStage stage{f.name() == out.name() ? "out" : unique(uncounted(readable_name(f.name())), taken), f, {}, {}};
    std::set<std::string> own;
    for (const auto& argument : f.args()) stage.dimensions.push_back(unique(uncounted(readable_name(argument)), own));
    loops.insert(own.begin(), own.end());
    stages.push_back(std::move(stage));
  }
  // Reductions' names differ from all others, or two definitions of a stage could not be told apart.
  std::map<std::string, std::string> names;
  for (HalideStage& stage : stages)
    for (const auto& update : stage.function.updates()) {
      const auto domain = domain_of(update);
      if (!domain.defined()) continue;
      for (const auto& variable : domain.domain()) {
        const auto known = names.find(variable.var);
        if (known != names.end()) {
          stage.reductions.insert(*known);
          continue;
        }
        std::string base = uncounted(readable_name(variable.var));
        const std::size_t mark = variable.var.rfind('$');
        if (domain.domain().size() > 1 && mark != std::string::npos) base += "_" + variable.var.substr(mark + 1);
        const std::string name = unique(readable_name(base), loops);
        names[variable.var] = name;
        stage.reductions[variable.var] = name;
      }
    }
}

std::vector<Halide::Func> rebuild(const HalideParts& parts, const Rebuild& how) { return Rewriter(parts, how).run(); }

void number_lets(std::vector<Halide::Func>& stages) {
  NumberLets numbers;
  for (auto& stage : stages) stage.function().mutate(&numbers);
}

HalideCharacter character_of(const HalideParts& parts) {
  HalideCharacter character;
  for (const HalideStage& stage : parts.stages) {
    double operations = 0;
    std::vector<hi::Definition> definitions = stage.function.updates();
    definitions.insert(definitions.begin(), stage.function.definition());
    for (const auto& definition : definitions) {
      Arithmetic arithmetic(character);
      for (const Expr& e : definition.values()) e.accept(&arithmetic);
      for (const Expr& e : definition.args()) {
        HalideCharacter of_index;
        Arithmetic index(of_index);
        e.accept(&index);
        character.has_jumps |= of_index.has_jumps;
        character.rounds_to_integers |= of_index.rounds_to_integers;
      }
      operations += (arithmetic.operations + 1) * steps_of(definition);
    }
    character.rounding_steps += std::sqrt(operations);
  }
  return character;
}

double operations_of(const std::vector<Halide::Func>& stages, const std::vector<int>& extents) {
  std::map<std::string, hi::Box> boxes;
  hi::Box whole;
  for (const int extent : extents) whole.push_back(hi::Interval(0, extent - 1));
  boxes[stages.back().name()] = whole;
  double total = 0;
  for (auto stage = stages.rbegin(); stage != stages.rend(); ++stage) {
    const auto box = boxes.find(stage->name());
    if (box == boxes.end()) continue;
    hi::Scope<hi::Interval> scope;
    double elements = 1;
    for (std::size_t d = 0; d < box->second.size(); ++d) {
      const hi::Interval& interval = box->second[d];
      if (!interval.is_bounded()) return 0;
      const auto extent = hi::as_const_int(hi::simplify(interval.max - interval.min + 1));
      if (!extent) return 0;
      elements *= static_cast<double>(std::max<std::int64_t>(*extent, 0));
      scope.push(stage->args()[d].name(), interval);
    }
    std::vector<hi::Definition> definitions = stage->function().updates();
    definitions.insert(definitions.begin(), stage->function().definition());
    for (const auto& definition : definitions) {
      HalideCharacter unused;
      Arithmetic arithmetic(unused);
      for (const Expr& e : definition.values()) e.accept(&arithmetic);
      double points = definition.is_init() ? elements : steps_of(definition);
      if (!definition.is_init())
        for (std::size_t d = 0; d < definition.args().size(); ++d)
          if (const auto* loop = definition.args()[d].as<hi::Variable>();
              loop != nullptr && !loop->reduction_domain.defined()) {
            const hi::Interval& interval = box->second[d];
            points *= static_cast<double>(hi::as_const_int(hi::simplify(interval.max - interval.min + 1)).value_or(0));
          }
      total += points * arithmetic.operations;
      if (const auto domain = domain_of(definition); domain.defined())
        for (const auto& variable : domain.domain())
          scope.push(variable.var, hi::Interval(variable.min, hi::simplify(variable.min + variable.extent - 1)));
      for (const Expr& e : definition.values())
        for (const auto& [name, read] : hi::boxes_required(e, scope)) hi::merge_boxes(boxes[name], read);
    }
  }
  return total;
}

}  // namespace heddle::ops
