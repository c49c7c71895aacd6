#include "targets/gpu/integers.hpp"

#include <algorithm>

#include "targets/gpu/kernels.hpp"

namespace heddle::targets {
namespace {

using namespace Halide::Internal;
using Halide::Expr;
using Halide::Type;

Type unsigned_like(Type type) { return type.with_code(Type::UInt); }
Expr as_unsigned(const Expr& x) { return reinterpret(unsigned_like(x.type()), x); }
Expr as_signed(const Expr& x) { return reinterpret(x.type().with_code(Type::Int), x); }

/// -1 below zero and 0 elsewhere.
Expr sign_of(const Expr& x) { return select(x < make_zero(x.type()), make_const(x.type(), -1), make_zero(x.type())); }

Expr shift_right(const Expr& x, const Expr& n) {
  const Expr sign = sign_of(x);
  const auto shifted = [&](const Expr& by) { return as_signed(as_unsigned(x ^ sign) >> by) ^ sign; };
  if (!n.type().is_int()) return shifted(n);
  // A negative amount shifts to the left.
  const Expr by = as_unsigned(n);
  return select(n < make_zero(n.type()), x << (make_zero(by.type()) - by), shifted(by));
}

/// Two operands, variables or constants of 32 bits at least, and the signs that they may have: -1 where they are below
/// zero; undefined where they never are.
struct Division {
  Expr a, b, a_sign, b_sign;

  /// Rounded so that the remainder is not negative; 0 for a divisor of 0.
  Expr down() const {
    if (a.type().is_uint()) return unless_zero(a / divisor(b));
    // ~a = -a - 1 rounds the other way.
    const Expr q = a_sign.defined() ? quotient(a ^ a_sign) ^ a_sign : quotient(a);
    return unless_zero(negated(q, b_sign));
  }

  Expr toward_zero() const { return unless_zero(negated(negated(quotient(negated(a, a_sign)), a_sign), b_sign)); }

  Expr remainder(const Expr& quotient) const { return unless_zero(a - quotient * b); }

 private:
  static Expr negated(const Expr& x, const Expr& sign) { return sign.defined() ? (x ^ sign) - sign : x; }
  static Expr divisor(const Expr& x) { return is_const(x) ? x : max(x, make_one(x.type())); }

  /// Of a number that is not negative and the divisor's magnitude.
  Expr quotient(const Expr& x) const { return as_signed(as_unsigned(x) / divisor(as_unsigned(negated(b, b_sign)))); }

  Expr unless_zero(const Expr& value) const {
    return is_const(b) ? value : select(b == make_zero(b.type()), make_zero(b.type()), value);
  }
};

class Integers : public IRMutator {
 public:
  explicit Integers(DeviceApi api) : vulkan_(api == DeviceApi::vulkan) {}
  using IRMutator::mutate;

 protected:
  using IRMutator::visit;

  Stmt visit(const For* op) override {
    const ScopedBinding<Interval> bind(bounds_, op->name, {op->min, Interval::pos_inf()});
    return IRMutator::visit(op);
  }
  Expr visit(const Let* op) override { return visit_let<Expr>(op); }
  Stmt visit(const LetStmt* op) override { return visit_let<Stmt>(op); }

  Expr visit(const Call* op) override {
    if (!vulkan_) return IRMutator::visit(op);
    const bool is_signed = op->type.is_int();
    if (op->is_intrinsic(Call::shift_right) && is_signed)
      return once(mutate(op->args[0]), [&](const Expr& x) {
        return once(mutate(op->args[1]), [&](const Expr& n) { return shift_right(x, n); });
      });
    if (op->is_intrinsic(Call::div_round_to_zero) && is_signed)
      return divide(op->args[0], op->args[1], [](const Division& d) { return d.toward_zero(); });
    if (op->is_intrinsic(Call::mod_round_to_zero) && is_signed)
      return divide(op->args[0], op->args[1], [](const Division& d) { return d.remainder(d.toward_zero()); });
    // Halide would write these out after the passes, with shifts and quotients that no pass sees.
    if (op->is_intrinsic({Call::halving_add, Call::halving_sub, Call::rounding_halving_add, Call::rounding_shift_right,
                          Call::rounding_shift_left, Call::mul_shift_right, Call::rounding_mul_shift_right,
                          Call::sorted_avg, Call::widening_shift_right}))
      if (const Expr lowered = lower_intrinsic(op); lowered.defined()) return mutate(lowered);
    return IRMutator::visit(op);
  }

  Expr visit(const Div* op) override {
    if (!concerned(op->type)) return IRMutator::visit(op);
    return divide(op->a, op->b, [](const Division& d) { return d.down(); });
  }

  Expr visit(const Mod* op) override {
    if (!concerned(op->type)) return IRMutator::visit(op);
    if (const auto bits = is_const_power_of_two_integer(op->b))
      return mutate(op->a) & make_const(op->type, (std::int64_t{1} << *bits) - 1);
    return divide(op->a, op->b, [](const Division& d) { return d.remainder(d.down()); });
  }

 private:
  bool vulkan_;
  Scope<Interval> bounds_;

  bool concerned(Type type) const { return type.is_uint() || (vulkan_ && type.is_int()); }

  template <class Node, class Op>
  Node visit_let(const Op* op) {
    const Expr value = mutate(op->value);
    const ScopedBinding<Interval> bind(negative(op->value) ? 0 : 1, bounds_, op->name,
                                       {make_zero(op->value.type()), Interval::pos_inf()});
    return Op::make(op->name, value, mutate(op->body));
  }

  /// Whether a number may be below zero.
  bool negative(const Expr& e) const {
    if (e.type().is_uint()) return false;
    if (const auto value = as_const_int(e)) return *value < 0;
    if (!e.type().is_scalar()) return true;
    const Expr least = find_constant_bound(e, Direction::Lower, bounds_);
    const auto value = least.defined() ? as_const_int(least) : std::nullopt;
    return !value || *value < 0;
  }

  template <class F>
  Expr divide(const Expr& a, const Expr& b, F f) {
    // Drivers divide 32 bits right.
    const Type wide = a.type().with_bits(std::max(a.type().bits(), 32));
    const bool a_negative = negative(a), b_negative = negative(b);
    return once(cast(wide, mutate(a)), [&](const Expr& x) {
      return once(cast(wide, mutate(b)), [&](const Expr& y) {
        return cast(a.type(), f(Division{x, y, a_negative ? sign_of(x) : Expr(), b_negative ? sign_of(y) : Expr()}));
      });
    });
  }
};

}  // namespace

Stmt integers(const Stmt& s, DeviceApi api) { return mutate_kernels<Integers>(s, api); }

}  // namespace heddle::targets
