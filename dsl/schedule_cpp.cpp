#include "dsl/schedule_cpp.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.hpp"
#include "dsl/schedule_expression.hpp"
#include "dsl/schedule_table.hpp"

namespace heddle {
namespace {

using Kind = ArgumentKind;

/// What C++ calls the loops of a stage.
struct Loops {
  std::map<std::string, std::string> expressions;  ///< of those that are not Var("name")
  std::set<std::string> reductions;                ///< those that are RVars
};

const std::string& text_of(const Directive& d, std::size_t i) { return std::get<std::string>(d.arguments.at(i).value); }

class Writer {
 public:
  Writer(const Schedule& schedule, const Pipeline& pipeline) : schedule_(schedule) {
    for (const auto& stage : pipeline.stages) code_.roles.push_back(stage.role);
    for (const auto& operand : pipeline.operands) code_.roles.push_back(operand.first);
    for (const auto& role : code_.roles) code_.funcs.push_back(func(role));
    for (const auto& stage : pipeline.stages) declare(stage);
    for (const auto& [role, image] : pipeline.operands) {
      const auto names = pipeline.operand_dimensions.find(role);
      const auto arguments = Halide::Func(image).args();
      for (std::size_t d = 0; names != pipeline.operand_dimensions.end() && d < names->second.size(); ++d)
        loops_[role].expressions[names->second[d]] = fmt::format("Var(\"{}\")", arguments.at(d).name());
    }
    // Where a stage is placed may be a loop that a later line makes.
    for (const auto& line : schedule.lines)
      for (const auto& directive : line.directives) note(line, directive);
  }

  ScheduleCpp write() {
    for (const auto& line : schedule_.lines) {
      std::string text = code(line);
      const Directive* last = line.directives.empty() ? nullptr : &line.directives.back();
      if (last != nullptr && row_of(*last).parameters.size() > 0 && makes_stage(*last))
        text = fmt::format("Func {} = {}", func(new_stage(*last)), text);
      if (last != nullptr) code_.body += "    " + text + ";\n";
    }
    return std::move(code_);
  }

 private:
  static std::string func(const std::string& role) {
    static const std::set<std::string> taken = {"int",   "float", "double", "char",   "bool",  "new",    "delete",
                                                "const", "auto",  "Func",   "Var",    "RVar",  "for",    "if",
                                                "else",  "while", "return", "switch", "case",  "class",  "default",
                                                "this",  "void",  "do",     "long",   "short", "signed", "union"};
    std::string name = role;
    std::replace(name.begin(), name.end(), '.', '_');
    return taken.contains(name) ? name + "_" : name;
  }

  static bool makes_stage(const Directive& d) { return d.name == "rfactor" || d.name == "in"; }
  static const std::string& new_stage(const Directive& d) {
    return text_of(d, d.name == "in" ? 0 : d.arguments.size() - 1);
  }

  /// Reductions have names that depend on what else the process made, so the code asks for them before it schedules.
  void declare(const PipelineStage& stage) {
    Loops& loops = loops_[stage.role];
    const auto arguments = stage.func.args();
    for (std::size_t d = 0; d < arguments.size(); ++d)
      if (const auto named = stage.reductions.find(arguments[d].name()); named != stage.reductions.end())
        loops.expressions[named->second] = fmt::format("{}.args()[{}]", func(stage.role), d);
    for (int u = 0; u < stage.func.num_update_definitions(); ++u) {
      const auto& dims = stage.func.function().update(u).schedule().dims();
      for (std::size_t i = 0; i < dims.size(); ++i) {
        const auto named = stage.reductions.find(dims[i].var);
        if (!dims[i].is_rvar() || named == stage.reductions.end() || loops.reductions.contains(named->second)) continue;
        const std::string variable = fmt::format("{}_{}_loop", func(stage.role), named->second);
        loops.reductions.insert(named->second);
        loops.expressions[named->second] = variable;
        if (mentions(named->second))
          code_.body += fmt::format("    const RVar {}({}.update({}).get_schedule().dims()[{}].var);\n", variable,
                                    func(stage.role), u, i);
      }
    }
  }

  bool mentions(const std::string& name) const {
    for (const auto& line : schedule_.lines)
      for (const auto& directive : line.directives)
        for (const auto& argument : directive.arguments)
          if (const auto* text = std::get_if<std::string>(&argument.value); text != nullptr && *text == name)
            return true;
    return false;
  }

  /// Which loops a directive makes, and of which kind.
  void note(const ScheduleLine& line, const Directive& d) {
    const DirectiveRow& row = row_of(d);
    if (makes_stage(d)) {
      // What is left of the loops keeps its names in the new stage.
      Loops made = loops_[line.stage];
      if (d.name == "rfactor")
        for (std::size_t i = 0; i + 1 < d.arguments.size(); i += 2) made.reductions.erase(text_of(d, i + 1));
      loops_[new_stage(d)] = std::move(made);
      return;
    }
    std::vector<std::string> old, made;
    for (std::size_t i = 0; i < d.arguments.size(); ++i) {
      if (row.parameter(i).kind == Kind::dimension) old.push_back(text_of(d, i));
      if (row.parameter(i).kind == Kind::fresh) made.push_back(text_of(d, i));
    }
    Loops& loops = loops_[line.stage];
    const auto is_reduction = [&](const std::string& name) { return loops.reductions.contains(name); };
    for (std::size_t i = 0; i < made.size(); ++i) {
      const bool reduction =
          d.name == "fuse" ? std::any_of(old.begin(), old.end(), is_reduction) : is_reduction(old[i % old.size()]);
      if (reduction) loops.reductions.insert(made[i]);
    }
  }

