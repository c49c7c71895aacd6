#include <fstream>
#include <random>

#include <fmt/format.h>
#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "dsl/schedule.hpp"
#include "dsl/schedule_expression.hpp"
#include "dsl/schedule_table.hpp"
#include "tests/dsl/schedule_fixture.hpp"

using namespace heddle;
using heddle::test::message_of;

namespace {

constexpr unsigned kSeed = 20240611;

/// Schedules drawn from the directive table: every argument by its kind, names that look like keywords among them.
class Generator {
 public:
  explicit Generator(unsigned seed) : random_(seed) {}

  Schedule schedule() {
    Schedule s;
    for (int i = below(6); i > 0; --i) s.lines.push_back(line());
    return s;
  }

  /// The schedule's text as a person might have typed it: blanks, comments, empty lines, either line end.
  std::string untidy(const Schedule& s) {
    std::string text;
    for (const auto& line : s.lines) {
      if (below(4) == 0) text += pick({"\n", "  # a \"comment\".split(x)\n", "\t\r\n"});
      text += blank() + line.stage;
      if (line.update >= 0) text += fmt::format("{}.{}update({}{})", blank(), blank(), blank(), line.update);
      for (const auto& directive : line.directives) {
        text += blank() + "." + blank() + directive.name + blank() + "(" + blank();
        for (std::size_t i = 0; i < directive.arguments.size(); ++i) {
          const auto& value = directive.arguments[i].value;
          if (i > 0) text += "," + blank();
          if (const auto* integer = std::get_if<std::int64_t>(&value)) text += std::to_string(*integer);
          else text += untidy(std::get<std::string>(value));
          text += blank();
        }
        text += ")";
      }
      text += blank() + pick({"", "", "# done", "#"}) + pick({"\n", "\r\n"});
    }
    return text;
  }

  ScheduleExpression expression(bool condition, int depth) {
    using Op = ScheduleExpression::Op;
    const auto binary = [&](Op op, bool of_conditions) {
      return ScheduleExpression{
          op, 0, {}, {expression(of_conditions, depth - 1), expression(of_conditions, depth - 1)}, {}};
    };
    if (condition) {
      if (depth > 1 && below(2) == 0) return binary(below(2) == 0 ? Op::both : Op::either, true);
      return binary(static_cast<Op>(static_cast<int>(Op::lt) + below(6)), false);
    }
    if (depth <= 0 || below(3) == 0) {
      if (below(2) == 0) return {Op::integer, below(200) - 50, {}, {}, {}};
      return {Op::symbol, 0, name(), {}, {}};
    }
    if (below(6) == 0) {
      ScheduleExpression inner = expression(false, depth - 1);
      if (inner.op == Op::integer) return inner;  // a negated literal is a literal
      return {Op::negate, 0, {}, {std::move(inner)}, {}};
    }
    return binary(static_cast<Op>(static_cast<int>(Op::add) + below(7)), false);
  }

 private:
  ScheduleLine line() {
    ScheduleLine line{qualified(), below(3) == 0 ? below(4) : -1, {}, {}};
    bool whole = line.update < 0;
    for (int i = 1 + below(5); i > 0; --i) {
      const auto& table = directive_table();
      const DirectiveRow& row = table[static_cast<std::size_t>(below(static_cast<int>(table.size())))];
      if (row.scope == DirectiveScope::stage && !whole) continue;
      line.directives.push_back(directive(row));
      if (row.chain == DirectiveChain::specialises) whole = false;
      if (row.chain == DirectiveChain::ends) break;
    }
    return line;
  }

  Directive directive(const DirectiveRow& row) {
    Directive d{std::string(row.name), {}, {}};
    std::size_t count = row.fewest();
    if (row.most() > count)
      count += static_cast<std::size_t>(below(row.most() > 100 ? 4 : static_cast<int>(row.most() - count) + 1));
    for (std::size_t i = 0; i < count; ++i) d.arguments.push_back({argument(row.parameter(i).kind), {}});
    // What is left out and what says the default are the same schedule; the canonical one leaves it out.
    const DirectiveParameter& last = count > 0 ? row.parameter(count - 1) : DirectiveParameter{"", ArgumentKind::flag};
    if (count > row.fewest() && !last.default_value.empty()) {
      auto& value = d.arguments.back().value;
      while (shown(value) == last.default_value) value = argument(last.kind);
    }
    return d;
  }

