#include <catch2/catch.hpp>

#include "dsl/check.hpp"
#include "ops/catalog.hpp"

namespace heddle {
namespace {

/// What an operator makes of a b, with an operand of its own if it takes one.
Workload product_then(const std::string& name, const Json& attributes, const std::vector<std::string>& operands = {}) {
  Composition c;
  c.inputs = {{TensorType::parse("f32[1,4]")}, {TensorType::parse("f32[4,2]")}};
  for (const auto& type : operands) c.inputs.push_back({TensorType::parse(type)});
  const int product = static_cast<int>(c.inputs.size());
  std::vector<int> in = {product};
  for (int i = 2; i < product; ++i) in.push_back(i);
  const Operators catalog;
  const Operator &matmul = catalog.get("matmul"), &op = catalog.get(name);
  c.nodes = {{&matmul, matmul.canonical(Json::object()), {0, 1}}, {&op, op.canonical(attributes), in}};
  c.outputs = {product + 1};
  c.output_layouts = {{}};
  return Workload(std::move(c));
}

/// a and b, whose first product is 4000 and whose second one cancels to 2.
std::vector<Array> factors() {
  Array a(DType::f32, {1, 4}), b(DType::f32, {4, 2});
  for (std::int64_t i = 0; i < 4; ++i) {
    a.set(i, 1000);
    b.set(2 * i, 1);
    b.set(2 * i + 1, i % 2 == 0 ? 1 : -0.999);
  }
  return {a, b};
}

TEST_CASE("a result is judged by what was clipped, not by what is left of it") {
  const Workload workload = product_then("clip", {{"max", 6.0}});
  const Expectation expected = workload.expect(factors());
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
  const Workload workload = product_then("mul", Json::object(), {"f32[1,2]"});
  Array gate(DType::f32, {1, 2});
  gate.set(0, 0.001);  // nearly closed for the large product
  gate.set(1, 10);     // and wide open for the small one
  std::vector<Array> inputs = factors();
  inputs.push_back(gate);
  const Expectation expected = workload.expect(inputs);
  CHECK(expected.largest[0] == 40000);
  Array got = expected.outputs[0];
  got.set(1, got.at(1) + 1e-2);
  CHECK(difference(workload, std::vector{got}, expected) == "");
  got.set(1, got.at(1) + 1);
  CHECK(difference(workload, std::vector{got}, expected) != "");
}

}  // namespace
}  // namespace heddle
