#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "dsl/schedule.hpp"

namespace heddle {

/// A message about a place in a schedule's text; the reader puts the file before it.
struct ScheduleProblem {
  SourcePosition position;
  std::string message;
};

/// "file:3:14: message" as Error{invalid_argument}.
[[noreturn]] void throw_problem(std::string_view file, const ScheduleProblem& problem);

/// The expressions of schedules: integers and symbolic extents under + - * / % min max (division rounds toward minus
/// infinity, as Halide's), comparisons of those, && and || of comparisons.
struct ScheduleExpression {
  enum class Op { integer, symbol, negate, add, sub, mul, div, mod, min, max, lt, le, gt, ge, eq, ne, both, either };
  Op op = Op::integer;
  std::int64_t value = 0;
  std::string name;  ///< of a symbol
  std::vector<ScheduleExpression> args;
  SourcePosition position;

  bool is_condition() const { return op >= Op::lt; }

  /// Canonical text: no parenthesis that the grammar does not need, spaces around every operator except * / %.
  std::string print() const;

  /// Reads one expression from `text`, which starts at `start`; `used` becomes the characters read. Throws
  /// ScheduleProblem.
  static ScheduleExpression parse(std::string_view text, SourcePosition start, std::size_t& used);
};

/// Schedules hold 32-bit integers, as Halide's loops do.
constexpr std::int64_t kScheduleIntegerMax = 2147483647;

bool is_name_start(char c);
bool is_name_char(char c);
bool is_name(std::string_view text);            ///< [A-Za-z_][A-Za-z0-9_]*
bool is_qualified_name(std::string_view text);  ///< names joined by dots: a stage's role

}  // namespace heddle
