#include "base/extent.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <limits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.hpp"

namespace heddle {
namespace {

std::int64_t floor_div_int(std::int64_t a, std::int64_t b) {
  const std::int64_t q = a / b;
  return (a % b != 0 && ((a < 0) != (b < 0))) ? q - 1 : q;
}

std::int64_t mod_int(std::int64_t a, std::int64_t b) { return a - floor_div_int(a, b) * b; }

std::int64_t apply(Extent::Atom::Kind kind, std::int64_t a, std::int64_t b) {
  using Kind = Extent::Atom::Kind;
  if ((kind == Kind::div || kind == Kind::mod) && b == 0)
    throw Error(ErrorCode::invalid_argument, "an extent divides by zero");
  switch (kind) {
    case Kind::div: return floor_div_int(a, b);
    case Kind::mod: return mod_int(a, b);
    case Kind::min: return std::min(a, b);
    case Kind::max: return std::max(a, b);
    case Kind::symbol: break;
  }
  throw Error(ErrorCode::internal, "a symbol is not an operation");
}

std::string_view name_of(Extent::Atom::Kind kind) {
  constexpr std::array<std::string_view, 5> names = {"", "div", "mod", "min", "max"};
  return names[static_cast<std::size_t>(kind)];
}

/// Recursive descent over the grammar in Extent::str's comment.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Extent parse() {
    Extent result = sum();
    skip();
    if (at_ != text_.size()) fail("unexpected text");
    return result;
  }

 private:
  Extent sum() {
    Extent total = product();
    for (;;) {
      skip();
      if (eat('+')) total = total + product();
      else if (eat('-')) total = total - product();
      else return total;
    }
  }

  Extent product() {
    Extent total = primary();
    for (;;) {
      skip();
      if (eat('*')) total = total * primary();
      else return total;
    }
  }

  Extent primary() {
    skip();
    if (eat('(')) {
      Extent inner = sum();
      expect(')');
      return inner;
    }
    if (eat('-')) return Extent(0) - primary();
    if (at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_])) != 0) {
      std::int64_t value = 0;
      while (at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_])) != 0) {
        if (value > (std::numeric_limits<std::int64_t>::max() - 9) / 10) fail("number too large");
        value = value * 10 + (text_[at_++] - '0');
      }
      return value;
    }
    const std::string word = identifier();
    using Kind = Extent::Atom::Kind;
    for (Kind kind : {Kind::div, Kind::mod, Kind::min, Kind::max}) {
      if (word != name_of(kind)) continue;
      expect('(');
      const Extent a = sum();
      expect(',');
      const Extent b = sum();
      expect(')');
      if (kind == Kind::div) return floor_div(a, b);
      if (kind == Kind::mod) return mod(a, b);
      return kind == Kind::min ? min(a, b) : max(a, b);
    }
    return Extent::symbol(word);
  }

  std::string identifier() {
    const std::size_t start = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) != 0 || text_[at_] == '_'))
      ++at_;
    if (start == at_) fail("expected a number, a name or '('");
    return std::string(text_.substr(start, at_ - start));
  }

  void skip() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }
  bool eat(char c) {
    skip();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!eat(c)) fail(fmt::format("expected '{}'", c));
  }
  [[noreturn]] void fail(const std::string& why) const {
    throw Error(ErrorCode::invalid_argument, fmt::format("bad extent '{}': {} at column {}", text_, why, at_ + 1));
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

bool Extent::AtomLess::operator()(const AtomRef& a, const AtomRef& b) const { return a->text < b->text; }

bool Extent::MonomialLess::operator()(const Monomial& a, const Monomial& b) const {
  return std::lexicographical_compare(b.begin(), b.end(), a.begin(), a.end(),
                                      [](const AtomRef& x, const AtomRef& y) { return x->text < y->text; });
}

Extent::Extent(std::int64_t value) {
  if (value != 0) terms_[Monomial{}] = value;
}

namespace {

Extent::AtomRef make_atom(Extent::Atom atom) {
  atom.text = atom.kind == Extent::Atom::Kind::symbol
                  ? atom.name
                  : fmt::format("{}({}, {})", name_of(atom.kind), atom.lhs.str(), atom.rhs.str());
  return std::make_shared<const Extent::Atom>(std::move(atom));
}

}  // namespace

Extent Extent::symbol(std::string name) {
  const bool starts_well = !name.empty() && (std::isalpha(static_cast<unsigned char>(name[0])) != 0 || name[0] == '_');
  if (!starts_well ||
      !std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) != 0 || c == '_'; }))
    throw Error(ErrorCode::invalid_argument, fmt::format("'{}' is not a symbol's name", name));
  return of(make_atom({Atom::Kind::symbol, std::move(name), {}, {}, {}}));
}

