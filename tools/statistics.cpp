#include "tools/statistics.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::tools {

Interval median_interval(std::vector<double> sample, double confidence) {
  if (sample.empty()) throw Error(ErrorCode::invalid_argument, "an empty sample has no median");
  std::sort(sample.begin(), sample.end());
  const std::size_t n = sample.size();
  // P(X_(k+1) <= median <= X_(n-k)) = 1 - 2 P(Binomial(n, 1/2) <= k): the largest k that keeps the confidence.
  double cumulative = 0;
  std::size_t k = 0;
  for (std::size_t i = 0; 2 * i < n; ++i) {
    const auto di = static_cast<double>(i), dn = static_cast<double>(n);
    cumulative += std::exp(std::lgamma(dn + 1) - std::lgamma(di + 1) - std::lgamma(dn - di + 1) - dn * std::log(2.0));
    if (2 * cumulative > 1 - confidence) break;
    k = i + 1;
  }
  const std::size_t low = std::min(k, (n - 1) / 2);
  return {sample[low], sample[n - 1 - low]};
}

Comparison compare_paired(const std::vector<double>& first, const std::vector<double>& second, double smallest) {
  const std::size_t n = first.size();
  if (n != second.size() || n < 10)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("a comparison needs at least 10 pairs of times, not {} and {}", n, second.size()));
  // Short kernels have been timed many thousand times. What follows takes the square of their number, and more than so
  // many say nothing new: each is then the median of a run of neighbours.
  constexpr std::size_t most = 1000;
  const std::size_t count = std::min(n, most);
  std::vector<double> logs;
  for (std::size_t run = 0; run < count; ++run) {
    std::vector<double> neighbours;
    for (std::size_t i = run * n / count; i < (run + 1) * n / count; ++i)
      neighbours.push_back(std::log(second[i] / first[i]));
    logs.push_back(median(std::move(neighbours)));
  }
  std::vector<double> walsh;  // averages of all pairs, each with itself included
  walsh.reserve(count * (count + 1) / 2);
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t j = i; j < count; ++j) walsh.push_back((logs[i] + logs[j]) / 2);
  std::sort(walsh.begin(), walsh.end());

  constexpr double z = 2.5758293;  // 99 %, two-sided
  const auto dn = static_cast<double>(count);
  const double expected = dn * (dn + 1) / 4;
  const double deviation = std::sqrt(dn * (dn + 1) * (2 * dn + 1) / 24);
  const auto cut = static_cast<std::size_t>(std::max(0.0, std::floor(expected - z * deviation)));
  Comparison c;
  c.ratio = std::exp(median(walsh));
  c.interval = {std::exp(walsh[cut]), std::exp(walsh[walsh.size() - 1 - cut])};
  if (c.interval.low > 1 && c.ratio > 1 + smallest) c.verdict = Verdict::first_is_faster;
  if (c.interval.high < 1 && c.ratio < 1 / (1 + smallest)) c.verdict = Verdict::second_is_faster;
  return c;
}

}  // namespace heddle::tools
