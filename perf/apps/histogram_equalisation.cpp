#include "perf/apps/app.hpp"

namespace heddle::perf {

AppPipeline make_histogram_equalisation(int width, int height) {
  using namespace Halide;
  Var x("x"), y("y"), c("c"), b("b");
  ImageParam input(UInt(8), 3, "input");

  // The algorithm.
  Func luma("luma"), histogram("histogram"), below("below"), spread("spread"), shift("shift"), out("out");
  const auto channel = [&](int i) { return cast<std::uint16_t>(input(x, y, i)); };
  luma(x, y) = cast<std::uint8_t>((77 * channel(0) + 150 * channel(1) + 29 * channel(2)) >> 8);
  RDom pixels(0, width, 0, height, "pixels");
  histogram(b) = cast<std::uint32_t>(0);
  histogram(cast<int>(luma(pixels.x, pixels.y))) += cast<std::uint32_t>(1);
  RDom bins(1, 255, "bins");
  below(b) = histogram(b);
  below(bins) += below(bins - 1);
  const auto count = static_cast<float>(width * height);
  spread(b) = cast<std::uint8_t>(cast<float>(below(b)) * (255.0f / count) + 0.5f);
  shift(x, y) = cast<std::int16_t>(spread(cast<int>(luma(x, y)))) - cast<std::int16_t>(luma(x, y));
  out(x, y, c) = saturating_cast<std::uint8_t>(cast<std::int16_t>(input(x, y, c)) + shift(x, y));

  const auto hand = [=](const Machine& machine, int threads) mutable {
    const int bytes = machine.lanes(1), words = machine.lanes(4);
    const int strip = (height + 4 * threads - 1) / (4 * threads);
    Var yo("yo"), yi("yi"), part("part");
    RVar ro("ro"), ri("ri");
    luma.compute_root().split(y, yo, yi, strip, TailStrategy::GuardWithIf).parallel(yo).vectorize(x, bytes);
    // Counting cannot be vectorised; each task counts on its own.
    Func partial = histogram.update().split(pixels.y, ro, ri, strip).rfactor(ro, part);
    partial.compute_root().vectorize(b, words).update().parallel(part);
    histogram.compute_root().vectorize(b, words).update().reorder(ro, b).vectorize(b, words).unroll(b, 2);
    below.compute_root();
    spread.compute_root().vectorize(b, words);
    out.bound(c, 0, 3).split(y, yo, yi, strip, TailStrategy::GuardWithIf).reorder(x, c, yi, yo);
    out.parallel(yo).vectorize(x, bytes);
    shift.compute_at(out, yi).vectorize(x, bytes);
  };
  return {{input}, {{width, height, 3}}, {luma, histogram, below, spread, shift, out}, {width, height, 3}, hand};
}

}  // namespace heddle::perf