Extent Extent::of(AtomRef atom) {
  Extent e;
  e.terms_[Monomial{std::move(atom)}] = 1;
  return e;
}

Extent Extent::parse(std::string_view text) { return Parser(text).parse(); }

std::optional<std::int64_t> Extent::constant() const {
  if (terms_.empty()) return 0;
  if (terms_.size() == 1 && terms_.begin()->first.empty()) return terms_.begin()->second;
  return std::nullopt;
}

std::int64_t Extent::value() const {
  if (const auto c = constant()) return *c;
  throw Error(ErrorCode::invalid_argument, fmt::format("extent {} must be fixed here", str()));
}

std::set<std::string> Extent::symbols() const {
  std::set<std::string> names;
  for (const auto& term : terms_)
    for (const auto& atom : term.first) {
      if (atom->kind == Atom::Kind::symbol) {
        names.insert(atom->name);
        continue;
      }
      names.merge(atom->lhs.symbols());
      names.merge(atom->rhs.symbols());
    }
  return names;
}

std::int64_t Extent::evaluate(const SymbolValues& values) const {
  std::int64_t total = 0;
  for (const auto& [monomial, coefficient] : terms_) {
    std::int64_t product = coefficient;
    for (const auto& atom : monomial) {
      if (atom->kind == Atom::Kind::symbol) {
        const auto found = values.find(atom->name);
        if (found == values.end())
          throw Error(ErrorCode::not_found, fmt::format("symbolic extent '{}' has no value", atom->name));
        product *= found->second;
      } else {
        product *= apply(atom->kind, atom->lhs.evaluate(values), atom->rhs.evaluate(values));
      }
    }
    total += product;
  }
  return total;
}

Range Extent::bounds(const SymbolRanges& ranges) const {
  Range total{0, 0};
  const auto hull = [](std::initializer_list<std::int64_t> corners) {
    return Range{std::min(corners), std::max(corners)};
  };
  for (const auto& [monomial, coefficient] : terms_) {
    Range product{coefficient, coefficient};
    for (const auto& atom : monomial) {
      Range r;
      if (atom->kind == Atom::Kind::symbol) {
        const auto found = ranges.find(atom->name);
        if (found == ranges.end())
          throw Error(ErrorCode::not_found, fmt::format("symbolic extent '{}' has no range", atom->name));
        r = found->second;
      } else {
        const Range a = atom->lhs.bounds(ranges);
        const Range b = atom->rhs.bounds(ranges);
        switch (atom->kind) {
          case Atom::Kind::min: r = {std::min(a.min, b.min), std::min(a.max, b.max)}; break;
          case Atom::Kind::max: r = {std::max(a.min, b.min), std::max(a.max, b.max)}; break;
          case Atom::Kind::mod: r = {0, std::max<std::int64_t>(0, b.max - 1)}; break;
          default:
            if (b.min <= 0) throw Error(ErrorCode::invalid_argument, fmt::format("{} may divide by zero", atom->text));
            r = hull({floor_div_int(a.min, b.min), floor_div_int(a.min, b.max), floor_div_int(a.max, b.min),
                      floor_div_int(a.max, b.max)});
        }
      }
      product = hull({product.min * r.min, product.min * r.max, product.max * r.min, product.max * r.max});
    }
    total = {total.min + product.min, total.max + product.max};
  }
  return total;
}

