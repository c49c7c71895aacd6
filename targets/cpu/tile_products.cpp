#include "targets/cpu/tile_products.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/error.hpp"
#include "targets/affine.hpp"

namespace heddle::targets {
namespace {

using namespace Halide::Internal;
using Halide::Expr;
using Halide::MemoryType;

constexpr std::int64_t most_rows = 16, word_bytes = 4, most_words = 16;
constexpr std::size_t most_tiles = 6;  // of eight, two of which hold operands
constexpr int tile_words = 256;

/// An operand's elements in a nest: base + rows * `pitch` + words.
struct Operand {
  std::string name;
  Halide::Type type;
  Expr base, pitch;
};

/// acc[rows x columns] += a[rows x depth] * b[depth x columns], in words of 32 bits.
struct Product {
  Affine acc;  ///< the first element
  std::int64_t acc_pitch = 0, rows = 1, columns = 1, depth = 1;
  Halide::Type sum;
  Operand a, b;
};

/// The value behind casts that keep it.
Expr without_widening(Expr e) {
  for (const auto* op = e.as<Cast>(); op != nullptr; op = e.as<Cast>()) {
    const Halide::Type from = op->value.type();
    const bool widens = op->type.can_represent(from) || (op->type == Halide::Float(32) && from == Halide::BFloat(16));
    if (!widens) return e;
    e = op->value;
  }
  return e;
}

/// The factors of a product that wraps nowhere.
std::optional<std::pair<Expr, Expr>> factors(const Expr& e) {
  const Expr bare = without_widening(e);
  std::pair<Expr, Expr> found;
  if (const auto* op = bare.as<Mul>()) found = {without_widening(op->a), without_widening(op->b)};
  else if (const auto* call = Call::as_intrinsic(bare, {Call::widening_mul}))
    found = {without_widening(call->args[0]), without_widening(call->args[1])};
  else return {};
  const bool is_whole =
      bare.type().is_float() || bare.type().bits() >= found.first.type().bits() + found.second.type().bits();
  return is_whole ? std::optional(found) : std::nullopt;
}

/// A load or store of one element, always done.
template <class T>
bool is_plain(const T& op) {
  return op.index.type().is_scalar() && is_const_one(op.predicate);
}

/// A nest of serial loops of constant extents around a store.
struct Nest {
  std::vector<const For*> loops;
  const Store* store = nullptr;
  Lets lets;

  Nest(const Stmt& outermost, const Lets& around) {
    lets.set_containing_scope(&around);
    Stmt s = outermost;
    while (store == nullptr) {
      if (const auto* loop = s.as<For>()) {
        if (loop->for_type != ForType::Serial || !as_const_int(loop->extent)) return;
        loops.push_back(loop);
        s = loop->body;
      } else if (const auto* let = s.as<LetStmt>()) {
        lets.push(let->name, let->value);
        s = let->body;
      } else if (const auto* op = s.as<Store>()) {
        if (is_plain(*op)) store = op;
        else return;
      } else {
        return;
      }
    }
  }
};

/// Takes a nest's loops out of quotients and remainders that they do not reach the end of: (32 * block + n) / 128, a
/// channel's group, is 32 * block / 128 where n is below 32, and % 128, a position in packed weights, that and n.
class Quotients : public IRMutator {
 public:
  explicit Quotients(const Nest& nest) : nest_(nest) {}

 protected:
  using IRMutator::visit;

  Expr visit(const Div* op) override {
    const auto parts = split(op->a, op->b);
    return parts ? parts->outside.expr() / op->b : IRMutator::visit(op);
  }

  Expr visit(const Mod* op) override {
    const auto parts = split(op->a, op->b);
    return parts ? parts->outside.expr() % op->b + parts->inside.expr() : IRMutator::visit(op);
  }

 private:
  struct Parts {
    Affine outside, inside;  ///< multiples of a divisor of the quotient's, and what stays below that
  };

