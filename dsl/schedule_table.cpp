#include "dsl/schedule_table.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.hpp"
#include "dsl/schedule_call.hpp"

namespace heddle {
namespace {

using Kind = ArgumentKind;

std::string_view describe(Kind kind) {
  switch (kind) {
    case Kind::dimension:
    case Kind::pure:
    case Kind::loop:
    case Kind::fresh: return "a dimension's name";
    case Kind::stage:
    case Kind::fresh_stage: return "a stage's name";
    case Kind::source: return "a stage's or operand's name";
    case Kind::definition: return "a stage's name, or its update such as acc.update(0)";
    case Kind::number:
    case Kind::factor: return "an integer or an expression such as W/2";
    case Kind::condition: return "a condition such as W >= 64";
    case Kind::tail: return "a tail strategy";
    case Kind::memory: return "a memory type";
    case Kind::partition: return "a partition policy";
    case Kind::alignment: return "a loop alignment";
    case Kind::prefetch: return "a prefetch bound strategy";
    case Kind::flag: return "true or false";
    case Kind::text: return "a text in double quotes";
  }
  return "";
}

template <class T>
std::vector<std::string> names_in(const std::vector<std::pair<std::string, T>>& all) {
  std::vector<std::string> names;
  for (const auto& item : all) names.push_back(item.first);
  return names;
}

// A stage's text without the blanks that may stand around its dots and parentheses. Others stay, for the message.
std::string tightened(std::string_view text) {
  const auto is_blank = [](char c) { return c == ' ' || c == '\t'; };
  const auto is_mark = [](char c) { return c == '.' || c == '(' || c == ')'; };
  std::string tight;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (is_blank(text[i])) {
      std::size_t next = i;
      while (next < text.size() && is_blank(text[next])) ++next;
      if (next == text.size() || is_mark(text[next]) || (!tight.empty() && is_mark(tight.back()))) continue;
    }
    tight += text[i];
  }
  return tight;
}

// "acc", or "acc.update(2)" with the number in canonical form. Empty if it is neither.
std::string canonical_definition(std::string_view text) {
  const std::string_view update = ".update(";
  const std::size_t at = text.rfind(update);
  if (at == std::string_view::npos) return is_qualified_name(text) ? std::string(text) : "";
  const std::string_view stage = text.substr(0, at);
  std::string_view digits = text.substr(at + update.size());
  if (!is_qualified_name(stage) || digits.empty() || digits.back() != ')') return "";
  digits.remove_suffix(1);
  if (digits.empty() || digits.size() > 3 || digits.find_first_not_of("0123456789") != std::string_view::npos)
    return "";
  return fmt::format("{}.update({})", stage, std::stoi(std::string(digits)));
}

void require_integer_fits(std::int64_t value, SourcePosition position) {
  if (value > kScheduleIntegerMax || value < -kScheduleIntegerMax)
    throw ScheduleProblem{position, "the integer is too large: it must fit 32 bits"};
}

void canonicalize(ScheduleArgument& argument, const DirectiveParameter& parameter) {
  const auto fail = [&](const std::string& got) {
    throw ScheduleProblem{argument.position,
                          fmt::format("'{}' must be {}, not {}", parameter.name, describe(parameter.kind), got)};
  };
  const Kind kind = parameter.kind;
  if (const auto* integer = std::get_if<std::int64_t>(&argument.value)) {
    require_integer_fits(*integer, argument.position);
    if (kind != Kind::number && kind != Kind::factor) fail(std::to_string(*integer));
    if (kind == Kind::factor && *integer < 1)
      throw ScheduleProblem{argument.position,
                            fmt::format("'{}' must be at least 1, not {}", parameter.name, *integer)};
    return;
  }
  auto& text = std::get<std::string>(argument.value);
  const std::string got = text.empty() ? "nothing" : fmt::format("'{}'", text);
  switch (kind) {
    case Kind::dimension:
    case Kind::fresh:
    case Kind::pure:
    case Kind::loop:
      if (!is_name(text)) fail(got);
      return;
    case Kind::stage:
    case Kind::source:
    case Kind::fresh_stage:
      if (!is_qualified_name(tightened(text))) fail(got);
      text = tightened(text);
      return;
    case Kind::definition: {
      std::string canonical = canonical_definition(tightened(text));
      if (canonical.empty()) fail(got);
      text = std::move(canonical);
      return;
    }
    case Kind::number:
    case Kind::factor:
    case Kind::condition: {
      std::size_t used = 0;
      const ScheduleExpression e = ScheduleExpression::parse(text, argument.position, used);
      used = std::min(text.find_first_not_of(" \t", used), text.size());
      if (used < text.size())
        throw ScheduleProblem{{argument.position.line, argument.position.column + static_cast<int>(used)},
                              fmt::format("unexpected '{}' in an expression", text[used])};
      if (e.is_condition() != (kind == Kind::condition)) fail(got);
      if (e.op != ScheduleExpression::Op::integer) {
        text = e.print();
        return;
      }
      argument.value = e.value;
      canonicalize(argument, parameter);
      return;
    }
    case Kind::text:
      if (text.size() < 2 || text.front() != '"' || text.back() != '"' ||
          text.find_first_of("\"\n\r", 1) != text.size() - 1)
        fail(got);
      return;
    default: break;
  }
  const std::vector<std::string> names = enumerator_names(kind);
  if (std::find(names.begin(), names.end(), text) != names.end()) return;
  std::string list;
  for (const auto& name : names) list += (list.empty() ? "" : ", ") + name;
  throw ScheduleProblem{argument.position,
                        fmt::format("no {} {}{}; there are {}", kind == Kind::flag ? "flag" : describe(kind).substr(2),
                                    got, did_you_mean(text, names), list)};
}

}  // namespace