  static std::string shown(const std::variant<std::int64_t, std::string>& value) {
    if (const auto* integer = std::get_if<std::int64_t>(&value)) return std::to_string(*integer);
    return std::get<std::string>(value);
  }

  std::variant<std::int64_t, std::string> argument(ArgumentKind kind) {
    switch (kind) {
      case ArgumentKind::dimension:
      case ArgumentKind::fresh:
      case ArgumentKind::pure:
      case ArgumentKind::loop: return name();
      case ArgumentKind::stage:
      case ArgumentKind::source:
      case ArgumentKind::fresh_stage: return qualified();
      case ArgumentKind::definition: return qualified() + (below(2) == 0 ? fmt::format(".update({})", below(12)) : "");
      case ArgumentKind::factor: {
        if (below(2) == 0) return std::int64_t{1} + below(1 << 20);
        const ScheduleExpression e = expression(false, 3);
        if (e.op == ScheduleExpression::Op::integer) return std::max<std::int64_t>(e.value, 1);
        return e.print();
      }
      case ArgumentKind::number: {
        const ScheduleExpression e = expression(false, 3);
        if (e.op == ScheduleExpression::Op::integer) return e.value;
        return e.print();
      }
      case ArgumentKind::condition: return expression(true, 4).print();
      case ArgumentKind::text: return fmt::format("\"{}\"", pick({"", "too, narrow) # really", "a.split(x)"}));
      default: return pick(enumerator_names(kind));
    }
  }

  std::string name() {
    return pick({"x", "y", "co", "coi", "W", "H_2", "_n", "min", "max", "update", "in", "variant", "pack", "split"});
  }
  std::string qualified() {
    const std::string stage = pick({"out", "acc", "w", "variant", "pack", "min", "update"});
    return below(3) == 0 ? stage + "." + pick({"acc", "update", "split"}) : stage;
  }
  std::string blank() { return pick({"", "", "", " ", "  ", "\t"}); }
  std::string untidy(const std::string& value) {
    if (value.empty() || value.front() == '"' || below(2) == 0) return value;
    std::string text;
    for (const char c : value) {
      text += c;
      if (c == ' ' || c == '(' || c == ',') text += blank();
    }
    return text;
  }
  std::string pick(const std::vector<std::string>& from) {
    return from[static_cast<std::size_t>(below(static_cast<int>(from.size())))];
  }
  int below(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }

  std::mt19937 random_;
};

bool same(const ScheduleExpression& a, const ScheduleExpression& b) {
  if (a.op != b.op || a.value != b.value || a.name != b.name || a.args.size() != b.args.size()) return false;
  for (std::size_t i = 0; i < a.args.size(); ++i)
    if (!same(a.args[i], b.args[i])) return false;
  return true;
}

const char* const kExample =
    "variant direct\n"
    "pack w co:64\n"
    "out.split(co, coo, coi, 64).split(x, xo, xi, 7).reorder(coi, xi, xo, y, coo).vectorize(coi, 16).unroll(coi)"
    ".unroll(xi).parallel(coo)\n"
    "acc.compute_at(out, xo).vectorize(co, 16).unroll(co).unroll(x)\n"
    "acc.update(0).reorder(co, x, ci, kx, ky).vectorize(co, 16).unroll(co).unroll(x).unroll(ci, 2)\n";

}  // namespace

TEST_CASE("parse(print(s)) == s on random schedules", "[schedule]") {
  Generator generate(kSeed);
  std::set<std::string> seen;
  for (int i = 0; i < 4000; ++i) {
    const Schedule s = generate.schedule();
    const std::string text = s.print();
    const std::string typed = generate.untidy(s);
    INFO("seed " << kSeed << ", schedule " << i << ":\n" << text << "typed:\n" << typed);
    const Schedule read = Schedule::parse(text);
    REQUIRE(read == s);
    REQUIRE(read.print() == text);
    REQUIRE(Schedule::parse(typed) == s);
    for (const auto& line : s.lines)
      for (const auto& directive : line.directives) seen.insert(directive.name);
  }
  CHECK(seen.size() == directive_names().size());
}