  std::optional<Parts> split(const Expr& dividend, const Expr& divisor) {
    const auto whole = as_const_int(divisor);
    if (!whole || *whole <= 0) return {};
    const Affine sum = affine(mutate(dividend), {});
    Parts parts;
    std::int64_t step = *whole, most = 0;
    for (const auto& [term, coefficient] : sum.terms) {
      const auto loop = std::ranges::find_if(nest_.loops, [&](const For* l) { return expr_uses_var(term, l->name); });
      if (loop == nest_.loops.end()) {
        parts.outside.add({0, {{term, coefficient}}});
        step = std::gcd(step, coefficient);
        continue;
      }
      const auto min = as_const_int((*loop)->min);
      if (!term.as<Variable>() || coefficient < 0 || !min || *min < 0) return {};
      parts.inside.add({0, {{term, coefficient}}});
      most += coefficient * (*min + *as_const_int((*loop)->extent) - 1);
    }
    parts.inside.constant = mod_imp(sum.constant, step);
    parts.outside.constant = sum.constant - parts.inside.constant;
    return parts.inside.constant + most < step ? std::optional(parts) : std::nullopt;
  }

  const Nest& nest_;
};

/// What an index grows by with a loop, in elements; undefined where that is no constant of the nest.
class Steps {
 public:
  Steps(const Expr& index, const Nest& nest)
      : index_(simplify(Quotients(nest).mutate(expand(index, nest.lets)))), nest_(nest) {}

  Expr by(const For& loop) const {
    const Expr variable = Variable::make(Halide::Int(32), loop.name);
    const Expr next = substitute(loop.name, variable + 1, index_);
    const Expr step = simplify(next - index_);
    const bool varies =
        std::any_of(nest_.loops.begin(), nest_.loops.end(), [&](const For* l) { return expr_uses_var(step, l->name); });
    return varies ? Expr() : step;
  }

  /// At the start of every loop.
  Expr first() const {
    Expr e = index_;
    for (const For* loop : nest_.loops) e = substitute(loop->name, loop->min, e);
    return simplify(e);
  }

 private:
  Expr index_;
  const Nest& nest_;
};

bool is_step(const Expr& step, std::int64_t elements) {
  const auto constant = step.defined() ? as_const_int(step) : std::nullopt;
  return constant && *constant == elements;
}

/// The types that one tile instruction takes, left and right, and what it adds up in.
bool is_product(const Halide::Type& a, const Halide::Type& b, const Halide::Type& sum) {
  if (sum == Halide::Int(32))
    return (a == Halide::UInt(8) || a == Halide::Int(8)) && (b == Halide::UInt(8) || b == Halide::Int(8));
  return sum == Halide::Float(32) && a == Halide::BFloat(16) && b == Halide::BFloat(16);
}

std::optional<Product> product_of(const Stmt& s, const std::string& stage, const Lets& around) {
  const Nest nest(s, around);
  if (nest.store == nullptr || nest.store->name != stage) return {};
  const auto* sum = nest.store->value.as<Add>();
  if (sum == nullptr) return {};
  const auto* self = sum->a.as<Load>();
  if (self == nullptr || self->name != stage || !is_plain(*self)) return {};
  if (!is_const_zero(simplify(expand(self->index - nest.store->index, nest.lets)))) return {};
  const auto operands = factors(sum->b);
  if (!operands) return {};
  const auto* left = operands->first.as<Load>();
  const auto* right = operands->second.as<Load>();
  if (left == nullptr || right == nullptr || !is_plain(*left) || !is_plain(*right)) return {};
  if (left->name == stage || right->name == stage) return {};

  const Halide::Type type = nest.store->value.type();
  const Steps acc(nest.store->index, nest);
  // Either factor may be the one whose rows are the sum's.
  for (const auto& [a, b] : {std::pair{left, right}, std::pair{right, left}}) {
    if (!is_product(a->type, b->type, type)) continue;
    const std::int64_t factor = word_bytes / a->type.bytes();
    const Steps of_a(a->index, nest), of_b(b->index, nest);
    Product product;
    product.sum = type;
    product.a = {a->name, a->type, of_a.first(), make_const(Halide::Int(32), 0)};
    product.b = {b->name, b->type, of_b.first(), make_const(Halide::Int(32), 0)};
    std::array<bool, 3> found{};  // k, n, m
    const auto take = [&](const For& loop) {
      const std::int64_t extent = *as_const_int(loop.extent);
      const Expr in_acc = acc.by(loop), in_a = of_a.by(loop), in_b = of_b.by(loop);
      if (!in_acc.defined() || !in_a.defined() || !in_b.defined()) return false;
      const auto claim = [&](std::size_t role) { return !std::exchange(found[role], true); };
      if (is_step(in_acc, 0) && is_step(in_a, 1) && is_step(in_b, 1)) return extent == factor && claim(0);
      if (is_step(in_acc, 0) && is_step(in_a, factor * product.depth)) {
        // The words of one sum, or so many again of the next run of them.
        const Expr next_row = product.b.pitch * static_cast<int>(product.depth);
        if (product.depth > 1 && !is_const_zero(simplify(in_b - next_row))) return false;
        if (product.depth == 1) product.b.pitch = in_b;
        product.depth *= extent;
        return product.depth <= most_words;
      }
      if (is_step(in_acc, 1) && is_step(in_a, 0) && is_step(in_b, factor)) {
        product.columns = extent;
        return extent <= most_words && claim(1);
      }
      const auto pitch = as_const_int(in_acc);
      if (pitch && *pitch > 0 && is_step(in_b, 0)) {
        product.rows = extent;
        product.acc_pitch = *pitch;
        product.a.pitch = in_a;
        return extent <= most_rows && claim(2);
      }
      return false;
    };
    if (!std::all_of(nest.loops.rbegin(), nest.loops.rend(), [&](const For* loop) { return take(*loop); })) continue;
    if (!found[0] || !found[1]) continue;
    product.acc = affine(acc.first(), nest.lets);
    return product;
  }
  return {};
}

Expr bytes(const Expr& elements, std::int64_t size) {
  return Halide::cast<std::int64_t>(simplify(elements * static_cast<int>(size)));
}

Expr short_int(std::int64_t value) { return make_const(Halide::Int(16), value); }

Expr tile_load(const Operand& operand, std::int64_t rows, std::int64_t words) {
  const std::int64_t size = operand.type.bytes();
  return Call::make(
      operand.type.with_lanes(static_cast<int>(tile_words * word_bytes / size)), "tile_load",
      {short_int(rows), short_int(words * word_bytes), Variable::make(Halide::type_of<void*>(), operand.name),
       bytes(operand.base, size), bytes(operand.pitch, size)},
      Call::Intrinsic);
}

/// One of a stage's tiles, and what is done with it.
struct Tile {
  std::string name;
  Product shape;

