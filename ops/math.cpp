#include "ops/math.hpp"

#include <bit>
#include <limits>
#include <numbers>
#include <vector>

namespace heddle::ops::math {
namespace {

using Halide::cast;
using Halide::reinterpret;
using Halide::select;
using Halide::strict_float;

constexpr double infinity = std::numeric_limits<double>::infinity();

Expr f64(double value) { return Expr(value); }
Expr widen(const Expr& x) { return cast<double>(x); }
Expr narrow(const Expr& x) { return cast<float>(x); }
Expr nan_like(const Expr& x) { return constant(x.type(), std::numeric_limits<double>::quiet_NaN()); }

/// Horner's scheme, the highest coefficient last.
Expr polynomial(const Expr& x, const std::vector<double>& coefficients) {
  Expr value = constant(x.type(), coefficients.back());
  for (auto c = coefficients.rbegin() + 1; c != coefficients.rend(); ++c) value = value * x + constant(x.type(), *c);
  return value;
}

/// a - b as it stands. LLVM may still fuse what a and b are made of, unlike within `strict_float`.
Expr strict_difference(const Expr& a, const Expr& b) {
  using Halide::Internal::Call;
  return Call::make(a.type(), Call::strict_sub, {a, b}, Call::PureIntrinsic);
}

/// x - k ln2. The first product is exact (the constant has nine bits) and must stay apart from the second: LLVM would
/// add the two constants, hence the strict step.
Expr remainder(const Expr& x, const Expr& k) { return strict_difference(x - k * 0.693359375F, k * -2.12194440e-4F); }

/// x + 1.5 2^23: the sum's unit is 1, so it is rounded to an integer, which its low bits hold. Strict, or LLVM would
/// cancel the terms, and round a product once instead of twice.
constexpr float shift_to_unit_one = 0x1.8p23F;
Expr with_unit_one(const Expr& x) { return strict_float(x + shift_to_unit_one); }
Expr without_shift(const Expr& shifted) {
  return strict_difference(shifted, constant(shifted.type(), shift_to_unit_one));
}

/// x = k ln2 + r with |r| <= ln2 / 2. k is limited so that 2^(k - 1) is normal.
struct Reduced {
  Expr k, r;
};
Reduced reduce_exp(const Expr& x) {
  const Expr k = Halide::round(Halide::clamp(x * float(std::numbers::log2e), -125.0F, 128.0F));
  return {k, remainder(x, k)};
}

/// (e^r - 1 - r) / r^2 for |r| <= ln2 / 2, relative error of e^r 3e-9 (a minimax fit). By Estrin's scheme: processors
/// look ahead some hundred instructions, which Horner's chain of dependent steps fills with too few vectors.
Expr exp_tail(const Expr& r) {
  const Expr square = r * r;
  const Expr upper = 0.04166620582935354F + 0.008368889558099224F * r + 0.0013950489161588533F * square;
  return (0.5000000095179089F + 0.16666518837468758F * r) + upper * square;
}

/// Where e^x is twice the smallest normal float, so that a factor 2^k of it is one too.
constexpr float least_exponent = -86.6F;

/// e^x for `least_exponent` <= x <= 88.72283, 2 ulp; of a NaN with low bits set no NaN.
Expr exp_within(const Expr& x) {
  // As `with_unit_one`, but in one step where the target has it: which of two neighbours k is does not matter.
  const Expr shifted = x * float(std::numbers::log2e) + shift_to_unit_one;
  const Expr r = remainder(x, without_shift(shifted));
  const Expr power = (1.0F + r) + exp_tail(r) * (r * r);
  return reinterpret<float>(reinterpret<std::int32_t>(power) + (reinterpret<std::int32_t>(shifted) << 23));
}

/// 2^(k - 1) for an integral float k in [-125, 128].
Expr half_power_of_two(const Expr& k) { return reinterpret<float>((cast<int>(k) + 126) << 23); }

/// 2^k for an integral double k within double's range.
Expr power_of_two_f64(const Expr& k) { return reinterpret<double>((cast<std::int64_t>(cast<int>(k)) + 1023) << 52); }

/// Natural logarithm of a positive, finite, normal double, relative error 1e-12: 2 atanh(s) with s = (m - 1) / (m + 1).
Expr log_f64(const Expr& x) {
  const Expr bits = reinterpret<std::int64_t>(x);
  const Expr root_half = Expr(std::int64_t{0x3FE6A09E667F3BCD});
  const Expr exponent = (bits - root_half) >> 52;
  const Expr mantissa = reinterpret<double>(bits - (exponent << 52));
  const Expr s = (mantissa - f64(1)) / (mantissa + f64(1));
  const Expr series =
      polynomial(s * s, {2.0, 2.0 / 3, 2.0 / 5, 2.0 / 7, 2.0 / 9, 2.0 / 11, 2.0 / 13, 2.0 / 15, 2.0 / 17});
  return cast<double>(cast<int>(exponent)) * f64(std::numbers::ln2) + s * series;
}

/// e^x of a double in [-700, 700], relative error 1e-11.
Expr exp_f64(const Expr& x) {
  const Expr k = Halide::round(x * f64(std::numbers::log2e));
  const Expr r = x - k * f64(std::numbers::ln2);
  return polynomial(
             r, {1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320, 1.0 / 362880}) *
         power_of_two_f64(k);
}

/// A double clamped for exp_f64; NaN stays.
Expr clamp_exponent(const Expr& x) { return clamp(x, -300.0, 300.0); }

Expr atan_f64(const Expr& x) {
  const Expr magnitude = Halide::abs(x);
  const Expr large = less(f64(1), magnitude);
  const Expr t = select(large, f64(1) / magnitude, magnitude);
  const Expr upper = less(f64(0.41421356237309503), t);
  const Expr u = select(upper, (t - f64(1)) / (t + f64(1)), t);
  std::vector<double> series;
  for (int i = 0; i < 14; ++i) series.push_back((i % 2 == 0 ? 1.0 : -1.0) / (2 * i + 1));
  const Expr inner = u * polynomial(u * u, series) + select(upper, f64(std::numbers::pi / 4), f64(0));
  const Expr outer = select(large, f64(std::numbers::pi / 2) - inner, inner);
  return select(less(x, f64(0)), -outer, outer);
}

/// Quadrant and remainder of x over pi / 2; in double, so that the remainder is good for large x too.
Reduced reduce_angle(const Expr& x) {
  const Expr wide = widen(x);
  const Expr k = Halide::round(wide * f64(2 / std::numbers::pi));
  // For huge x the remainder is noise; it stays where the polynomials do.
  return {cast<int>(k), clamp(narrow(wide - k * f64(std::numbers::pi / 2)), -0.79, 0.79)};
}

Expr sin_near_zero(const Expr& r) {
  return r + r * r * r * polynomial(r * r, {-1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880});
}

Expr cos_near_zero(const Expr& r) {
  return 1.0F + r * r * polynomial(r * r, {-1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800});
}

Expr select_quadrant(const Reduced& angle, int shift) {
  const Expr quadrant = (angle.k + shift) & 3;
  const Expr value = select((quadrant & 1) == 0, sin_near_zero(angle.r), cos_near_zero(angle.r));
  return select((quadrant & 2) == 0, value, -value);
}

}  // namespace

Expr widen_to_f32(const Expr& x) {
  if (x.type() != Halide::Float(16)) return cast<float>(x);
  const Expr bits = cast<std::uint32_t>(reinterpret<std::uint16_t>(x));
  const Expr magnitude = (bits & 0x7FFF) << 13;
  const Expr special = (bits & 0x7C00) == 0x7C00;
  // f32's exponent has 112 more below zero; the product is exact, denormals included.
  const Expr finite = reinterpret<std::uint32_t>(reinterpret<float>(magnitude) * 0x1p112F);
  return reinterpret<float>(select(special, magnitude | Expr(0x7F800000U), finite) | ((bits & 0x8000) << 16));
}

Expr constant(Halide::Type type, double value) { return cast(type, Expr(value)); }

Expr nearest(const Expr& x) { return without_shift(with_unit_one(x)); }
Expr nearest_integer(const Expr& x) {
  if (x.type().bits() == 64) return cast<std::int32_t>(Halide::round(x));
  return reinterpret<std::int32_t>(with_unit_one(x)) - std::bit_cast<std::int32_t>(shift_to_unit_one);
}

Expr less(const Expr& a, const Expr& b) { return a.type().is_float() ? strict_float(a < b) : a < b; }
// Halide turns a <= b into !(b < a), which NaN passes.
Expr less_equal(const Expr& a, const Expr& b) { return a.type().is_float() ? less(a, b) || equal(a, b) : a <= b; }
Expr equal(const Expr& a, const Expr& b) { return a.type().is_float() ? strict_float(a == b) : a == b; }

Expr maximum(const Expr& bound, const Expr& x) { return select(less(x, bound), bound, x); }
Expr minimum(const Expr& bound, const Expr& x) { return select(less(bound, x), bound, x); }

Expr clamp(const Expr& x, double low, double high) {
  return minimum(constant(x.type(), high), maximum(constant(x.type(), low), x));
}

Expr maximum_of(const Expr& a, const Expr& b) {
  if (!a.type().is_float()) return Halide::max(a, b);
  return select(Halide::is_nan(a), a, maximum(a, b));
}

Expr minimum_of(const Expr& a, const Expr& b) {
  if (!a.type().is_float()) return Halide::min(a, b);
  return select(Halide::is_nan(a), a, minimum(a, b));
}

Expr exp(const Expr& x) {
  // ln of the largest float, rounded down.
  constexpr float largest = 88.72283F;
  const Expr value = exp_within(Halide::clamp(x, least_exponent, largest));
  const Expr positive = select(less(x, least_exponent), 0.0F, value);
  // The product is infinite, or NaN for NaN.
  return select(less_equal(x, largest), positive, x * std::numeric_limits<float>::max());
}

Expr exp_of_nonpositive(const Expr& x) { return exp_within(maximum(least_exponent, x)); }

Expr expm1(const Expr& x) {
  // Below -20 the result is -1 and above 89 infinite.
  const Expr within = clamp(x, -20.0, 89.5);
  const auto [k, r] = reduce_exp(within);
  const Expr half = half_power_of_two(k);
  const Expr tail = r + r * r * exp_tail(r);  // e^r - 1
  // Strict, since LLVM would take half out of both terms: (tail + 1) half - 1/2 cancels.
  return (tail * half + strict_float(half - 0.5F)) * 2.0F;
}

Expr log(const Expr& x) {
  const Expr tiny = less(x, constant(Halide::Float(32), 1.17549435e-38));
  const Expr bits = reinterpret<std::int32_t>(select(tiny, x * 8388608.0F, x));
  const Expr root_half = 0x3F3504F3;
  const Expr exponent = (bits - root_half) >> 23;
  const Expr f = reinterpret<float>(bits - (exponent << 23)) - 1.0F;
  const Expr e = cast<float>(exponent - select(tiny, 23, 0));
  const Expr tail =
      polynomial(f, {0.3333333170969486, -0.2500082105621517, 0.20001226667458638, -0.16623356479373302,
                     0.14201762467073925, -0.13160195053226786, 0.12761550359917417, -0.07634429906604048});
  // The low part of ln 2 joins the small terms first.
  const Expr low = (f * f) * (f * tail - 0.5F) + e * -2.12194440e-4F;
  const Expr finite = strict_float(strict_float(f + low) + e * 0.693359375F);
  const Expr positive = select(equal(x, constant(Halide::Float(32), infinity)), x, finite);
  const Expr zero = constant(Halide::Float(32), 0);
  return select(less(zero, x), positive, equal(x, zero), constant(Halide::Float(32), -infinity), nan_like(x));
}

Expr log1p(const Expr& x) {
  const Expr u = strict_float(1.0F + x);
  // log(u) is the logarithm of the rounded sum; the quotient corrects for what the rounding lost.
  const Expr corrected = math::log(u) * strict_float(x / (u - 1.0F));
  const Expr one = constant(Halide::Float(32), 1);
  return select(equal(u, one), x, equal(u, constant(Halide::Float(32), infinity)), u,
                less(constant(Halide::Float(32), 0), u), corrected, math::log(u));
}

Expr sigmoid(const Expr& x) {
  // From 127.5 ln2 on 2^k is zero and the result 1; below -127.5 ln2, where it would be no normal number, 2^k is
  // infinite and the result zero: next to nothing would not do, since swish multiplies it by an x of any size.
  const Expr y = -clamp(x, -88.7229, 88.0296);
  // The low bits hold k + 127, the exponent of 2^k. As a factor of e^r it is added to 1 in the same step.
  constexpr float shift_to_exponent = shift_to_unit_one + 127;
  const Expr shifted = y * float(std::numbers::log2e) + shift_to_exponent;
  const Expr power_of_two = reinterpret<float>(reinterpret<std::int32_t>(shifted) << 23);
  const Expr r = remainder(y, strict_difference(shifted, constant(x.type(), shift_to_exponent)));
  // A minimax fit of e^r, 1e-7, by Horner's scheme: two steps fewer than with `exp_tail`, which exp's 2 ulp take. Steps
  // are what a loop is limited by: on Intel they share two ports with the division, which alone takes 10 cycles.
  const Expr power =
      polynomial(r, {1, 1, 0.4999923032728069, 0.16667115358041443, 0.04189032966792915, 0.008312503992281018});
  return 1.0F / (1.0F + power_of_two * power);
}

Expr tanh(const Expr& x) {
  // A rational minimax fit on [-9, 9], 2e-8; tanh(9) rounds to 1.
  const Expr within = clamp(x, -9.0, 9.0);
  const Expr z = within * within;
  const Expr p = polynomial(z, {0.9999999794751449, 0.1338104771600053, 0.0034956137857855923, 2.060947934210758e-05,
                                1.3355159302502525e-08});
  const Expr q =
      polynomial(z, {1.0, 0.4671436332665718, 0.025877081300479502, 0.0003285675725776016, 7.776773365303504e-07});
  return clamp(within * p / q, -1.0, 1.0);
}

Expr erf(const Expr& x) {
  // A rational minimax fit on [-3.9, 3.9], 2e-8; erf(3.9) rounds to 1.
  const Expr within = clamp(x, -3.9, 3.9);
  const Expr z = within * within;
  const Expr p = polynomial(z, {1.1283791476660134, 0.18966111043294515, 0.05266738252836169, 0.0037381193323423323,
                                0.0002850598971099452, 2.06654943578857e-06});
  const Expr q = polynomial(z, {1.0, 0.5014155652908415, 0.11381664644452674, 0.014913817250400887,
                                0.001157326728676995, 3.8270702537378246e-05});
  // Exactly 1 beyond the fit: GELU multiplies 1 + erf(x) by an x that grows.
  const Expr one = constant(Halide::Float(32), 1);
  return select(less(constant(Halide::Float(32), 3.9), Halide::abs(x)), select(x < 0.0F, -one, one), within * p / q);
}

Expr pow(const Expr& x, const Expr& y) {
  // Every test is made in f32: LLVM takes what was widened to f64 for finite.
  const Halide::Type f32 = Halide::Float(32);
  const Expr zero = constant(f32, 0), one = constant(f32, 1), inf = constant(f32, infinity);
  const Expr magnitude = Halide::abs(x);
  const Expr log =
      select(equal(magnitude, zero), f64(-infinity), equal(magnitude, inf), f64(infinity), log_f64(widen(magnitude)));
  const Expr power = narrow(exp_f64(clamp_exponent(strict_float(widen(y) * log))));
  const Expr half = y * 0.5F;
  const Expr integral = equal(Halide::floor(y), y);
  const Expr odd = integral && !equal(Halide::floor(half), half);
  const Expr signed_power = select(reinterpret<std::int32_t>(x) < 0 && odd, -power, power);
  const Expr is_one = equal(y, zero) || equal(x, one) || (equal(magnitude, one) && equal(Halide::abs(y), inf));
  const Expr undefined = Halide::is_nan(x) || Halide::is_nan(y) || (less(x, zero) && !integral && less(magnitude, inf));
  return select(is_one, one, undefined, nan_like(x), signed_power);
}

Expr sin(const Expr& x) { return select_quadrant(reduce_angle(x), 0); }
Expr cos(const Expr& x) { return select_quadrant(reduce_angle(x), 1); }

Expr tan(const Expr& x) {
  const Reduced angle = reduce_angle(x);
  const Expr sine = sin_near_zero(angle.r);
  const Expr cosine = cos_near_zero(angle.r);
  return select((angle.k & 1) == 0, sine / cosine, -cosine / sine);
}

Expr asin(const Expr& x) {
  const Expr wide = widen(x);
  return narrow(atan_f64(wide / Halide::sqrt(f64(1) - wide * wide)));
}

Expr acos(const Expr& x) {
  const Expr wide = widen(x);
  return narrow(f64(std::numbers::pi / 2) - atan_f64(wide / Halide::sqrt(f64(1) - wide * wide)));
}

Expr atan(const Expr& x) { return narrow(atan_f64(widen(x))); }

Expr sinh(const Expr& x) {
  // The difference of exponentials loses all below 1e-9, where sinh(x) is x.
  const Expr wide = clamp_exponent(widen(x));
  const Expr value = narrow(f64(0.5) * (exp_f64(wide) - exp_f64(-wide)));
  return select(less(Halide::abs(x), constant(Halide::Float(32), 1e-4)), x, value);
}

Expr cosh(const Expr& x) {
  const Expr wide = clamp_exponent(widen(x));
  return narrow(f64(0.5) * (exp_f64(wide) + exp_f64(-wide)));
}

Expr asinh(const Expr& x) {
  const Expr wide = widen(Halide::abs(x));
  const Expr value = narrow(log_f64(wide + Halide::sqrt(wide * wide + f64(1))));
  const Expr magnitude = Halide::abs(x);
  const Expr special = Halide::is_nan(x) || equal(magnitude, constant(Halide::Float(32), infinity));
  const Expr result = select(less(magnitude, constant(Halide::Float(32), 1e-4)), magnitude, value);
  return select(special, x, reinterpret<std::int32_t>(x) < 0, -result, result);
}

Expr acosh(const Expr& x) {
  const Expr wide = widen(x);
  const Expr value = narrow(log_f64(wide + Halide::sqrt(wide * wide - f64(1))));
  const Expr special = Halide::is_nan(x) || equal(x, constant(Halide::Float(32), infinity));
  return select(special, x, less(x, constant(Halide::Float(32), 1)), nan_like(x), value);
}

Expr atanh(const Expr& x) {
  const Expr magnitude = Halide::abs(x);
  const Expr wide = widen(magnitude);
  const Expr value = narrow(f64(0.5) * log_f64((f64(1) + wide) / (f64(1) - wide)));
  const Expr one = constant(Halide::Float(32), 1);
  const Expr result = select(less(magnitude, constant(Halide::Float(32), 1e-4)), magnitude, equal(magnitude, one),
                             constant(Halide::Float(32), infinity), less(magnitude, one), value, nan_like(x));
  return select(reinterpret<std::int32_t>(x) < 0, -result, result);
}

Expr fmod(const Expr& a, const Expr& b) {
  const Expr dividend = widen(Halide::abs(a));
  const Expr divisor = widen(Halide::abs(b));
  const Expr remainder = strict_float(dividend - Halide::trunc(dividend / divisor) * divisor);
  // The quotient may round up to the next integer.
  const Expr fixed =
      select(less(remainder, f64(0)), remainder + divisor, less(remainder, divisor), remainder, remainder - divisor);
  const Expr inf = constant(Halide::Float(32), infinity);
  const Expr whole = equal(Halide::abs(b), inf) && less(Halide::abs(a), inf);
  const Expr undefined =
      Halide::is_nan(a) || Halide::is_nan(b) || equal(Halide::abs(a), inf) || equal(b, constant(Halide::Float(32), 0));
  const Expr value = narrow(fixed);
  return select(undefined, nan_like(a), whole, a, reinterpret<std::int32_t>(a) < 0, -value, value);
}

}  // namespace heddle::ops::math