Extent Extent::substitute(const std::map<std::string, Extent>& replacements) const {
  struct Substitution {
    const std::map<std::string, Extent>& with;
    Extent constant(std::int64_t v) const { return v; }
    Extent symbol(const std::string& name) const {
      const auto found = with.find(name);
      return found == with.end() ? Extent::symbol(name) : found->second;
    }
    Extent binary(char op, const Extent& a, const Extent& b) const {
      switch (op) {
        case '+': return a + b;
        case '*': return a * b;
        case '/': return floor_div(a, b);
        case '%': return mod(a, b);
        case 'm': return min(a, b);
        default: return max(a, b);
      }
    }
  };
  return visit(Substitution{replacements});
}

std::string Extent::str() const {
  if (terms_.empty()) return "0";
  std::string text;
  for (const auto& [monomial, coefficient] : terms_) {
    const bool negative = coefficient < 0;
    if (!text.empty()) text += negative ? " - " : " + ";
    else if (negative) text += "-";
    const std::uint64_t magnitude =
        negative ? 0 - static_cast<std::uint64_t>(coefficient) : static_cast<std::uint64_t>(coefficient);
    if (magnitude != 1 || monomial.empty()) {
      text += std::to_string(magnitude);
      if (!monomial.empty()) text += "*";
    }
    for (std::size_t i = 0; i < monomial.size(); ++i) text += (i > 0 ? "*" : "") + monomial[i]->text;
  }
  return text;
}

bool Extent::operator==(const Extent& other) const {
  return std::equal(terms_.begin(), terms_.end(), other.terms_.begin(), other.terms_.end(),
                    [](const auto& a, const auto& b) {
                      return a.second == b.second &&
                             std::equal(a.first.begin(), a.first.end(), b.first.begin(), b.first.end(),
                                        [](const AtomRef& x, const AtomRef& y) { return x->text == y->text; });
                    });
}

bool Extent::operator<(const Extent& other) const { return str() < other.str(); }

Extent operator+(const Extent& a, const Extent& b) {
  Extent sum = a;
  for (const auto& [monomial, coefficient] : b.terms_) {
    auto [at, inserted] = sum.terms_.try_emplace(monomial, 0);
    at->second += coefficient;
    if (at->second == 0) sum.terms_.erase(at);
  }
  return sum;
}

Extent operator-(const Extent& a, const Extent& b) { return a + b * Extent(-1); }

Extent operator*(const Extent& a, const Extent& b) {
  Extent total;
  for (const auto& [ma, ca] : a.terms_)
    for (const auto& [mb, cb] : b.terms_) {
      Extent::Monomial product = ma;
      product.insert(product.end(), mb.begin(), mb.end());
      std::sort(product.begin(), product.end(), Extent::AtomLess{});
      Extent term;
      term.terms_[std::move(product)] = ca * cb;
      total = total + term;
    }
  return total;
}

namespace {

Extent atom_extent(Extent::Atom::Kind kind, const Extent& a, const Extent& b) {
  return Extent::of(make_atom({kind, {}, a, b, {}}));
}

}  // namespace

