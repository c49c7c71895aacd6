#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <Halide.h>

namespace heddle::targets {

/// An integer expression as constant + sum of coefficient * term. A term is a variable or, kept whole, an expression
/// that is no sum: `thread / 8`.
struct Affine {
  std::int64_t constant = 0;
  std::map<Halide::Expr, std::int64_t, Halide::Internal::IRDeepCompare> terms = {};  ///< no zero coefficients

  Affine& add(const Affine& other, std::int64_t factor = 1);
  std::int64_t coefficient(const std::string& variable) const;  ///< of an Int(32); 0 where it is no term by itself
  bool uses(const std::string& variable) const;                 ///< alone or within a term
  Halide::Expr expr() const;                                    ///< Int(32)
  bool operator==(const Affine& other) const;
};

using Lets = Halide::Internal::Scope<Halide::Expr>;

/// The expression with the variables that `lets` binds replaced by their values, all the way down.
Halide::Expr expand(const Halide::Expr& e, const Lets& lets);

/// Of a scalar expression.
Affine affine(const Halide::Expr& e, const Lets& lets);

/// Of each lane of a vector index, or of a scalar one; nothing if it is no combination of ramps and broadcasts.
std::optional<std::vector<Affine>> affine_lanes(const Halide::Expr& e, const Lets& lets);

}  // namespace heddle::targets