  Halide::Type type() const { return shape.sum.with_lanes(tile_words); }
  Expr words() const { return Ramp::make(0, 1, tile_words); }
  Expr value() const { return Load::make(type(), name, words(), {}, {}, const_true(tile_words), {}); }
  Stmt set(const Expr& to) const { return Store::make(name, to, words(), {}, const_true(tile_words), {}); }
  Stmt zero() const {
    return set(Call::make(type(), "tile_zero", {short_int(shape.rows), short_int(shape.columns * word_bytes)},
                          Call::Intrinsic));
  }
  Stmt load(const Operand& sums) const {
    return set(Halide::reinterpret(type(), tile_load(sums, shape.rows, shape.columns)));
  }
  /// What the stage's memory holds of it, as bytes: their tile load is the one that Halide's code generator knows
  /// beside bfloat16's.
  Operand sums(const std::string& stage) const {
    return {stage, Halide::Int(8), shape.acc.expr() * static_cast<int>(word_bytes),
            static_cast<int>(shape.acc_pitch * word_bytes)};
  }
  Stmt add(const Product& p) const {
    return set(Call::make(type(), "tile_matmul",
                          {short_int(p.rows), short_int(p.columns * word_bytes), short_int(p.depth * word_bytes),
                           value(), tile_load(p.a, p.rows, p.depth), tile_load(p.b, p.depth, p.columns)},
                          Call::Intrinsic));
  }
  Stmt store(const std::string& stage) const {
    return Evaluate::make(Call::make(
        Halide::Int(32), "tile_store",
        {short_int(shape.rows), short_int(shape.columns * word_bytes), Variable::make(Halide::type_of<void*>(), stage),
         bytes(shape.acc.expr(), word_bytes), bytes(make_const(Halide::Int(32), shape.acc_pitch), word_bytes), value()},
        Call::Intrinsic));
  }
};

bool are_disjoint(const Product& one, const Product& other) {
  Affine apart = one.acc;
  apart.add(other.acc, -1);
  if (!apart.terms.empty() || one.acc_pitch != other.acc_pitch) return false;
  const std::int64_t pitch = one.acc_pitch;
  if (pitch == 0) return std::abs(apart.constant) >= std::max(one.columns, other.columns);
  const std::int64_t row = apart.constant >= 0 ? apart.constant / pitch : -((-apart.constant + pitch - 1) / pitch);
  const std::int64_t column = apart.constant - row * pitch;  // one's start within other's rows
  const bool beside = column >= other.columns && column + one.columns <= pitch;
  return beside || row >= other.rows || row <= -one.rows;
}

/// Replaces a stage's nests of products by those of tiles.
class Products : public IRMutator {
 public:
  Products(const std::string& stage, const Lets& around) : stage_(stage) { lets_.set_containing_scope(&around); }

