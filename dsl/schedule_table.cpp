#include "dsl/schedule_table.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.hpp"
#include "dsl/schedule_call.hpp"

namespace heddle {
namespace {

using Kind = ArgumentKind;
using Parameters = std::vector<DirectiveParameter>;

DirectiveParameter dim(std::string_view name) { return {name, Kind::dimension}; }
DirectiveParameter fresh(std::string_view name) { return {name, Kind::fresh}; }
DirectiveParameter pure(std::string_view name) { return {name, Kind::pure}; }
DirectiveParameter factor(std::string_view name) { return {name, Kind::factor}; }
DirectiveParameter number(std::string_view name) { return {name, Kind::number}; }
DirectiveParameter tail() { return {"tail", Kind::tail, true, false, "Auto"}; }
DirectiveParameter stage(std::string_view name) { return {name, Kind::stage}; }
DirectiveParameter loop(std::string_view name) { return {name, Kind::loop}; }

DirectiveParameter optional(DirectiveParameter p, std::string_view default_value = {}) {
  p.optional = true;
  p.default_value = default_value;
  return p;
}

DirectiveParameter repeated(DirectiveParameter p) {
  p.repeated = true;
  return p;
}

constexpr auto on_loops = DirectiveScope::loops;
constexpr auto on_stage = DirectiveScope::stage;

std::vector<Halide::Expr> numbers(const ScheduleCall& c, std::size_t from, std::size_t count) {
  std::vector<Halide::Expr> all;
  for (std::size_t i = from; i < from + count; ++i) all.push_back(c.number(i));
  return all;
}

// What a loop becomes when it is run in another way: on its own, or its inner part of a given size.
using Mark = Halide::Stage& (Halide::Stage::*)(const Halide::VarOrRVar&);

void mark_inner(ScheduleCall& c, Mark mark) {
  (c.loops().*mark)(c.has(1) ? c.split_in_place(0) : c.dimension(0));
}

void tile(ScheduleCall& c) {
  const bool rx = c.dimension(0).is_rvar, ry = c.dimension(1).is_rvar;
  c.loops().tile(c.dimension(0), c.dimension(1), c.fresh(2, rx), c.fresh(3, ry), c.fresh(4, rx), c.fresh(5, ry),
                 c.number(6), c.number(7), c.tail(8));
}

// gpu_tile in n dimensions: n loops, n blocks, n threads, n sizes, a tail.
void gpu_tile(ScheduleCall& c) {
  const std::size_t n = c.size() / 4;
  const auto d = [&](std::size_t i) { return c.dimension(i); };
  const auto f = [&](std::size_t i) { return c.fresh(i, c.dimension(i % n).is_rvar); };
  const auto s = numbers(c, 3 * n, n);
  const auto end = c.tail(4 * n);
  if (n == 1) c.loops().gpu_tile(d(0), f(1), f(2), s[0], end);
  else if (n == 2) c.loops().gpu_tile(d(0), d(1), f(2), f(3), f(4), f(5), s[0], s[1], end);
  else c.loops().gpu_tile(d(0), d(1), d(2), f(3), f(4), f(5), f(6), f(7), f(8), s[0], s[1], s[2], end);
}

void gpu_blocks(ScheduleCall& c) {
  const auto d = c.dimensions();
  if (d.size() == 1) c.loops().gpu_blocks(d[0]);
  else if (d.size() == 2) c.loops().gpu_blocks(d[0], d[1]);
  else c.loops().gpu_blocks(d[0], d[1], d[2]);
}

void gpu_threads(ScheduleCall& c) {
  const auto d = c.dimensions();
  if (d.size() == 1) c.loops().gpu_threads(d[0]);
  else if (d.size() == 2) c.loops().gpu_threads(d[0], d[1]);
  else c.loops().gpu_threads(d[0], d[1], d[2]);
}

std::vector<DirectiveRow> shaping_rows() {
  return {
      {"split", on_loops, {dim("old"), fresh("outer"), fresh("inner"), factor("factor"), tail()},
       "for old", "for outer: for inner in factor",
       [](ScheduleCall& c) {
         const bool r = c.dimension(0).is_rvar;
         c.loops().split(c.dimension(0), c.fresh(1, r), c.fresh(2, r), c.number(3), c.tail(4));
       }},
      {"fuse", on_loops, {dim("inner"), dim("outer"), fresh("fused")},
       "for outer: for inner", "for fused in outer * inner",
       [](ScheduleCall& c) {
         const auto inner = c.dimension(0), outer = c.dimension(1);
         c.loops().fuse(inner, outer, c.fresh(2, inner.is_rvar || outer.is_rvar));
       }},
      {"reorder", on_loops, {repeated(dim("innermost"))},
       "for a: for b: for c", "reorder(a, c): for c: for b: for a (those named, innermost first, in their places)",
       [](ScheduleCall& c) { c.loops().reorder(c.dimensions()); }},
      {"tile", on_loops,
       {dim("x"), dim("y"), fresh("xo"), fresh("yo"), fresh("xi"), fresh("yi"), factor("xf"), factor("yf"), tail()},
       "for y: for x", "for yo: for xo: for yi in yf: for xi in xf", tile},
      {"rename", on_loops, {dim("old"), fresh("new")}, "for old", "for new",
       [](ScheduleCall& c) { c.loops().rename(c.dimension(0), c.fresh(1, c.dimension(0).is_rvar)); }},
      {"rfactor", on_loops,
       {dim("r"), {"u", Kind::fresh}, {"new_stage", Kind::fresh_stage}},
       "for r: stage += f(r)", "new_stage(u) += f(u); for r: stage += new_stage(r)",
       [](ScheduleCall& c) { c.rfactor(); }, DirectiveChain::ends},
      {"rfactor", on_loops,
       {dim("r1"), {"u1", Kind::fresh}, dim("r2"), {"u2", Kind::fresh}, {"new_stage", Kind::fresh_stage}},
       "for r2: for r1: stage += f(r1, r2)", "the same over two loops",
       [](ScheduleCall& c) { c.rfactor(); }, DirectiveChain::ends},
      {"rfactor", on_loops,
       {dim("r1"), {"u1", Kind::fresh}, dim("r2"), {"u2", Kind::fresh}, dim("r3"), {"u3", Kind::fresh},
        {"new_stage", Kind::fresh_stage}},
       "for r3: for r2: for r1: stage += f(r1, r2, r3)", "the same over three loops",
       [](ScheduleCall& c) { c.rfactor(); }, DirectiveChain::ends},
      {"specialize", on_loops, {{"condition", Kind::condition}},
       "loops", "if (condition) copy of the loops, which the rest of the line schedules; else loops",
       [](ScheduleCall& c) { c.specialised(c.loops().specialize(c.condition(0))); }, DirectiveChain::specialises},
      {"specialize_fail", on_loops, {{"message", Kind::text}},
       "if (a) ...; else loops", "if (a) ...; else fail at run time with the message",
       [](ScheduleCall& c) { c.loops().specialize_fail(c.text(0)); }, DirectiveChain::ends},
  };
}

std::vector<DirectiveRow> running_rows() {
  return {
      {"vectorize", on_loops, {dim("v"), optional(factor("factor")), tail()},
       "for v", "v as the lanes of a vector; with a factor: for v: factor lanes",
       [](ScheduleCall& c) { mark_inner(c, &Halide::Stage::vectorize); }},
      {"unroll", on_loops, {dim("v"), optional(factor("factor")), tail()},
       "for v", "the body once for each v; with a factor: for v: the body factor times",
       [](ScheduleCall& c) { mark_inner(c, &Halide::Stage::unroll); }},
      {"parallel", on_loops, {dim("v"), optional(factor("task")), tail()},
       "for v", "parallel for v; with a task size: parallel for v: for task",
       [](ScheduleCall& c) {
         if (c.has(1)) c.split_in_place(0);
         c.loops().parallel(c.dimension(0));
       }},
      {"serial", on_loops, {dim("v")}, "for v of any kind", "for v",
       [](ScheduleCall& c) { c.loops().serial(c.dimension(0)); }},
      {"atomic", on_loops, {optional({"override", Kind::flag}, "false")},
       "stage += f", "atomic stage += f; override skips the proof that the update is associative",
       [](ScheduleCall& c) { c.loops().atomic(c.flag(0, false)); }},
      {"allow_race_conditions", on_loops, {}, "a parallel loop with a hazard is refused", "it is taken as it is",
       [](ScheduleCall& c) { c.loops().allow_race_conditions(); }},
      {"partition", on_loops, {dim("v"), {"policy", Kind::partition}},
       "for v", "for v in a prologue, a steady state and an epilogue: Always, Never, or as Halide sees fit: Auto",
       [](ScheduleCall& c) {
         c.loops().partition(c.dimension(0), c.enumerator(1, partitions(), Halide::Partition::Auto));
       }},
      {"prefetch", on_loops,
       {{"what", Kind::source}, dim("at"), dim("from"), optional(number("offset"), "1"),
        optional({"bounds", Kind::prefetch}, "GuardWithIf")},
       "for at: use what(from)", "for at: prefetch what(from + offset); use what(from)",
       [](ScheduleCall& c) { c.prefetch(); }, DirectiveChain::goes_on, false, false},
      {"gpu_blocks", on_loops, {dim("x"), optional(dim("y")), optional(dim("z"))}, "for v", "v as the grid's index",
       gpu_blocks},
      {"gpu_threads", on_loops, {dim("x"), optional(dim("y")), optional(dim("z"))}, "for v",
       "v as the index within a block", gpu_threads},
      {"gpu_lanes", on_loops, {dim("v")}, "for v", "v as the index within a warp",
       [](ScheduleCall& c) { c.loops().gpu_lanes(c.dimension(0)); }},
      {"gpu_single_thread", on_loops, {}, "loops", "one block of one thread runs the loops",
       [](ScheduleCall& c) { c.loops().gpu_single_thread(); }},
      {"gpu_tile", on_loops, {dim("x"), fresh("bx"), fresh("tx"), factor("nx"), tail()},
       "for x", "block bx: thread tx in nx", gpu_tile},
      {"gpu_tile", on_loops,
       {dim("x"), dim("y"), fresh("bx"), fresh("by"), fresh("tx"), fresh("ty"), factor("nx"), factor("ny"), tail()},
       "for y: for x", "block by, bx: thread ty in ny, tx in nx", gpu_tile},
      {"gpu_tile", on_loops,
       {dim("x"), dim("y"), dim("z"), fresh("bx"), fresh("by"), fresh("bz"), fresh("tx"), fresh("ty"), fresh("tz"),
        factor("nx"), factor("ny"), factor("nz"), tail()},
       "for z: for y: for x", "the same in three dimensions", gpu_tile},
  };
}

std::vector<DirectiveRow> placing_rows() {
  return {
      {"compute_root", on_stage, {}, "computed where it is used", "computed once, before its consumers",
       [](ScheduleCall& c) { c.func().compute_root(); }},
      {"compute_at", on_stage, {stage("stage"), loop("v")}, "for v: use stage", "for v: compute; use",
       [](ScheduleCall& c) { c.func().compute_at(c.level(0)); }},
      {"compute_inline", on_stage, {}, "for v: compute; use", "for v: use(the expression itself)",
       [](ScheduleCall& c) { c.func().compute_inline(); }},
      {"compute_with", on_loops,
       {{"stage", Kind::definition}, loop("v"), optional({"align", Kind::alignment}, "Auto")},
       "for v: stage; for v: this", "for v: stage; this (the loops from the outermost to v are shared)",
       [](ScheduleCall& c) {
         c.loops().compute_with(c.definition(0), c.loop(1),
                                c.enumerator(2, loop_alignments(), Halide::LoopAlignStrategy::Auto));
       }},
      {"store_root", on_stage, {}, "stored where it is computed", "stored outside all loops",
       [](ScheduleCall& c) { c.func().store_root(); }},
      {"store_at", on_stage, {stage("stage"), loop("v")}, "stored where it is computed", "for v: allocate",
       [](ScheduleCall& c) { c.func().store_at(c.level(0)); }},
      {"store_in", on_stage, {{"memory", Kind::memory}}, "Halide picks the memory", "heap, stack, registers, GPU shared...",
       [](ScheduleCall& c) { c.func().store_in(c.enumerator(0, memory_types(), Halide::MemoryType::Auto)); }},
      {"hoist_storage", on_stage, {stage("stage"), loop("v")}, "allocated where it is stored",
       "for v: allocate the most that is needed within",
       [](ScheduleCall& c) { c.func().hoist_storage(c.level(0)); }},
      {"hoist_storage_root", on_stage, {}, "allocated where it is stored", "allocated outside all loops",
       [](ScheduleCall& c) { c.func().hoist_storage_root(); }},
      {"in", on_stage, {{"new_stage", Kind::fresh_stage}, repeated(optional(stage("consumer")))},
       "consumer reads this", "new_stage = this; consumer reads new_stage (no consumer: all of them)",
       [](ScheduleCall& c) { c.wrap(); }, DirectiveChain::ends, true},
      {"async", on_stage, {}, "compute; use", "a thread of its own computes, its consumer waits",
       [](ScheduleCall& c) { c.func().async(); }},
      {"ring_buffer", on_stage, {factor("n")}, "one buffer between async stages", "n of them in a ring",
       [](ScheduleCall& c) { c.func().ring_buffer(c.number(0)); }},
  };
}

std::vector<DirectiveRow> storage_rows() {
  return {
      {"bound", on_stage, {pure("v"), number("min"), factor("extent")}, "v over what is asked for",
       "v over [min, min + extent), checked unless no_asserts",
       [](ScheduleCall& c) { c.func().bound(c.pure(0), c.number(1), c.number(2)); }},
      {"bound_extent", on_stage, {pure("v"), factor("extent")}, "v over what is asked for",
       "v over `extent` elements, checked unless no_asserts",
       [](ScheduleCall& c) { c.func().bound_extent(c.pure(0), c.number(1)); }},
      {"align_bounds", on_stage, {pure("v"), factor("modulus"), optional(number("remainder"), "0")},
       "v over what is asked for", "v from a multiple of modulus (plus remainder), a multiple of it long",
       [](ScheduleCall& c) {
         c.func().align_bounds(c.pure(0), c.number(1), c.has(2) ? c.number(2) : Halide::Expr(0));
       }},
      {"align_extent", on_stage, {pure("v"), factor("modulus")}, "v over what is asked for",
       "v over a multiple of modulus elements",
       [](ScheduleCall& c) { c.func().align_extent(c.pure(0), c.number(1)); }},
      {"reorder_storage", on_stage, {repeated(pure("innermost"))}, "stored in the order of the dimensions",
       "stored in this order, innermost first",
       [](ScheduleCall& c) {
         std::vector<Halide::Var> order;
         for (std::size_t i = 0; i < c.size(); ++i) order.push_back(c.pure(i));
         c.func().reorder_storage(order);
       }},
      {"align_storage", on_stage, {pure("v"), factor("n")}, "v stored in as many elements as it has",
       "rounded up to a multiple of n",
       [](ScheduleCall& c) { c.func().align_storage(c.pure(0), c.number(1)); }},
      {"fold_storage", on_stage, {pure("v"), factor("n"), optional({"forward", Kind::flag}, "true")},
       "all of v stored", "the last n stored, v modulo n; forward: v grows from use to use",
       [](ScheduleCall& c) { c.func().fold_storage(c.pure(0), c.number(1), c.flag(2, true)); }},
      {"bound_storage", on_stage, {pure("v"), factor("n")}, "v stored in as many elements as it needs",
       "in n elements, checked at run time",
       [](ScheduleCall& c) { c.func().bound_storage(c.pure(0), c.number(1)); }},
  };
}

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
  if (digits.empty() || digits.size() > 3 || digits.find_first_not_of("0123456789") != std::string_view::npos) return "";
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
      throw ScheduleProblem{argument.position, fmt::format("'{}' must be at least 1, not {}", parameter.name, *integer)};
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
  throw ScheduleProblem{argument.position, fmt::format("no {} {}{}; there are {}",
                                                       kind == Kind::flag ? "flag" : describe(kind).substr(2), got,
                                                       did_you_mean(text, names), list)};
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

const std::vector<DirectiveRow>& directive_table() {
  static const std::vector<DirectiveRow> table = [] {
    std::vector<DirectiveRow> all;
    for (auto rows : {shaping_rows(), running_rows(), placing_rows(), storage_rows()})
      all.insert(all.end(), rows.begin(), rows.end());
    return all;
  }();
  return table;
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
    throw ScheduleProblem{directive.position,
                          fmt::format("no directive '{}'{}", directive.name,
                                      did_you_mean(directive.name, directive_names()))};
  throw ScheduleProblem{directive.position, fmt::format("{} argument{} for {}", directive.arguments.size(),
                                                        directive.arguments.size() == 1 ? "" : "s", forms)};
}

void canonicalize(Directive& directive) {
  const DirectiveRow& row = row_of(directive);
  for (std::size_t i = 0; i < directive.arguments.size(); ++i)
    canonicalize(directive.arguments[i], row.parameter(i));
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
