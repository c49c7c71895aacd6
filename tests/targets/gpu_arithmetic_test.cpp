// What Halide 21 gets wrong for devices, and how it comes out with the passes: each on both devices, against the same
// arithmetic in C++.
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.hpp"
#include "targets/gpu/passes.hpp"
#include "tests/targets/gpu_jit.hpp"

namespace heddle {
namespace {

using Catch::Contains;
using Halide::cast;
using Halide::Expr;
using Halide::Func;
using Halide::TailStrategy;
using Halide::Var;

constexpr DeviceApi both[] = {DeviceApi::opencl, DeviceApi::vulkan};

/// f of each element on a device, a thread an element; `vector` > 1: in vectors.
template <class To, class From>
std::vector<To> map(const std::vector<From>& from, DeviceApi api, const std::function<Expr(const Expr&)>& f,
                    int vector = 1) {
  Halide::Buffer<From> in(static_cast<int>(from.size()));
  std::copy(from.begin(), from.end(), in.begin());
  in.set_host_dirty();
  Var x("x"), xo("xo"), xi("xi"), v("v");
  Func out("out");
  out(x) = f(in(x));
  if (vector == 1) out.gpu_tile(x, xo, xi, 16, TailStrategy::GuardWithIf);
  else out.split(x, xo, v, vector).vectorize(v).gpu_tile(xo, xo, xi, 8, TailStrategy::GuardWithIf);
  const Halide::Buffer<To> got = testing::run_on_device(out, {in.width()}, api);
  return {got.begin(), got.end()};
}

std::vector<std::int32_t> integers() {
  std::vector<std::int32_t> all;
  for (int i = 0; i < 64; ++i) all.push_back((i - 32) * 65000001 + i);
  return all;
}

/// Every kind of f32 there is, and the borders of f16 and bf16 between them.
std::vector<float> floats() {
  std::vector<float> all = {0.0F, -0.0F, INFINITY, -INFINITY, NAN, 1.0F, -2.5F, 65504.0F, 65519.9F, 65520.0F, 1e6F};
  for (int exponent = -26; exponent < 18; ++exponent)
    for (const float mantissa : {1.0F, 1.00048828125F, 1.000488400459F, 1.00146484375F, 1.99951171875F, 1.9999F})
      all.push_back(std::ldexp(exponent % 2 == 0 ? mantissa : -mantissa, exponent));
  while (all.size() % 16 != 0) all.push_back(0.1F);
  return all;
}

TEST_CASE("signed integers shift right arithmetically, by amounts of either kind", "[gpu]") {
  const auto values = integers();
  for (const DeviceApi api : both)
    for (const bool is_unsigned : {false, true}) {
      const auto got = map<std::int32_t>(values, api, [&](const Expr& x) {
        const Expr by = x & 15;
        return x >> (is_unsigned ? cast<std::uint32_t>(by) : by);
      });
      for (std::size_t i = 0; i < values.size(); ++i) CHECK(got[i] == values[i] >> (values[i] & 15));
    }
}

TEST_CASE("a negative amount shifts to the left", "[gpu]") {
  const auto values = integers();
  for (const DeviceApi api : both) {
    const auto got = map<std::int32_t>(values, api, [&](const Expr& x) { return x >> -(x & 7); });
    for (std::size_t i = 0; i < values.size(); ++i)
      CHECK(got[i] == static_cast<std::int32_t>(static_cast<std::uint32_t>(values[i]) << (values[i] & 7)));
  }
}

TEST_CASE("remainders keep their sign and their bits", "[gpu]") {
  const auto values = integers();
  const std::int64_t large = std::int64_t{1} << 40;
  for (const DeviceApi api : both) {
    const auto truncated =
        map<std::int32_t>(values, api, [](const Expr& x) { return Halide::mod_round_to_zero(x, (x & 7) * 3 + 1); });
    const auto masked =
        map<std::int64_t>(values, api, [&](const Expr& x) { return (cast<std::int64_t>(x) * 1000003) % Expr(large); });
    for (std::size_t i = 0; i < values.size(); ++i) {
      CHECK(truncated[i] == values[i] % ((values[i] & 7) * 3 + 1));
      const std::int64_t product = std::int64_t{values[i]} * 1000003;
      CHECK(masked[i] == ((product % large) + large) % large);
    }
  }
}

/// Halide's division: remainders are not negative, and both are 0 for a divisor of 0.
std::int64_t quotient(std::int64_t a, std::int64_t b) {
  if (b == 0) return 0;
  const std::int64_t q = a / b, r = a % b;
  return r >= 0 ? q : b > 0 ? q - 1 : q + 1;
}

template <class T>
void check_division() {
  std::vector<T> values = {std::numeric_limits<T>::min(), std::numeric_limits<T>::max()};
  for (int i = -31; i < 31; ++i) values.push_back(static_cast<T>(i * i * i * (sizeof(T) > 1 ? 1 : 3) + i));
  const bool is_signed = std::is_signed_v<T>;
  std::vector<int> divisors = {0, 1, 2, 3, 5, 8, 100};
  if (is_signed) divisors.insert(divisors.end(), {-3, -4});
  const int n = static_cast<int>(values.size()), count = static_cast<int>(divisors.size());
  for (const DeviceApi api : both) {
    Halide::Buffer<T> numbers(n), given(count);
    std::copy(values.begin(), values.end(), numbers.begin());
    for (int d = 0; d < count; ++d) given(d) = static_cast<T>(divisors[d]);
    numbers.set_host_dirty();
    given.set_host_dirty();
    Var x("x"), d("d"), what("what"), xo("xo"), xi("xi");
    const Expr a = numbers(x), b = given(d), b_not_zero = select(b == cast<T>(0), cast<T>(9), b);
    Expr by_constant = cast<T>(0), rest_of_constant = cast<T>(0);
    for (int i = 0; i < count; ++i) {
      if (divisors[i] == 0) continue;
      const Expr constant = Halide::Internal::make_const(a.type(), divisors[i]);
      by_constant = select(d == i, a / constant, by_constant);
      rest_of_constant = select(d == i, a % constant, rest_of_constant);
    }
    Func out("out");
    out(x, d, what) =
        select(what == 0, a / b, what == 1, a % b, what == 2, Halide::div_round_to_zero(a, b_not_zero), what == 3,
               Halide::mod_round_to_zero(a, b_not_zero), what == 4, by_constant, rest_of_constant);
    out.split(x, xo, xi, 16, TailStrategy::GuardWithIf).gpu_blocks(xo, d, what).gpu_threads(xi);
    const Halide::Buffer<T> got = testing::run_on_device(out, {n, count, 6}, api);
    for (int j = 0; j < count; ++j)
      for (int i = 0; i < n; ++i) {
        const std::int64_t value = values[i], by = divisors[j];
        INFO(to_string(api) << ": " << value << " of " << (is_signed ? "" : "unsigned ") << 8 * sizeof(T)
                            << " bits, divided by " << by);
        const std::int64_t q = quotient(value, by), r = by == 0 ? 0 : value - q * by, nonzero = by == 0 ? 9 : by;
        CHECK(std::int64_t{got(i, j, 0)} == q);
        CHECK(std::int64_t{got(i, j, 1)} == r);
        CHECK(std::int64_t{got(i, j, 2)} == value / nonzero);
        CHECK(std::int64_t{got(i, j, 3)} == value % nonzero);
        CHECK(std::int64_t{got(i, j, 4)} == q);
        CHECK(std::int64_t{got(i, j, 5)} == r);
      }
  }
}

TEST_CASE("quotients are rounded down", "[gpu]") {
  check_division<std::int8_t>();
  check_division<std::uint8_t>();
  check_division<std::int32_t>();
  check_division<std::uint32_t>();
  check_division<std::int64_t>();
}

TEST_CASE("doubles keep all their digits, and have square roots", "[gpu]") {
  const auto values = floats();
  for (const DeviceApi api : both) {
    const auto got = map<double>(values, api, [](const Expr& x) {
      return Halide::sqrt(cast<double>(Halide::abs(x))) * Expr(0.1) + Halide::floor(cast<double>(x) * Expr(1.0 / 3));
    });
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!std::isfinite(values[i])) continue;
      const double root = std::sqrt(std::abs(double{values[i]})) * 0.1,
                   floor = std::floor(double{values[i]} * (1.0 / 3));
      CHECK(std::abs(got[i] - (root + floor)) <= 1e-15 * (root + std::abs(floor)));
    }
  }
}

