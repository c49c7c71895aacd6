// The scalar functions of ops/math.hpp against the C library in double: the largest error over a sample of all f32 bit
// patterns, and what they make of infinities, NaN, zeros and denormals. Vectorised, as kernels use them.
#include "ops/math.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>

namespace {

namespace math = heddle::ops::math;
using Halide::Expr;

struct Function {
  const char* name;
  Expr (*ours)(const Expr&);
  double (*exact)(double);
  double ulps;   ///< that the header states
  double limit;  ///< of |x| that it states them for
};

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

constexpr double everywhere = 1e40;
const Function functions[] = {
    {"exp", math::exp, std::exp, 2, everywhere},
    {"expm1", math::expm1, std::expm1, 4, everywhere},
    {"log", math::log, std::log, 2, everywhere},
    {"log1p", math::log1p, std::log1p, 4, everywhere},
    {"sigmoid", math::sigmoid, sigmoid, 4, everywhere},
    {"tanh", math::tanh, std::tanh, 6, everywhere},
    {"erf", math::erf, std::erf, 6, everywhere},
    {"sin", math::sin, std::sin, 2, 1e5},
    {"cos", math::cos, std::cos, 2, 1e5},
    {"tan", math::tan, std::tan, 4, 1e5},
    {"asin", math::asin, std::asin, 1, everywhere},
    {"acos", math::acos, std::acos, 1, everywhere},
    {"atan", math::atan, std::atan, 1, everywhere},
    {"sinh", math::sinh, std::sinh, 1, everywhere},
    {"cosh", math::cosh, std::cosh, 1, everywhere},
    {"asinh", math::asinh, std::asinh, 1, everywhere},
    {"acosh", math::acosh, std::acosh, 1, everywhere},
    {"atanh", math::atanh, std::atanh, 1, everywhere},
};

constexpr double smallest = 0x1p-124;  // below, results may be flushed to zero

/// Every exponent and both signs, mantissas spread, then the neighbours of 0 and 1 and the special values.
Halide::Buffer<float> arguments() {
  constexpr int count = 1 << 19;
  Halide::Buffer<float> x(count);
  for (int i = 0; i < count; ++i) {
    const std::uint32_t bits =
        (static_cast<std::uint32_t>(i) << 13) | ((static_cast<std::uint32_t>(i) * 2654435761U) >> 19);
    std::memcpy(&x(i), &bits, sizeof bits);
  }
  return x;
}

Halide::Buffer<float> apply(const Halide::Buffer<float>& x, Expr (*f)(const Expr&)) {
  Halide::Var i;
  Halide::Func out;
  out(i) = f(x(i));
  out.vectorize(i, 16);
  return out.realize({x.width()});
}

}  // namespace

TEST_CASE("scalar functions keep the errors that they state", "[math]") {
  const auto x = arguments();
  for (const auto& f : functions) {
    const auto y = apply(x, f.ours);
    double worst = 0;
    float worst_at = 0;
    int wrong = 0;
    float wrong_at = 0;
    for (int i = 0; i < x.width(); ++i) {
      const double at = x(i), got = y(i), want = f.exact(at);
      if (std::isfinite(at) && std::abs(at) > f.limit) continue;
      bool ok = true;
      if (std::isnan(want)) {
        ok = std::isnan(got);
      } else if (std::abs(want) > 3.4e38) {
        // At the edge of f32 the rounded result may be infinite or the largest float.
        ok = std::abs(got) > 3.39e38 && (got > 0) == (want > 0);
      } else if (std::abs(want) < smallest) {
        ok = std::abs(got) < 1.01 * smallest;
      } else {
        int exponent;
        std::frexp(want, &exponent);
        const double error = std::abs(got - want) / std::ldexp(1.0, exponent - 24);
        ok = std::isfinite(got);
        if (error > worst) worst_at = x(i);
        worst = std::max(worst, error);
      }
      if (!ok && wrong++ == 0) wrong_at = x(i);
    }
    INFO(f.name << ": largest error " << worst << " ulp at " << worst_at << "; " << wrong << " wrong, first at "
                << wrong_at);
    CHECK(worst <= f.ulps);
    CHECK(wrong == 0);
  }
}

