#include <catch2/catch.hpp>

#include "dsl/check.hpp"
#include "ops/catalog.hpp"

namespace heddle {
namespace {

/// clip(a b, max 6)
Workload clipped_product() {
  Composition c;
  c.inputs = {{TensorType::parse("f32[1,4]")}, {TensorType::parse("f32[4,2]")}};
  const Operators operators;
  const Operator &matmul = operators.get("matmul"), &clip = operators.get("clip");
  c.nodes = {{&matmul, matmul.canonical(Json::object()), {0, 1}}, {&clip, clip.canonical({{"max", 6.0}}), {2}}};
  c.outputs = {3};
  c.output_layouts = {{}};
  return Workload(std::move(c));
}

/// (a b) gate
Workload gated_product() {
  Composition c;
  c.inputs = {{TensorType::parse("f32[1,4]")}, {TensorType::parse("f32[4,2]")}, {TensorType::parse("f32[1,2]")}};
  const Operators operators;
  const Operator &matmul = operators.get("matmul"), &mul = operators.get("mul");
  c.nodes = {{&matmul, matmul.canonical(Json::object()), {0, 1}}, {&mul, mul.canonical(Json::object()), {3, 2}}};
  c.outputs = {4};
  c.output_layouts = {{}};
  return Workload(std::move(c));
}

TEST_CASE("a result is judged by what was clipped, not by what is left of it") {
  const Workload workload = clipped_product();
  Array a(DType::f32, {1, 4}), b(DType::f32, {4, 2});
  for (std::int64_t i = 0; i < 4; ++i) {
    a.set(i, 1000);
    b.set(2 * i, 1);                            // the first sum is 4000, clipped
    b.set(2 * i + 1, i % 2 == 0 ? 1 : -0.999);  // the second one cancels to 2
  }
  const Expectation expected = workload.expect(std::vector{a, b});
  REQUIRE(expected.outputs[0].at(0) == 6);
  CHECK(expected.largest[0] == 4000);
  // Rounded terms of 1000 leave the small sum off by about their own last place.
  Array got = expected.outputs[0];
  got.set(1, got.at(1) + 1e-3);
  CHECK(difference(workload, std::vector{got}, expected) == "");
  got.set(1, got.at(1) + 0.1);
  CHECK(difference(workload, std::vector{got}, expected) != "");
}

TEST_CASE("a product's error is its operand's times the other operand, however small the operand has become") {
  const Workload workload = gated_product();
  Array a(DType::f32, {1, 4}), b(DType::f32, {4, 2}), gate(DType::f32, {1, 2});
  for (std::int64_t i = 0; i < 4; ++i) {
    a.set(i, 1000);
    b.set(2 * i, 1);                            // the first sum is 4000, and its gate nearly closed
    b.set(2 * i + 1, i % 2 == 0 ? 1 : -0.999);  // the second one cancels to 2, and its gate is wide open
  }
  gate.set(0, 0.001);
  gate.set(1, 10);
  const Expectation expected = workload.expect(std::vector{a, b, gate});
  CHECK(expected.largest[0] == 40000);
  Array got = expected.outputs[0];
  got.set(1, got.at(1) + 1e-2);
  CHECK(difference(workload, std::vector{got}, expected) == "");
  got.set(1, got.at(1) + 1);
  CHECK(difference(workload, std::vector{got}, expected) != "");
}

}  // namespace
}  // namespace heddle
