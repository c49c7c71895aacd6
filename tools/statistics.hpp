#pragma once
#include <string>
#include <vector>

#include "base/statistics.hpp"

namespace heddle::tools {

struct Interval {
  double low = 0, high = 0;
};

/// Distribution-free confidence interval of the median from the binomial distribution of ranks.
Interval median_interval(std::vector<double> sample, double confidence = 0.95);

enum class Verdict { no_difference, first_is_faster, second_is_faster };

/// Two implementations timed in turns: element i of both was measured one after the other, so that what drifts (clock,
/// temperature, neighbours) hits both alike.
struct Comparison {
  double ratio = 1;   ///< time of the second over the first: Hodges-Lehmann estimate over the paired log ratios
  Interval interval;  ///< of the ratio, by inverting Wilcoxon's signed-rank test
  Verdict verdict = Verdict::no_difference;
};

/// A difference is named only if the 99 % interval excludes 1 and the ratio is beyond `smallest`, below which code
/// placement and caches decide. Of thousands of pairs, medians of neighbours stand for them. Needs at least 10 pairs;
/// throws Error{invalid_argument} otherwise.
Comparison compare_paired(const std::vector<double>& first, const std::vector<double>& second, double smallest = 0.01);

}  // namespace heddle::tools
