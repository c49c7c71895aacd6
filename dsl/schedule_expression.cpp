#include "dsl/schedule_expression.hpp"

#include <algorithm>
#include <array>
#include <cctype>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle {
namespace {

using Op = ScheduleExpression::Op;

struct Infix {
  std::string_view text;
  Op op;
  int level;  ///< binds tighter the higher
};

// Longer operators stand before those that they start with.
constexpr std::array<Infix, 13> kOperators{{{"||", Op::either, 1},
                                            {"&&", Op::both, 2},
                                            {"<=", Op::le, 3},
                                            {">=", Op::ge, 3},
                                            {"==", Op::eq, 3},
                                            {"!=", Op::ne, 3},
                                            {"<", Op::lt, 3},
                                            {">", Op::gt, 3},
                                            {"+", Op::add, 4},
                                            {"-", Op::sub, 4},
                                            {"*", Op::mul, 5},
                                            {"/", Op::div, 5},
                                            {"%", Op::mod, 5}}};
constexpr int kUnaryLevel = 6;
constexpr int kAtomLevel = 7;

const Infix* operator_of(Op op) {
  const auto* found = std::find_if(kOperators.begin(), kOperators.end(), [&](const Infix& o) { return o.op == op; });
  return found == kOperators.end() ? nullptr : found;
}

int level_of(const ScheduleExpression& e) {
  if (const Infix* o = operator_of(e.op)) return o->level;
  return e.op == Op::negate ? kUnaryLevel : kAtomLevel;
}

class Parser {
 public:
  Parser(std::string_view text, SourcePosition start) : text_(text), start_(start) {}

  ScheduleExpression parse() { return binary(1); }
  std::size_t used() const { return at_; }

 private:
  ScheduleExpression binary(int level) {
    if (level == kUnaryLevel) return unary();
    ScheduleExpression left = binary(level + 1);
    while (const Infix* o = eat_operator(level)) {
      const SourcePosition position = left.position;
      ScheduleExpression right = binary(level + 1);
      const bool of_conditions = level <= 2;
      for (const ScheduleExpression* side : {&left, &right})
        if (side->is_condition() != of_conditions)
          throw ScheduleProblem{side->position, fmt::format("'{}' {} where '{}' needs {}", side->print(),
                                                            of_conditions ? "is a number" : "is a condition", o->text,
                                                            of_conditions ? "conditions such as W >= 64" : "numbers")};
      left = ScheduleExpression{o->op, 0, {}, {std::move(left), std::move(right)}, position};
      if (level == 3) break;  // a < b < c means nothing
    }
    return left;
  }

