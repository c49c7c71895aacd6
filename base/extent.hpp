#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace heddle {

/// Inclusive range of a symbolic extent.
struct Range {
  std::int64_t min = 1;
  std::int64_t max = 1;
  bool operator==(const Range&) const = default;
};

using SymbolValues = std::map<std::string, std::int64_t>;
using SymbolRanges = std::map<std::string, Range>;

/// An integer expression over named symbols: a fixed extent (`224`) or a symbolic one (`(W + 1) / 2`).
///
/// Kept as a polynomial in canonical form whose atoms are symbols, floor divisions, remainders, minima and maxima, so
/// that equal polynomials compare equal whatever the order they were built in: 2*(W + 1) - W == W + 2. Division rounds
/// toward minus infinity; the remainder has the divisor's sign. Equality of different atoms is not decided:
/// `a == b` true means equal for all symbol values, false means unknown.
class Extent {
 public:
  Extent() = default;                          ///< 0
  Extent(std::int64_t value);                  // NOLINT: a fixed extent is an integer to its users
  static Extent symbol(std::string name);      ///< name: [A-Za-z_][A-Za-z0-9_]*
  static Extent parse(std::string_view text);  ///< inverse of str(); throws Error{invalid_argument}

  std::optional<std::int64_t> constant() const;  ///< the value if no symbol is left
  bool is_constant() const { return constant().has_value(); }
  std::int64_t value() const;  ///< constant() or throws Error{invalid_argument}
  std::set<std::string> symbols() const;

  std::int64_t evaluate(const SymbolValues& values) const;  ///< throws Error{not_found} for a missing symbol
  Range bounds(const SymbolRanges& ranges) const;           ///< interval arithmetic: holds, may be wide
  Extent substitute(const std::map<std::string, Extent>& replacements) const;

  /// Canonical text: `parse(e.str()) == e`. Grammar: integers, names, + - * and the functions
  /// div(a, b), mod(a, b), min(a, b), max(a, b).
  std::string str() const;

  bool operator==(const Extent& other) const;
  bool operator<(const Extent& other) const;  ///< an arbitrary total order, for use as a key

  friend Extent operator+(const Extent& a, const Extent& b);
  friend Extent operator-(const Extent& a, const Extent& b);
  friend Extent operator*(const Extent& a, const Extent& b);
  friend Extent floor_div(const Extent& a, const Extent& b);  ///< exact where b divides every term
  friend Extent mod(const Extent& a, const Extent& b);
  friend Extent min(const Extent& a, const Extent& b);
  friend Extent max(const Extent& a, const Extent& b);

  /// Folds the expression from its parts, for turning it into another system's expressions: `T constant(int64)`,
  /// `T symbol(string)`, `T binary(char op, T, T)` with op one of + * / % m (min) M (max).
  template <class Visitor>
  auto visit(const Visitor& v) const -> decltype(v.constant(0));

  struct Atom;
  using AtomRef = std::shared_ptr<const Atom>;
  struct AtomLess {
    bool operator()(const AtomRef& a, const AtomRef& b) const;
  };
  using Monomial = std::vector<AtomRef>;  ///< sorted; a power repeats its atom
  struct MonomialLess {
    bool operator()(const Monomial& a, const Monomial& b) const;
  };
  using Terms = std::map<Monomial, std::int64_t, MonomialLess>;
  const Terms& terms() const { return terms_; }
  static Extent of(AtomRef atom);  ///< one atom as an expression

 private:
  Terms terms_;  ///< no zero coefficients
};

Extent ceil_div(const Extent& a, const Extent& b);

/// JSON: an integer where the extent is fixed, its text otherwise.
void to_json(nlohmann::json& json, const Extent& extent);
void from_json(const nlohmann::json& json, Extent& extent);

struct Extent::Atom {
  enum class Kind { symbol, div, mod, min, max };
  Kind kind = Kind::symbol;
  std::string name;  ///< of a symbol
  Extent lhs, rhs;   ///< of the others
  std::string text;  ///< canonical, compared by
};

template <class Visitor>
auto Extent::visit(const Visitor& v) const -> decltype(v.constant(0)) {
  auto total = v.constant(0);
  bool first = true;
  for (const auto& [monomial, coefficient] : terms_) {
    auto product = v.constant(coefficient);
    bool bare = coefficient == 1 && !monomial.empty();
    for (const auto& atom : monomial) {
      auto factor = v.constant(0);
      switch (atom->kind) {
        case Atom::Kind::symbol: factor = v.symbol(atom->name); break;
        case Atom::Kind::div: factor = v.binary('/', atom->lhs.visit(v), atom->rhs.visit(v)); break;
        case Atom::Kind::mod: factor = v.binary('%', atom->lhs.visit(v), atom->rhs.visit(v)); break;
        case Atom::Kind::min: factor = v.binary('m', atom->lhs.visit(v), atom->rhs.visit(v)); break;
        case Atom::Kind::max: factor = v.binary('M', atom->lhs.visit(v), atom->rhs.visit(v)); break;
      }
      product = bare ? factor : v.binary('*', product, factor);
      bare = false;
    }
    total = first ? product : v.binary('+', total, product);
    first = false;
  }
  return total;
}

}  // namespace heddle
