#include <array>

#include <fmt/format.h>

#include "perf/apps/app.hpp"

namespace heddle::perf {
namespace {

using namespace Halide;

/// An element of a stage that differs from the one at hand in its column and row alone.
Expr element(const Func& f, const Expr& column, const Expr& row) {
  const std::vector<Var> arguments = f.args();
  std::vector<Expr> index(arguments.begin(), arguments.end());
  index[0] = column, index[1] = row;
  return f(index);
}

/// Half the size: taps 1 3 3 1 along both edges. The first of the two stages has half the width alone.
std::array<Func, 2> halved(const Func& f, const std::string& name) {
  const Var x = f.args()[0], y = f.args()[1];
  Func narrow(name + "_narrow"), half(name);
  const auto column = [&](int i) { return element(f, 2 * x + i, y); };
  narrow(f.args()) = (column(-1) + 3.0f * (column(0) + column(1)) + column(2)) / 8;
  const auto row = [&](int i) { return element(narrow, x, 2 * y + i); };
  half(f.args()) = (row(-1) + 3.0f * (row(0) + row(1)) + row(2)) / 8;
  return {narrow, half};
}

/// Twice the size: between the nearest two along both edges, three parts to one.
std::array<Func, 2> doubled(const Func& f, const std::string& name) {
  const Var x = f.args()[0], y = f.args()[1];
  Func wide(name + "_wide"), twice(name);
  const auto further = [](const Expr& at) { return at / 2 - 1 + 2 * (at % 2); };
  wide(f.args()) = 0.25f * element(f, further(x), y) + 0.75f * element(f, x / 2, y);
  twice(f.args()) = 0.25f * element(wide, x, further(y)) + 0.75f * element(wide, x, y / 2);
  return {wide, twice};
}

}  // namespace

AppPipeline make_local_laplacian(int width, int height) {
  constexpr int levels = 5, intensities = 8, fine = 256;  // fine: steps of the remapping table between two intensities
  constexpr float strength = 1.0f / (intensities - 1), contrast = 1.0f;
  Var x("x"), y("y"), c("c"), k("k"), i("i");
  ImageParam input(UInt(16), 3, "input");
  std::vector<Func> stages;
  const auto named = [&](const std::string& name) { return Func(name); };
  const auto keep = [&](const std::array<Func, 2>& two) {
    stages.insert(stages.end(), two.begin(), two.end());
    return two;
  };

  // The algorithm: the picture's grays are moved away from each of some intensities, and every copy made into a
  // Laplacian pyramid; each coefficient of the result comes from the copies whose intensities are next to its own.
  const Func picture = BoundaryConditions::repeat_edge(input, {{0, width}, {0, height}});
  Func remap = named("remap"), gray = named("gray");
  const Expr distance = cast<float>(i) / fine;
  remap(i) = strength * distance * exp(-distance * distance / 2.0f);
  const auto channel = [&](const Expr& at) { return cast<float>(picture(x, y, at)) / 65535.0f; };
  gray(x, y) = 0.299f * channel(0) + 0.587f * channel(1) + 0.114f * channel(2);
  stages = {picture, remap, gray};

  std::vector<Func> copies(levels), grays(levels), narrow_copies(levels), narrow_grays(levels);
  copies[0] = named("copy0");
  const Expr intensity = cast<float>(k) / (intensities - 1);
  const Expr step =
      clamp(cast<int>(gray(x, y) * static_cast<float>((intensities - 1) * fine)), 0, (intensities - 1) * fine);
  copies[0](x, y, k) = contrast * (gray(x, y) - intensity) + intensity + remap(step - fine * k);
  stages.push_back(copies[0]);
  grays[0] = gray;
  for (std::size_t level = 1; level < levels; ++level) {
    const auto copy = keep(halved(copies[level - 1], fmt::format("copy{}", level)));
    const auto plain = keep(halved(grays[level - 1], fmt::format("gray{}", level)));
    narrow_copies[level] = copy[0], copies[level] = copy[1];
    narrow_grays[level] = plain[0], grays[level] = plain[1];
  }

  std::vector<Func> results(levels), wide_results(levels), wide_copies(levels), bands(levels);
  for (std::size_t level = levels; level-- > 0;) {
    Func laplacian = copies[level];
    if (level + 1 < levels) {
      const auto coarse = keep(doubled(copies[level + 1], fmt::format("coarse{}", level)));
      wide_copies[level] = coarse[0];
      laplacian = named(fmt::format("laplacian{}", level));
      laplacian(x, y, k) = copies[level](x, y, k) - coarse[1](x, y, k);
      stages.push_back(laplacian);
    }
    const Expr position = grays[level](x, y) * static_cast<float>(intensities - 1);
    const Expr below = clamp(cast<int>(position), 0, intensities - 2);
    Func band = named(fmt::format("band{}", level));
    band(x, y) = lerp(laplacian(x, y, below), laplacian(x, y, below + 1), clamp(position - below, 0.0f, 1.0f));
    stages.push_back(band);
    bands[level] = band;
    results[level] = band;
    if (level + 1 == levels) continue;
    const auto coarse = keep(doubled(results[level + 1], fmt::format("base{}", level)));
    wide_results[level] = coarse[0];
    results[level] = named(fmt::format("result{}", level));
    results[level](x, y) = coarse[1](x, y) + band(x, y);
    stages.push_back(results[level]);
  }
  Func out = named("out");
  constexpr float least = 0.01f;  // keeps black from dividing by nothing
  const Expr brightness = results[0](x, y) * (channel(c) + least) / (gray(x, y) + least);
  out(x, y, c) = cast<std::uint16_t>(clamp(brightness, 0.0f, 1.0f) * 65535.0f + 0.5f);
  stages.push_back(out);

  const auto hand = [=](const Machine& machine, int threads) mutable {
    const int lanes = machine.lanes(4);
    const auto strip = [&](std::size_t level) {
      const int rows = height >> level;
      return std::max(1, std::min(32, (rows + threads - 1) / threads));
    };
    Var yo("yo"), yi("yi");
    remap.compute_root().vectorize(i, lanes);
    gray.compute_root().split(y, yo, yi, strip(0)).parallel(yo).vectorize(x, lanes);
    for (std::size_t level = 1; level < levels; ++level) {
      // Rows of all intensities together: the finest copies are made row by row and never stored whole.
      copies[level].compute_root().split(y, yo, yi, strip(level)).reorder(x, k, yi, yo).parallel(yo);
      copies[level].vectorize(x, lanes);
      narrow_copies[level].store_at(copies[level], yo).compute_at(copies[level], yi).reorder(x, k, y);
      narrow_copies[level].vectorize(x, lanes);
      grays[level].compute_root().split(y, yo, yi, strip(level)).parallel(yo).vectorize(x, lanes);
      narrow_grays[level].store_at(grays[level], yo).compute_at(grays[level], yi).vectorize(x, lanes);
    }
    // The finest result reads two of all the copies: computing those again costs less than keeping all.
    copies[0].in(narrow_copies[1]).compute_at(narrow_copies[1], k).vectorize(x, lanes);
    for (std::size_t level = 1; level < levels; ++level)
      results[level].compute_root().split(y, yo, yi, strip(level)).parallel(yo).vectorize(x, lanes);
    out.bound(c, 0, 3).split(y, yo, yi, strip(0)).reorder(x, c, yi, yo).parallel(yo).vectorize(x, lanes);
    results[0].compute_at(out, yi).vectorize(x, lanes);
  };
  return {{input}, {{width, height, 3}}, stages, {width, height, 3}, hand};
}

}  // namespace heddle::perf
