#include "targets/gpu/kernels.hpp"

#include <map>
#include <sstream>
#include <utility>

namespace heddle::targets {

using namespace Halide::Internal;
using Halide::Expr;

namespace {

class Kernels : public IRMutator {
 public:
  explicit Kernels(const std::function<Stmt(const Stmt&)>& rewrite) : rewrite_(rewrite) {}
  using IRMutator::mutate;

 protected:
  using IRMutator::visit;
  Stmt visit(const For* op) override { return op->for_type == ForType::GPUBlock ? rewrite_(op) : IRMutator::visit(op); }

 private:
  const std::function<Stmt(const Stmt&)>& rewrite_;
};

/// Replaces the variables that are bound outside.
class Recode : public IRMutator {
 public:
  Recode(const std::function<bool(Halide::Type)>& applies, const std::function<Expr(const Expr&)>& encode,
         const std::function<Expr(const Expr&, Halide::Type)>& decode)
      : applies_(applies), encode_(encode), decode_(decode) {}
  using IRMutator::mutate;

  std::map<std::string, Expr> arguments;  ///< encoded values by their new names

 protected:
  using IRMutator::visit;

  Expr visit(const Variable* op) override {
    if (bound_.contains(op->name) || !applies_(op->type)) return op;
    const std::string name = op->name + ".argument";
    const Expr encoded = arguments.try_emplace(name, encode_(op)).first->second;
    return decode_(Variable::make(encoded.type(), name), op->type);
  }
  template <class T>
  auto visit_let(const T* op) {
    const Expr value = mutate(op->value);
    const ScopedBinding<void> bind(bound_, op->name);
    return T::make(op->name, value, mutate(op->body));
  }
  Expr visit(const Let* op) override { return visit_let(op); }
  Stmt visit(const LetStmt* op) override { return visit_let(op); }

 private:
  const std::function<bool(Halide::Type)>& applies_;
  const std::function<Expr(const Expr&)>& encode_;
  const std::function<Expr(const Expr&, Halide::Type)>& decode_;
  Scope<> bound_;
};

}  // namespace

std::string stage_of(const std::string& allocation) {
  const std::size_t dot = allocation.rfind('.');
  const bool numbered = dot != std::string::npos && dot + 1 < allocation.size() &&
                        allocation.find_first_not_of("0123456789", dot + 1) == std::string::npos;
  return numbered ? allocation.substr(0, dot) : allocation;
}

std::string print(const Expr& e) {
  std::ostringstream text;
  text << e;
  return text.str();
}

Expr once(const Expr& value, const std::function<Expr(const Expr&)>& f) {
  if (value.as<Variable>() != nullptr || is_const(value)) return f(value);
  const std::string name = unique_name('t');
  return Let::make(name, value, f(Variable::make(value.type(), name)));
}

Stmt rewrite_kernels(const Stmt& s, const std::function<Stmt(const Stmt&)>& f) { return Kernels(f).mutate(s); }

Stmt recode_arguments(const Stmt& kernel, const std::function<bool(Halide::Type)>& applies,
                      const std::function<Expr(const Expr&)>& encode,
                      const std::function<Expr(const Expr&, Halide::Type)>& decode) {
  Recode recode(applies, encode, decode);
  Stmt result = recode.mutate(kernel);
  for (const auto& [name, value] : recode.arguments) result = LetStmt::make(name, value, result);
  return result;
}

}  // namespace heddle::targets
