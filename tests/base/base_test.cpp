#include <catch2/catch.hpp>
#include <limits>
#include <random>

#include "base/array.hpp"
#include "base/error.hpp"
#include "base/extent.hpp"
#include "base/file.hpp"

using namespace heddle;

namespace {

/// A random expression over W and H as text that Extent::parse reads, and its value.
struct Random {
  std::mt19937_64 random;
  SymbolValues symbols;

  std::pair<std::string, std::int64_t> expression(int depth) {
    const auto pick = random() % (depth == 0 ? 3 : 8);
    if (pick == 0) return {"W", symbols["W"]};
    if (pick == 1) return {"H", symbols["H"]};
    if (pick == 2) {
      const auto v = static_cast<std::int64_t>(random() % 9);
      return {std::to_string(v), v};
    }
    const auto [a, va] = expression(depth - 1);
    const auto [b, vb] = expression(depth - 1);
    const std::int64_t positive = static_cast<std::int64_t>(random() % 7) + 1;
    const auto floor = [](std::int64_t x, std::int64_t y) { return x >= 0 ? x / y : -((-x + y - 1) / y); };
    switch (pick) {
      case 3: return {"(" + a + " + " + b + ")", va + vb};
      case 4: return {"(" + a + " - (" + b + "))", va - vb};
      case 5: return {"(" + a + ")*(" + b + ")", va * vb};
      case 6: return {"div(" + a + ", " + std::to_string(positive) + ")", floor(va, positive)};
      default: return {"max(" + a + ", min(" + b + ", " + a + "))", std::max(va, std::min(vb, va))};
    }
  }
};

}  // namespace

TEST_CASE("extents keep their value through canonical form, text and substitution") {
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    Random r{std::mt19937_64(seed), {}};
    r.symbols = {{"W", static_cast<std::int64_t>(r.random() % 50) + 1},
                 {"H", static_cast<std::int64_t>(r.random() % 50) + 1}};
    const auto [text, value] = r.expression(4);
    INFO("seed " << seed << ": " << text);
    const Extent e = Extent::parse(text);
    CHECK(e.evaluate(r.symbols) == value);
    CHECK(Extent::parse(e.str()) == e);
    CHECK(e.substitute({{"W", r.symbols["W"]}, {"H", r.symbols["H"]}}).value() == value);
    const Range range = e.bounds({{"W", {1, 50}}, {"H", {1, 50}}});
    CHECK(range.min <= value);
    CHECK(value <= range.max);
  }
}

TEST_CASE("equal extents compare equal whatever the order they were built in") {
  const Extent w = Extent::symbol("W"), h = Extent::symbol("H");
  CHECK(Extent(2) * (w + 1) - w == w + 2);
  CHECK(floor_div(w * h * 3, h * 3) == w);
  CHECK(floor_div(Extent(32) * w - 1, 2) + 1 == Extent(16) * w);
  CHECK(mod(Extent(8) * w, 4) == Extent(0));
  CHECK(ceil_div(Extent(4) * w, 4) == w);
  CHECK_FALSE(w == h);
  CHECK_THROWS_AS(w.value(), Error);
  CHECK_THROWS_AS(Extent::parse("2 +"), Error);
  CHECK_THROWS_AS(floor_div(w, 0), Error);
}

TEST_CASE("16-bit floats round to nearest even and keep infinities and NaN") {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float f = f16_to_f32(half);
    if (f == f) CHECK(f32_to_f16(f) == half);
    else CHECK(f16_to_f32(f32_to_f16(f)) != f16_to_f32(f32_to_f16(f)));
    const float b = bf16_to_f32(half);
    if (b == b) CHECK(f32_to_bf16(b) == half);
  }
  CHECK(f32_to_f16(65519.0F) == 0x7BFF);
  CHECK(f32_to_f16(65520.0F) == 0x7C00);
  CHECK(f32_to_f16(1.0F + 1.0F / 2048) == 0x3C00);  // a tie goes to the even neighbour
}

TEST_CASE("arrays are values: a copy does not see what is written to the other") {
  Array a = Array::of<float>({2, 2}, {1, 2, 3, 4});
  Array b = a;
  b.set(0, 9);
  CHECK(a.at(0) == 1);
  CHECK(b.at(0) == 9);
  CHECK(a.reshaped({4}).shape() == Shape{4});
  CHECK_THROWS_AS(a.reshaped({3}), Error);
  CHECK_THROWS_AS(Array::of<float>({3}, {1, 2}), Error);
  CHECK(Array::of<float>({2}, {-1.7F, 1.7F}).cast(DType::i32) == Array::of<std::int32_t>({2}, {-1, 1}));
}

TEST_CASE("files appear whole or not at all") {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "new" / "file";
  write_file(path, "first");
  write_file(path, "second");
  CHECK(read_file(path) == "second");
  CHECK(std::distance(std::filesystem::directory_iterator(path.parent_path()), {}) == 1);
  CHECK_THROWS_AS(write_file(path / "below a file", "x"), Error);
  CHECK_THROWS_AS(read_file(directory.path() / "none"), Error);
  CHECK(sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_CASE("near names come best first") {
  CHECK(near_names("relau", {"relu", "conv", "gelu"}, 1) == std::vector<std::string>{"relu"});
  CHECK(did_you_mean("zzzzzz", {"relu", "conv"}).empty());
}