TEST_CASE("expressions keep their structure through text", "[schedule]") {
  Generator generate(kSeed + 1);
  for (int i = 0; i < 4000; ++i) {
    const ScheduleExpression e = generate.expression(i % 2 == 0, 5);
    const std::string text = e.print();
    INFO("seed " << kSeed + 1 << ", expression " << i << ": " << text);
    std::size_t used = 0;
    std::optional<ScheduleExpression> read;
    try {
      read = ScheduleExpression::parse(text, {1, 1}, used);
    } catch (const ScheduleProblem& problem) {
      FAIL(problem.message);
    }
    REQUIRE(used == text.size());
    REQUIRE(same(*read, e));
  }
}

TEST_CASE("an implementation's text", "[schedule]") {
  const Implementation i = Implementation::parse(kExample);
  CHECK(i.variant == "direct");
  REQUIRE(i.packings.size() == 1);
  CHECK(i.packings[0] == Packing{"w", {{"co", 64}}});
  REQUIRE(i.schedule.lines.size() == 3);
  CHECK(i.schedule.lines[2].stage == "acc");
  CHECK(i.schedule.lines[2].update == 0);
  CHECK(i.schedule.lines[2].directives.size() == 5);
  CHECK(i.schedule.lines[2].directives[4] == Directive{"unroll", {{"ci", {}}, {2, {}}}, {}});
  CHECK(i.print() == kExample);
  CHECK(Implementation::parse(i.print()) == i);

  Implementation two;
  two.variant = "dot-int8";
  two.packings = {{"w", {{"co", 16}, {"ci", 4}}}, {"qk.w", {{"co", 8}}}};
  two.schedule = Schedule::parse("variant.split(pack, a, b, 4)");
  const Implementation formed = Implementation::parse("pack w winograd4 co:16\npack b grouped");
  CHECK(formed.packings[0].form == "winograd4");
  CHECK(formed.packings[1].blocks.empty());
  CHECK(Implementation::parse(formed.print()) == formed);
  CHECK(two.print() == "variant dot-int8\npack w co:16 ci:4\npack qk.w co:8\nvariant.split(pack, a, b, 4)\n");
  CHECK(Implementation::parse(two.print()) == two);
  CHECK(Implementation::parse("# nothing\n\n") == Implementation{});
}

TEST_CASE("print is canonical", "[schedule]") {
  const auto canonical = [](const char* text) { return Schedule::parse(text).print(); };
  CHECK(canonical("out . split( x,xo ,xi,(8) , Auto )#c") == "out.split(x, xo, xi, 8)\n");
  CHECK(canonical("out.split(x, xo, xi, W/2, GuardWithIf)") == "out.split(x, xo, xi, W/2, GuardWithIf)\n");
  CHECK(canonical("acc.update().atomic(false)") == "acc.update(0).atomic()\n");
  CHECK(canonical("out.fold_storage(y, 4, true).align_bounds(x, 8, 0)") ==
        "out.fold_storage(y, 4).align_bounds(x, 8)\n");
  CHECK(canonical("out.specialize((W)>=64&&(H%4==0)).vectorize(x,8)") ==
        "out.specialize(W >= 64 && H%4 == 0).vectorize(x, 8)\n");
  CHECK(canonical("out.bound(x, -  3, ((W+1)/2)*2-(1+1))") == "out.bound(x, -3, (W + 1)/2*2 - (1 + 1))\n");
  CHECK(canonical("out.specialize(a<1||b<1&&c<1)") == "out.specialize(a < 1 || b < 1 && c < 1)\n");
  CHECK(canonical("out.specialize((a<1||b<1)&&c<1)") == "out.specialize((a < 1 || b < 1) && c < 1)\n");
  CHECK(canonical("qk . acc.update(01).compute_with(pv . acc.update( 02 ), y)") ==
        "qk.acc.update(1).compute_with(pv.acc.update(2), y)\n");
  CHECK(canonical("acc.compute_at(qk . acc, y)") == "acc.compute_at(qk.acc, y)\n");
  CHECK(canonical("out.specialize_fail(\"no # (comment)\")") == "out.specialize_fail(\"no # (comment)\")\n");
  CHECK(canonical("") == "");
}

