#include "targets/gpu/vulkan_integers.hpp"

#include "targets/gpu/kernels.hpp"

namespace heddle::targets {
namespace {

using namespace Halide::Internal;
using Halide::Expr;

class Integers : public IRMutator {
 public:
  using IRMutator::mutate;

 protected:
  using IRMutator::visit;

  Expr visit(const Call* op) override {
    if (op->is_intrinsic(Call::shift_right) && op->type.is_int())
      return once(mutate(op->args[0]), [&](const Expr& x) {
        return once(mutate(op->args[1]), [&](const Expr& n) { return shift_right(x, n); });
      });
    if (op->is_intrinsic(Call::mod_round_to_zero) && op->type.is_int())
      return once(mutate(op->args[0]), [&](const Expr& a) {
        return once(mutate(op->args[1]), [&](const Expr& b) {
          return a - Call::make(op->type, Call::div_round_to_zero, {a, b}, Call::PureIntrinsic) * b;
        });
      });
    return IRMutator::visit(op);
  }

  Expr visit(const Mod* op) override {
    const auto bits = is_const_power_of_two_integer(op->b);
    if (!bits || *bits < 32) return IRMutator::visit(op);
    const Expr mask = make_const(op->type, (std::int64_t{1} << *bits) - 1);
    return mutate(op->a) & mask;
  }

 private:
  static Expr shift_right(const Expr& x, const Expr& n) {
    const Halide::Type bits = x.type().with_code(Halide::Type::UInt);
    const Expr sign = select(x < make_zero(x.type()), make_const(x.type(), -1), make_zero(x.type()));
    const auto shifted = [&](const Expr& by) {
      return Halide::reinterpret(x.type(), Halide::reinterpret(bits, x ^ sign) >> by) ^ sign;
    };
    if (!n.type().is_int()) return shifted(n);
    // A negative amount shifts to the left.
    const Expr by = Halide::reinterpret(n.type().with_code(Halide::Type::UInt), n);
    return select(n < make_zero(n.type()), x << (make_zero(by.type()) - by), shifted(by));
  }
};

}  // namespace

Stmt vulkan_integers(const Stmt& s) { return mutate_kernels<Integers>(s); }

}  // namespace heddle::targets
