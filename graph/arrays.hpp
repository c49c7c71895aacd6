#pragma once
#include <vector>

#include "base/array.hpp"

// Rearranging large constants: what a compiler does to hundreds of megabytes of weights has to run at memory speed,
// which the operators' references do not.
namespace heddle::graph {

/// `element` (one value) repeated over a shape.
Array filled(const Array& element, const Shape& shape);

/// Dimension i of the result is dimension permutation[i] of `array`.
Array transposed(const Array& array, const std::vector<int>& permutation);

/// Elements as doubles, and back in `type`'s rounding.
std::vector<double> to_doubles(const Array& array);
Array from_doubles(DType type, Shape shape, const std::vector<double>& values);

}  // namespace heddle::graph
