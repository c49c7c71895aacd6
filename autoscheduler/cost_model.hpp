#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace heddle::autoscheduler {

/// Gradient-boosted trees over named features, from scratch each time they are trained: a few hundred rows at most.
/// Deterministic: one thread, a fixed seed.
class CostModel {
 public:
  CostModel();
  ~CostModel();
  CostModel(CostModel&&) noexcept;
  CostModel& operator=(CostModel&&) noexcept;

  /// Features and the time in seconds; failures are rows with an infinite time, which is taken as far above the worst.
  void train(const std::vector<std::map<std::string, double>>& features, const std::vector<double>& seconds);
  bool trained() const;
  /// Seconds, one a row. Features that training never saw are ignored, missing ones unknown.
  std::vector<double> predict(const std::vector<std::map<std::string, double>>& features) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace heddle::autoscheduler