TEST_CASE("the table in docs/schedule.md is the directive table", "[schedule]") {
  std::ifstream file(std::string(HEDDLE_SOURCE_DIR) + "/docs/schedule.md");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  INFO("docs/schedule.md must hold this table:\n" << directive_documentation());
  CHECK(text.find(directive_documentation()) != std::string::npos);
}

TEST_CASE("malformed schedules", "[schedule]") {
  struct Bad {
    const char* text;
    const char* message;
  };
  const std::vector<Bad> all{
      {"out.splt(x, xo, xi, 8)", "s:1:5: no directive 'splt' (did you mean 'split'?)"},
      {"\n# c\n  out.vectorize(x).paralel(y)", "s:3:20: no directive 'paralel' (did you mean 'parallel'?)"},
      {"acc.updte(0).unroll(x)", "s:1:5: no directive 'updte' (did you mean 'update'?)"},
      {"out.split(x, xo, 8)", "s:1:5: 3 arguments for split(old, outer, inner, factor[, tail])"},
      {"acc.update(0).rfactor(r, u)",
       "s:1:15: 2 arguments for rfactor(r, u, new_stage) or rfactor(r1, u1, r2, u2, new_stage) or "
       "rfactor(r1, u1, r2, u2, r3, u3, new_stage)"},
      {"out.reorder()", "s:1:5: 0 arguments for reorder(innermost, ...)"},
      {"out.split(x, xo, xi, 8, GardWithIf)",
       "s:1:25: no tail strategy 'GardWithIf' (did you mean 'GuardWithIf'?); there are Auto, RoundUp, GuardWithIf, "
       "Predicate, PredicateLoads, PredicateStores, ShiftInwards, ShiftInwardsAndBlend, RoundUpAndBlend"},
      {"acc.store_in(Stak)",
       "s:1:14: no memory type 'Stak' (did you mean 'Stack'?); there are Auto, Heap, Stack, Register, GPUShared, "
       "GPUTexture, LockedCache, VTCM, AMXTile"},
      {"out.split(8, xo, xi, 8)", "s:1:11: 'old' must be a dimension's name, not '8'"},
      {"out.split(x, xo, xi, 0)", "s:1:22: 'factor' must be at least 1, not 0"},
      {"out.split(x, xo, xi, W >= 2)",
       "s:1:22: 'factor' must be an integer or an expression such as W/2, not 'W >= 2'"},
      {"out.specialize(W)", "s:1:16: 'condition' must be a condition such as W >= 64, not 'W'"},
      {"out.specialize(W >= 64 && H)", "s:1:27: 'H' is a number where '&&' needs conditions such as W >= 64"},
      {"out.specialize(W >= (H < 3))", "s:1:22: 'H < 3' is a condition where '>=' needs numbers"},
      {"out.specialize(W >= )", "s:1:20: expected a number, a name or '(' before the line ends"},
      {"out.specialize(W = 64)", "s:1:18: unexpected '=' in an expression"},
      {"out.specialize(W < 64 < H)", "s:1:23: unexpected '<' in an expression"},
      {"out.bound(x, 0, mn(W, 3))", "s:1:17: no function 'mn' (did you mean 'min'?); expressions have min and max"},
      {"out.bound(x, 0, 99999999999)", "s:1:17: the integer is too large: it must fit 32 bits"},
      {"out.bound(x, 0, 3 4)", "s:1:19: unexpected '4' in an expression"},
      {"out.vectorize(x", "s:1:16: expected ',' or ')' before the line ends"},
      {"out.vectorize(x, )", "s:1:18: expected an argument, not ')'"},
      {"out.vectorize", ""},
      {"out.vectorize(x) unroll(y)", "s:1:18: expected '.' and a directive, not 'u'"},
      {"out.vectorize(x).", "s:1:18: expected a directive's name before the line ends"},
      {"out.vectorize(x).unroll", "s:1:24: expected '(' after 'unroll'"},
      {"vectorize(x)", "s:1:1: expected a stage before 'vectorize(': write STAGE.vectorize(...)"},
      {".vectorize(x)", "s:1:1: expected a stage's name, not '.'"},
      {"\xc3\xb6ut.vectorize(x)", "s:1:1: expected a stage's name, not '\\xc3'"},
      {"acc.vectorize(x).update(0)", "s:1:18: update(N) stands right behind the stage's name"},
      {"acc.update(x)", "s:1:12: update takes the number of the update, 0 for the first, not 'x'"},
      {"acc.update(0).compute_root()",
       "s:1:15: compute_root is about the whole stage: write it on a line that starts 'acc.compute_root('"},
      {"out.specialize(W > 1).compute_root()",
       "s:1:23: compute_root is about the whole stage: write it on a line that starts 'out.compute_root('"},
      {"w.in(wc).compute_root()",
       "s:1:10: in makes a stage and ends its line; go on with 'w' or the new stage on the next line"},
      {"out.specialize_fail(\"no\").unroll(x)", "s:1:27: nothing can follow specialize_fail on its line"},
      {"out.specialize_fail(no)", "s:1:21: 'message' must be a text in double quotes, not 'no'"},
      {"out.specialize_fail(\"no)", "s:1:21: the text has no closing '\"'"},
      {"acc.compute_with(out.update(x), y)",
       "s:1:18: 'stage' must be a stage's name, or its update such as acc.update(0), not 'out.update(x)'"},
      {"acc.atomic(yes)", "s:1:12: no flag 'yes'; there are true, false"},
      {"variant direct", "s:1:1: 'variant' belongs to an implementation; here only a schedule's lines can stand"},
      {"out.compute_root()\npack w co:8",
       "s:2:1: 'pack' belongs to an implementation; here only a schedule's lines can stand"},
  };
  for (const auto& bad : all) {
    INFO(bad.text);
    const std::string got = message_of([&] { Schedule::parse(bad.text, "s"); });
    CHECK(got == (bad.message[0] != '\0' ? std::string(bad.message) : "no error"));
  }
  // Depth is bounded: a hostile text is an error, not a stack overflow.
  const std::string deep = "out.bound(x, 0, " + std::string(100000, '(') + "1" + std::string(100001, ')');
  CHECK(message_of([&] { Schedule::parse(deep, "s"); }).find("the expression is too long") != std::string::npos);
  std::string wide = "out.bound(x, 0, 1";
  for (int i = 0; i < 100000; ++i) wide += " - 1";
  CHECK(message_of([&] { Schedule::parse(wide + ")", "s"); }).find("the expression is too long") != std::string::npos);
}

