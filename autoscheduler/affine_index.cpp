#include "autoscheduler/affine_index.hpp"

#include <algorithm>
#include <cmath>
#include <map>

namespace heddle::autoscheduler {
namespace {

using Halide::Expr;
namespace hi = Halide::Internal;

/// `clamp(e, low, high)` protects a read outside of what matters: e is what the access follows.
Expr without_clamps(const Expr& e) {
  if (const auto* call = e.as<hi::Call>();
      call != nullptr && (call->is_intrinsic(hi::Call::likely) || call->is_intrinsic(hi::Call::likely_if_innermost)))
    return without_clamps(call->args[0]);
  if (const auto* low = e.as<hi::Max>(); low != nullptr) {
    if (hi::is_const(low->b)) return without_clamps(low->a);
    if (hi::is_const(low->a)) return without_clamps(low->b);
  }
  if (const auto* high = e.as<hi::Min>(); high != nullptr) {
    if (hi::is_const(high->b)) return without_clamps(high->a);
    if (hi::is_const(high->a)) return without_clamps(high->b);
  }
  return e;
}

/// The least and the largest value of an index while one loop runs from 0 to `last` and the others stand at 0.
std::optional<std::pair<double, double>> range(const Expr& e, const std::vector<std::string>& loops,
                                               const std::string& running, int last) {
  hi::Scope<hi::Interval> scope;
  for (const auto& loop : loops) scope.push(loop, {0, loop == running ? last : 0});
  const hi::Interval bounds = hi::bounds_of_expr_in_scope(e, scope);
  if (!bounds.is_bounded()) return std::nullopt;
  const auto least = constant_of(bounds.min), largest = constant_of(bounds.max);
  if (!least || !largest) return std::nullopt;
  return std::pair(static_cast<double>(*least), static_cast<double>(*largest));
}

/// Looks for the line near which an index stays.
void find_line(AffineIndex& index, const Expr& e, const std::vector<std::string>& loops) {
  constexpr int far = 4096;
  std::vector<double> slopes;
  double below = 0, above = 0;
  for (const auto& loop : loops) {
    if (!hi::expr_uses_var(e, loop)) {
      slopes.push_back(0);
      continue;
    }
    const auto near_end = range(e, loops, loop, far), far_end = range(e, loops, loop, 2 * far);
    if (!near_end || !far_end) return;
    const double slope = (far_end->second - near_end->second) / far;
    // A bend, a bound, or something that data decides.
    if (slope < 0 || far_end->first != near_end->first) return;
    if (std::abs(near_end->second - slope * far - (far_end->second - slope * 2 * far)) > 1) return;
    slopes.push_back(slope);
    below += std::min(0.0, near_end->first - static_cast<double>(index.offset));
    above += std::max(0.0, near_end->second - slope * far - static_cast<double>(index.offset));
  }
  index.slopes = std::move(slopes);
  index.below = below;
  index.above = above;
}

std::optional<AffineIndex::Quotient> quotient(const Expr& e, const std::vector<std::string>& loops) {
  AffineIndex::Quotient result;
  Expr divided = e;
  if (const auto* sum = e.as<hi::Add>()) {
    const auto added = hi::as_const_int(sum->b);
    if (!added) return std::nullopt;
    result.added = *added;
    divided = sum->a;
  }
  const auto* division = divided.as<hi::Div>();
  const auto divisor = division == nullptr ? std::nullopt : hi::as_const_int(division->b);
  if (!divisor || *divisor < 1) return std::nullopt;
  result.divisor = *divisor;
  const AffineIndex numerator = affine_index(division->a, loops);
  if (!numerator.affine || numerator.clamped) return std::nullopt;
  result.coefficients = numerator.coefficients;
  result.offset = numerator.offset;
  return result;
}

}  // namespace

std::optional<std::int64_t> constant_of(const Expr& e) {
  if (!e.defined()) return std::nullopt;
  const auto value = hi::as_const_int(hi::simplify(e));
  return value ? std::optional<std::int64_t>(*value) : std::nullopt;
}

AffineIndex affine_index(const Expr& index, const std::vector<std::string>& loops) {
  const Expr whole = hi::simplify(index);
  const Expr e = hi::simplify(without_clamps(whole));
  AffineIndex result;
  result.clamped = !hi::equal(whole, e);
  std::map<std::string, Expr> zeros;
  for (const auto& loop : loops) zeros[loop] = 0;
  for (const auto& loop : loops) {
    result.depends.push_back(hi::expr_uses_var(e, loop));
    const Expr variable = hi::Variable::make(Halide::Int(32), loop);
    const auto step = constant_of(hi::substitute(loop, variable + 1, e) - e);
    if (!step) result.affine = false;
    result.coefficients.push_back(step.value_or(0));
  }
  const auto offset = constant_of(hi::substitute(zeros, e));
  if (!offset) result.affine = false;
  result.offset = offset.value_or(0);
  if (!result.affine) {
    find_line(result, e, loops);
    result.quotient = quotient(e, loops);
  }
  return result;
}

Interval reach(const AffineIndex& index, const Box& loops) {
  if (index.quotient) {
    const auto& [coefficients, offset, divisor, added] = *index.quotient;
    const Interval numerator = reach({.coefficients = coefficients, .offset = offset}, loops);
    const auto quotient = [&](std::int64_t n) { return (n < 0 ? n - divisor + 1 : n) / divisor + added; };
    const std::int64_t first = quotient(numerator.min);
    return {first, quotient(numerator.min + numerator.extent - 1) - first + 1};
  }
  if (!index.affine) {
    double low = static_cast<double>(index.offset) + index.below,
           high = static_cast<double>(index.offset) + index.above;
    for (std::size_t i = 0; i < loops.size() && i < index.slopes.size(); ++i) {
      low += index.slopes[i] * static_cast<double>(loops[i].min);
      high += index.slopes[i] * static_cast<double>(loops[i].min + loops[i].extent - 1);
    }
    const auto least = static_cast<std::int64_t>(std::floor(low)), most = static_cast<std::int64_t>(std::ceil(high));
    return {least, most - least + 1};
  }
  Interval r{index.offset, 1};
  for (std::size_t i = 0; i < loops.size() && i < index.coefficients.size(); ++i) {
    const std::int64_t c = index.coefficients[i];
    r.min += c * (c >= 0 ? loops[i].min : loops[i].min + loops[i].extent - 1);
    r.extent += std::abs(c) * (loops[i].extent - 1);
  }
  return r;
}

}  // namespace heddle::autoscheduler