  std::vector<Tile> tiles;
  bool is_pure = true;  ///< the stage starts with stores, then its tiles take over; nothing else touches it
  bool starts_with_zero = true;

  /// The row that all of a tile's rows start as, where there is one: a bias. It is loaded as often as the tile has
  /// rows, and the stage's memory needs no start.
  std::optional<Operand> first_row(const Tile& tile) const {
    std::optional<Vector> row;
    for (std::int64_t m = 0; m < tile.shape.rows; ++m) {
      Affine at = tile.shape.acc;
      at.constant += m * tile.shape.acc_pitch;
      const auto start = std::ranges::find_if(starts_, [&](const auto& s) { return s.first == at; });
      if (start == starts_.end()) return {};
      const Vector& from = start->second;
      if (from.lanes != tile.shape.columns || stored_.contains(from.name)) return {};
      if (row && (row->name != from.name || !(row->first == from.first))) return {};
      row = from;
    }
    // Bytes, as the sums themselves are loaded.
    return Operand{row->name, Halide::Int(8), row->first.expr() * static_cast<int>(word_bytes),
                   make_const(Halide::Int(32), 0)};
  }
  bool starts_with_rows() const {
    return std::ranges::all_of(tiles, [&](const Tile& tile) { return first_row(tile).has_value(); });
  }

  std::int64_t elements() const {
    std::int64_t sum = 0;
    for (const Tile& tile : tiles) sum += tile.shape.rows * tile.shape.columns;
    return sum;
  }

  /// Whether the place between start and products was found, where mark() is now.
  bool is_marked() const { return marked_; }
  static Stmt mark() { return Evaluate::make(Variable::make(Halide::Int(32), "the tiles' start")); }

 protected:
  using IRMutator::visit;

  Stmt visit(const For* op) override {
    if (const auto product = product_of(op, stage_, lets_)) {
      const bool stays = std::ranges::all_of(
          loops_, [&](const For* loop) { return loop->for_type == ForType::Serial && !product->acc.uses(loop->name); });
      if (!stays) is_pure = false;
      return tile_of(*product).add(*product);
    }
    loops_.push_back(op);
    const Stmt result = IRMutator::visit(op);
    loops_.pop_back();
    return result;
  }

  Stmt visit(const LetStmt* op) override {
    const Expr value = mutate(op->value);
    const ScopedBinding<Expr> bound(lets_, op->name, op->value);
    return LetStmt::make(op->name, value, mutate(op->body));
  }

  Stmt visit(const Block* op) override {
    const Stmt first = mutate(op->first);
    const bool is_start = tiles.empty();
    const int stores = stores_;
    Stmt rest = mutate(op->rest);
    if (is_start && !tiles.empty() && !marked_) {
      marked_ = true;
      if (!loops_.empty() || stores_ != stores) is_pure = false;
      rest = Block::make(mark(), rest);
    }
    return Block::make(first, rest);
  }

  Stmt visit(const Store* op) override {
    stored_.insert(op->name);
    if (op->name != stage_) return IRMutator::visit(op);
    ++stores_;
    if (!tiles.empty()) is_pure = false;
    if (!is_const_zero(op->value)) starts_with_zero = false;
    const auto* from = op->value.as<Load>();
    const auto to = dense(op->index);
    if (from != nullptr && to && from->type.bytes() == word_bytes && is_const_one(op->predicate) &&
        is_const_one(from->predicate))
      if (const auto row = dense(from->index)) starts_.emplace_back(*to, Vector{from->name, *row, from->type.lanes()});
    return IRMutator::visit(op);
  }

  Expr visit(const Load* op) override {
    if (op->name == stage_) is_pure = false;
    return IRMutator::visit(op);
  }

  Expr visit(const Variable* op) override {
    if (op->name == stage_) is_pure = false;
    return op;
  }

 private:
  struct Vector {
    std::string name;
    Affine first;
    int lanes;
  };

  /// The first element of a vector's, which lie one behind the other.
  std::optional<Affine> dense(const Expr& index) const {
    const auto* ramp = index.as<Ramp>();
    if (ramp == nullptr || !is_const_one(ramp->stride) || !ramp->base.type().is_scalar()) return {};
    return affine(ramp->base, lets_);
  }