std::size_t DirectiveRow::fewest() const {
  std::size_t n = 0;
  for (const auto& p : parameters) n += p.optional ? 0 : 1;
  return n;
}

std::size_t DirectiveRow::most() const {
  return !parameters.empty() && parameters.back().repeated ? static_cast<std::size_t>(-1) : parameters.size();
}

const DirectiveParameter& DirectiveRow::parameter(std::size_t argument) const {
  return parameters[std::min(argument, parameters.size() - 1)];
}

std::string DirectiveRow::signature() const {
  std::string text(name), closing = ")";
  text += "(";
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto& p = parameters[i];
    if (p.optional) {
      text += "[";
      closing = "]" + closing;
    }
    if (i > 0) text += ", ";
    text += p.name;
    if (p.repeated) text += ", ...";
  }
  return text + closing;
}

std::vector<std::string> directive_names() {
  std::vector<std::string> names;
  for (const auto& row : directive_table())
    if (names.empty() || names.back() != row.name) names.emplace_back(row.name);
  return names;
}

const DirectiveRow& row_of(const Directive& directive) {
  std::string forms;
  for (const auto& row : directive_table()) {
    if (row.name != directive.name) continue;
    if (directive.arguments.size() >= row.fewest() && directive.arguments.size() <= row.most()) return row;
    forms += (forms.empty() ? "" : " or ") + row.signature();
  }
  if (forms.empty())
    throw ScheduleProblem{directive.position, fmt::format("no directive '{}'{}", directive.name,
                                                          did_you_mean(directive.name, directive_names()))};
  throw ScheduleProblem{directive.position, fmt::format("{} argument{} for {}", directive.arguments.size(),
                                                        directive.arguments.size() == 1 ? "" : "s", forms)};
}

void canonicalize(Directive& directive) {
  const DirectiveRow& row = row_of(directive);
  for (std::size_t i = 0; i < directive.arguments.size(); ++i) canonicalize(directive.arguments[i], row.parameter(i));
  // A trailing argument that says what leaving it out says is left out, so that equal schedules print alike.
  while (!directive.arguments.empty()) {
    const auto& p = row.parameter(directive.arguments.size() - 1);
    const auto& value = directive.arguments.back().value;
    const auto* integer = std::get_if<std::int64_t>(&value);
    const std::string text = integer != nullptr ? std::to_string(*integer) : std::get<std::string>(value);
    if (!p.optional || p.default_value.empty() || text != p.default_value) break;
    directive.arguments.pop_back();
  }
}

void canonicalize(ScheduleLine& line) {
  if (!is_qualified_name(line.stage))
    throw ScheduleProblem{line.position, fmt::format("'{}' is not a stage's name", line.stage)};
  bool specialised = false;
  const Directive* last = nullptr;
  for (Directive& directive : line.directives) {
    if (last != nullptr)
      throw ScheduleProblem{directive.position,
                            last->name == "specialize_fail"
                                ? fmt::format("nothing can follow {} on its line", last->name)
                                : fmt::format("{} makes a stage and ends its line; go on with '{}' or the new stage on "
                                              "the next line",
                                              last->name, line.stage)};
    canonicalize(directive);
    const DirectiveRow& row = row_of(directive);
    if (row.scope == DirectiveScope::stage && (line.update >= 0 || specialised))
      throw ScheduleProblem{directive.position,
                            fmt::format("{} is about the whole stage: write it on a line that starts '{}.{}('",
                                        directive.name, line.stage, directive.name)};
    if (row.chain == DirectiveChain::ends) last = &directive;
    specialised |= row.chain == DirectiveChain::specialises;
  }
}

std::vector<std::string> enumerator_names(ArgumentKind kind) {
  switch (kind) {
    case Kind::tail: return names_in(tail_strategies());
    case Kind::memory: return names_in(memory_types());
    case Kind::partition: return names_in(partitions());
    case Kind::alignment: return names_in(loop_alignments());
    case Kind::prefetch: return names_in(prefetch_bounds());
    case Kind::flag: return {"true", "false"};
    default: return {};
  }
}

std::string directive_documentation() {
  std::string text = "| directive | before | after |\n|---|---|---|\n";
  for (const auto& row : directive_table())
    text += fmt::format("| `{}` | {} | {} |\n", row.signature(), row.before, row.after);
  return text;
}

}  // namespace heddle