  std::string loop(const std::string& role, const std::string& name) const {
    if (const auto known = loops_.find(role); known != loops_.end()) {
      const auto expression = known->second.expressions.find(name);
      if (expression != known->second.expressions.end()) return expression->second;
      if (known->second.reductions.contains(name)) return fmt::format("RVar(\"{}\")", name);
    }
    return fmt::format("Var(\"{}\")", name);
  }

  static std::string definition(const std::string& text) {
    const std::size_t update = text.rfind(".update(");
    return update == std::string::npos ? func(text) : func(text.substr(0, update)) + text.substr(update);
  }

  static void require_constants(const ScheduleExpression& e) {
    if (e.op == ScheduleExpression::Op::symbol)
      throw Error(ErrorCode::unsupported,
                  fmt::format("the schedule needs the symbolic extent '{}', which C++ outside of Heddle does not have",
                              e.name));
    for (const auto& argument : e.args) require_constants(argument);
  }

  static std::string number(const ScheduleArgument& argument) {
    if (const auto* integer = std::get_if<std::int64_t>(&argument.value)) return std::to_string(*integer);
    const auto& text = std::get<std::string>(argument.value);
    std::size_t used = 0;
    require_constants(ScheduleExpression::parse(text, {}, used));
    return fmt::format("Expr({})", text);
  }

  std::string argument(const ScheduleLine& line, const Directive& d, std::size_t i) const {
    const ScheduleArgument& a = d.arguments[i];
    switch (row_of(d).parameter(i).kind) {
      case Kind::dimension:
      case Kind::fresh:
      case Kind::pure: return loop(line.stage, text_of(d, i));
      case Kind::loop: {
        const std::string& of = text_of(d, i - 1);
        return loop(of.substr(0, of.rfind(".update(")), text_of(d, i));
      }
      case Kind::stage:
      case Kind::source:
      case Kind::fresh_stage: return func(text_of(d, i));
      case Kind::definition: return definition(text_of(d, i));
      case Kind::number:
      case Kind::factor:
      case Kind::condition: return number(a);
      case Kind::tail: return "TailStrategy::" + text_of(d, i);
      case Kind::memory: return "MemoryType::" + text_of(d, i);
      case Kind::partition: return "Partition::" + text_of(d, i);
      case Kind::alignment: return "LoopAlignStrategy::" + text_of(d, i);
      case Kind::prefetch: return "PrefetchBoundStrategy::" + text_of(d, i);
      case Kind::flag:
      case Kind::text: break;
    }
    return text_of(d, i);
  }

  std::string call(const ScheduleLine& line, const Directive& d) const {
    std::vector<std::string> list;
    for (std::size_t i = 0; i < d.arguments.size(); ++i) list.push_back(argument(line, d, i));
    if (d.name == "in") {
      list.erase(list.begin());
      return list.size() > 1 ? fmt::format("in({{{}}})", fmt::join(list, ", "))
                             : fmt::format("in({})", fmt::join(list, ", "));
    }
    if (d.name == "rfactor") {
      std::vector<std::string> pairs;
      for (std::size_t i = 0; i + 1 < list.size(); i += 2)
        // The preserved dimension is pure in the new stage, whatever the old one calls so.
        pairs.push_back(fmt::format("{{{}, Var(\"{}\")}}", list[i], text_of(d, i + 1)));
      return fmt::format("rfactor(std::vector<std::pair<RVar, Var>>{{{}}})", fmt::join(pairs, ", "));
    }
    if (d.name == "reorder") return fmt::format("reorder(std::vector<VarOrRVar>{{{}}})", fmt::join(list, ", "));
    if (d.name == "reorder_storage")
      return fmt::format("reorder_storage(std::vector<Var>{{{}}})", fmt::join(list, ", "));
    return fmt::format("{}({})", d.name, fmt::join(list, ", "));
  }

  std::string code(const ScheduleLine& line) const {
    std::string text = func(line.stage);
    if (line.update >= 0) text += fmt::format(".update({})", line.update);
    for (const auto& directive : line.directives) text += "\n        ." + call(line, directive);
    return text;
  }

  const Schedule& schedule_;
  ScheduleCpp code_;
  std::map<std::string, Loops> loops_;
};

}  // namespace

ScheduleCpp schedule_to_cpp(const Schedule& schedule, const Pipeline& pipeline) {
  return Writer(schedule, pipeline).write();
}

std::string as_comment(const std::string& text, const std::string& indent) {
  std::string comment;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    comment += fmt::format("{}// {}\n", indent, text.substr(at, end - at));
    at = end + 1;
  }
  return comment;
}

std::string schedule_header(const ScheduleCpp& code, const std::string& name, const std::string& comment) {
  std::vector<std::string> parameters;
  for (const auto& func : code.funcs) parameters.push_back("Halide::Func " + func);
  std::string unused;
  for (const auto& func : code.funcs) unused += fmt::format("    (void){};\n", func);
  return fmt::format(
      "#pragma once\n{}#include <utility>\n#include <vector>\n\n#include <Halide.h>\n\ninline void {}({}) {{\n"
      "    using namespace Halide;\n{}{}}}\n",
      as_comment(comment), name, fmt::join(parameters, ", "), unused, code.body);
}

}  // namespace heddle
