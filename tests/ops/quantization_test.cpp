// Kernels of quantised models as they are composed, on what searches draw for them.
#include <catch2/catch.hpp>

#include "dsl/check.hpp"
#include "dsl/workload.hpp"
#include "ops/catalog.hpp"
#include "ops/rules.hpp"
#include "tests/support/inputs.hpp"
#include "tests/support/run.hpp"

namespace heddle {
namespace {

/// A convolution whose sums become bytes, are added to a residual and become bytes again.
Workload residual_block() {
  const Operators operators;
  Composition c;
  for (const auto& type : ops::types({"u8[1,32,6,7]", "i8[16,32,1,1]", "i32[16]", "f32[16,1,1]", "u8[]", "f32[]",
                                      "u8[1,16,6,7]", "f32[]", "f32[]"}))
    c.inputs.push_back({type});
  const auto node = [&](const char* op, std::vector<int> operands, const Json& attributes = Json::object()) {
    c.nodes.push_back({&operators.get(op), operators.get(op).canonical(attributes), std::move(operands)});
  };
  node("conv", {0, 1, 2});
  node("cast", {9}, {{"to", "f32"}});
  node("quantize", {10, 3, 4}, {{"inverse", true}});
  node("dequantize", {11, 5, 4});
  node("dequantize", {6, 7});
  node("add", {12, 13});
  node("quantize", {14, 8}, {{"inverse", true}});
  c.outputs = {15};
  return Workload(std::move(c));
}

TEST_CASE("a quantised residual block is checked by numbers that do not all saturate") {
  const Workload workload = residual_block();
  auto random = generator_for(testing::seed(), "residual block");
  const std::vector<Array> inputs = draw_inputs(workload, {}, Extremes::none, random);
  Pipeline pipeline = workload.instantiate();
  testing::schedule_plainly(pipeline, 1);
  const testing::Kernel kernel(workload, std::move(pipeline));
  std::vector<Array> outputs = kernel.run(inputs, {});
  const Expectation expected = workload.expect(inputs);
  CHECK(difference(workload, outputs, expected).empty());

  const Array& want = expected.outputs[0];
  std::int64_t inside = 0, at = -1;
  for (std::int64_t i = 0; i < want.size(); ++i)
    if (want.at(i) > 0 && want.at(i) < 200) ++inside, at = i;
  CHECK(inside > want.size() / 4);
  REQUIRE(at >= 0);
  // One step this way or that is what rounding may do, ten are not.
  const double right = outputs[0].at(at);
  outputs[0].set(at, right + 1);
  CHECK(difference(workload, outputs, expected).empty());
  outputs[0].set(at, right + 10);
  CHECK_FALSE(difference(workload, outputs, expected).empty());
}

TEST_CASE("quantisation says what does not fit") {
  const Operators operators;
  const auto message = [&](const char* op, std::initializer_list<std::string_view> types, const Json& attributes) {
    try {
      operators.get(op).infer(operators.get(op).canonical(attributes), ops::types(types));
    } catch (const Error& e) {
      CHECK(e.code() == ErrorCode::invalid_argument);
      return std::string(e.what());
    }
    return std::string();
  };
  const auto says = [](const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; };
  const Json none = Json::object();
  CHECK(message("quantize", {"f32[2,3]", "f32[3]", "u8[3]"}, none).empty());
  CHECK(says(message("quantize", {"f32[2,3]", "f32[]", "i8[]"}, none), "the zero point is i8"));
  CHECK(says(message("quantize", {"f32[2,3]", "f32[2,2,3]"}, none), "scale must broadcast to x"));
  CHECK(says(message("quantize", {"f32[1,3]", "f32[2,1]"}, none), "scale must broadcast to x"));
  CHECK(says(message("quantize", {"f32[2]", "f32[]"}, {{"to", "i32"}}), "8 or 16 bits"));
  CHECK(says(message("quantize", {"i32[2]", "f32[]"}, none), "x must be a float"));
  CHECK(says(message("dequantize", {"f32[2]", "f32[]"}, none), "x must be integers"));
  CHECK(says(message("dequantize", {"u8[2]", "i32[]"}, none), "the scale must be a float"));
  CHECK(says(message("conv", {"u8[1,2,3,3]", "i8[4,2,1,1]"}, {{"pad_value", 300}}), "pad_value 300"));
  CHECK(says(message("conv", {"f32[1,2,3,3]", "f32[4,2,1,1]"}, {{"pad_value", 1}}), "pad_value 1"));
}

}  // namespace
}  // namespace heddle
