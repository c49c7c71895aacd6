#include "perf/apps/app.hpp"

namespace heddle::perf {

AppPipeline make_non_local_means(int width, int height) {
  using namespace Halide;
  constexpr int patch = 2, window = 3;  // radii
  constexpr float strength = 0.12f;
  constexpr float falloff = -1.0f / (strength * strength * 3 * (2 * patch + 1) * (2 * patch + 1));
  Var x("x"), y("y"), c("c"), dx("dx"), dy("dy");
  ImageParam input(Float(32), 3, "input");

  // The algorithm.
  const Func picture = BoundaryConditions::repeat_edge(input, {{0, width}, {0, height}});
  Func unlike("unlike"), down("down"), weight("weight"), sum("sum"), out("out");
  Expr squares = 0.0f;
  for (int i = 0; i < 3; ++i) {
    const Expr difference = picture(x, y, i) - picture(x + dx, y + dy, i);
    squares += difference * difference;
  }
  unlike(x, y, dx, dy) = squares;
  Expr column = 0.0f, row = 0.0f;
  for (int i = -patch; i <= patch; ++i) column += unlike(x, y + i, dx, dy);
  down(x, y, dx, dy) = column;
  for (int i = -patch; i <= patch; ++i) row += down(x + i, y, dx, dy);
  weight(x, y, dx, dy) = fast_exp(row * falloff);
  // The fourth sum is that of the weights.
  RDom s(-window, 2 * window + 1, -window, 2 * window + 1, "s");
  sum(x, y, c) = 0.0f;
  sum(x, y, c) += weight(x, y, s.x, s.y) * select(c == 3, 1.0f, picture(x + s.x, y + s.y, min(c, 2)));
  out(x, y, c) = clamp(sum(x, y, c) / sum(x, y, 3), 0.0f, 1.0f);

  const auto hand = [=](const Machine& machine, int threads) mutable {
    const int lanes = machine.lanes(4);
    Var xo("xo"), yo("yo"), xi("xi"), yi("yi");
    const int rows = std::min(32, (height + 2 * threads - 1) / (2 * threads));
    out.bound(c, 0, 3).tile(x, y, xo, yo, xi, yi, std::min(8 * lanes, width / lanes * lanes), rows,
                            TailStrategy::ShiftInwards);
    out.reorder(xi, yi, c, xo, yo).parallel(yo).vectorize(xi, lanes);
    // One displacement at a time, over the whole tile: its patches' sums are shared by neighbours.
    sum.compute_at(out, xo).bound(c, 0, 4).vectorize(x, lanes);
    sum.update().reorder(c, x, y, s.x, s.y).unroll(c).vectorize(x, lanes);
    weight.compute_at(sum, x).vectorize(x, lanes);
    down.compute_at(sum, s.x).vectorize(x, lanes);
    unlike.compute_at(sum, s.x).vectorize(x, lanes);
    // Around its edges once, not for each displacement.
    Func around = picture;
    around.compute_at(out, xo).vectorize(picture.args()[0], lanes);
  };
  return {{input}, {{width, height, 3}}, {picture, unlike, down, weight, sum, out}, {width, height, 3}, hand};
}

}  // namespace heddle::perf