TEST_CASE("malformed implementations", "[schedule]") {
  const auto message = [](const char* text) { return message_of([&] { Implementation::parse(text, "i"); }); };
  CHECK(message("variant") == "i:1:8: variant needs a name of letters, digits, '_' and '-', such as direct");
  CHECK(message("variant a b") == "i:1:11: unexpected 'b' after the variant's name");
  CHECK(message("variant a\nvariant b") == "i:2:1: a second variant: an implementation has one");
  CHECK(message("out.compute_root()\nvariant b") == "i:2:1: variant and pack stand before the schedule's first line");
  CHECK(message("pack w") == "i:1:7: pack w needs at least one block such as co:64");
  CHECK(message("pack w co:8 winograd4") ==
        "i:1:13: expected a dimension and a block's size such as co:64, not 'winograd4'");
  CHECK(message("pack w winograd4 co") == "i:1:18: expected a dimension and a block's size such as co:64, not 'co'");
  CHECK(message("pack w co:0") == "i:1:11: a block's size must be at least 1");
  CHECK(message("pack w co:6x") == "i:1:11: '6x' is not a block's size");
  CHECK(message("pack w co:8 co:4") == "i:1:13: 'co' is blocked twice");
  CHECK(message("pack w co:8\npack w ci:4") == "i:2:6: operand 'w' is packed twice");
  CHECK(message("pack w co:8\nout.splt(x)") == "i:2:5: no directive 'splt' (did you mean 'split'?)");
}