TEST_CASE("functions of doubles that Vulkan lacks are named", "[gpu]") {
  Var x("x"), xo("xo"), xi("xi");
  Func inner("inner"), out("out");
  inner(x) = Halide::exp(cast<double>(x));
  out(x) = inner(x) + Expr(1.0);
  CHECK(targets::gpu_obstacle({out}, DeviceApi::opencl).empty());
  CHECK_THAT(targets::gpu_obstacle({out}, DeviceApi::vulkan), Contains("Vulkan has no exp of doubles"));
  out.gpu_tile(x, xo, xi, 16);
  CHECK_THROWS_WITH(testing::run_on_device(out, {16}, DeviceApi::vulkan), Contains("no exp of doubles"));
}

TEST_CASE("what can run has no obstacle", "[gpu]") {
  Var x("x");
  Func out("out");
  out(x) = cast<double>(Halide::exp(cast<float>(x))) + Halide::sqrt(cast<double>(x));
  for (const DeviceApi api : both) CHECK(targets::gpu_obstacle({out}, api).empty());
}

TEST_CASE("a float's kind is seen whatever the driver assumes", "[gpu]") {
  const auto values = floats();
  for (const DeviceApi api : both)
    for (const int vector : {1, 4}) {
      const auto got = map<std::uint8_t>(
          values, api,
          [](const Expr& x) {
            return cast<std::uint8_t>(select(Halide::is_nan(x), 1, 0) + select(Halide::is_inf(x), 2, 0) +
                                      select(Halide::is_finite(x), 4, 0));
          },
          vector);
      for (std::size_t i = 0; i < values.size(); ++i)
        CHECK(int{got[i]} == (std::isnan(values[i]) ? 1 : std::isinf(values[i]) ? 2 : 4));
    }
}

