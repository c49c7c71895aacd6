#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <Halide.h>

#include "dsl/operator.hpp"

// Winograd's minimal filtering F(m x m, 3 x 3): m x m results of a 3 x 3 convolution from (m + 2) x (m + 2) products
// instead of 9 m^2. Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016:
//   Y = A^T [ (G g G^T) * (B^T d B) ] A
// with Cook-Toom's matrices for the points 0, 1, -1, infinity (m = 2), and 2, -2 besides (m = 4).
namespace heddle::ops {

struct Winograd {
  int tile;                                                 ///< m: results along an edge
  std::vector<std::vector<double>> input, weights, output;  ///< B^T, G and A^T, by rows

  int edge() const { return tile + 2; }  ///< elements that a tile reads along an edge
};

/// tile: 2 or 4.
const Winograd& winograd(int tile);

/// The sum of `element(j)` times a matrix row's j-th factor; zeros and ones cost nothing.
Halide::Expr combination(const std::vector<double>& row, const std::function<Halide::Expr(int)>& element);

/// G g G^T of weights [co, ci, ky, kx] as [co, ci, a, b], computed in double.
OperandForm winograd_weights(int tile);

/// "winograd4": the variant and the form of its weights.
std::string winograd_name(int tile);

/// Whether a variant needs fewer operations than its operator's flops() counts, so that its rate may pass the peak.
bool saves_operations(std::string_view variant);

}  // namespace heddle::ops
