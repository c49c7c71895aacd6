#include "targets/affine.hpp"

#include <algorithm>

namespace heddle::targets {

using namespace Halide::Internal;
using Halide::Expr;

Affine& Affine::add(const Affine& other, std::int64_t factor) {
  constant += factor * other.constant;
  for (const auto& [term, coefficient] : other.terms) {
    const auto at = terms.try_emplace(term, 0).first;
    at->second += factor * coefficient;
    if (at->second == 0) terms.erase(at);
  }
  return *this;
}

std::int64_t Affine::coefficient(const std::string& variable) const {
  const auto found = terms.find(Variable::make(Halide::Int(32), variable));
  return found == terms.end() ? 0 : found->second;
}

bool Affine::uses(const std::string& variable) const {
  return std::any_of(terms.begin(), terms.end(), [&](const auto& term) { return expr_uses_var(term.first, variable); });
}

Expr Affine::expr() const {
  Expr sum = make_const(Halide::Int(32), constant);
  for (const auto& [term, coefficient] : terms) sum = sum + term * make_const(Halide::Int(32), coefficient);
  return simplify(sum);
}

bool Affine::operator==(const Affine& other) const {
  return constant == other.constant && terms.size() == other.terms.size() &&
         std::equal(terms.begin(), terms.end(), other.terms.begin(),
                    [](const auto& a, const auto& b) { return a.second == b.second && equal(a.first, b.first); });
}

Expr expand(const Expr& e, const Lets& lets) {
  struct Expand : IRMutator {
    const Lets& lets;
    explicit Expand(const Lets& lets) : lets(lets) {}
    using IRMutator::visit;
    Expr visit(const Variable* op) override {
      const Expr* value = lets.find(op->name);
      return value == nullptr ? Expr(op) : mutate(*value);
    }
  };
  return Expand(lets).mutate(e);
}

namespace {

std::optional<std::int64_t> constant_of(const Affine& a) {
  return a.terms.empty() ? std::optional(a.constant) : std::nullopt;
}

/// The product, where one factor is constant.
std::optional<Affine> product(const Affine& a, const Affine& b) {
  if (const auto factor = constant_of(b)) return Affine{}.add(a, *factor);
  if (const auto factor = constant_of(a)) return Affine{}.add(b, *factor);
  return {};
}

Affine whole(const Expr& e, const Lets& lets) { return {0, {{simplify(expand(e, lets)), 1}}}; }

}  // namespace

Affine affine(const Expr& e, const Lets& lets) {
  if (const auto value = as_const_int(e)) return {*value};
  if (const auto* op = e.as<Variable>()) {
    const Expr* value = lets.find(op->name);
    return value == nullptr ? Affine{0, {{e, 1}}} : affine(*value, lets);
  }
  if (const auto* op = e.as<Add>()) return affine(op->a, lets).add(affine(op->b, lets));
  if (const auto* op = e.as<Sub>()) return affine(op->a, lets).add(affine(op->b, lets), -1);
  if (const auto* op = e.as<Mul>()) {
    const auto scaled = product(affine(op->a, lets), affine(op->b, lets));
    return scaled ? *scaled : whole(e, lets);
  }
  if (const auto* op = Call::as_intrinsic(e, {Call::shift_left})) {
    const auto by = as_const_uint(op->args[1]);
    if (by && *by < 31) return Affine{}.add(affine(op->args[0], lets), std::int64_t{1} << *by);
  }
  return whole(e, lets);
}

std::optional<std::vector<Affine>> affine_lanes(const Expr& e, const Lets& lets) {
  if (e.type().is_scalar()) return std::vector{affine(e, lets)};
  std::vector<Affine> lanes;
  if (const auto* op = e.as<Ramp>()) {
    const auto base = affine_lanes(op->base, lets), stride = affine_lanes(op->stride, lets);
    if (!base || !stride) return {};
    for (int i = 0; i < op->lanes; ++i)
      for (std::size_t j = 0; j < base->size(); ++j) lanes.push_back(Affine((*base)[j]).add((*stride)[j], i));
    return lanes;
  }
  if (const auto* op = e.as<Broadcast>()) {
    const auto value = affine_lanes(op->value, lets);
    if (!value) return {};
    for (int i = 0; i < op->lanes; ++i) lanes.insert(lanes.end(), value->begin(), value->end());
    return lanes;
  }
  const auto both = [&](const Expr& a, const Expr& b, std::int64_t factor) -> std::optional<std::vector<Affine>> {
    auto sum = affine_lanes(a, lets);
    const auto other = affine_lanes(b, lets);
    if (!sum || !other) return {};
    for (std::size_t i = 0; i < sum->size(); ++i) (*sum)[i].add((*other)[i], factor);
    return sum;
  };
  if (const auto* op = e.as<Add>()) return both(op->a, op->b, 1);
  if (const auto* op = e.as<Sub>()) return both(op->a, op->b, -1);
  if (const auto* op = e.as<Variable>())
    if (const Expr* value = lets.find(op->name)) return affine_lanes(*value, lets);
  return {};
}

}  // namespace heddle::targets