TEST_CASE("exp_of_nonpositive keeps its error, is 1 at 0 and next to nothing at -inf", "[math]") {
  constexpr int count = 1 << 16;
  Halide::Buffer<float> x(count);
  for (int i = 0; i < count; ++i) x(i) = -86.6F * static_cast<float>(i) / count;
  x(count - 1) = -INFINITY;
  x(count - 2) = -3.4e38F;
  const auto y = apply(x, math::exp_of_nonpositive);
  CHECK(y(0) == 1);
  CHECK(y(count - 1) < 1e-37F);
  CHECK(y(count - 2) < 1e-37F);
  double worst = 0;
  for (int i = 0; i < count - 2; ++i) {
    const double want = std::exp(static_cast<double>(x(i)));
    worst = std::max(worst, std::abs(y(i) - want) / (want * 0x1p-23));
  }
  CHECK(worst <= 2);
}

TEST_CASE("sigmoid is zero and one far from zero, so that x of any size times it is zero or x", "[math]") {
  const float values[] = {-INFINITY, -3.4e38F, -1e30F, -89, -88.5F, 88.5F, 89, 1e30F, 3.4e38F, INFINITY};
  constexpr int count = 16;
  Halide::Buffer<float> x(count);
  x.fill(0);
  std::memcpy(x.data(), values, sizeof values);
  const auto y = apply(x, math::sigmoid);
  const auto product = apply(x, [](const Expr& v) { return v * math::sigmoid(v); });
  for (int i = 0; i < 10; ++i) {
    INFO(x(i));
    CHECK(y(i) == (i < 5 ? 0 : 1));
    if (i == 0) CHECK(std::isnan(product(i)));
    else CHECK(product(i) == (i < 5 ? 0 : x(i)));
  }
  CHECK(y(10) == 0.5F);
}

TEST_CASE("bounds hand NaN on", "[math]") {
  Halide::Buffer<float> x(16);
  x.fill(std::nanf(""));
  x(1) = -INFINITY;
  x(2) = INFINITY;
  x(3) = 0.5F;
  const auto y = apply(x, [](const Expr& v) { return math::clamp(v, -1, 1); });
  CHECK(std::isnan(y(0)));
  CHECK(y(1) == -1);
  CHECK(y(2) == 1);
  CHECK(y(3) == 0.5F);
  CHECK(std::isnan(apply(x, [](const Expr& v) { return math::maximum_of(v, math::constant(v.type(), 2)); })(0)));
  CHECK(std::isnan(apply(x, [](const Expr& v) { return math::minimum_of(math::constant(v.type(), 2), v); })(0)));
}

TEST_CASE("pow has IEEE's special cases", "[math]") {
  const double values[] = {0.0, -0.0, 1,   -1,    2,    -2,       0.5,       -0.5,
                           3,   -3,   2.5, -1e30, 1e30, INFINITY, -INFINITY, std::nan("")};
  constexpr int count = 16;
  Halide::Buffer<float> x(count), y(count);
  for (int i = 0; i < count; ++i) x(i) = y(i) = static_cast<float>(values[i]);
  Halide::Var i, j;
  Halide::Func out;
  out(i, j) = math::pow(x(i), y(j));
  out.vectorize(i, 16);
  const Halide::Buffer<float> got = out.realize({count, count});
  for (int a = 0; a < count; ++a)
    for (int b = 0; b < count; ++b) {
      const auto want = static_cast<float>(std::pow(static_cast<double>(x(a)), static_cast<double>(y(b))));
      INFO(x(a) << " to the power " << y(b) << " is " << want << ", not " << got(a, b));
      const double error = std::abs(static_cast<double>(got(a, b)) - static_cast<double>(want));
      CHECK((std::isnan(want)   ? std::isnan(got(a, b))
             : std::isinf(want) ? got(a, b) == want
                                : error <= 2e-7 * std::abs(want) + smallest));
    }
}

TEST_CASE("f16 widens exactly, with its infinities, NaN and denormals", "[math]") {
  Halide::Buffer<Halide::float16_t> x(65536);
  for (int i = 0; i < 65536; ++i) x(i) = Halide::float16_t::make_from_bits(static_cast<std::uint16_t>(i));
  Halide::Var i;
  Halide::Func out;
  out(i) = math::widen_to_f32(x(i));
  const Halide::Buffer<float> y = out.realize({65536});
  int wrong = 0;
  for (int k = 0; k < 65536; ++k) {
    const float want = static_cast<float>(x(k));
    wrong += (std::isnan(want) ? std::isnan(y(k)) : y(k) == want) ? 0 : 1;
  }
  CHECK(wrong == 0);
}
