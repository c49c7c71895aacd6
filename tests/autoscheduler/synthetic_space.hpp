#pragma once
#include <map>
#include <set>
#include <string>
#include <vector>

#include "autoscheduler/search.hpp"

namespace heddle::autoscheduler {

/// About 100,000 points in three sketches, with times that are known: a register tile whose best shape is 2 vectors by
/// 10 rows, categories that the estimate does not see, points pruned and points that crash.
class SyntheticSpace : public Space {
 public:
  explicit SyntheticSpace(bool all_pruned = false);
  const std::vector<Sketch>& sketches() const override { return sketches_; }
  std::variant<Candidate, Pruned> emit(const Point& point) const override;
  std::vector<Point> defaults() const override { return defaults_; }

  std::int64_t value(const Point& point, const std::string& knob) const;  ///< 0 if the sketch has no such knob
  double seconds(const Point& point) const;
  bool crashes(const Point& point) const;
  double optimum() const { return 1e-3; }  ///< seconds(), at its least over all points

 private:
  std::vector<Sketch> sketches_;
  std::vector<Point> defaults_;
  bool all_pruned_;
};

/// Knows the times by the implementation's text. Noise is a function of the text, so that the order of measuring says
/// nothing; the machine's speed changes with every measurement by `drift`.
class SyntheticMeasurer : public Measurer {
 public:
  explicit SyntheticMeasurer(const SyntheticSpace& space) : space_(space) {}
  std::vector<Measurement> measure(const std::vector<Implementation>& candidates, const Implementation* incumbent,
                                   const Done& done) override;
  std::vector<FreshTimes> remeasure(const Implementation& candidate, const Implementation& incumbent,
                                    int processes) override;

  double noise = 0.01;
  double drift = 0;                      ///< relative change of speed from one measurement to the next, up and down
  double jumps = 0;                      ///< relative error of each time, another one every time it is measured
  std::set<std::string> fails_fresh;     ///< texts that throw when they are measured again
  std::map<std::string, int> measured;   ///< how often, by text
  std::map<std::string, int> processes;  ///< fresh ones, by text
  int incumbents = 0;                    ///< measurements that had one

 private:
  double time(const Point& point, double at) const;
  double jump();
  const SyntheticSpace& space_;
  int now_ = 0, jumps_made_ = 0;
};

Implementation synthetic_implementation(const Point& point);
Point synthetic_point(const Implementation& implementation);

}  // namespace heddle::autoscheduler
