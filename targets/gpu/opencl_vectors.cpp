#include "targets/gpu/opencl_vectors.hpp"

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "targets/gpu/kernels.hpp"

namespace heddle::targets {
namespace {

using namespace Halide::Internal;
using Halide::Expr;

/// The lanes of expressions that depend on vectors of truths. What has no truths in it stays a vector, is computed once
/// in front of them, and is taken apart.
class Lanes {
 public:
  Expr lane(const Expr& e, int i) {
    if (e.type().is_scalar()) return e;
    if (const auto* op = e.as<Broadcast>())
      return op->value.type().is_scalar() ? op->value : lane(op->value, i % op->value.type().lanes());
    if (const auto* op = e.as<Ramp>(); op && op->base.type().is_scalar())
      return simplify(op->base + op->stride * make_const(op->base.type(), i));
    if (const auto* op = e.as<Shuffle>()) {
      const auto [vector, at] = op->vector_and_lane_indices()[static_cast<std::size_t>(i)];
      return lane(op->vectors[static_cast<std::size_t>(vector)], at);
    }
    if (const auto* op = e.as<Let>()) {
      if (bound_.insert(op->name).second) lets_.emplace_back(op->name, op->value);
      return lane(op->body, i);
    }
    if (!e.type().is_bool()) return Shuffle::make_extract_element(variable(e), i);
    if (const auto* op = e.as<Not>()) return Not::make(lane(op->a, i));
    if (const auto* op = e.as<And>()) return binary(op, i);
    if (const auto* op = e.as<Or>()) return binary(op, i);
    if (const auto* op = e.as<EQ>()) return binary(op, i);
    if (const auto* op = e.as<NE>()) return binary(op, i);
    if (const auto* op = e.as<LT>()) return binary(op, i);
    if (const auto* op = e.as<LE>()) return binary(op, i);
    if (const auto* op = e.as<GT>()) return binary(op, i);
    if (const auto* op = e.as<GE>()) return binary(op, i);
    if (const auto* op = e.as<Select>())
      return Select::make(lane(op->condition, i), lane(op->true_value, i), lane(op->false_value, i));
    if (const auto* op = e.as<Cast>()) return lane(op->value, i) != make_zero(op->value.type().element_of());
    if (const auto* op = e.as<Call>(); op && op->is_pure()) {
      std::vector<Expr> arguments;
      for (const Expr& argument : op->args) arguments.push_back(lane(argument, i));
      return Call::make(op->type.element_of(), op->name, arguments, op->call_type);
    }
    return Shuffle::make_extract_element(e, i);
  }

  /// What the lanes were put together to, with the vectors that they are taken from.
  Expr with_vectors(Expr e) const {
    for (auto let = lets_.rbegin(); let != lets_.rend(); ++let) e = Let::make(let->first, let->second, e);
    return e;
  }

 private:
  template <class Op>
  Expr binary(const Op* op, int i) {
    const Expr a = lane(op->a, i);
    return Op::make(a, lane(op->b, i));
  }

  Expr variable(const Expr& e) {
    if (e.as<Variable>() != nullptr) return e;
    const auto [known, fresh] = variables_.try_emplace(e);
    if (fresh) {
      lets_.emplace_back(unique_name('t'), e);
      known->second = Variable::make(e.type(), lets_.back().first);
    }
    return known->second;
  }

  std::vector<std::pair<std::string, Expr>> lets_;
  std::set<std::string> bound_;
  std::map<Expr, Expr, Halide::ExprCompare> variables_;
};

class Vectors : public IRMutator {
 public:
  using IRMutator::mutate;

 protected:
  using IRMutator::visit;

  Stmt visit(const Allocate* op) override {
    if (op->memory_type == Halide::MemoryType::GPUShared) return IRMutator::visit(op);
    const ScopedBinding<void> bind(own_, op->name);
    return IRMutator::visit(op);
  }

  Expr visit(const Select* op) override {
    const Expr condition = mutate(op->condition), yes = mutate(op->true_value), no = mutate(op->false_value);
    if (condition.type().is_scalar()) return Select::make(condition, yes, no);
    return by_lane(op->type, [&](Lanes& lanes, int i) {
      const Expr truth = lanes.lane(condition, i), a = lanes.lane(yes, i);
      return Select::make(truth, a, lanes.lane(no, i));
    });
  }

  Expr visit(const Cast* op) override {
    if (op->type.is_scalar() || op->type.is_bool() || !op->value.type().is_bool()) return IRMutator::visit(op);
    const Expr truths = mutate(op->value);
    return by_lane(op->type,
                   [&](Lanes& lanes, int i) { return Cast::make(op->type.element_of(), lanes.lane(truths, i)); });
  }

  Expr visit(const Call* op) override {
    if (op->is_intrinsic(Call::extract_mask_element))
      if (const auto i = as_const_int(op->args[1])) {
        Lanes lanes;
        const Expr truth = lanes.lane(mutate(op->args[0]), static_cast<int>(*i));
        return lanes.with_vectors(truth);
      }
    return IRMutator::visit(op);
  }

  Expr visit(const Let* op) override {
    if (!op->value.type().is_bool() || op->value.type().is_scalar()) return IRMutator::visit(op);
    return mutate(substitute(op->name, op->value, op->body));
  }

  Stmt visit(const LetStmt* op) override {
    if (!op->value.type().is_bool() || op->value.type().is_scalar()) return IRMutator::visit(op);
    return mutate(substitute(op->name, op->value, op->body));
  }

  Expr visit(const Load* op) override {
    return Load::make(op->type, op->name, mutate(op->index), op->image, op->param, mutate(op->predicate),
                      known(op->name, op->type.lanes()) ? op->alignment : ModulusRemainder());
  }

  Stmt visit(const Store* op) override {
    return Store::make(op->name, mutate(op->value), mutate(op->index), op->param, mutate(op->predicate),
                       known(op->name, op->value.type().lanes()) ? op->alignment : ModulusRemainder());
  }

 private:
  template <class F>
  static Expr by_lane(Halide::Type type, F&& f) {
    Lanes lanes;
    std::vector<Expr> all;
    for (int i = 0; i < type.lanes(); ++i) all.push_back(f(lanes, i));
    return lanes.with_vectors(Shuffle::make_concat(all));
  }

  bool known(const std::string& name, int lanes) const { return lanes != 3 && !own_.contains(name); }

  Scope<> own_;
};

}  // namespace

Stmt opencl_vectors(const Stmt& s) { return mutate_kernels<Vectors>(s); }

}  // namespace heddle::targets
