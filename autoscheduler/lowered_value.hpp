#pragma once
#include <algorithm>
#include <cstddef>
#include <optional>
#include <vector>

namespace heddle::autoscheduler {

/// What is known of a value without running the kernel.
struct Value {
  int depth = 0;               ///< the innermost loop that it depends on, counted from outside; 0: none
  std::optional<double> mid;   ///< of an integer, in the middle of all loops
  double excess = 0;           ///< of an integer's mean over all iterations over `mid`, where conditions choose it
  std::vector<double> steps;   ///< of an integer, from one iteration of each loop to the next
  std::optional<double> odds;  ///< of a condition
  bool from_memory = false;    ///< depends on what is loaded
  bool loaded = false;         ///< is what is loaded
  bool product = false;        ///< an addition to it is free
  bool in_register = false;    ///< a vector that takes a register while it is needed
  bool spilled = false;        ///< it had to make room
  double last_use = 0;         ///< vectors that had been made by then
};

inline double mean(const Value& v) { return *v.mid + v.excess; }
inline double step_of(const Value& v, std::size_t loop) { return loop < v.steps.size() ? v.steps[loop] : 0; }

inline void sum(Value& v, const Value& a, const Value& b, double sign) {
  v.mid = *a.mid + sign * *b.mid;
  v.excess = a.excess + sign * b.excess;
  v.steps.resize(std::max(a.steps.size(), b.steps.size()));
  for (std::size_t i = 0; i < v.steps.size(); ++i) v.steps[i] = step_of(a, i) + sign * step_of(b, i);
}
inline void scale(Value& v, const Value& of, double factor) {
  v.mid = *of.mid * factor;
  v.excess = of.excess * factor;
  v.steps = of.steps;
  for (double& s : v.steps) s *= factor;
}
inline void copy(Value& v, const Value& of) {
  v.mid = of.mid;
  v.excess = of.excess;
  v.steps = of.steps;
}

inline void lesser(Value& v, const Value& a, const Value& b) {
  copy(v, *a.mid <= *b.mid ? a : b);
  v.excess = std::min(mean(a), mean(b)) - *v.mid;
}
inline void greater(Value& v, const Value& a, const Value& b) {
  copy(v, *a.mid >= *b.mid ? a : b);
  v.excess = std::max(mean(a), mean(b)) - *v.mid;
}
/// By a condition that is true with the given odds.
inline void either(Value& v, const Value& yes, const Value& no, double odds) {
  copy(v, odds >= 0.5 ? yes : no);
  if (yes.mid && no.mid) v.excess = odds * mean(yes) + (1 - odds) * mean(no) - *v.mid;
}

/// Of whole numbers spread evenly over [-range, range], the share below `limit`.
inline double below(double limit, double range) { return std::clamp((range + limit) / (2 * range + 1), 0.0, 1.0); }

}  // namespace heddle::autoscheduler
