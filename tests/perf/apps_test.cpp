#include <catch2/catch.hpp>

#include <random>

#include "dsl/check.hpp"
#include "perf/apps/app.hpp"
#include "targets/target.hpp"

namespace heddle::perf {
namespace {

Halide::Buffer<> random_input(const AppPipeline& pipeline, std::size_t input, const ValueDomain& domain) {
  Halide::Buffer<> buffer(pipeline.inputs[input].type(), pipeline.input_shapes[input]);
  std::mt19937_64 random = generator_for(1, "app", input);
  std::uniform_real_distribution<double> uniform(domain.low, domain.high);
  const auto fill = [&]<class T>(T) {
    buffer.as<T>().for_each_value([&](T& value) { value = static_cast<T>(uniform(random)); });
  };
  const Halide::Type type = buffer.type();
  if (type == Halide::Float(32)) fill(float{});
  else if (type == Halide::UInt(8)) fill(std::uint8_t{});
  else if (type == Halide::UInt(16)) fill(std::uint16_t{});
  else FAIL("an input of a type that no app had before");
  return buffer;
}

Array run(const App& app, int width, int height, const std::function<void(AppPipeline&)>& schedule) {
  AppPipeline pipeline = app.instantiate(width, height);
  for (std::size_t i = 0; i < pipeline.inputs.size(); ++i)
    pipeline.inputs[i].set(random_input(pipeline, i, app.domain));
  schedule(pipeline);
  const Halide::Buffer<> out = pipeline.output().realize(pipeline.shape);
  Array result(DType::f64, {static_cast<std::int64_t>(out.number_of_elements())});
  std::int64_t next = 0;
  const auto copy = [&]<class T>(T) {
    out.as<const T>().for_each_value([&](const T& value) { result.set(next++, static_cast<double>(value)); });
  };
  if (out.type() == Halide::Float(32)) copy(float{});
  else if (out.type() == Halide::UInt(8)) copy(std::uint8_t{});
  else if (out.type() == Halide::UInt(16)) copy(std::uint16_t{});
  else FAIL("an output of a type that no app had before");
  return result;
}

TEST_CASE("every app's schedule by hand computes what its plain form does") {
  const Machine machine = host_target().machine;
  for (const App& app : apps()) {
    INFO(app.name);
    const Array plain =
        run(app, app.small_width, app.small_height, [](AppPipeline& pipeline) { pipeline.schedule_plainly(); });
    for (const int threads : {1, 2}) {
      const Array scheduled =
          run(app, app.small_width, app.small_height, [&](AppPipeline& pipeline) { pipeline.hand(machine, threads); });
      CHECK(mismatch(scheduled, plain, app.tolerance) == "");
    }
    // A result that is the same everywhere would agree with anything.
    double least = plain.at(0), most = plain.at(0);
    for (std::int64_t i = 0; i < plain.size(); ++i) {
      least = std::min(least, plain.at(i));
      most = std::max(most, plain.at(i));
    }
    CHECK(least < most);
  }
}

}  // namespace
}  // namespace heddle::perf
