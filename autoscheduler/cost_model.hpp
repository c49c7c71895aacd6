#pragma once
#include <memory>
#include <vector>

namespace heddle::autoscheduler {

/// What is known of a point before it is tried.
struct CostRow {
  std::vector<float> features;  ///< by column; NaN: unknown. A row that is shorter than others lacks the last columns
  double estimate = 0;          ///< seconds, analytic
};

/// Gradient-boosted trees over features, beside a power of the analytic estimate. The power tells apart what trees
/// cannot, points unlike all that were tried; the trees correct what the estimate does not see. Learned from scratch
/// each time: a few hundred rows at most, in milliseconds. Deterministic: one thread, no sampling.
class CostModel {
 public:
  CostModel();
  ~CostModel();
  CostModel(CostModel&&) noexcept;
  CostModel& operator=(CostModel&&) noexcept;

  /// `seconds`: one a row; infinite for a failure, which is taken as slower than all that worked. Untrained without at
  /// least two rows that worked.
  void train(const std::vector<CostRow>& rows, const std::vector<double>& seconds);
  bool trained() const;
  /// Seconds, one a row. Columns that training never saw are ignored. Throws Error{internal} if untrained.
  std::vector<double> predict(const std::vector<CostRow>& rows) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace heddle::autoscheduler
