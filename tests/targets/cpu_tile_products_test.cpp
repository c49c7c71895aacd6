// Which sums of products become those of tile registers, and which stay as they are.
#include <functional>
#include <string>
#include <vector>

#include <Halide.h>

#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "dsl/halide_error.hpp"
#include "targets/cpu/tile_products.hpp"
#include "targets/pass.hpp"

namespace heddle {
namespace {

namespace hi = Halide::Internal;
using Halide::Expr;
using Halide::Func;
using Halide::RVar;
using Halide::Var;

/// out[n, m] = sum over 4 * depth bytes; b as packing leaves it, the k of a word innermost, then columns.
struct Sum {
  Var n{"n"}, m{"m"}, ni{"ni"}, mi{"mi"}, nt{"nt"}, mt{"mt"}, k{"k"}, ko{"ko"};
  Halide::ImageParam a, b;
  Func acc{"acc"}, out{"out"};
  Halide::RDom r;

  using Product = Expr (*)(const Expr&, const Expr&);
  static Expr plain(const Expr& x, const Expr& w) { return Halide::cast<int>(x) * Halide::cast<int>(w); }

  explicit Sum(int depth, int factor = 4, Halide::Type data = Halide::UInt(8), Halide::Type weights = Halide::Int(8),
               const Expr& start = 0, Product product = plain)
      : a(data, 2, "a"), b(weights, 3, "b"), r(0, factor, 0, depth) {
    acc(n, m) = start;
    acc(n, m) += product(a(r.y * factor + r.x, m), b(r.x, n, r.y));
  }

  /// `columns` x `rows` tiles, as the families cut them.
  Sum& schedule(int columns, int rows, int depth = 16, int height = 16) {
    RVar outer("outer"), inner("inner");
    out(n, m) = acc(n, m) + 1;
    b.dim(1).set_stride(4);
    b.dim(2).set_stride(4 * 64);
    out.bound(n, 0, 64).bound(m, 0, 64);
    out.tile(n, m, nt, mt, ni, mi, columns * 16, rows * height).vectorize(ni, 16);
    acc.compute_at(out, nt).bound_extent(n, columns * 16).vectorize(n, 16).update().split(r.y, outer, inner, depth);
    acc.update().tile(n, m, nt, mt, ni, mi, 16, height).reorder(r.x, ni, mi, inner, nt, mt, outer);
    acc.update().unroll(nt).unroll(mt);
    return *this;
  }

