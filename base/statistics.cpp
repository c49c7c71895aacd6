#include "base/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.hpp"

namespace heddle {

double quantile(std::vector<double> sample, double q) {
  if (sample.empty()) throw Error(ErrorCode::invalid_argument, "an empty sample has no quantiles");
  std::sort(sample.begin(), sample.end());
  const double at = q * static_cast<double>(sample.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  if (below + 1 >= sample.size()) return sample.back();
  return std::lerp(sample[below], sample[below + 1], at - static_cast<double>(below));
}

double median(std::vector<double> sample) { return quantile(std::move(sample), 0.5); }

}  // namespace heddle
