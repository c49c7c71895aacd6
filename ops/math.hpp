#pragma once
#include <Halide.h>

// Scalar functions for algorithms, in place of Halide's where those are wrong at infinities and NaN (exp(inf) is 0
// there) or call libm, which vectorises nowhere and which a kernel without a runtime cannot resolve.
//
// All take and return f32 unless said otherwise. Errors are the largest ones seen over all finite f32 arguments, in
// units of the result's last place (ulp = 2^-23 relative). Results below 2^-124 may be flushed to zero.
namespace heddle::ops::math {

using Halide::Expr;

/// A constant of the given type.
Expr constant(Halide::Type type, double value);

/// f16 or bf16 as f32. LLVM's own conversion from f16 is one instruction, but it declares the result finite, and every
/// test for infinities and NaN is then folded away.
Expr widen_to_f32(const Expr& x);

/// The whole number nearest to x, |x| <= 2^22, of halves the even one, as x's own type (f32) and as i32. These are
/// additions, where rounding and converting cost two each and Halide splits wide vectors for them. An f64 may be
/// whatever an i32 holds.
Expr nearest(const Expr& x);
Expr nearest_integer(const Expr& x);

/// Comparisons that hold no more than IEEE says: Halide's own assume that there is no NaN and call NaN < 1 true.
Expr less(const Expr& a, const Expr& b);
Expr less_equal(const Expr& a, const Expr& b);
Expr equal(const Expr& a, const Expr& b);

/// Minimum, maximum and clamp that hand a NaN on. Where one side is a constant it goes first (`max(constant, x)`): on
/// x86 this is then one instruction, which returns its second operand for a NaN.
Expr maximum(const Expr& bound, const Expr& x);  ///< NaN if x is NaN; `bound` must not be one
Expr minimum(const Expr& bound, const Expr& x);
Expr clamp(const Expr& x, double low, double high);
Expr maximum_of(const Expr& a, const Expr& b);  ///< NaN if either is
Expr minimum_of(const Expr& a, const Expr& b);

Expr exp(const Expr& x);  ///< 2 ulp
/// For x <= 0, without exp's tests: 2 ulp down to -86.6; below it e^-86.6 instead of less, at -inf too.
Expr exp_of_nonpositive(const Expr& x);
Expr expm1(const Expr& x);    ///< 4 ulp
Expr log(const Expr& x);      ///< 2 ulp
Expr log1p(const Expr& x);    ///< 4 ulp
Expr sigmoid(const Expr& x);  ///< 4 ulp
Expr tanh(const Expr& x);     ///< 6 ulp
Expr erf(const Expr& x);      ///< 6 ulp

// Rarely in a hot loop: these go through f64 inside, so a device needs it.
Expr pow(const Expr& x, const Expr& y);  ///< 1 ulp; IEEE's special cases
Expr sin(const Expr& x);                 ///< 2 ulp for |x| <= 10^5; noise beyond 10^9
Expr cos(const Expr& x);                 ///< 2 ulp for |x| <= 10^5, absolute 10^-7 near its zeros
Expr tan(const Expr& x);                 ///< 4 ulp for |x| <= 10^5
Expr asin(const Expr& x);                ///< 1 ulp, like the rest
Expr acos(const Expr& x);
Expr atan(const Expr& x);
Expr sinh(const Expr& x);
Expr cosh(const Expr& x);
Expr asinh(const Expr& x);
Expr acosh(const Expr& x);
Expr atanh(const Expr& x);
Expr fmod(const Expr& a, const Expr& b);  ///< C's fmod; exact while |a / b| < 2^29

}  // namespace heddle::ops::math
