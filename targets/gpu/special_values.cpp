#include "targets/gpu/special_values.hpp"

#include "targets/gpu/kernels.hpp"

namespace heddle::targets {
namespace {

using namespace Halide::Internal;
using Halide::Expr;

class SpecialValues : public IRMutator {
 public:
  using IRMutator::mutate;

 protected:
  using IRMutator::visit;
  Expr visit(const Call* op) override {
    const bool nan = op->name.starts_with("is_nan_f"), infinite = op->name.starts_with("is_inf_f"),
               finite = op->name.starts_with("is_finite_f");
    if (!nan && !infinite && !finite) return IRMutator::visit(op);
    const Expr x = mutate(op->args[0]);
    const Halide::Type bits = x.type().with_code(Halide::Type::UInt);
    const int mantissa = bits.bits() == 16 ? 10 : bits.bits() == 32 ? 23 : 52;
    const std::uint64_t all = (std::uint64_t{1} << (bits.bits() - 1)) - 1;
    const Expr magnitude = Halide::reinterpret(bits, x) & make_const(bits, all);
    const Expr infinity = make_const(bits, all >> mantissa << mantissa);
    return nan ? infinity < magnitude : infinite ? magnitude == infinity : magnitude < infinity;
  }
};

}  // namespace

Stmt special_values(const Stmt& s) { return mutate_kernels<SpecialValues>(s); }

}  // namespace heddle::targets
