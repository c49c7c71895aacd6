#include <array>
#include <cmath>

#include "perf/apps/app.hpp"

namespace heddle::perf {
namespace {

constexpr int radius = 3;
constexpr double sigma = 1.5;

/// A Gaussian's taps from the middle outwards, with the sum 1 over both sides.
std::array<float, radius + 1> gaussian() {
  std::array<double, radius + 1> taps{};
  double sum = 0;
  for (int i = 0; i <= radius; ++i) {
    const double tap = std::exp(-i * i / (2 * sigma * sigma));
    taps[static_cast<std::size_t>(i)] = tap;
    sum += i == 0 ? tap : 2 * tap;
  }
  std::array<float, radius + 1> scaled{};
  for (std::size_t i = 0; i < taps.size(); ++i) scaled[i] = static_cast<float>(taps[i] / sum);
  return scaled;
}

}  // namespace

AppPipeline make_unsharp_mask(int width, int height) {
  using namespace Halide;
  Var x("x"), y("y"), c("c");
  ImageParam input(Float(32), 3, "input");
  const auto taps = gaussian();

  // The algorithm.
  const Func picture = BoundaryConditions::repeat_edge(input, {{0, width}, {0, height}});
  Func gray("gray"), blur_y("blur_y"), blur_x("blur_x"), ratio("ratio"), out("out");
  gray(x, y) = 0.299f * picture(x, y, 0) + 0.587f * picture(x, y, 1) + 0.114f * picture(x, y, 2);
  Expr down = taps[0] * gray(x, y);
  for (int i = 1; i <= radius; ++i) down += taps[static_cast<std::size_t>(i)] * (gray(x, y - i) + gray(x, y + i));
  blur_y(x, y) = down;
  Expr across = taps[0] * blur_y(x, y);
  for (int i = 1; i <= radius; ++i) across += taps[static_cast<std::size_t>(i)] * (blur_y(x - i, y) + blur_y(x + i, y));
  blur_x(x, y) = across;
  ratio(x, y) = (2.0f * gray(x, y) - blur_x(x, y)) / gray(x, y);
  out(x, y, c) = ratio(x, y) * picture(x, y, c);

  const auto hand = [=](const Machine& machine, int threads) mutable {
    const int lanes = machine.lanes(4);
    Var yo("yo"), yi("yi");
    const int strip = std::min(64, (height + 4 * threads - 1) / (4 * threads));
    out.split(y, yo, yi, strip, TailStrategy::GuardWithIf).reorder(x, c, yi, yo).parallel(yo).vectorize(x, lanes);
    out.bound(c, 0, 3).unroll(c);
    for (Func* stage : {&gray, &blur_y, &ratio}) stage->compute_at(out, yi).store_at(out, yo).vectorize(x, lanes);
  };
  return {{input}, {{width, height, 3}}, {picture, gray, blur_y, blur_x, ratio, out}, {width, height, 3}, hand};
}

}  // namespace heddle::perf
