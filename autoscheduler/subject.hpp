#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "autoscheduler/dependence.hpp"
#include "autoscheduler/space.hpp"
#include "dsl/stage.hpp"

namespace heddle::autoscheduler {

/// What is to be scheduled, as sketches see it.
struct Subject {
  std::shared_ptr<const Workload> workload;  ///< shared: a long pipeline has thousands of parts
  Machine machine;
  Dependences dependences;  ///< of the direct variant with nothing packed
  /// Loops of `out` by their place in memory, innermost first; those of one iteration last.
  std::vector<std::size_t> order;
  int lanes = 8;    ///< of the widest vector of the output's elements
  int threads = 1;  ///< that its loops are shared among
  /// Where the output of a part of a pipeline is computed: in a loop of another stage, or before all.
  struct Home {
    std::string stage, loop;
    void place(Stage& definition) const;
  };
  std::optional<Home> home = std::nullopt;  ///< none: it is the pipeline's output
  bool exact = true;                        ///< the output's box is just what is asked for
  /// Asked while points are weighed for defaults, which takes seconds for a long pipeline. Of the whole, not of parts.
  std::function<bool()> stop = {};
  void heed_stop() const {
    if (stop && stop()) throw Stopped{};
  }

  const std::string& loop(std::size_t place) const { return dependences.out().loops[order[place]]; }
  std::int64_t extent(std::size_t place) const { return dependences.out().box[order[place]].extent; }
  std::size_t rank() const { return order.size(); }
};
Subject make_subject(const Workload& workload, const Machine& machine);
/// Orders the output's loops by the strides of its memory.
void order_loops(Subject& subject, const std::vector<std::int64_t>& strides);

/// The knobs of a sketch with values, by name.
class KnobValues {
 public:
  KnobValues(const std::vector<SpaceKnob>& knobs, const std::vector<std::int64_t>& values) {
    // Each is asked for often, and a long pipeline has hundreds.
    auto by_name = std::make_shared<ByName>();
    for (std::size_t k = 0; k < knobs.size(); ++k) by_name->try_emplace(knobs[k].name, values.at(k));
    values_ = std::move(by_name);
  }
  /// The same, where names with `prefix` come before those without.
  KnobValues preferring(std::string prefix) const {
    KnobValues preferred = *this;
    preferred.prefix_ = std::move(prefix);
    return preferred;
  }
  /// `otherwise`: where the sketch has no such knob.
  std::int64_t get(const std::string& name, std::int64_t otherwise) const {
    if (const auto own = values_->find(prefix_.empty() ? name : prefix_ + name); own != values_->end())
      return own->second;
    const auto shared = values_->find(name);
    return shared != values_->end() ? shared->second : otherwise;
  }

 private:
  using ByName = std::unordered_map<std::string_view, std::int64_t>;
  std::shared_ptr<const ByName> values_;
  std::string prefix_;
};

/// One structure: its knobs, and what a choice of them makes.
class SketchRule {
 public:
  virtual ~SketchRule() = default;
  virtual const Sketch& sketch() const = 0;
  virtual std::variant<Candidate, Pruned> emit(const std::vector<std::int64_t>& values) const = 0;
  /// Values that an analytic rule gives, the best first.
  virtual std::vector<std::vector<std::int64_t>> defaults() const = 0;
};

// Null where the structure does not fit the subject, which must outlive what is made.

/// A register tile of the output; reductions with reuse accumulate in it, producers are placed around it.
std::unique_ptr<SketchRule> tiled_sketch(const Subject& subject);
/// Several nests, one a stage that is worth it, each with its register tile.
std::unique_ptr<SketchRule> staged_sketch(const Subject& subject);
/// Reductions along whole rows, whose results every element of the row reads.
std::unique_ptr<SketchRule> rows_sketch(const Subject& subject);
/// One a hand-written family that matches.
std::vector<std::unique_ptr<SketchRule>> family_sketches(const Subject& subject);

/// Every structure that fits. `families`: those written by hand too. Throws Error{unsupported} for symbolic extents,
/// and Stopped once `stop` says so.
std::unique_ptr<Space> make_space(const Workload& workload, const Machine& machine, bool families,
                                  std::function<bool()> stop = {});

}  // namespace heddle::autoscheduler
