#pragma once
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <Halide.h>

#include "dsl/pipeline.hpp"
#include "dsl/schedule.hpp"
#include "dsl/schedule_expression.hpp"
#include "dsl/schedule_table.hpp"

namespace heddle {

/// Halide's enumerators by the names that schedules write.
const std::vector<std::pair<std::string, Halide::TailStrategy>>& tail_strategies();
const std::vector<std::pair<std::string, Halide::MemoryType>>& memory_types();
const std::vector<std::pair<std::string, Halide::Partition>>& partitions();
const std::vector<std::pair<std::string, Halide::LoopAlignStrategy>>& loop_alignments();
const std::vector<std::pair<std::string, Halide::PrefetchBoundStrategy>>& prefetch_bounds();

/// One directive of one line while it is applied: its arguments as Halide's objects. The constructor's caller has
/// checked them, so a row of the table is no more than the Halide call.
class ScheduleCall {
 public:
  /// A loop level that a directive refers to; it is looked up when all lines have been applied, so that a producer may
  /// be placed before the lines that shape its consumer's loops.
  struct Pending {
    Halide::LoopLevel level;  ///< shared with the stage that is placed there
    std::string stage;
    std::string loop;
    SourcePosition position;

    void resolve(const Pipeline& pipeline) const;  ///< throws ScheduleProblem
  };

  ScheduleCall(Pipeline& pipeline, std::vector<Pending>& pending) : pipeline_(pipeline), pending_(pending) {}

  /// Opens a line: finds its stage or operand and its definition. Throws ScheduleProblem.
  void start(const ScheduleLine& line);
  /// Applies the line's next directive. Throws ScheduleProblem or Halide's errors.
  void apply(const Directive& directive);

  // What the table's rows use. `i` numbers the directive's arguments.
  std::size_t size() const { return directive_->arguments.size(); }
  bool has(std::size_t i) const { return i < size(); }
  Halide::Func& func() { return func_; }
  Halide::Stage& loops() { return *loops_; }
  void specialised(Halide::Stage copy) { loops_ = std::move(copy); }

  Halide::VarOrRVar dimension(std::size_t i) const;
  std::vector<Halide::VarOrRVar> dimensions() const;  ///< all arguments
  Halide::VarOrRVar fresh(std::size_t i, bool is_rvar) const;
  Halide::Var pure(std::size_t i) const;
  Halide::Stage definition(std::size_t i) const;
  Halide::VarOrRVar loop(std::size_t i) const;  ///< of the definition named by argument i - 1
  Halide::LoopLevel level(std::size_t i);       ///< arguments i (stage) and i + 1 (loop)
  Halide::Expr number(std::size_t i) const;
  Halide::Expr condition(std::size_t i) const { return number(i); }
  Halide::TailStrategy tail(std::size_t i) const;  ///< Auto if the argument is missing
  template <class T>
  T enumerator(std::size_t i, const std::vector<std::pair<std::string, T>>& all, T otherwise) const {
    if (!has(i)) return otherwise;
    for (const auto& [name, value] : all)
      if (name == name_of(i)) return value;
    return otherwise;
  }
  bool flag(std::size_t i, bool otherwise) const;
  std::string text(std::size_t i) const;
  const std::string& name_of(std::size_t i) const { return std::get<std::string>(directive_->arguments[i].value); }

  /// The inner loop of `split(v, v, inner, factor)` for the forms that do not name it. Its name is not one that a
  /// schedule can write, and does not depend on what else the process compiled.
  Halide::VarOrRVar split_in_place(std::size_t i);

  void prefetch();
  void rfactor();
  void wrap();

 private:
  PipelineStage* find(std::string_view role) const;
  const PipelineStage& existing(std::size_t i) const;
  [[noreturn]] void fail_stage(std::string_view role, SourcePosition position, bool operands) const;
  void check_arguments(const DirectiveRow& row) const;
  Halide::Expr expression(const ScheduleExpression& e) const;
  std::vector<std::string> pure_names() const;

  Pipeline& pipeline_;
  std::vector<Pending>& pending_;
  const ScheduleLine* line_ = nullptr;
  const Directive* directive_ = nullptr;
  std::string role_;
  std::map<std::string, std::string> names_;  ///< Halide's name of a dimension of func_ -> the operator's
  Halide::Func func_;                         ///< undefined for an operand
  std::optional<Halide::Stage> loops_;        ///< of the definition that the line schedules
};

}  // namespace heddle
