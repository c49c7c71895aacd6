#include "perf/apps/app.hpp"

namespace heddle::perf {

AppPipeline make_bilateral_grid(int width, int height) {
  using namespace Halide;
  constexpr int cell = 8;          // pixels along an edge of the grid's cells
  constexpr float levels = 10.0f;  // of intensity
  Var x("x"), y("y"), z("z"), c("c");
  ImageParam input(Float(32), 2, "input");

  // The algorithm. Of each cell the sum of its pixels (c = 0) and how many there are (c = 1).
  const Func picture = BoundaryConditions::repeat_edge(input, {{0, width}, {0, height}});
  Func grid("grid"), blur_z("blur_z"), blur_x("blur_x"), blur_y("blur_y"), between("between"), out("out");
  RDom r(0, cell, 0, cell, "r");
  const Expr value = clamp(picture(x * cell + r.x - cell / 2, y * cell + r.y - cell / 2), 0.0f, 1.0f);
  grid(x, y, z, c) = 0.0f;
  grid(x, y, cast<int>(value * levels + 0.5f), c) += select(c == 0, value, 1.0f);
  const auto blurred = [](const std::function<Expr(int)>& at) {
    return at(-2) + at(2) + 4.0f * (at(-1) + at(1)) + 6.0f * at(0);
  };
  blur_z(x, y, z, c) = blurred([&](int i) { return grid(x, y, z + i, c); });
  blur_x(x, y, z, c) = blurred([&](int i) { return blur_z(x + i, y, z, c); });
  blur_y(x, y, z, c) = blurred([&](int i) { return blur_x(x, y + i, z, c); });
  // Each pixel reads the grid between its eight nearest cells.
  const Expr depth = clamp(input(x, y), 0.0f, 1.0f) * levels;
  const Expr zi = cast<int>(depth), zf = depth - zi;
  const Expr xf = cast<float>(x % cell) / cell, yf = cast<float>(y % cell) / cell;
  const auto plane = [&](const Expr& level) {
    const auto row = [&](const Expr& at) {
      return lerp(blur_y(x / cell, at, level, c), blur_y(x / cell + 1, at, level, c), xf);
    };
    return lerp(row(y / cell), row(y / cell + 1), yf);
  };
  between(x, y, c) = lerp(plane(zi), plane(zi + 1), zf);
  out(x, y) = between(x, y, 0) / between(x, y, 1);

  const auto hand = [=](const Machine& machine, int threads) mutable {
    const int lanes = machine.lanes(4);
    Var yo("yo"), yi("yi");
    // The grid is small; making it reads the whole picture, a row of cells a task.
    blur_z.compute_root().reorder(c, z, x, y).parallel(y).vectorize(x, lanes).unroll(c);
    grid.compute_at(blur_z, y).vectorize(x, lanes);
    grid.update().reorder(c, r.x, r.y, x, y).unroll(c);
    blur_x.compute_root().reorder(c, x, y, z).parallel(z).vectorize(x, lanes).unroll(c);
    blur_y.compute_root().reorder(c, x, y, z).parallel(z).vectorize(x, lanes).unroll(c);
    // Channels interleaved: both sums of a cell come with one gather.
    out.split(y, yo, yi, std::min(16, (height + threads - 1) / threads), TailStrategy::GuardWithIf);
    out.parallel(yo).vectorize(x, lanes);
  };
  return {{input}, {{width, height}}, {picture, grid, blur_z, blur_x, blur_y, between, out}, {width, height}, hand};
}

}  // namespace heddle::perf
