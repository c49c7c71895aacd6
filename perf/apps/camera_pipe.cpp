#include <array>

#include "perf/apps/app.hpp"

namespace heddle::perf {
namespace {

using namespace Halide;

/// A sensor reads what lies around the picture too, so that no step has to ask for its edges: as far as they look.
constexpr int margin = 6;

/// Of a sensor's ten bits. Without the limit sums of 16 bits could overflow, and what Halide makes of that depends on
/// the schedule.
constexpr int brightest = 1023;

Expr mean(const Expr& a, const Expr& b) { return (a + b + 1) >> 1; }

}  // namespace

AppPipeline make_camera_pipe(int width, int height) {
  Var x("x"), y("y"), c("c"), v("v");
  ImageParam input(UInt(16), 2, "input");

  // The algorithm. A pixel that outshines all its neighbours of the same colour is broken.
  Func clean("clean");
  const auto raw = [&](int dx, int dy) {
    return cast<std::int16_t>(min(input(x + margin + dx, y + margin + dy), cast<std::uint16_t>(brightest)));
  };
  clean(x, y) = min(raw(0, 0), max(max(raw(-2, 0), raw(2, 0)), max(raw(0, -2), raw(0, 2))));

  // Pixels come in squares: green and red above, blue and green below.
  Func g0("g0"), r("r"), b("b"), g1("g1");
  g0(x, y) = clean(2 * x, 2 * y);
  r(x, y) = clean(2 * x + 1, 2 * y);
  b(x, y) = clean(2 * x, 2 * y + 1);
  g1(x, y) = clean(2 * x + 1, 2 * y + 1);

  // Green where red and blue lie: along the direction in which it changes less.
  Func g_r("g_r"), g_b("g_b");
  const auto directed = [](const Expr& left, const Expr& right, const Expr& up, const Expr& down) {
    return select(absd(left, right) < absd(up, down), mean(left, right), mean(up, down));
  };
  g_r(x, y) = directed(g0(x, y), g0(x + 1, y), g1(x, y - 1), g1(x, y));
  g_b(x, y) = directed(g1(x - 1, y), g1(x, y), g0(x, y), g0(x, y + 1));
  // Red and blue elsewhere: their differences from green vary slowly.
  Func red("red"), blue("blue");
  red(x, y) = r(x, y) - g_r(x, y);
  blue(x, y) = b(x, y) - g_b(x, y);
  const std::array<std::array<Expr, 3>, 4> square = {{
      {g0(x, y) + mean(red(x - 1, y), red(x, y)), g0(x, y), g0(x, y) + mean(blue(x, y - 1), blue(x, y))},
      {r(x, y), g_r(x, y),
       g_r(x, y) + mean(mean(blue(x, y - 1), blue(x + 1, y)), mean(blue(x + 1, y - 1), blue(x, y)))},
      {g_b(x, y) + mean(mean(red(x - 1, y), red(x, y + 1)), mean(red(x, y), red(x - 1, y + 1))), g_b(x, y), b(x, y)},
      {g1(x, y) + mean(red(x, y), red(x, y + 1)), g1(x, y), g1(x, y) + mean(blue(x, y), blue(x + 1, y))},
  }};
  const std::array<const char*, 3> colours = {"r", "g", "b"};
  std::array<std::array<Func, 3>, 4> sites;
  std::vector<Func> stages = {clean, g0, r, b, g1, g_r, g_b, red, blue};
  for (std::size_t site = 0; site < 4; ++site)
    for (std::size_t colour = 0; colour < 3; ++colour) {
      sites[site][colour] = Func(std::string(colours[colour]) + "_site" + std::to_string(site));
      sites[site][colour](x, y) = square[site][colour];
      stages.push_back(sites[site][colour]);
    }
  Func mosaic("mosaic"), balanced("balanced"), curve("curve"), toned("toned"), blur_y("blur_y"), out("out");
  const auto at = [&](std::size_t site) {
    return mux(c, {sites[site][0](x / 2, y / 2), sites[site][1](x / 2, y / 2), sites[site][2](x / 2, y / 2)});
  };
  mosaic(x, y, c) = select(y % 2 == 0, select(x % 2 == 0, at(0), at(1)), select(x % 2 == 0, at(2), at(3)));

  // The sensor's colours to the screen's, in 256ths.
  const auto sensor = [&](int i) { return cast<std::int32_t>(mosaic(x, y, i)); };
  const auto mixed = [&](int of_r, int of_g, int of_b) {
    return cast<std::int16_t>((of_r * sensor(0) + of_g * sensor(1) + of_b * sensor(2)) >> 8);
  };
  balanced(x, y, c) = mux(c, {mixed(420, -130, -34), mixed(-60, 370, -54), mixed(-18, -160, 434)});

  const Expr light = cast<float>(v) / 1023.0f;
  curve(v) = cast<std::uint8_t>(clamp(pow(light, 1 / 2.2f) * 300.0f - 22.0f, 0.0f, 255.0f) + 0.5f);
  toned(x, y, c) = curve(clamp(cast<int>(balanced(x, y, c)), 0, 1023));

  const auto tone = [&](int dy) { return cast<std::int16_t>(toned(x, y + dy, c)); };
  blur_y(x, y, c) = tone(-1) + 2 * tone(0) + tone(1);
  const Expr blurred = (blur_y(x - 1, y, c) + 2 * blur_y(x, y, c) + blur_y(x + 1, y, c) + 8) >> 4;
  const Expr pixel = cast<std::int16_t>(toned(x, y, c));
  out(x, y, c) = saturating_cast<std::uint8_t>(pixel + ((pixel - blurred) >> 1));
  stages.insert(stages.end(), {mosaic, balanced, curve, toned, blur_y, out});

  const auto hand = [=](const Machine& machine, int threads) mutable {
    const int words = machine.lanes(2);
    Var xo("xo"), yo("yo"), xi("xi"), yi("yi");
    const int rows = std::min(32, (height + threads - 1) / threads);
    // A tile with everything before it stays in the second cache.
    out.bound(c, 0, 3).tile(x, y, xo, yo, xi, yi, std::min(8 * words, width / (2 * words) * 2 * words), rows,
                            TailStrategy::ShiftInwards);
    out.reorder(xi, yi, c, xo, yo).parallel(yo).vectorize(xi, 2 * words);
    curve.compute_root().vectorize(v, machine.lanes(4));
    clean.compute_at(out, xo).vectorize(x, words);
    for (Func* plane : {&g0, &r, &b, &g1, &g_r, &g_b, &red, &blue}) plane->compute_at(out, xo).vectorize(x, words);
    // Squares together: which of their pixels is meant is known in the code, not asked.
    mosaic.compute_at(out, xo).align_bounds(x, 2).align_bounds(y, 2).bound(c, 0, 3);
    mosaic.reorder(c, x, y).unroll(c).unroll(y, 2).vectorize(x, 2 * words);
    toned.compute_at(out, xo).bound(c, 0, 3).split(x, xo, xi, words).reorder(xi, c, xo, y).unroll(c).vectorize(xi);
    balanced.compute_at(toned, xo).reorder(x, c, y).vectorize(x, words).unroll(c);
    blur_y.compute_at(out, xo).vectorize(x, words);
  };
  return {{input}, {{width + 2 * margin, height + 2 * margin}}, stages, {width, height, 3}, hand};
}

}  // namespace heddle::perf
