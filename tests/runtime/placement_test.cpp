#include <algorithm>
#include <catch2/catch.hpp>
#include <random>

#include "base/error.hpp"
#include "runtime/plan.hpp"

using namespace heddle;
using plan::Lifetime;

namespace {

bool alive_together(const Lifetime& a, const Lifetime& b) {
  return a.first <= a.last && b.first <= b.last && a.first <= b.last && b.first <= a.last;
}

/// No arena can be smaller than the values that are alive at one step.
std::uint64_t lower_bound(const std::vector<Lifetime>& values, std::uint64_t alignment) {
  std::uint64_t most = 0;
  for (const Lifetime& at : values) {
    std::uint64_t sum = 0;
    for (const Lifetime& value : values)
      if (value.first <= at.first && at.first <= value.last)
        sum += (value.bytes + alignment - 1) / alignment * alignment;
    most = std::max(most, sum);
  }
  return most;
}

}  // namespace

TEST_CASE("values that are alive together never overlap, and the arena stays near its lower bound", "[placement]") {
  std::mt19937 random(42);
  double worst = 1;
  for (int round = 0; round < 300; ++round) {
    const std::uint64_t alignment = std::uint64_t{1} << (random() % 9);
    const int steps = 1 + static_cast<int>(random() % 60);
    std::vector<Lifetime> values(1 + random() % 80);
    for (Lifetime& value : values) {
      value.bytes = random() % 10 == 0 ? 0 : random() % (random() % 3 == 0 ? 100000 : 1000);
      value.first = static_cast<int>(random() % static_cast<unsigned>(steps));
      value.last = std::min(steps - 1, value.first + static_cast<int>(random() % 6));
    }
    const plan::Placement placement = plan::place(values, alignment);
    REQUIRE(placement.offsets.size() == values.size());
    std::uint64_t end = 0;
    for (std::size_t a = 0; a < values.size(); ++a) {
      REQUIRE(placement.offsets[a] % alignment == 0);
      end = std::max(end, placement.offsets[a] + values[a].bytes);
      for (std::size_t b = 0; b < a; ++b) {
        if (values[a].bytes == 0 || values[b].bytes == 0 || !alive_together(values[a], values[b])) continue;
        const bool apart = placement.offsets[a] + values[a].bytes <= placement.offsets[b] ||
                           placement.offsets[b] + values[b].bytes <= placement.offsets[a];
        REQUIRE(apart);
      }
    }
    REQUIRE(placement.arena_bytes == end);
    const std::uint64_t bound = lower_bound(values, alignment);
    if (bound > 0) worst = std::max(worst, static_cast<double>(placement.arena_bytes) / static_cast<double>(bound));
  }
  CHECK(worst < 1.5);
}

TEST_CASE("a chain of layers needs the two largest neighbours only", "[placement]") {
  std::vector<Lifetime> chain;
  for (int i = 0; i < 50; ++i) chain.push_back({.bytes = i % 2 == 0 ? 4096U : 1024U, .first = i, .last = i + 1});
  CHECK(plan::place(chain).arena_bytes == 4096 + 1024);
}

TEST_CASE("lifetimes follow aliases and outputs", "[placement]") {
  const Extent w = Extent::symbol("W");
  const auto value = [&](plan::Storage storage, int of = -1) {
    plan::Value v;
    v.shape = {w};
    v.strides = {1};
    v.elements = w;
    v.storage = storage;
    v.of = of;
    return v;
  };
  plan::Function f;
  f.values = {value(plan::Storage::input), value(plan::Storage::arena), value(plan::Storage::alias, 1),
              value(plan::Storage::arena), value(plan::Storage::arena), value(plan::Storage::arena)};
  f.inputs = {0};
  f.outputs = {4};
  const auto step = [](int from, int to) {
    plan::Step s;
    s.inputs = {{from, {}, 0}};
    s.outputs = {{to, {}, 0}};
    return s;
  };
  f.steps = {step(0, 1), step(0, 3), step(2, 4)};  // value 1 is read through its alias 2
  const auto lives = plan::lifetimes(f, {{"W", 10}});
  REQUIRE(lives.size() == 6);
  CHECK(lives[0].bytes == 0);
  CHECK(lives[1].bytes == 40);
  CHECK(lives[1].first == 0);
  CHECK(lives[1].last == 2);
  CHECK(lives[2].bytes == 0);
  CHECK(lives[3].first == 1);
  CHECK(lives[3].last == 1);
  CHECK(lives[4].last == 3);  // an output stays until the end
  CHECK(lives[5].first > lives[5].last);

  f.values[2].of = 2;
  CHECK_THROWS_AS(plan::lifetimes(f, {{"W", 10}}), Error);
}
