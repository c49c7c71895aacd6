#pragma once
#include <vector>

namespace heddle {

/// Order statistics of a sample. Quantiles interpolate between neighbours. Both throw Error{invalid_argument} for an
/// empty sample.
double quantile(std::vector<double> sample, double q);
double median(std::vector<double> sample);

}  // namespace heddle