TEST_CASE("conditions that all threads share reach a kernel", "[gpu]") {
  for (const DeviceApi api : both) {
    Halide::Param<int> n("n");
    Var x("x"), xo("xo"), xi("xi");
    Func out("out");
    out(x) = select(n * n > 20 && n < 100, x, -x);
    out.gpu_tile(x, xo, xi, 16);
    for (const int value : {3, 5, 200}) {
      n.set(value);
      const Halide::Buffer<int> got = testing::run_on_device(out, {32}, api);
      CHECK(got(7) == (value == 5 ? 7 : -7));
    }
  }
}

std::uint16_t bits_of(Halide::float16_t x) { return x.to_bits(); }
std::uint16_t bits_of(Halide::bfloat16_t x) { return x.to_bits(); }

/// Narrowing, widening and arithmetic of a 16-bit float, compared by bits with Halide's own on the host.
template <class T>
void check_narrow() {
  const auto values = floats();
  for (const DeviceApi api : both)
    for (const int vector : {1, 4}) {
      INFO(to_string(api) << ", vectors of " << vector);
      const auto narrowed = map<T>(values, api, [](const Expr& x) { return cast<T>(x); }, vector);
      const auto widened = map<float>(narrowed, api, [](const Expr& x) { return cast<float>(x); }, vector);
      const auto computed =
          map<T>(narrowed, api, [](const Expr& x) { return Halide::max(x * x + cast<T>(0.5F), -x); }, vector);
      const auto less =
          map<std::uint8_t>(narrowed, api, [](const Expr& x) { return cast<std::uint8_t>(x < cast<T>(1.5F)); }, vector);
      for (std::size_t i = 0; i < values.size(); ++i) {
        INFO(values[i]);
        const T want(values[i]);
        if (std::isnan(values[i])) {
          CHECK(std::isnan(widened[i]));
          continue;
        }
        CHECK(bits_of(narrowed[i]) == bits_of(want));
        CHECK(widened[i] == static_cast<float>(want));
        CHECK(int{less[i]} == (static_cast<float>(want) < 1.5F ? 1 : 0));
        if (!std::isfinite(static_cast<float>(want))) continue;
        // Products and sums are rounded once or twice.
        const double x = static_cast<float>(want), exact = std::max(x * x + 0.5, -x);
        const double unit = std::is_same_v<T, Halide::float16_t> ? 0x1p-10 : 0x1p-7;
        if (exact < 65000) CHECK(std::abs(static_cast<float>(computed[i]) - exact) <= unit * exact);
      }
    }
}

