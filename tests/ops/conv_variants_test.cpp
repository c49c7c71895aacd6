// Forms of a convolution that store its weights otherwise, under the plainest schedule, against the double reference.
#include <fmt/format.h>

#include <catch2/catch.hpp>

#include "ops/catalog.hpp"
#include "ops/winograd.hpp"
#include "tests/support/inputs.hpp"
#include "tests/support/run.hpp"

namespace heddle {
namespace {

std::string check(const std::string& variant, const Json& attributes, const std::vector<std::string>& types,
                  const std::vector<Packing::Block>& blocks) {
  const Operators operators;
  std::vector<TensorType> inputs;
  for (const auto& type : types) inputs.push_back(TensorType::parse(type));
  const Workload workload = Workload::of(operators.get("conv"), attributes, inputs);
  const auto forms = workload.inputs()[1].forms;
  const bool has_form = std::ranges::find(forms, variant, &OperandForm::name) != forms.end();
  const std::vector<Packing> packings = {{"w", blocks, has_form ? variant : ""}};
  Pipeline pipeline = workload.instantiate(variant, packings);
  testing::schedule_plainly(pipeline);
  const testing::Kernel kernel(workload, std::move(pipeline), packings);
  auto random = testing::generator_for(testing::seed(), variant + types[0] + types[1], 0);
  const auto drawn = draw_inputs(workload, {}, testing::Extremes::none, random);
  return testing::compare(workload, drawn, kernel.run(drawn), {}, variant);
}

TEST_CASE("Winograd's convolution agrees with the reference at every extent modulo its tile") {
  const Json padded = {{"pads", {1, 1, 1, 1}}};
  for (const char* variant : {"winograd2", "winograd4"}) {
    for (const char* x : {"f32[1,3,1,1]", "f32[2,3,5,7]", "f32[1,3,8,4]", "f32[1,3,6,9]", "f32[1,3,3,10]"}) {
      INFO(variant << " of " << x << ", HEDDLE_SEED=" << testing::seed());
      CHECK(check(variant, padded, {x, "f32[5,3,3,3]", "f32[5]"}, {}) == "");
      CHECK(check(variant, padded, {x, "f32[5,3,3,3]"}, {{"co", 4}}) == "");
    }
    CHECK(check(variant, Json::object(), {"f32[1,4,7,6]", "f32[3,4,3,3]"}, {{"co", 8}}) == "");
    CHECK(check(variant, {{"pads", {2, 0, 1, 1}}}, {"f32[1,4,7,6]", "f32[3,4,3,3]"}, {}) == "");
  }
}

TEST_CASE("a convolution in groups agrees with the reference where weights are stored by group") {
  CHECK(check("grouped", {{"group", 3}, {"pads", {1, 1, 1, 1}}}, {"f32[2,6,5,7]", "f32[15,2,3,3]", "f32[15]"},
              {{"co", 4}}) == "");
  CHECK(check("grouped", {{"group", 4}}, {"f32[1,8,3,3]", "f32[36,2,1,1]"}, {{"co", 8}}) == "");
  CHECK(check("grouped", {{"group", 2}, {"strides", {2, 1}}, {"dilations", {1, 2}}}, {"f32[1,6,9,8]", "f32[4,3,2,2]"},
              {}) == "");
}

TEST_CASE("a depthwise convolution agrees with the reference where its padding is written in parts") {
  const Json padded = {{"group", 4}, {"pads", {1, 1, 1, 1}}};
  for (const char* x : {"f32[1,4,1,1]", "f32[2,4,5,7]", "f32[1,4,6,2]"})
    CHECK(check("edged", padded, {x, "f32[4,1,3,3]", "f32[4]"}, {{"co", 4}}) == "");
  CHECK(check("edged", {{"group", 3}}, {"f32[1,3,4,6]", "f32[3,1,3,2]"}, {}) == "");
  CHECK(check("edged", {{"group", 3}, {"strides", {2, 2}}, {"pads", {0, 2, 3, 1}}}, {"f32[1,3,7,8]", "f32[3,1,3,5]"},
              {}) == "");
  CHECK(check("edged", {{"group", 2}, {"pads", {1, 1}}}, {"f32[1,2,5]", "f32[2,1,3]"}, {}) == "");
  CHECK(check("edged", {{"group", 2}, {"pads", {1, 0, 2, 1, 1, 1}}}, {"f32[1,2,3,4,5]", "f32[2,1,3,2,3]"}, {}) == "");
}

TEST_CASE("variants are offered where they can be computed, and say what they need") {
  const Operators operators;
  const Operator& conv = operators.get("conv");
  const auto variants = [&](const Json& attributes, const std::vector<TensorType>& in) {
    return conv.variants(conv.canonical(attributes), in);
  };
  const auto has = [](const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  const std::vector<TensorType> dense = {TensorType::parse("f32[1,8,9,9]"), TensorType::parse("f32[8,8,3,3]")};
  CHECK(has(variants(Json::object(), dense), "winograd4"));
  CHECK_FALSE(has(variants({{"strides", {2, 2}}}, dense), "winograd4"));
  CHECK_FALSE(has(variants({{"dilations", {2, 2}}}, dense), "winograd4"));
  CHECK_FALSE(has(variants(Json::object(), dense), "grouped"));
  CHECK_FALSE(has(variants(Json::object(), dense), "edged"));
  CHECK_FALSE(has(variants({{"group", 8}}, {dense[0], TensorType::parse("f32[8,1,3,3]")}), "winograd4"));
  CHECK_FALSE(has(variants({{"group", 8}}, {dense[0], TensorType::parse("f32[8,1,3,3]")}), "grouped"));

  const Workload workload = Workload::of(conv, Json::object(), dense);
  CHECK_THROWS_WITH(workload.instantiate("winograd4"), Catch::Contains("pack w winograd4"));
  CHECK_THROWS_WITH(workload.instantiate("direct", {{"w", {}, "winograd5"}}),
                    Catch::Contains("no such form") && Catch::Contains("winograd4"));
  // Winograd's bound is its own; it is wider than that of plain sums.
  CHECK(workload.tolerance("winograd4").of_largest > workload.tolerance("winograd2").of_largest);
  CHECK(workload.tolerance("winograd2").of_largest > workload.tolerance().of_largest);
}

TEST_CASE("Winograd's matrices compute a correlation in one dimension exactly") {
  for (const int tile : {2, 4}) {
    const ops::Winograd& w = ops::winograd(tile);
    // y = A^T [(G g) * (B^T d)] for unit filters and unit data, in double.
    for (int tap = 0; tap < 3; ++tap)
      for (int at = 0; at < w.edge(); ++at)
        for (int i = 0; i < tile; ++i) {
          double y = 0;
          for (std::size_t k = 0; k < static_cast<std::size_t>(w.edge()); ++k)
            y += w.output[static_cast<std::size_t>(i)][k] * w.weights[k][static_cast<std::size_t>(tap)] *
                 w.input[k][static_cast<std::size_t>(at)];
          CHECK(y == Approx(at == i + tap ? 1 : 0).margin(1e-12));
        }
  }
}

}  // namespace
}  // namespace heddle
