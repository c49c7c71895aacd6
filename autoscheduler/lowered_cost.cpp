#include "autoscheduler/lowered_cost.hpp"

namespace heddle::autoscheduler {

double division_cost(const Halide::Type& type, const Halide::Expr& by) {
  if (type.is_float()) return 7;
  if (const auto c = Halide::Internal::as_const_int(by); c && (*c & (*c - 1)) == 0) return 1;
  if (Halide::Internal::is_const(by)) return 6;
  return type.lanes() == 1 ? 25 : 12;
}

double element_cost(const Halide::Type& type) { return type.bits() >= 32 ? 1.5 : 4; }

std::optional<double> function_cost(const Halide::Internal::Call& call) {
  const auto is = [&](const char* name) { return call.name.starts_with(name); };
  if (is("sqrt")) return 7;
  if (is("fast_inverse") || is("floor") || is("ceil") || is("round") || is("trunc") || is("abs")) return 1;
  if (is("exp_") || is("log_")) return 22;
  if (is("pow_")) return 50;
  return std::nullopt;
}

}  // namespace heddle::autoscheduler