  const Tile& tile_of(const Product& product) {
    for (const Tile& tile : tiles) {
      if (tile.shape.acc == product.acc) {
        is_pure = is_pure && tile.shape.rows == product.rows && tile.shape.columns == product.columns &&
                  tile.shape.acc_pitch == product.acc_pitch;
        return tile;
      }
      is_pure = is_pure && are_disjoint(tile.shape, product);
    }
    tiles.push_back({unique_name(stage_ + ".tile"), product});
    return tiles.back();
  }

  std::string stage_;
  Lets lets_;
  std::vector<const For*> loops_;
  std::vector<std::pair<Affine, Vector>> starts_;  ///< what the stage starts with, by the place in it
  std::set<std::string> stored_;
  int stores_ = 0;
  bool marked_ = false;
};

/// Puts the start of the tiles where its mark is, and takes the stage's own start away where they need none.
class Start : public IRMutator {
 public:
  Start(const std::string& stage, const Products& products)
      : stage_(stage), products_(products), with_rows_(products.starts_with_rows()) {}

 protected:
  using IRMutator::visit;

  Stmt visit(const Evaluate* op) override {
    if (!equal(Stmt(op), Products::mark())) return op;
    Stmt start = Evaluate::make(0);
    for (const Tile& tile : products_.tiles) {
      const auto of_tile = [&] {
        if (products_.starts_with_zero) return tile.zero();
        return with_rows_ ? tile.load(*products_.first_row(tile)) : tile.load(tile.sums(stage_));
      };
      start = Block::make(start, of_tile());
    }
    return start;
  }

  Stmt visit(const Store* op) override {
    const bool is_needless = op->name == stage_ && (products_.starts_with_zero || with_rows_);
    return is_needless ? Evaluate::make(0) : IRMutator::visit(op);
  }

 private:
  const std::string& stage_;
  const Products& products_;
  const bool with_rows_;
};

class TileProducts : public IRMutator {
 protected:
  using IRMutator::visit;

  Stmt visit(const LetStmt* op) override {
    const ScopedBinding<Expr> bound(lets_, op->name, op->value);
    return LetStmt::make(op->name, op->value, mutate(op->body));
  }

  Stmt visit(const Allocate* op) override {
    const std::int64_t size = op->constant_allocation_size();
    const ScopedBinding<std::int64_t> bound(sizes_, op->name, size);
    return IRMutator::visit(op);
  }

  Stmt visit(const ProducerConsumer* op) override {
    if (!op->is_producer) return IRMutator::visit(op);
    Products products(op->name, lets_);
    Stmt body = products.mutate(op->body);
    const auto& tiles = products.tiles;
    // Tiles that leave nothing of the stage to its zeros.
    const std::int64_t* size = sizes_.find(op->name);
    if (tiles.empty() || !products.is_pure || !products.is_marked() || size == nullptr || *size != products.elements())
      return IRMutator::visit(op);
    if (tiles.size() > most_tiles)
      throw Error(ErrorCode::unsupported,
                  fmt::format("stage '{}' sums products in {} tiles of 16 rows x 64 bytes at once, but the processor "
                              "holds {} beside their operands. Unroll fewer of them",
                              op->name, tiles.size(), most_tiles));
    body = Start(op->name, products).mutate(body);
    for (const Tile& tile : tiles) body = Block::make(body, tile.store(op->name));
    for (const Tile& tile : tiles)
      body = Allocate::make(tile.name, tile.type(), MemoryType::AMXTile, {1}, const_true(), body);
    return ProducerConsumer::make(op->name, true, body);
  }

 private:
  Lets lets_;
  Scope<std::int64_t> sizes_;  ///< of allocations, in elements; 0 where not known
};

}  // namespace

std::optional<TileLoad> tile_load_of(const Call& call) {
  if (call.call_type != Call::Intrinsic || call.name != "tile_load") return {};
  const auto rows = as_const_int(call.args[0]), row_bytes = as_const_int(call.args[1]);
  const auto* buffer = call.args[2].as<Variable>();
  if (!rows || !row_bytes || buffer == nullptr) return {};
  return TileLoad{buffer->name, *rows, *row_bytes, without_widening(call.args[3]), without_widening(call.args[4])};
}

Stmt tile_products(const Stmt& s) { return TileProducts().mutate(s); }

}  // namespace heddle::targets
