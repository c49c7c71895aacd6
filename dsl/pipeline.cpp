#include "dsl/pipeline.hpp"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle {
namespace {

/// Halide's expressions for an extent's parts. Extents divide by positive numbers only, where Halide's division and
/// remainder agree with theirs.
struct ToExpr {
  const std::vector<Halide::Param<int>>& symbols;

  Halide::Expr constant(std::int64_t value) const {
    if (value > std::numeric_limits<std::int32_t>::max() || value < std::numeric_limits<std::int32_t>::min())
      throw Error(ErrorCode::unsupported, fmt::format("{} does not fit the 32 bits of a kernel's extents", value));
    return static_cast<std::int32_t>(value);
  }

  Halide::Expr symbol(const std::string& name) const {
    const auto found = std::find_if(symbols.begin(), symbols.end(), [&](const auto& p) { return p.name() == name; });
    if (found == symbols.end())
      throw Error(ErrorCode::not_found, fmt::format("the pipeline has no symbolic extent '{}'", name));
    return *found;
  }

  Halide::Expr binary(char op, const Halide::Expr& a, const Halide::Expr& b) const {
    switch (op) {
      case '+': return a + b;
      case '*': return a * b;
      case '/': return a / b;
      case '%': return a % b;
      case 'm': return Halide::min(a, b);
      default: return Halide::max(a, b);
    }
  }
};

}  // namespace

std::vector<Halide::Argument> Pipeline::arguments() const {
  std::vector<Halide::Argument> all;
  for (const auto& symbol : symbols) all.emplace_back(symbol);
  for (const auto& input : inputs) all.emplace_back(input);
  return all;
}

Halide::Expr to_expr(const Extent& extent, const std::vector<Halide::Param<int>>& symbols) {
  return extent.visit(ToExpr{symbols});
}

}  // namespace heddle
