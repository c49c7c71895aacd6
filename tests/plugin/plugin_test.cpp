// The plugin as Halide's users load it: by a program, and by a generator of its own.
#include <Halide.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>

#include "base/file.hpp"

namespace heddle {
namespace {

using Halide::Func;
using Halide::ImageParam;
using Halide::RDom;
using Halide::Var;

/// Blurs and sharpens, with a reduction that begins before 0.
struct Sharpen {
  ImageParam in{Halide::UInt(8), 2, "in"};
  Func bounded, columns{"columns"}, rows{"rows"}, sharp{"sharp"};
  Var x{"x"}, y{"y"};
  RDom r{-1, 3};

  explicit Sharpen(bool estimates = true) {
    bounded = Halide::BoundaryConditions::repeat_edge(in);
    columns(x, y) = Halide::cast<std::uint16_t>(0);
    columns(x, y) += Halide::cast<std::uint16_t>(bounded(x, y + r));
    rows(x, y) = columns(x - 1, y) + columns(x, y) + columns(x + 1, y);
    sharp(x, y) = Halide::saturating_cast<std::uint8_t>(2 * Halide::cast<std::int32_t>(bounded(x, y)) - rows(x, y) / 9);
    if (!estimates) return;
    in.set_estimates({{0, 64}, {0, 48}});
    sharp.set_estimates({{0, 64}, {0, 48}});
  }

  Halide::Buffer<std::uint8_t> result(int width, int height) {
    Halide::Buffer<std::uint8_t> pixels(width, height), got(width, height);
    pixels.for_each_element([&](int i, int j) { pixels(i, j) = static_cast<std::uint8_t>(i * i + 37 * j); });
    in.set(pixels);
    sharp.realize(got);
    return got;
  }
};

Halide::AutoSchedulerResults autoschedule(const Sharpen& pipeline, const std::map<std::string, std::string>& extra) {
  static const bool loaded = [] {
    Halide::load_plugin(HEDDLE_PLUGIN);
    return true;
  }();
  REQUIRE(loaded);
  return Halide::Pipeline(pipeline.sharp)
      .apply_autoscheduler(Halide::get_host_target(), Halide::AutoschedulerParams("Heddle", extra));
}

void check_result(Sharpen& scheduled, int width, int height) {
  Sharpen plain;
  plain.columns.compute_root();
  const auto got = scheduled.result(width, height), want = plain.result(width, height);
  for (int j = 0; j < height; ++j)
    for (int i = 0; i < width; ++i)
      if (got(i, j) != want(i, j)) FAIL(fmt::format("({}, {}): {} instead of {}", i, j, got(i, j), want(i, j)));
}

TEST_CASE("a program's Funcs are scheduled by estimate") {
  Sharpen pipeline;
  const auto results = autoschedule(pipeline, {{"threads", "1"}});
  CHECK_THAT(results.schedule_source, Catch::Contains("pipeline.get_func(") && Catch::Contains("by estimate"));
  check_result(pipeline, 64, 48);
  check_result(pipeline, 331, 207);  // what no tile divides
}

TEST_CASE("a program's Funcs are scheduled by measuring, and again by what was measured") {
  const TemporaryDirectory directory;
  const std::string records = "sqlite:" + (directory.path() / "t.db").string();
  Sharpen measured;
  const auto first =
      autoschedule(measured, {{"trials", "3"}, {"seed", "2"}, {"records", records}, {"parallelism", "1"}});
  CHECK_THAT(first.schedule_source, Catch::Contains("the best of 3 trials"));
  check_result(measured, 64, 48);

  Sharpen recalled;  // Halide numbers its Funcs anew
  const auto second = autoschedule(recalled, {{"records", records}, {"threads", "1"}});
  CHECK_THAT(second.schedule_source, Catch::Contains("record ") && Catch::Contains("this machine"));
  check_result(recalled, 64, 48);
}

TEST_CASE("what cannot be meant is an error of Halide's that says what to do") {
  const auto message = [](const Sharpen& pipeline, const std::map<std::string, std::string>& extra) {
    try {
      autoschedule(pipeline, extra);
    } catch (const Halide::CompileError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK_THAT(message(Sharpen(), {{"trails", "3"}}), Catch::Contains("'trials'"));
  CHECK_THAT(message(Sharpen(), {{"trials", "many"}}), Catch::Contains("trials=many"));
  CHECK_THAT(message(Sharpen(), {{"records", "sqlite:/nowhere/t.db"}}), Catch::Contains("/nowhere/t.db"));
  CHECK_THAT(message(Sharpen(false), {}), Catch::Contains("set_estimates"));
  Sharpen scheduled;
  scheduled.columns.compute_root();
  CHECK_THAT(message(scheduled, {}), Catch::Contains("columns") && Catch::Contains("schedule already"));
}

TEST_CASE("a generator takes the plugin with its parameters") {
  const TemporaryDirectory directory;
  const auto run = [&](const std::string& parameters) {
    return std::system(
        fmt::format("{} -g blur -o {} -e schedule,static_library,h -p {} target=host autoscheduler=Heddle "
                    "autoscheduler.threads=1 {} > {} 2>&1",
                    HEDDLE_BLUR_GENERATOR, directory.path().string(), HEDDLE_PLUGIN, parameters,
                    (directory.path() / "log").string())
            .c_str());
  };
  REQUIRE(run("") == 0);
  CHECK(std::filesystem::exists(directory.path() / "blur.a"));
  CHECK_THAT(read_file(directory.path() / "blur.schedule.h"),
             Catch::Contains("blur_y.update(0)") && Catch::Contains("// blur_y"));
  CHECK(run("autoscheduler.sede=1") != 0);
  CHECK_THAT(read_file(directory.path() / "log"), Catch::Contains("'seed'"));
}

}  // namespace
}  // namespace heddle