TEST_CASE("f16 works where the device's language has none", "[gpu]") { check_narrow<Halide::float16_t>(); }
TEST_CASE("bfloat16 works", "[gpu]") { check_narrow<Halide::bfloat16_t>(); }

TEST_CASE("narrow floats in registers and shared memory", "[gpu]") {
  for (const DeviceApi api : both) {
    Var x("x"), xo("xo"), xi("xi");
    Func shared("shared"), own("own"), out("out");
    shared(x) = cast<Halide::float16_t>(cast<float>(x) * 0.5F);
    own(x) = cast<Halide::bfloat16_t>(cast<float>(x % 64));
    out(x) = cast<float>(shared(x)) + cast<float>(shared(x + 1)) + cast<float>(own(x));
    out.bound(x, 0, 64).split(x, xo, xi, 16).gpu_blocks(xo).gpu_threads(xi);
    shared.compute_at(out, xo).store_in(Halide::MemoryType::GPUShared).gpu_threads(x);
    own.compute_at(out, xi).store_in(Halide::MemoryType::Register);
    const Halide::Buffer<float> got = testing::run_on_device(out, {64}, api);
    for (int i = 0; i < 64; ++i)
      CHECK(got(i) == static_cast<float>(i) * 0.5F + static_cast<float>(i + 1) * 0.5F + static_cast<float>(i));
  }
}

TEST_CASE("vectors of three lie side by side", "[gpu]") {
  for (const DeviceApi api : both) {
    Halide::Buffer<float> in(96);
    for (int i = 0; i < 96; ++i) in(i) = static_cast<float>(i);
    Var x("x"), xo("xo"), xi("xi"), v("v");
    Func out("out");
    out(x) = in(x) * 2.0F;
    out.bound(x, 0, 96).split(x, xo, v, 3).vectorize(v).gpu_tile(xo, xo, xi, 8);
    const Halide::Buffer<float> got = testing::run_on_device(out, {96}, api);
    for (int i = 0; i < 96; ++i) CHECK(got(i) == static_cast<float>(2 * i));
  }
}

TEST_CASE("two vectors are interleaved", "[gpu]") {
  for (const DeviceApi api : both) {
    Halide::Buffer<float> even(32), odd(32);
    for (int i = 0; i < 32; ++i) {
      even(i) = static_cast<float>(2 * i);
      odd(i) = static_cast<float>(2 * i + 1);
    }
    Var x("x"), xo("xo"), xi("xi"), v("v");
    Func out("out");
    out(x) = select(x % 2 == 0, even(x / 2), odd(x / 2));
    out.bound(x, 0, 64).split(x, xo, v, 4).vectorize(v).gpu_tile(xo, xo, xi, 8);
    const Halide::Buffer<float> got = testing::run_on_device(out, {64}, api);
    for (int i = 0; i < 64; ++i) CHECK(got(i) == static_cast<float>(i));
  }
}