Extent floor_div(const Extent& a, const Extent& b) {
  const auto ca = a.constant();
  const auto cb = b.constant();
  if (cb && *cb == 0) throw Error(ErrorCode::invalid_argument, "an extent divides by zero");
  if (ca && cb) return floor_div_int(*ca, *cb);
  if (cb && *cb == 1) return a;
  if (a == b) return 1;
  if (cb && *cb > 0) {
    // (c*q + r) / c == q + r / c, term by term.
    Extent quotient, rest;
    for (const auto& [monomial, coefficient] : a.terms_) {
      const std::int64_t q = floor_div_int(coefficient, *cb);
      const bool exact = coefficient % *cb == 0;
      Extent term;
      term.terms_[monomial] = exact || monomial.empty() ? q : 0;
      if (term.terms_.begin()->second != 0) quotient = quotient + term;
      Extent left;
      const std::int64_t r = exact ? 0 : monomial.empty() ? mod_int(coefficient, *cb) : coefficient;
      if (r != 0) left.terms_[monomial] = r;
      rest = rest + left;
    }
    if (rest.terms_.empty()) return quotient;
    if (const auto c = rest.constant()) return quotient + Extent(floor_div_int(*c, *cb));
    // div(div(x, p), q) == div(x, p*q) for positive p, q.
    if (rest.terms_.size() == 1 && rest.terms_.begin()->second == 1 && rest.terms_.begin()->first.size() == 1) {
      const auto& atom = rest.terms_.begin()->first[0];
      const auto inner = atom->kind == Extent::Atom::Kind::div ? atom->rhs.constant() : std::nullopt;
      if (inner && *inner > 0) return quotient + floor_div(atom->lhs, Extent(*inner * *cb));
    }
    return quotient + atom_extent(Extent::Atom::Kind::div, rest, b);
  }
  // A single-term divisor that divides every term cancels: W*H*3 / (H*3) == W (extents are positive).
  if (b.terms_.size() == 1) {
    const auto& [divisor, coefficient] = *b.terms_.begin();
    Extent quotient;
    for (const auto& [monomial, c] : a.terms_) {
      if (c % coefficient != 0) return atom_extent(Extent::Atom::Kind::div, a, b);
      Extent::Monomial left;
      std::set_difference(monomial.begin(), monomial.end(), divisor.begin(), divisor.end(), std::back_inserter(left),
                          Extent::AtomLess{});
      if (left.size() + divisor.size() != monomial.size()) return atom_extent(Extent::Atom::Kind::div, a, b);
      quotient.terms_[std::move(left)] = c / coefficient;
    }
    return quotient;
  }
  // a == k * b for a constant k.
  if (a.terms_.size() == b.terms_.size() && !a.terms_.empty() &&
      a.terms_.begin()->second % b.terms_.begin()->second == 0) {
    const std::int64_t k = a.terms_.begin()->second / b.terms_.begin()->second;
    if (a == b * Extent(k)) return k;
  }
  return atom_extent(Extent::Atom::Kind::div, a, b);
}

Extent mod(const Extent& a, const Extent& b) {
  const auto ca = a.constant();
  const auto cb = b.constant();
  if (cb && *cb == 0) throw Error(ErrorCode::invalid_argument, "an extent divides by zero");
  if (ca && cb) return mod_int(*ca, *cb);
  if ((cb && *cb == 1) || a == b) return 0;
  if (cb && std::all_of(a.terms_.begin(), a.terms_.end(), [&](const auto& t) { return t.second % *cb == 0; })) return 0;
  return atom_extent(Extent::Atom::Kind::mod, a, b);
}

Extent min(const Extent& a, const Extent& b) {
  if (const auto d = (a - b).constant()) return *d <= 0 ? a : b;
  return b < a ? atom_extent(Extent::Atom::Kind::min, b, a) : atom_extent(Extent::Atom::Kind::min, a, b);
}

Extent max(const Extent& a, const Extent& b) {
  if (const auto d = (a - b).constant()) return *d >= 0 ? a : b;
  return b < a ? atom_extent(Extent::Atom::Kind::max, b, a) : atom_extent(Extent::Atom::Kind::max, a, b);
}

Extent ceil_div(const Extent& a, const Extent& b) { return floor_div(a + b - Extent(1), b); }

void to_json(nlohmann::json& json, const Extent& extent) {
  if (const auto fixed = extent.constant()) json = *fixed;
  else json = extent.str();
}

void from_json(const nlohmann::json& json, Extent& extent) {
  if (json.is_number_integer()) extent = json.get<std::int64_t>();
  else if (json.is_string()) extent = Extent::parse(json.get<std::string>());
  else throw Error(ErrorCode::invalid_argument, "an extent is an integer or an expression's text, not " + json.dump());
}

}  // namespace heddle
