#include <catch2/catch.hpp>

#include "graph/layout.hpp"

namespace heddle::graph {
namespace {

using Order = std::vector<int>;

std::vector<Extent> shape(std::initializer_list<std::int64_t> extents) { return {extents.begin(), extents.end()}; }

TEST_CASE("a reshape keeps the order where its parts lie together") {
  // [batch, tokens, heads * width] -> [batch, tokens, heads, width]
  CHECK(reshaped_order(shape({2, 8, 12}), {0, 1, 2}, shape({2, 8, 3, 4})) == Order{0, 1, 2, 3});
  CHECK(reshaped_order(shape({2, 8, 12}), {1, 0, 2}, shape({2, 8, 3, 4})) == Order{1, 0, 2, 3});
  CHECK(reshaped_order(shape({2, 8, 12}), {2, 0, 1}, shape({2, 8, 3, 4})) == Order{2, 3, 0, 1});
  // A merge needs its dimensions next to one another, the first outermost.
  CHECK(reshaped_order(shape({2, 8, 3, 4}), {0, 1, 2, 3}, shape({2, 8, 12})) == Order{0, 1, 2});
  CHECK(reshaped_order(shape({2, 8, 3, 4}), {2, 3, 0, 1}, shape({2, 8, 12})) == Order{2, 0, 1});
  CHECK_FALSE(reshaped_order(shape({2, 8, 3, 4}), {0, 2, 1, 3}, shape({2, 8, 12})));
  CHECK_FALSE(reshaped_order(shape({2, 8, 3, 4}), {0, 1, 3, 2}, shape({2, 8, 12})));
  // 6 = 2 * 3 against 4: all in one part.
  CHECK(reshaped_order(shape({6, 4}), {0, 1}, shape({4, 6})) == Order{0, 1});
  CHECK_FALSE(reshaped_order(shape({6, 4}), {1, 0}, shape({4, 6})));
}

TEST_CASE("extents of 1 are of no consequence to a reshape") {
  CHECK(reshaped_order(shape({1, 6, 1, 5}), {0, 2, 3, 1}, shape({6, 5})) == Order{1, 0});
  CHECK(reshaped_order(shape({6, 5}), {1, 0}, shape({1, 6, 1, 5})) == Order{0, 2, 3, 1});
  CHECK(reshaped_order(shape({1, 1}), {0, 1}, shape({})) == Order{});
}

TEST_CASE("symbolic extents are compared as expressions") {
  const Extent w = Extent::symbol("W"), n = Extent::symbol("N");
  CHECK(reshaped_order({n, 4, w}, {0, 2, 1}, {n, 2, 2, w}) == Order{0, 3, 1, 2});
  CHECK(reshaped_order({n, w, 4}, {0, 1, 2}, {n * w, 4}) == Order{0, 1});
  CHECK_FALSE(reshaped_order({n, w, 4}, {1, 0, 2}, {n * w, 4}));
  // Not comparable: only row-major says it.
  CHECK(reshaped_order({n, w}, {0, 1}, {Extent::symbol("M")}) == Order{0});
  CHECK_FALSE(reshaped_order({n, w}, {1, 0}, {Extent::symbol("M")}));
}

TEST_CASE("transposed orders are inverse to one another") {
  const Order permutation = {0, 2, 1, 3};
  CHECK(transposed_order({0, 1, 2, 3}, permutation) == Order{0, 2, 1, 3});
  CHECK(transposed_order({0, 1, 2}, {0, 2, 1}) == Order{0, 2, 1});
  CHECK(transposed_order({0, 1, 2}, {2, 0, 1}) == Order{1, 2, 0});
  for (const Order& p : {Order{0, 2, 1, 3}, Order{3, 1, 0, 2}, Order{1, 2, 3, 0}})
    for (const Order& order : {Order{0, 1, 2, 3}, Order{0, 2, 3, 1}, Order{3, 0, 2, 1}})
      CHECK(untransposed_order(transposed_order(order, p), p) == order);
}

TEST_CASE("layouts that put every element at the same place are the same") {
  const auto type = [](const char* text) { return TensorType::parse(text); };
  CHECK(same_memory(type("f32[1,8,1,1]{0,2,3,1}"), type("f32[1,8,1,1]")));
  CHECK(same_memory(type("f32[1,1,5,6]{0,2,3,1}"), type("f32[1,1,5,6]")));
  CHECK_FALSE(same_memory(type("f32[1,2,5,6]{0,2,3,1}"), type("f32[1,2,5,6]")));
  CHECK_FALSE(same_memory(type("f32[1,8,1,1]{0,2,3,1|2:1+1}"), type("f32[1,8,1,1]")));
  CHECK(is_row_major(type("f32[4,1,3]{1,0,2}")));
  CHECK_FALSE(is_row_major(type("f32[4,2,3]{1,0,2}")));
  CHECK_FALSE(is_row_major(type("f32[4,2,3]{|1:0+1}")));
}

TEST_CASE("the canonical layout is row-major if it can be, or channels last where that is preferred") {
  const auto canonical = [](const char* text, bool channels_last_first) {
    return canonical_layout(TensorType::parse(text), channels_last_first).order;
  };
  CHECK(canonical("f32[1,8,1,1]{0,2,3,1}", false) == Order{});
  CHECK(canonical("f32[1,8,1,1]", true) == Order{0, 2, 3, 1});
  CHECK(canonical("f32[2,8,4,4]", true) == Order{});
  CHECK(canonical("f32[2,8,1,4]{2,0,3,1}", false) == Order{0, 2, 3, 1});
  CHECK(canonical("f32[2,8,1,4]{1,2,0,3}", false) == Order{2, 1, 0, 3});
}

}  // namespace
}  // namespace heddle::graph
