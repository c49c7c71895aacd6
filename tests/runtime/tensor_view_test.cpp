#include "runtime/tensor_view.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>

#include "base/error.hpp"

using namespace heddle;
using runtime::TensorView;

namespace {

/// A tensor of floats somewhere in memory with a random order of dimensions and random borders.
struct Laid {
  std::vector<float> memory;
  TensorView view;
  std::int64_t origin = 0;

  Laid(const Shape& shape, std::mt19937& random) {
    std::vector<std::size_t> order(shape.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::shuffle(order.begin(), order.end(), random);
    view.shape = shape;
    view.strides.resize(shape.size());
    for (std::size_t d = 0; d < shape.size(); ++d) {
      view.border_before.push_back(static_cast<std::int64_t>(random() % 3));
      view.border_after.push_back(static_cast<std::int64_t>(random() % 3));
    }
    std::int64_t stride = 1;
    for (const std::size_t d : order) {
      view.strides[d] = stride;
      origin += stride * view.border_before[d];
      stride *= shape[d] + view.border_before[d] + view.border_after[d];
    }
    memory.assign(static_cast<std::size_t>(stride), -7.0F);
    view.data = reinterpret_cast<std::byte*>(memory.data() + origin);
  }

  std::int64_t offset(std::int64_t index) const {
    std::int64_t at = origin;
    for (std::size_t d = view.shape.size(); d-- > 0;) {
      at += index % view.shape[d] * view.strides[d];
      index /= view.shape[d];
    }
    return at;
  }
};

}  // namespace

TEST_CASE("copies keep the row-major order of elements, whatever the layouts", "[tensor_view]") {
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    Shape shape(random() % 5);
    for (auto& extent : shape) extent = 1 + static_cast<std::int64_t>(random() % 5);
    Shape other = shape;
    if (round % 2 == 0) std::shuffle(other.begin(), other.end(), random);  // another shape with as many elements
    Laid from(shape, random), to(other, random);
    const std::int64_t size = element_count(shape);
    for (std::int64_t i = 0; i < size; ++i)
      from.memory[static_cast<std::size_t>(from.offset(i))] = static_cast<float>(i);
    runtime::copy_elements(from.view, to.view);
    for (std::int64_t i = 0; i < size; ++i)
      REQUIRE(to.memory[static_cast<std::size_t>(to.offset(i))] == static_cast<float>(i));
    const auto untouched = std::count(to.memory.begin(), to.memory.end(), -7.0F);
    REQUIRE(untouched == static_cast<std::ptrdiff_t>(to.memory.size()) - size);
  }
}

TEST_CASE("empty tensors copy nothing; different sizes or types are refused", "[tensor_view]") {
  Array empty(DType::f32, {0, 3}), also(DType::f32, {0, 3}), one(DType::f32, {1}), integer(DType::i32, {1});
  runtime::copy_elements(runtime::view_of(empty), runtime::view_of(also));
  CHECK_THROWS_AS(runtime::copy_elements(runtime::view_of(empty), runtime::view_of(one)), Error);
  CHECK_THROWS_AS(runtime::copy_elements(runtime::view_of(one), runtime::view_of(integer)), Error);
}

TEST_CASE("filling a border touches the border only, and all of it", "[tensor_view]") {
  std::mt19937 random(6);
  for (int round = 0; round < 200; ++round) {
    Shape shape(1 + random() % 4);
    for (auto& extent : shape) extent = 1 + static_cast<std::int64_t>(random() % 4);
    Laid tensor(shape, random);
    const std::int64_t size = element_count(shape);
    for (std::int64_t i = 0; i < size; ++i)
      tensor.memory[static_cast<std::size_t>(tensor.offset(i))] = static_cast<float>(i + 1);
    const float value = round % 2 == 0 ? 0.5F : 0.0F;  // 0 is all equal bytes
    runtime::BorderPlan(tensor.view, value).run(tensor.view.data);
    for (std::int64_t i = 0; i < size; ++i)
      REQUIRE(tensor.memory[static_cast<std::size_t>(tensor.offset(i))] == static_cast<float>(i + 1));
    const auto filled = std::count(tensor.memory.begin(), tensor.memory.end(), value);
    REQUIRE(filled == static_cast<std::ptrdiff_t>(tensor.memory.size()) - size);
  }
}

TEST_CASE("a border's value takes the tensor's type", "[tensor_view]") {
  const double lowest = -std::numeric_limits<double>::infinity();
  for (const DType type : {DType::f32, DType::f64, DType::f16, DType::bf16, DType::i8, DType::u8, DType::i64}) {
    Array memory(type, {3});
    TensorView view = runtime::view_of(memory);
    view.shape = {1};
    view.data += size_of(type);
    view.border_before = {1};
    view.border_after = {1};
    runtime::BorderPlan(view, lowest).run(view.data);
    Array expected(type, {1});
    expected.set(0, lowest);
    CHECK(memory.at(0) == expected.at(0));
    CHECK(memory.at(1) == 0);
    CHECK(memory.at(2) == expected.at(0));
  }
}
