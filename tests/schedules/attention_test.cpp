// The fused family where numbers and shapes are hard: logits that overflow without the maximum taken off, rows that see
// nothing, memory orders as projections write them, head sizes that no vector divides, every block size.
#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "ops/catalog.hpp"
#include "tests/schedules/family_support.hpp"
#include "tests/support/inputs.hpp"
#include "tests/support/run.hpp"

namespace heddle {
namespace {

Workload attention(std::initializer_list<const char*> types, int threads = 1) {
  static const Operators operators;
  std::vector<TensorType> inputs;
  for (const char* type : types) inputs.push_back(TensorType::parse(type));
  return Workload::of(operators.get("attention"), Json::object(), std::move(inputs), {}, threads);
}

std::vector<Array> draw(const Workload& w, double largest) {
  auto random = testing::generator_for(testing::seed(), "attention", 0);
  std::uniform_real_distribution<double> any(-largest, largest);
  std::vector<Array> arrays;
  for (const auto& input : w.composition().inputs) {
    Shape shape;
    for (const auto& extent : input.type.shape) shape.push_back(extent.value());
    Array array(input.type.dtype, shape);
    for (std::int64_t i = 0; i < array.size(); ++i) array.set(i, any(random));
    arrays.push_back(std::move(array));
  }
  return arrays;
}

void check(const Workload& w, const Machine& machine, const Json& knobs, const std::vector<Array>& inputs) {
  const Implementation implementation = family("attention_fused").make(w, machine, knobs);
  INFO(w.text() << "\n" << implementation.print());
  CHECK(testing::compare(w, inputs, testing::Kernel(w, implementation).run(inputs), {}) == "");
}

TEST_CASE("attention_fused: operands as projections write them, and heads no vector divides") {
  for (const Machine& machine : {Machine{}, wide()})
    for (const auto& types : {std::initializer_list<const char*>{"f32[1,3,20,16]{0,2,1,3}", "f32[1,3,37,16]{0,2,1,3}",
                                                                 "f32[1,3,37,24]{0,2,1,3}", "f32[1,1,20,37]{0,1,3,2}"},
                              std::initializer_list<const char*>{"f32[2,2,1,5]", "f32[2,2,33,5]{0,1,3,2}",
                                                                 "f32[2,2,33,3]", "f32[2,1,1,33]"},
                              std::initializer_list<const char*>{"f32[1,1,67,8]", "f32[1,1,1,8]", "f32[1,1,1,40]"}}) {
      const Workload w = attention(types, 2);
      REQUIRE(matches(family("attention_fused"), w, machine));
      check(w, machine, family("attention_fused").rule(w, machine), draw(w, 1));
    }
}

TEST_CASE("attention_fused: every candidate of the knobs, chunks that do not divide the keys among them") {
  const Workload w = attention({"f32[1,2,50,16]", "f32[1,1,150,16]", "f32[1,1,150,16]"});
  const auto inputs = draw(w, 1);
  const auto all = family("attention_fused").candidates(w, Machine{});
  CHECK(all.size() >= 6);
  for (std::size_t i = 0; i < all.size(); i += 2) check(w, Machine{}, all[i], inputs);
}

TEST_CASE("attention_fused: logits of hundreds neither overflow nor vanish") {
  const Workload w = attention({"f32[1,1,16,8]", "f32[1,1,31,8]", "f32[1,1,31,8]"});
  auto inputs = draw(w, 1);
  for (std::int64_t i = 0; i < inputs[0].size(); ++i) inputs[0].set(i, 200 * inputs[0].at(i));
  const Array got =
      testing::Kernel(w, family("attention_fused").make(w, Machine{}, family("attention_fused").rule(w, Machine{})))
          .run(inputs)[0];
  const Array want = w.reference(inputs)[0];
  // A logit of 500 is 2^-15 off, and its weight with it.
  for (std::int64_t i = 0; i < got.size(); ++i) CHECK(std::abs(got.at(i) - want.at(i)) < 1e-3);
}

TEST_CASE("attention_fused: rows that see nothing are zeros, rows masked by the lowest float are means") {
  const Workload w = attention({"f32[1,1,16,8]", "f32[1,1,9,8]", "f32[1,1,9,8]", "f32[16,9]"});
  auto inputs = draw(w, 1);
  Array& mask = inputs[3];
  for (std::int64_t i = 0; i < mask.size(); ++i) {
    const std::int64_t row = i / 9;
    mask.set(i, row == 3   ? -std::numeric_limits<double>::infinity()
                : row == 5 ? std::numeric_limits<float>::lowest()
                           : (i % 9 > row ? -std::numeric_limits<double>::infinity() : 0.0));
  }
  const Array got =
      testing::Kernel(w, family("attention_fused").make(w, Machine{}, family("attention_fused").rule(w, Machine{})))
          .run(inputs)[0];
  for (std::int64_t e = 0; e < 8; ++e) {
    CHECK(std::abs(got.at(3 * 8 + e)) < 1e-30);
    double mean = 0;
    for (std::int64_t n = 0; n < 9; ++n) mean += inputs[2].at(n * 8 + e) / 9;
    CHECK(got.at(5 * 8 + e) == Approx(mean).margin(1e-5));
  }
  const Array want = w.reference(inputs)[0];
  for (std::int64_t i = 0; i < got.size(); ++i) CHECK(std::abs(got.at(i) - want.at(i)) < 1e-5);
}

}  // namespace
}  // namespace heddle
