#include "ops/winograd.hpp"

#include <fmt/format.h>

namespace heddle::ops {

using Halide::Expr;

const Winograd& winograd(int tile) {
  static const Winograd two{2,
                            {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}},
                            {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}},
                            {{1, 1, 1, 0}, {0, 1, -1, -1}}};
  static const Winograd four{4,
                             {{4, 0, -5, 0, 1, 0},
                              {0, -4, -4, 1, 1, 0},
                              {0, 4, -4, -1, 1, 0},
                              {0, -2, -1, 2, 1, 0},
                              {0, 2, -1, -2, 1, 0},
                              {0, 4, 0, -5, 0, 1}},
                             {{1.0 / 4, 0, 0},
                              {-1.0 / 6, -1.0 / 6, -1.0 / 6},
                              {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                              {1.0 / 24, 1.0 / 12, 1.0 / 6},
                              {1.0 / 24, -1.0 / 12, 1.0 / 6},
                              {0, 0, 1}},
                             {{1, 1, 1, 1, 1, 0}, {0, 1, -1, 2, -2, 0}, {0, 1, 1, 4, 4, 0}, {0, 1, -1, 8, -8, 1}}};
  return tile == 2 ? two : four;
}

Expr combination(const std::vector<double>& row, const std::function<Expr(int)>& element) {
  Expr sum;
  for (std::size_t j = 0; j < row.size(); ++j) {
    if (row[j] == 0) continue;
    const Expr value = element(static_cast<int>(j));
    const auto factor = static_cast<float>(row[j]);
    if (!sum.defined()) sum = factor == 1 ? value : factor == -1 ? -value : value * factor;
    else if (factor == 1) sum += value;
    else if (factor == -1) sum -= value;
    else sum += value * factor;
  }
  return sum;
}

std::string winograd_name(int tile) { return fmt::format("winograd{}", tile); }

bool saves_operations(std::string_view variant) { return variant == winograd_name(2) || variant == winograd_name(4); }

OperandForm winograd_weights(int tile) {
  const Winograd& w = winograd(tile);
  const auto shape = [edge = w.edge()](const std::vector<Extent>& plain) {
    return std::vector<Extent>{plain[0], plain[1], edge, edge};
  };
  const auto compute = [&w](const Array& plain) {
    const auto edge = static_cast<std::size_t>(w.edge());
    const auto& g = w.weights;
    Array transformed(plain.dtype(), {plain.shape()[0], plain.shape()[1], w.edge(), w.edge()});
    std::vector<double> rows(edge * 3);
    for (std::int64_t filter = 0; filter < plain.shape()[0] * plain.shape()[1]; ++filter) {
      for (std::size_t a = 0; a < edge; ++a)
        for (std::size_t x = 0; x < 3; ++x) {
          rows[a * 3 + x] = 0;
          for (std::size_t y = 0; y < 3; ++y)
            rows[a * 3 + x] += g[a][y] * plain.at(filter * 9 + static_cast<std::int64_t>(y * 3 + x));
        }
      for (std::size_t a = 0; a < edge; ++a)
        for (std::size_t b = 0; b < edge; ++b) {
          double sum = 0;
          for (std::size_t x = 0; x < 3; ++x) sum += rows[a * 3 + x] * g[b][x];
          transformed.set(filter * static_cast<std::int64_t>(edge * edge) + static_cast<std::int64_t>(a * edge + b),
                          sum);
        }
    }
    return transformed;
  };
  return {winograd_name(tile), {"co", "ci", "ka", "kb"}, {"ci", "kb", "ka", "co"}, shape, compute};
}

}  // namespace heddle::ops
