#include <bit>
#include <cmath>

#include <fmt/format.h>

#include "perf/apps/app.hpp"

namespace heddle::perf {

AppPipeline make_max_filter(int width, int height) {
  using namespace Halide;
  constexpr int radius = 12, doublings = 5;
  Var x("x"), y("y");
  ImageParam input(Float(32), 2, "input");

  // The algorithm: the disc is cut into columns. The maximum of a column is that of two shorter ones of 2^t pixels that
  // overlap, and those come from each other by doubling: columns[t] begin at y and have 2^t pixels.
  const Func picture = BoundaryConditions::repeat_edge(input, {{0, width}, {0, height}});
  std::vector<Func> stages = {picture}, columns = {picture};
  for (int t = 1; t < doublings; ++t) {
    Func column(fmt::format("column{}", 1 << t));
    column(x, y) = max(columns.back()(x, y), columns.back()(x, y + (1 << (t - 1))));
    columns.push_back(column);
    stages.push_back(column);
  }
  Func out("out");
  Expr largest;
  for (int dx = -radius; dx <= radius; ++dx) {
    // The disc's edge passes between pixels: with half a pixel more it looks round.
    const int reach = static_cast<int>(std::sqrt((radius + 0.5) * (radius + 0.5) - dx * dx));
    const auto t = static_cast<std::size_t>(std::bit_width(static_cast<unsigned>(2 * reach + 1)) - 1);
    const Func& column = columns[t];
    const Expr slice = max(column(x + dx, y - reach), column(x + dx, y + reach + 1 - (1 << t)));
    largest = largest.defined() ? max(largest, slice) : slice;
  }
  out(x, y) = largest;
  stages.push_back(out);

  const auto hand = [=](const Machine& machine, int threads) mutable {
    const int lanes = machine.lanes(4);
    Var xo("xo"), xi("xi"), yo("yo"), yi("yi");
    // The columns' maxima of a tile and its surroundings, four planes, stay in the second cache.
    const int rows = std::min(64, (height + threads - 1) / threads);
    out.tile(x, y, xo, yo, xi, yi, std::min(16 * lanes, width / lanes * lanes), rows, TailStrategy::ShiftInwards);
    out.parallel(yo).vectorize(xi, lanes);
    for (std::size_t t = 1; t < columns.size(); ++t) columns[t].compute_at(out, xo).vectorize(x, lanes);
  };
  return {{input}, {{width, height}}, stages, {width, height}, hand};
}

}  // namespace heddle::perf
