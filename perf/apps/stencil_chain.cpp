#include <fmt/format.h>

#include "perf/apps/app.hpp"

namespace heddle::perf {

AppPipeline make_stencil_chain(int width, int height) {
  using namespace Halide;
  constexpr int length = 12;
  // Stages computed in one pass over the picture: more recompute more of their tiles' edges.
  constexpr int together = 4;
  Var x("x"), y("y");
  ImageParam input(Float(32), 2, "input");

  // The algorithm. No two taps are equal, so that no schedule can save any.
  const Func picture = BoundaryConditions::repeat_edge(input, {{0, width}, {0, height}});
  std::vector<Func> stages = {picture};
  for (int i = 0; i < length; ++i) {
    Func stage(i + 1 == length ? "out" : fmt::format("stencil{}", i));
    Expr sum = 0.0f;
    for (int dy = -1; dy <= 1; ++dy)
      for (int dx = -1; dx <= 1; ++dx)
        sum += (1.0f / 9 + 0.01f * static_cast<float>(dx) + 0.02f * static_cast<float>(dy)) *
               stages.back()(x + dx, y + dy);
    stage(x, y) = sum;
    stages.push_back(stage);
  }

  const auto hand = [=](const Machine& machine, int threads) mutable {
    const int lanes = machine.lanes(4);
    const int tile = std::min(64, (height + threads - 1) / threads);
    // Four rows at once: three of them read what the one above has loaded.
    for (int last = together; last <= length; last += together) {
      Func& end = stages[static_cast<std::size_t>(last)];
      Var xo("xo"), yo("yo"), xi("xi"), yi("yi");
      end.compute_root().tile(x, y, xo, yo, xi, yi, std::min(16 * lanes, width / lanes * lanes), tile,
                              TailStrategy::ShiftInwards);
      end.parallel(yo).vectorize(xi, lanes).unroll(yi, 4);
      for (int i = last - together + 1; i < last; ++i)
        stages[static_cast<std::size_t>(i)].compute_at(end, xo).vectorize(x, lanes).unroll(y, 4);
    }
  };
  return {{input}, {{width, height}}, stages, {width, height}, hand};
}

}  // namespace heddle::perf
