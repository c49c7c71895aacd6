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

double largest_finite(DType type);  ///< of f16 and bf16

/// Rounded to f16 or bf16. Numbers stay numbers: the -3.4e38 of a mask becomes the least there is instead of -inf,
/// since a softmax over nothing but that is no number.
Array narrowed(const Array& array, DType type);

}  // namespace heddle::graph