  std::string lowered(std::vector<Halide::Argument> others = {}) {
    others.insert(others.end(), {a, b});
    std::string text;
    Halide::Pipeline pipeline(out);
    targets::add_pass(pipeline, [&](const hi::Stmt& s) {
      std::ostringstream stream;
      const hi::Stmt result = targets::tile_products(s);
      stream << result;
      text = stream.str();
      return s;
    });
    const Halide::Target target("x86-64-linux-avx512_sapphirerapids-no_asserts-no_bounds_query-no_runtime");
    translate_halide_errors("the sum", [&] { pipeline.compile_to_module(others, "sum", target); });
    return text;
  }
};

int count(const std::string& text, const std::string& part) {
  int found = 0;
  for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST_CASE("a nest of products becomes one of tiles, its zeros the tiles'") {
  const std::string text = Sum(32).schedule(2, 2).lowered();
  INFO(text);
  CHECK(count(text, "tile_matmul(") == 4);
  CHECK(count(text, "tile_zero(") == 4);
  CHECK(count(text, "tile_store(") == 4);
  CHECK(count(text, "tile_load(") == 8);
  CHECK(count(text, "int32(a[") == 0);
  CHECK(count(text, "x16(0)") == 0);
}

TEST_CASE("a sum that starts with something is loaded into its tiles") {
  const std::string text = Sum(16, 4, Halide::UInt(8), Halide::Int(8), Var("n") * 3).schedule(1, 1).lowered();
  INFO(text);
  CHECK(count(text, "tile_matmul(") == 1);
  CHECK(count(text, "tile_zero(") == 0);
  CHECK(count(text, "tile_load(") == 3);
}

TEST_CASE("sums that start with a row of another buffer load it for every row of their tiles") {
  const auto lowered = [](const std::function<Expr(const Halide::ImageParam&)>& start, int columns) {
    Sum sum(16);
    Halide::ImageParam bias(Halide::Int(32), 1, "bias");
    sum.acc = Func("acc");
    sum.acc(sum.n, sum.m) = start(bias);
    sum.acc(sum.n, sum.m) += Sum::plain(sum.a(sum.r.y * 4 + sum.r.x, sum.m), sum.b(sum.r.x, sum.n, sum.r.y));
    sum.schedule(columns, 1);
    sum.acc.unroll(sum.n).unroll(sum.m);
    return sum.lowered({bias});
  };
  const Var n("n"), m("m");
  const std::string text = lowered([&](const auto& bias) { return bias(n); }, 2);
  INFO(text);
  CHECK(count(text, "tile_load((int16)16, (int16)64, bias,") == 2);
  CHECK(count(text, "tile_load((int16)16, (int16)64, acc") == 0);
  CHECK(count(text, "bias[") == 0);

  // A row of its own for each row, and what is no copy, go through the stage's memory.
  CHECK(count(lowered([&](const auto& bias) { return bias(n + m); }, 1), "tile_load((int16)16, (int16)64, acc") == 1);
  CHECK(count(lowered([&](const auto& bias) { return bias(n) * 3; }, 1), "tile_load((int16)16, (int16)64, acc") == 1);
}

TEST_CASE("short, shallow and low tiles are tiles as well") {
  CHECK(count(Sum(7).schedule(1, 1, 7, 16).lowered(), "tile_matmul((int16)16, (int16)64, (int16)28") == 1);
  CHECK(count(Sum(24).schedule(1, 2, 12, 8).lowered(), "tile_matmul((int16)8, (int16)64, (int16)48") == 2);
  CHECK(count(Sum(16, 4, Halide::Int(8), Halide::Int(8)).schedule(1, 1).lowered(), "tile_matmul(") == 1);
}

TEST_CASE("what tiles do not compute stays as it is") {
  // Three products a word; words of 16-bit numbers; more rows than a tile has.
  CHECK(count(Sum(16, 3).schedule(1, 1).lowered(), "tile_") == 0);
  CHECK(count(Sum(16, 2, Halide::Int(16), Halide::Int(16)).schedule(1, 1).lowered(), "tile_") == 0);
  CHECK(count(Sum(16).schedule(1, 1, 16, 32).lowered(), "tile_") == 0);

  // Vectors are another instruction's.
  Sum vectors(16);
  vectors.schedule(1, 1);
  vectors.acc.update().vectorize(vectors.ni, 16);
  CHECK(count(vectors.lowered(), "tile_") == 0);

  // A second update touches what the first one made.
  Sum twice(16);
  twice.acc(twice.n, twice.m) += 7;
  CHECK(count(twice.schedule(1, 1).lowered(), "tile_") == 0);

  // Each sum is of the one before.
  Sum chained(16);
  chained.acc(chained.n, chained.m) =
      chained.acc(chained.n, chained.m) * 2 +
      Halide::cast<int>(chained.a(chained.r.x, chained.m)) * Halide::cast<int>(chained.b(chained.r.x, chained.n, 0));
  CHECK(count(chained.schedule(1, 1).lowered(), "tile_") == 0);
}

TEST_CASE("factors that casts change are not what tiles multiply") {
  using Halide::cast;
  const Halide::Type u8 = Halide::UInt(8), i8 = Halide::Int(8);
  const auto tiles = [&](Sum::Product product) {
    return count(Sum(16, 4, u8, i8, 0, product).schedule(1, 1).lowered(), "tile_matmul(");
  };
  CHECK(tiles([](const Expr& x, const Expr& w) { return cast<int>(cast<std::int16_t>(x) * cast<std::int16_t>(w)); }) ==
        1);
  CHECK(tiles([](const Expr& x, const Expr& w) { return cast<int>(cast<std::int8_t>(x)) * cast<int>(w); }) == 0);
  CHECK(tiles([](const Expr& x, const Expr& w) { return cast<int>(x * cast<std::uint8_t>(w)); }) == 0);
}

TEST_CASE("tiles are not shared among threads") {
  Sum sum(64);
  sum.schedule(1, 1);
  sum.acc.update().allow_race_conditions().parallel(RVar("outer"));
  CHECK(count(sum.lowered(), "tile_") == 0);
}

TEST_CASE("more tiles than there are registers are refused") {
  try {
    Sum(16).schedule(4, 2).lowered();
    FAIL("no error");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::unsupported);
    CHECK_THAT(e.what(), Catch::Contains("8 tiles") && Catch::Contains("acc"));
  }
}

}  // namespace
}  // namespace heddle
