#pragma once
#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "autoscheduler/affine_index.hpp"
#include "autoscheduler/phases.hpp"
#include "dsl/pipeline.hpp"

// Who reads what of whom in a pipeline: affine accesses, the regions that they ask for, and how often values are used
// again. Works on any Halide pipeline whose Funcs have names; symbolic extents must be bound.
namespace heddle::autoscheduler {

/// A read of a stage or operand, with what has no role seen through.
struct Access {
  std::string source;
  bool operand = false;
  bool in_update = false;
  std::vector<AffineIndex> index;  ///< one a dimension of the source, Halide's order (innermost first)
  double share = 1;                ///< of the reader's elements, that read it when their phases are known
};

struct ReductionLoop {
  std::string name;
  std::int64_t extent = 1;
};

/// One stage of the pipeline.
struct StageNode {
  std::string role;
  std::vector<std::string> loops;         ///< of the pure definition, Halide's order
  std::vector<ReductionLoop> reductions;  ///< of the first update, innermost first
  int updates = 0;
  /// One update, which adds to the element that the loops name: `f(x, y) = f(x, y) + ...`.
  bool accumulates = false;
  /// One update, whose place follows the first loop and otherwise depends on data, as a histogram's of each column.
  bool scatters = false;
  bool associative = false;  ///< the update's operation may be reordered: sums, products, minima, maxima
  int element_bytes = 4;
  std::vector<Phases> phases;  ///< one a pure loop, of the pure definition's expression
  /// One a pure loop: iterations more at both of its ends, up to a phase less one, that read nothing that is not there.
  std::vector<std::int64_t> extensible;
  /// Arithmetic of one element, calls of functions weighted by what they cost; the mean over phases.
  double pure_operations = 0;
  double update_operations = 0;  ///< of one step of the update
  std::vector<Access> accesses;
  Box box;  ///< that the whole output needs

  std::int64_t elements() const;
  bool has_loop(const std::string& name) const { return std::ranges::find(loops, name) != loops.end(); }
  std::int64_t reduction_steps() const;  ///< 1 without reductions
  bool reads_again() const;              ///< an element that the update reads serves several steps
  double operations() const;             ///< of computing the whole box once
};

struct OperandNode {
  std::string role;
  int element_bytes = 4;
  std::vector<std::int64_t> extents, strides;  ///< Halide's order; strides in elements, 0 where unknown
  std::vector<std::string> dimensions = {};    ///< Halide's order; what a copy made by `in` calls its loops
  bool read_elsewhere = false;                 ///< by stages that are no part of these dependences
  bool within_loops = false;                   ///< computed in the output's outermost loop, and there only
};

class Dependences {
 public:
  std::vector<StageNode> stages;  ///< producers first, `out` last
  std::map<std::string, OperandNode> operands;

  const StageNode& stage(std::string_view role) const;  ///< throws Error{internal}
  bool has_stage(std::string_view role) const;
  const StageNode& out() const { return stages.back(); }
  /// The stages that read a stage or operand.
  std::vector<const StageNode*> consumers(std::string_view role) const;

  /// What computing `box` of `consumer` needs of every stage and operand before it, when what lies between is computed
  /// just for that box. Reductions run over their whole extent.
  std::map<std::string, Box> regions(std::string_view consumer, const Box& box) const;
};

/// The loops of anchors that are innermost in memory, where they are not the first; the others keep their order.
using InnermostLoops = std::map<std::string, std::size_t>;

/// The part of a pipeline that `anchor` computes when the stages of `anchors` are computed apart: those become
/// operands. A reduction that is an anchor gets a copy of its result as the part's output, named by copy_of(), so that
/// it can be computed in tiles of it. `box`: of the anchor, what is computed of it at a time.
Dependences isolate(const Dependences& whole, const std::vector<std::string>& anchors, const InnermostLoops& innermost,
                    const std::string& anchor, const Box& box);
/// Of an anchor's box, dense in memory; one a loop, in elements.
std::vector<std::int64_t> dense_strides(const Box& box, const InnermostLoops& innermost, const std::string& anchor);
/// The stages of such a part, without the copy.
std::set<std::string> isolated_stages(const Dependences& whole, const std::vector<std::string>& anchors,
                                      const std::string& anchor);
/// The stage that others read of an anchor.
std::string copy_of(const StageNode& anchor);

/// Stages whose box is just what their readers ask for, wherever those are computed; the output is one.
std::set<std::string> exact_stages(const Dependences& dependences);

/// Throws Error{unsupported} for a pipeline with several outputs of different shapes or with symbolic extents.
/// `output_extents`: of `out`, Halide's order.
Dependences analyse(const Pipeline& pipeline, const std::vector<std::int64_t>& output_extents);

}  // namespace heddle::autoscheduler
