#include "ops/halide_pipeline.hpp"

#include <catch2/catch.hpp>

#include "base/file.hpp"
#include "dsl/check.hpp"
#include "ops/catalog.hpp"
#include "ops/workload_json.hpp"

namespace heddle {
namespace {

using Halide::Func;
using Halide::ImageParam;
using Halide::RDom;
using Halide::Var;

const Var x("x"), y("y");

/// Sums of neighbours, whose reduction begins before 0 and whose result begins at 3.
Func neighbours(const ImageParam& in, const std::string& name = "neighbours") {
  Func sum(name), out(name + "_result");
  const RDom r(-1, 3, -1, 3, "r");
  sum(x, y) = Halide::cast<std::int32_t>(0);
  sum(x, y) += Halide::cast<std::int32_t>(in(x + r.x, y + r.y));
  // The product is used twice, and the Func between has no name.
  const Func unnamed = Halide::lambda(x, y, sum(x, y) * 1);
  const Halide::Expr product = unnamed(x, y) * 3;
  out(x, y) = Halide::select(product > 100, product, product - 2 * unnamed(x, y)) - product + unnamed(x, y) + 1;
  out.set_estimates({{3, 8}, {0, 4}});
  return out;
}

ImageParam bytes() { return ImageParam(Halide::UInt(8), 2, "pixels"); }

Workload workload_of(const ops::ImportedPipeline& imported) {
  return Workload::of(Operators().get("halide_pipeline"), imported.attributes, imported.inputs);
}

TEST_CASE("a foreign pipeline becomes a workload whose text holds all of it") {
  const Workload w = workload_of(ops::import_pipeline(Halide::Pipeline(neighbours(bytes()))));
  CHECK(w.inputs()[0].role == "pixels");
  CHECK(w.value_types()[0].str() == "u8[6,10]");  // what the result asks for
  CHECK(w.output_types()[0].str() == "i32[4,8]");
  const Pipeline pipeline = w.instantiate();
  REQUIRE(pipeline.stages.size() == 3);
  CHECK(pipeline.stages[0].role == "neighbours");
  CHECK(pipeline.stages[1].role == "lambda");
  CHECK(pipeline.stages[2].role == "out");
  const Schedule s = Schedule::parse("neighbours.compute_at(out, y)\nneighbours.update(0).reorder(x, r_x, r_y)\n");
  CHECK_NOTHROW(w.instantiate({.schedule = s}));

  const Workload again = workload_from_json(workload_to_json(w), Operators());
  CHECK(again.text() == w.text());

  std::vector<std::uint8_t> pixels(60);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i * 37);
  const std::vector<Array> in = {Array::of<std::uint8_t>({6, 10}, pixels)};
  const Array got = again.reference(in)[0];
  for (int row = 0; row < 4; ++row)
    for (int column = 0; column < 8; ++column) {
      int sum = 0;
      for (int dy = 0; dy < 3; ++dy)
        for (int dx = 0; dx < 3; ++dx) sum += pixels[static_cast<std::size_t>((row + dy) * 10 + column + dx)];
      CHECK(got.at(row * 8 + column) == (sum * 3 > 100 ? sum : -sum) + 1);
    }
}

TEST_CASE("equal algorithms are equal texts, whatever else the process has made and scheduled") {
  const auto first = ops::import_pipeline(Halide::Pipeline(neighbours(bytes())));
  Func second = neighbours(bytes());  // Halide calls it neighbours$1, and its reduction otherwise
  second.vectorize(x, 4);
  CHECK(ops::import_pipeline(Halide::Pipeline(second)).attributes == first.attributes);
}

TEST_CASE("a pipeline comes back from Halide's file, with values for its parameters") {
  const ImageParam in(Halide::Float(32), 1, "in");
  const Halide::Param<float> gain("gain");
  Func out("amplified");
  out(x) = Halide::sqrt(in(x)) * gain;
  out.set_estimates({{0, 5}});
  const TemporaryDirectory directory;
  const auto file = directory.path() / "amplified.hlpipe";
  Halide::serialize_pipeline(Halide::Pipeline(out), file.string());

  CHECK_THROWS_WITH(ops::import_pipeline(file), Catch::Contains("gain") && Catch::Contains("--attribute"));
  const Workload w = workload_of(ops::import_pipeline(file, {{"gain", 3}}));
  const std::vector<Array> inputs = {Array::of<float>({5}, {0, 1, 4, 9, 16})};
  CHECK(w.reference(inputs)[0] == Array::of<float>({5}, {0, 3, 6, 9, 12}));

  write_file(file, "no pipeline at all");
  CHECK_THROWS_WITH(ops::import_pipeline(file), Catch::Contains("serialize_pipeline"));
}

TEST_CASE("what Heddle has no words for is refused by name") {
  const ImageParam in(Halide::Float(32), 1, "in");
  Func f("f"), g("g");
  f(x) = in(x);
  CHECK_THROWS_WITH(ops::import_pipeline(Halide::Pipeline(f)), Catch::Contains("estimate"));
  f.set_estimates({{0, 16}});
  g(x) = in(x);
  CHECK_THROWS_WITH(ops::import_pipeline(Halide::Pipeline({f, g})), Catch::Contains("2 outputs"));
  Func pair("pair");
  pair(x) = Halide::Tuple(in(x), in(x));
  CHECK_THROWS_WITH(ops::import_pipeline(Halide::Pipeline(pair)), Catch::Contains("Tuple"));
  Func outside("outside");
  outside.define_extern("some_code", {in}, Halide::Float(32), 1);
  CHECK_THROWS_WITH(ops::import_pipeline(Halide::Pipeline(outside)), Catch::Contains("define_extern"));

  ImageParam small(Halide::Float(32), 1, "small");
  small.set_estimates({{0, 16}});
  Func beyond("beyond");
  beyond(x) = small(x + 1);
  beyond.set_estimates({{0, 16}});
  CHECK_THROWS_WITH(ops::import_pipeline(Halide::Pipeline(beyond)),
                    Catch::Contains("'small'") && Catch::Contains("[1, 17)"));
}

TEST_CASE("a damaged attribute is noticed before Halide reads it") {
  auto imported = ops::import_pipeline(Halide::Pipeline(neighbours(bytes())));
  std::string text = imported.attributes["pipeline"];
  text[100] = text[100] == 'A' ? 'B' : 'A';
  imported.attributes["pipeline"] = text;
  CHECK_THROWS_WITH(workload_of(imported), Catch::Contains("damaged"));
}

}  // namespace
}  // namespace heddle
