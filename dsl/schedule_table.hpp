#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "dsl/schedule.hpp"

namespace heddle {

class ScheduleCall;

/// What an argument of a directive may be, which decides how its text is read and what it must name when applied.
enum class ArgumentKind {
  dimension,    ///< a loop of the definition that the line schedules
  fresh,        ///< a new loop's name; it may take over the name of a loop that the directive replaces
  pure,         ///< a dimension of the stage itself, whatever its loops are
  stage,        ///< another stage
  source,       ///< another stage or an operand
  definition,   ///< another stage's pure definition, or `stage.update(N)`
  loop,         ///< a loop of the stage named by the argument before
  fresh_stage,  ///< a new stage's name
  number,       ///< an integer or an expression over symbolic extents
  factor,       ///< a number of at least 1
  condition,    ///< a comparison, or several under && and ||
  tail,         ///< Halide's TailStrategy
  memory,       ///< Halide's MemoryType
  partition,    ///< Halide's Partition
  alignment,    ///< Halide's LoopAlignStrategy
  prefetch,     ///< Halide's PrefetchBoundStrategy
  flag,         ///< true or false
  text,         ///< "in double quotes"
};

struct DirectiveParameter {
  std::string_view name;
  ArgumentKind kind;
  bool optional = false;
  bool repeated = false;                ///< the last one only: any number of such arguments
  std::string_view default_value = {};  ///< an optional argument that says just this is dropped
};

/// Where a directive may stand.
enum class DirectiveScope {
  loops,  ///< on any definition: pure, update or specialised
  stage,  ///< on the stage as a whole: not behind update(N) or specialize(...)
};

/// What a chain does after the directive.
enum class DirectiveChain {
  goes_on,
  specialises,  ///< the rest schedules the specialised copy
  ends,         ///< nothing may follow on the line
};

/// One row: everything that the parser, the recorder, apply and the documentation know of a directive. A directive with
/// several forms has a row for each; the number of arguments tells them apart.
struct DirectiveRow {
  std::string_view name;
  DirectiveScope scope;
  std::vector<DirectiveParameter> parameters;
  std::string_view before;  ///< a loop nest, or a property of the stage, as it was
  std::string_view after;   ///< and as the directive leaves it
  void (*apply)(ScheduleCall&);
  DirectiveChain chain = DirectiveChain::goes_on;
  bool on_operand = false;  ///< an operand may stand where the stage stands
  bool distinct = true;     ///< no two arguments may name the same dimension

  std::size_t fewest() const;  ///< arguments
  std::size_t most() const;
  const DirectiveParameter& parameter(std::size_t argument) const;
  std::string signature() const;  ///< "split(old, outer, inner, factor[, tail])"
};

/// Every directive, grouped by what it is about.
const std::vector<DirectiveRow>& directive_table();

/// Names of all directives, each once, in the table's order.
std::vector<std::string> directive_names();

/// The row for `directive`'s name and number of arguments. Throws ScheduleProblem, with the near names or the forms.
const DirectiveRow& row_of(const Directive& directive);

/// Checks a line against the table and brings its arguments into canonical form. Throws ScheduleProblem.
void canonicalize(ScheduleLine& line);
void canonicalize(Directive& directive);

/// Names of Halide's enumerators, as schedules write them.
std::vector<std::string> enumerator_names(ArgumentKind kind);

/// The table as Markdown, for docs/schedule.md.
std::string directive_documentation();

}  // namespace heddle
