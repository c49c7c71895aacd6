#include "targets/gpu/vulkan_values.hpp"

#include "targets/gpu/kernels.hpp"

namespace heddle::targets {
namespace {

using namespace Halide::Internal;
using Halide::Expr;

class Values : public IRMutator {
 public:
  using IRMutator::mutate;

 protected:
  using IRMutator::visit;

  Expr visit(const Shuffle* op) override {
    if (op->vectors.size() != 2 || !op->is_interleave()) return IRMutator::visit(op);
    std::vector<Expr> vectors = mutate(op->vectors);
    vectors.push_back(make_zero(op->type.element_of()));
    return Shuffle::make(vectors, op->indices);
  }

  Expr visit(const Call* op) override {
    if (!op->type.is_float()) return IRMutator::visit(op);
    if (op->is_intrinsic(Call::strict_add)) return exact<Add>(op);
    if (op->is_intrinsic(Call::strict_sub)) return exact<Sub>(op);
    if (op->is_intrinsic(Call::strict_mul)) return exact<Mul>(op);
    if (op->is_intrinsic(Call::strict_div)) return exact<Div>(op);
    return IRMutator::visit(op);
  }

 private:
  template <class Operation>
  Expr exact(const Call* op) {
    const Expr a = mutate(op->args[0]);
    return once(Operation::make(a, mutate(op->args[1])), [](const Expr& value) { return Min::make(value, value); });
  }
};

}  // namespace

Stmt vulkan_values(const Stmt& s) { return mutate_kernels<Values>(s); }

}  // namespace heddle::targets