TEST_CASE("vectors that a language lacks are refused by name", "[gpu]") {
  Var x("x"), xo("xo"), xi("xi"), v("v");
  for (const auto& [api, lanes] : {std::pair{DeviceApi::vulkan, 8}, std::pair{DeviceApi::opencl, 6}}) {
    Func wide("wide");
    wide(x) = cast<float>(x) * 2.0F;
    wide.bound(x, 0, 96).split(x, xo, v, lanes).vectorize(v).gpu_tile(xo, xo, xi, 4);
    CHECK_THROWS_WITH(testing::run_on_device(wide, {96}, api), Contains("wide") && Contains("lanes"));
  }
}

TEST_CASE("blocks and shared memory beyond the device's are refused with both numbers", "[gpu]") {
  Var x("x"), xo("xo"), xi("xi");
  for (const DeviceApi api : both) {
    Func many("many");
    many(x) = x;
    many.bound(x, 0, 1024).gpu_tile(x, xo, xi, 512);
    CHECK_THROWS_WITH(testing::run_on_device(many, {1024}, api),
                      Contains("many") && Contains("512 threads") && Contains("256"));
    Func large("large"), out("out");
    large(x) = cast<float>(x);
    out(x) = large(x) + large(x + 9000);
    out.bound(x, 0, 1024).split(x, xo, xi, 64).gpu_blocks(xo).gpu_threads(xi);
    large.compute_at(out, xo).store_in(Halide::MemoryType::GPUShared).split(x, x, xi, 64).gpu_threads(xi);
    CHECK_THROWS_WITH(testing::run_on_device(out, {1024}, api), Contains("shared memory") && Contains("32768"));
  }
}

TEST_CASE("atomic updates for Vulkan and gpu_lanes are refused by name", "[gpu]") {
  Var x("x"), xo("xo"), xi("xi");
  Func counts("counts");
  Halide::RDom r(0, 64);
  Halide::RVar ro("ro"), ri("ri");
  counts(x) = 0;
  counts(r % 8) += 1;
  counts.bound(x, 0, 8).gpu_tile(x, xo, xi, 8);
  counts.update().atomic().split(r, ro, ri, 16).gpu_blocks(ro).gpu_threads(ri);
  CHECK_THROWS_WITH(testing::run_on_device(counts, {8}, DeviceApi::vulkan), Contains("counts") && Contains("atomic"));

  Func lanes("lanes");
  lanes(x) = x;
  lanes.bound(x, 0, 64).split(x, xo, xi, 32).gpu_blocks(xo).gpu_lanes(xi);
  for (const DeviceApi api : both) CHECK_THROWS_WITH(testing::run_on_device(lanes, {64}, api), Contains("gpu_lanes"));
}

TEST_CASE("loops over unsigned extents end", "[gpu]") {
  for (const DeviceApi api : both) {
    Halide::Buffer<std::uint32_t> n(16);
    for (int i = 0; i < 16; ++i) n(i) = static_cast<std::uint32_t>(i % 5);
    Var x("x"), xo("xo"), xi("xi");
    Func out("out");
    Halide::RDom r(0, cast<std::int32_t>(n(Expr(0)) + Expr(7U)));
    out(x) = 0;
    out(x) += select(cast<std::uint32_t>(Expr(r)) < n(x), 1, 0);
    out.gpu_tile(x, xo, xi, 16);
    out.update().gpu_tile(x, xo, xi, 16);
    const Halide::Buffer<int> got = testing::run_on_device(out, {16}, api);
    for (int i = 0; i < 16; ++i) CHECK(got(i) == i % 5);
  }
}

}  // namespace
}  // namespace heddle
