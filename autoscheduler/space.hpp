#pragma once
#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "schedules/family.hpp"

namespace heddle::autoscheduler {

/// A choice that a sketch leaves open. The domain is in ascending order where neighbours are alike.
struct SpaceKnob {
  std::string name;
  std::vector<std::int64_t> domain;
  bool ordered = true;  ///< a neighbour in the domain is a small step; false: categories
};

/// A structure of loops with its knobs: the first decision of the search.
struct Sketch {
  std::string name;
  std::string summary;
  std::vector<SpaceKnob> knobs;
};

/// One element of a space: a sketch and a value for each of its knobs.
struct Point {
  std::size_t sketch = 0;
  std::vector<std::int64_t> values;  ///< one a knob, each from its domain
  auto operator<=>(const Point&) const = default;
};

/// What a point compiles to.
struct Candidate {
  Implementation implementation;
  std::vector<ScheduleRequirement> requirements;
  /// What the cost model sees; a feature that is missing counts as unknown. Times and counts are logarithms.
  std::map<std::string, double> features;
  double estimate = 0;  ///< seconds, analytic
};

/// Why a point is not worth compiling, or cannot be.
struct Pruned {
  std::string reason;
};

/// Thrown where a space is made, or a search's first points drawn, once its maker is told to stop.
struct Stopped {};

/// The implementations that a search chooses among. emit() is a pure function.
class Space {
 public:
  virtual ~Space() = default;
  virtual const std::vector<Sketch>& sketches() const = 0;
  virtual std::variant<Candidate, Pruned> emit(const Point& point) const = 0;
  /// A better estimate that takes longer: replaces the candidate's, which becomes infinite for one that is not worth
  /// compiling after all, and adds features. May be called from several threads.
  virtual void count(Candidate& /*candidate*/) const {}
  /// Good points that need no search: analytic rules and default placements, the most promising first.
  virtual std::vector<Point> defaults() const = 0;
};

std::string print(const Point& point, const std::vector<Sketch>& sketches);  ///< "tile(vectors=2,x=6)"

}  // namespace heddle::autoscheduler
