#pragma once
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "autoscheduler/cost_model.hpp"
#include "autoscheduler/search_points.hpp"

namespace heddle::autoscheduler {

/// What ranking needs of a point that can be compiled.
struct Emitted {
  std::string text;  ///< of the implementation: equal texts are one candidate
  CostRow row;
  std::optional<CostRow> counted = std::nullopt;  ///< with the space's better estimate, where it was asked for
};

/// Emits each point once. Features get a column each, in the order in which they appear.
class Emitter {
 public:
  explicit Emitter(const Space& space) : space_(space) {}

  const Emitted* emit(const Point& point);  ///< null if the point is pruned; valid as long as this object
  /// Asks for better estimates of what can be compiled, on all cores; each point's once. Ends early when `stop` says
  /// so.
  void count(const std::vector<Point>& points, const std::function<bool()>& stop);
  const Space& space() const { return space_; }
  /// How many points were pruned for what reason, the most frequent first: "too many registers (12), ..."
  std::string prune_reasons() const;

 private:
  CostRow row(const Candidate& candidate);

  const Space& space_;
  std::map<Point, std::optional<Emitted>> cache_;
  std::map<std::string, std::size_t> columns_;
  std::map<std::string, int> reasons_;
};

/// Different candidates, none of them tried yet.
class Pool {
 public:
  struct Member {
    Point point;
    std::string origin;
    const Emitted* emitted = nullptr;
    double cost = 0;  ///< logarithm of a time, whose ever: the lower the better
  };

  Pool(Emitter& emitter, const std::set<std::string>& tried) : emitter_(emitter), tried_(tried) {}

  bool add(const Point& point, const std::string& origin);  ///< false: pruned, tried or there already
  std::size_t size() const { return members_.size(); }
  bool empty() const { return members_.empty(); }
  const std::vector<Member>& members() const { return members_; }

  void cost_by_estimate();
  void cost_by(const CostModel& model);
  /// Counts all members; those that are not worth compiling leave, and those that a stop left uncounted.
  void count(const std::function<bool()>& stop);
  void cost_by_count();  ///< of counted members
  void cost_by_count(const CostModel& model);
  /// Members by cost, the lowest first; at most `most`.
  std::vector<Member> cheapest(std::size_t most) const;

  /// Adds up to `count` members, the cheapest first, each charged for its similarity to those chosen before it:
  /// `penalty` for an equal one, so that a batch does not spend its trials on one idea.
  void choose(std::vector<Member>& chosen, std::size_t count, double penalty) const;

 private:
  void cost(const CostModel& model, const std::vector<CostRow>& rows);

  Emitter& emitter_;
  const std::set<std::string>& tried_;
  std::vector<Member> members_;
  std::set<std::string> texts_;
};

}  // namespace heddle::autoscheduler
