#include "targets/cpu/whole_accumulators.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

namespace heddle::targets {
namespace {

namespace hi = Halide::Internal;
using Halide::Expr;
using hi::Stmt;

/// Whether a vector's elements all lie in an allocation of so many.
bool is_within(const Expr& index, std::int64_t elements) {
  const auto* ramp = index.as<hi::Ramp>();
  if (ramp == nullptr) return false;
  const auto first = hi::as_const_int(ramp->base), step = hi::as_const_int(ramp->stride);
  if (!first || !step) return false;
  const std::int64_t last = *first + *step * (ramp->lanes - 1);
  return std::min(*first, last) >= 0 && std::max(*first, last) < elements;
}

/// Loads of the accumulator without their predicate.
class WholeLoads : public hi::IRMutator {
 public:
  explicit WholeLoads(const hi::Store& update) : update_(update) {}
  bool reads_accumulator = false;

 protected:
  using hi::IRMutator::visit;

  Expr visit(const hi::Load* op) override {
    if (op->name != update_.name || !hi::equal(op->index, update_.index)) return hi::IRMutator::visit(op);
    reads_accumulator = true;
    return hi::Load::make(op->type, op->name, op->index, op->image, op->param, hi::const_true(op->type.lanes()),
                          op->alignment);
  }

 private:
  const hi::Store& update_;
};

class WholeAccumulators : public hi::IRMutator {
 protected:
  using hi::IRMutator::visit;

  Stmt visit(const hi::Allocate* op) override {
    std::int64_t elements = 1;
    for (const Expr& extent : op->extents) elements *= hi::as_const_int(extent).value_or(0);
    const auto outer = std::exchange(elements_[op->name], elements);
    Stmt result = hi::IRMutator::visit(op);
    elements_[op->name] = outer;
    return result;
  }

  Stmt visit(const hi::For* op) override {
    if (op->for_type == hi::ForType::Serial || op->for_type == hi::ForType::Unrolled) return hi::IRMutator::visit(op);
    // Tasks share what is allocated outside of them.
    const auto outside = std::exchange(elements_, {});
    Stmt result = hi::IRMutator::visit(op);
    elements_ = outside;
    return result;
  }

  Stmt visit(const hi::Store* op) override {
    const auto allocated = elements_.find(op->name);
    if (hi::is_const_one(op->predicate) || allocated == elements_.end() || !is_within(op->index, allocated->second))
      return hi::IRMutator::visit(op);
    WholeLoads whole(*op);
    const Expr value = whole.mutate(op->value);
    if (!whole.reads_accumulator) return hi::IRMutator::visit(op);
    const Expr before = hi::Load::make(op->value.type(), op->name, op->index, {}, {},
                                       hi::const_true(op->value.type().lanes()), op->alignment);
    return hi::Store::make(op->name, select(op->predicate, value, before), op->index, op->param,
                           hi::const_true(op->value.type().lanes()), op->alignment);
  }

 private:
  std::map<std::string, std::int64_t> elements_;
};

}  // namespace

Stmt whole_accumulators(const Stmt& s) { return WholeAccumulators().mutate(s); }

}  // namespace heddle::targets
