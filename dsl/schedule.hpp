#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "dsl/pipeline.hpp"

namespace heddle {

/// Where something stands in a schedule's text; 0 for a schedule recorded in C++.
struct SourcePosition {
  int line = 0;
  int column = 0;
  bool operator==(const SourcePosition&) const { return true; }  ///< positions do not make schedules differ
};

/// One argument of a directive: a dimension or stage name, an integer, an expression over integers and symbolic
/// extents (`W/2`, `W >= 64`), a memory type, a tail strategy, or a list of names (`reorder`, rfactor's pairs).
struct ScheduleArgument {
  std::variant<std::int64_t, std::string> value;  ///< an integer, or a name or expression in canonical text
  SourcePosition position;
  bool operator==(const ScheduleArgument&) const = default;
};

/// One call of a method chain: `split(x, xo, xi, 7, GuardWithIf)`.
struct Directive {
  std::string name;
  std::vector<ScheduleArgument> arguments;
  SourcePosition position;
  bool operator==(const Directive&) const = default;
};

std::string to_string(const Directive& directive);  ///< `split(x, xo, xi, 7)`

/// One line: a stage, the definition it schedules (-1: the pure one; otherwise `update(N)`) and a chain of directives.
/// `specialize(condition)` opens a copy of the loops; the rest of the chain schedules that copy.
struct ScheduleLine {
  std::string stage;
  int update = -1;
  std::vector<Directive> directives;
  SourcePosition position;
  bool operator==(const ScheduleLine&) const = default;
};

class Stage;

/// A schedule as a value: lines in order, several a stage if need be (rfactor and `in` create stages that later lines
/// name). Prints and parses as Halide's own method chain; `parse(print(s)) == s`, and print is canonical.
class Schedule {
 public:
  std::vector<ScheduleLine> lines;

  Stage operator[](std::string_view role);  ///< records: `s["out"].split("x", "xo", "xi", 8).vectorize("xi")`

  std::string print() const;
  /// Throws Error{invalid_argument} with file, line, column, what is wrong and the near names.
  static Schedule parse(std::string_view text, std::string_view file = "schedule");

  bool operator==(const Schedule&) const = default;
};

/// One operand's blocked layout in memory, written `pack w co:64`. Each block's remainder (co % 64) becomes an
/// innermost dimension, in the order given; its quotient (co / 64) stays where the operator declares the dimension.
/// Extents that the block does not divide are padded with zeros. A form that the operator offers is named before the
/// blocks, which are then of the form's dimensions: `pack w winograd4 co:16`.
struct Packing {
  std::string operand;
  struct Block {
    std::string dimension;
    std::int64_t size = 1;
    bool operator==(const Block&) const = default;
  };
  std::vector<Block> blocks;
  std::string form = {};  ///< empty: the operand's own values
  bool operator==(const Packing&) const = default;
};

/// What is chosen, stored and replayed: the algorithm's variant, the operands' packings and the schedule. Text form:
///   variant direct
///   pack w co:64
///   out.split(co, coo, coi, 64).vectorize(coi, 16)
struct Implementation {
  std::string variant = "direct";
  std::vector<Packing> packings;
  Schedule schedule;

  std::string print() const;
  static Implementation parse(std::string_view text, std::string_view file = "schedule");
  bool operator==(const Implementation&) const = default;
};

/// Turns a schedule into Halide calls on the pipeline. Names a stage's role or dimension that does not exist, with the
/// near ones, and the line and column (of print()'s text for a schedule recorded in C++); Halide's own complaints are
/// translated with the directive that caused them. After an error the pipeline is of no use: it is half scheduled.
void apply(const Schedule& schedule, Pipeline& pipeline, std::string_view file = "schedule");

}  // namespace heddle