  ScheduleExpression unary() {
    skip();
    const SourcePosition position = here();
    // Every level of nesting passes here, so this bounds the recursion on a hostile text too.
    if (++operands_ > kMostOperands) throw ScheduleProblem{position, "the expression is too long"};
    if (!eat('-')) return primary(false);
    skip();
    if (at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_])) != 0) {
      ScheduleExpression e = primary(true);
      e.position = position;
      return e;
    }
    ScheduleExpression inner = unary();
    require_number(inner);
    if (inner.op == Op::integer) {
      inner.value = -inner.value;
      inner.position = position;
      return inner;
    }
    return {Op::negate, 0, {}, {std::move(inner)}, position};
  }

  ScheduleExpression primary(bool negative) {
    skip();
    const SourcePosition position = here();
    if (at_ >= text_.size()) throw ScheduleProblem{position, "expected a number, a name or '(' before the line ends"};
    const char c = text_[at_];
    if (std::isdigit(static_cast<unsigned char>(c)) != 0) return integer(position, negative);
    if (eat('(')) {
      ScheduleExpression e = binary(1);
      expect(')');
      return e;
    }
    if (!is_name_start(c))
      throw ScheduleProblem{position, fmt::format("expected a number, a name or '(', not '{}'", c)};
    const std::size_t begin = at_;
    while (at_ < text_.size() && is_name_char(text_[at_])) ++at_;
    std::string name(text_.substr(begin, at_ - begin));
    skip();
    if (at_ >= text_.size() || text_[at_] != '(') return {Op::symbol, 0, std::move(name), {}, position};
    if (name != "min" && name != "max")
      throw ScheduleProblem{position, fmt::format("no function '{}'{}; expressions have min and max", name,
                                                  did_you_mean(name, {"min", "max"}))};
    expect('(');
    ScheduleExpression a = binary(1);
    require_number(a);
    expect(',');
    ScheduleExpression b = binary(1);
    require_number(b);
    expect(')');
    return {name == "min" ? Op::min : Op::max, 0, {}, {std::move(a), std::move(b)}, position};
  }

  ScheduleExpression integer(SourcePosition position, bool negative) {
    std::int64_t value = 0;
    while (at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_])) != 0) {
      value = value * 10 + (text_[at_] - '0');
      if (value > kScheduleIntegerMax) throw ScheduleProblem{position, "the integer is too large: it must fit 32 bits"};
      ++at_;
    }
    if (at_ < text_.size() && (is_name_char(text_[at_]) || text_[at_] == '.'))
      throw ScheduleProblem{here(), fmt::format("unexpected '{}' after an integer", text_[at_])};
    return {Op::integer, negative ? -value : value, {}, {}, position};
  }

  static void require_number(const ScheduleExpression& e) {
    if (e.is_condition())
      throw ScheduleProblem{e.position, fmt::format("'{}' is a condition where a number is needed", e.print())};
  }

  const Infix* eat_operator(int level) {
    skip();
    for (const Infix& o : kOperators) {
      if (text_.substr(at_, o.text.size()) != o.text) continue;
      if (o.level != level) return nullptr;
      at_ += o.text.size();
      return &o;
    }
    return nullptr;
  }

  bool eat(char c) {
    skip();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void expect(char c) {
    if (!eat(c))
      throw ScheduleProblem{here(), at_ < text_.size() ? fmt::format("expected '{}', not '{}'", c, text_[at_])
                                                       : fmt::format("expected '{}' before the line ends", c)};
  }

  void skip() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
  }

  SourcePosition here() const { return {start_.line, start_.column + static_cast<int>(at_)}; }

  static constexpr int kMostOperands = 256;

  std::string_view text_;
  SourcePosition start_;
  std::size_t at_ = 0;
  int operands_ = 0;
};

}  // namespace

void throw_problem(std::string_view file, const ScheduleProblem& problem) {
  throw Error(ErrorCode::invalid_argument,
              fmt::format("{}:{}:{}: {}", file, problem.position.line, problem.position.column, problem.message));
}

bool is_name_start(char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_'; }
bool is_name_char(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

bool is_name(std::string_view text) {
  return !text.empty() && is_name_start(text[0]) && std::all_of(text.begin(), text.end(), is_name_char);
}

bool is_qualified_name(std::string_view text) {
  while (true) {
    const std::size_t dot = text.find('.');
    if (!is_name(text.substr(0, dot))) return false;
    if (dot == std::string_view::npos) return true;
    text.remove_prefix(dot + 1);
  }
}

std::string ScheduleExpression::print() const {
  const auto wrapped = [](const ScheduleExpression& e, bool parentheses) {
    return parentheses ? "(" + e.print() + ")" : e.print();
  };
  switch (op) {
    case Op::integer: return std::to_string(value);
    case Op::symbol: return name;
    case Op::negate: return "-" + wrapped(args[0], level_of(args[0]) < kUnaryLevel);
    case Op::min: return fmt::format("min({}, {})", args[0].print(), args[1].print());
    case Op::max: return fmt::format("max({}, {})", args[0].print(), args[1].print());
    default: break;
  }
  const Infix& o = *operator_of(op);
  // Operators group to the left, so a right operand of the same level keeps its parentheses.
  const std::string left = wrapped(args[0], level_of(args[0]) < o.level);
  const std::string right = wrapped(args[1], level_of(args[1]) <= o.level);
  return o.level == 5 ? fmt::format("{}{}{}", left, o.text, right) : fmt::format("{} {} {}", left, o.text, right);
}

ScheduleExpression ScheduleExpression::parse(std::string_view text, SourcePosition start, std::size_t& used) {
  Parser parser(text, start);
  ScheduleExpression e = parser.parse();
  used = parser.used();
  return e;
}

}  // namespace heddle
