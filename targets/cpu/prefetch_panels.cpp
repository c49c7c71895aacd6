#include "targets/cpu/prefetch_panels.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "targets/affine.hpp"

namespace heddle::targets {
namespace {

using namespace Halide::Internal;
using Halide::Expr;

constexpr std::int64_t line_bytes = 64;
constexpr std::int64_t fewest_tiles = 4;

/// The dense vectors that one iteration of an innermost loop reads of an input: elements from `first` on.
struct Reading {
  Affine first;
  std::int64_t elements = 0;
  Halide::Type type;  ///< of an element
  bool is_dense = true;
};

/// By input. Whatever is stored or not external is none.
class Readings : public IRVisitor {
 public:
  explicit Readings(const Lets& around) { lets_.set_containing_scope(&around); }
  std::map<std::string, Reading> found;
  bool is_innermost = true;

 protected:
  using IRVisitor::visit;

  void visit(const For*) override { is_innermost = false; }

  void visit(const LetStmt* op) override {
    op->value.accept(this);
    const ScopedBinding<Expr> bound(lets_, op->name, op->value);
    op->body.accept(this);
  }

  void visit(const Let* op) override {
    op->value.accept(this);
    const ScopedBinding<Expr> bound(lets_, op->name, op->value);
    op->body.accept(this);
  }

  void visit(const Load* op) override {
    IRVisitor::visit(op);
    const auto* ramp = op->index.as<Ramp>();
    if (!op->param.defined() || ramp == nullptr || !ramp->base.type().is_scalar() || !is_const_one(ramp->stride))
      return;
    const Affine first = affine(ramp->base, lets_);
    const auto [at, is_new] = found.try_emplace(op->name, Reading{first, ramp->lanes, op->type.element_of()});
    Reading& reading = at->second;
    if (is_new) return;
    Affine apart = first;
    apart.add(reading.first, -1);
    if (!apart.terms.empty()) {
      reading.is_dense = false;
      return;
    }
    const std::int64_t end = std::max(reading.elements, apart.constant + ramp->lanes);
    reading.elements = end - std::min<std::int64_t>(0, apart.constant);
    if (apart.constant < 0) reading.first = first;
  }

 private:
  Lets lets_;
};

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// Iterations of a nest of loops, counted from its first.
struct Count {
  std::int64_t extent = 1;
  Expr position = 0;

  /// Takes the next loop outwards in. False, and nothing taken, where its range is not known.
  bool take(const For& loop) {
    const auto min = as_const_int(loop.min), length = as_const_int(loop.extent);
    if (!min || !length) return false;
    position += (Variable::make(Halide::Int(32), loop.name) - static_cast<int>(*min)) * static_cast<int>(extent);
    extent *= *length;
    return true;
  }
};

/// The part of a panel of `lines` cache lines that is fetched in one step of a tile, as lines of `elements`: the first
/// element, and how many lines from there on.
std::pair<Expr, std::int64_t> part_of_panel(std::int64_t lines, std::int64_t elements, const Count& tiles,
                                            const Count& steps) {
  const std::int64_t tiles_a_line = ceil_div(tiles.extent, lines);
  const std::int64_t lines_a_tile = ceil_div(lines, ceil_div(tiles.extent, tiles_a_line));
  const Expr tile = tiles.position / static_cast<int>(tiles_a_line) * static_cast<int>(lines_a_tile);
  const Expr first = Halide::min(tile, static_cast<int>(lines - lines_a_tile)) * static_cast<int>(elements);
  const std::int64_t wanted = lines_a_tile * elements;
  // A step's share in whole elements, or several steps' by a shift: the loop is the hottest there is.
  if (wanted >= steps.extent) {
    const std::int64_t share = ceil_div(wanted, steps.extent);
    return {first + steps.position * static_cast<int>(share), ceil_div(share, elements)};
  }
  const auto steps_an_element = static_cast<int>(std::bit_floor(static_cast<std::uint64_t>(steps.extent / wanted)));
  return {first + steps.position / steps_an_element, 1};
}

Stmt fetch(const std::string& input, const Expr& element, std::int64_t bytes) {
  // Halide's own prefetch is for data that is read once: on Intel it passes the second cache by.
  constexpr int read = 0, into_second_cache = 2, data = 1;
  const Expr start = Halide::reinterpret(Halide::UInt(64), Variable::make(Halide::type_of<void*>(), input));
  const Expr address = start + Halide::cast<std::uint64_t>(element) * static_cast<int>(bytes);
  return Evaluate::make(Call::make(
      Halide::Int(32), "llvm.prefetch.p0",
      {Halide::reinterpret(Halide::type_of<void*>(), address), Expr(read), Expr(into_second_cache), Expr(data)},
      Call::Extern));
}

/// `loops` are those around, the innermost last; the reading is of the last one's body.
std::optional<Stmt> fetch_ahead(const std::string& input, const Reading& reading, const std::vector<const For*>& loops,
                                const Machine& machine, int threads) {
  if (!reading.is_dense) return {};
  Affine panel = reading.first;  // its first element
  std::int64_t size = reading.elements;
  auto loop = loops.rbegin();
  Count steps;
  for (; loop != loops.rend() && panel.coefficient((*loop)->name) == size; ++loop) {
    if ((*loop)->is_parallel() || !steps.take(**loop)) break;
    panel.add(Affine{0, {{Variable::make(Halide::Int(32), (*loop)->name), 1}}}, -size);
    panel.constant += *as_const_int((*loop)->min) * size;
    if (panel.uses((*loop)->name)) return {};
    size = reading.elements * steps.extent;
  }
  if (loop == loops.rbegin()) return {};
  Count tiles;
  for (; loop != loops.rend() && !(*loop)->is_parallel() && !panel.uses((*loop)->name); ++loop)
    if (!tiles.take(**loop)) break;
  const std::int64_t bytes = reading.type.bytes();
  if (tiles.extent < fewest_tiles || 2 * size * bytes > machine.l2_bytes) return {};

  // The panels between are other threads'.
  const bool is_task = loop != loops.rend() && (*loop)->is_parallel() && panel.coefficient((*loop)->name) == size;
  const std::int64_t elements = line_bytes / bytes;
  const auto [part, lines] = part_of_panel(ceil_div(size, elements), elements, tiles, steps);
  const Expr next = panel.expr() + static_cast<int>(is_task ? threads * size : size) + part;
  Stmt result = fetch(input, simplify(next), bytes);
  for (std::int64_t line = 1; line < lines; ++line)
    result = Block::make(result, fetch(input, simplify(next + static_cast<int>(line * elements)), bytes));
  return result;
}

class PrefetchPanels : public IRMutator {
 public:
  PrefetchPanels(const Machine& machine, int threads) : machine_(machine), threads_(threads) {}

 protected:
  using IRMutator::visit;

  Stmt visit(const LetStmt* op) override {
    const ScopedBinding<Expr> bound(lets_, op->name, op->value);
    const Stmt body = mutate(op->body);
    return body.same_as(op->body) ? Stmt(op) : LetStmt::make(op->name, op->value, body);
  }

  Stmt visit(const For* op) override {
    loops_.push_back(op);
    Stmt body = mutate(op->body);
    if (op->for_type == ForType::Serial) {
      Readings readings(lets_);
      op->body.accept(&readings);
      if (readings.is_innermost)
        for (const auto& [input, reading] : readings.found)
          if (const auto ahead = fetch_ahead(input, reading, loops_, machine_, threads_))
            body = Block::make(*ahead, body);
    }
    loops_.pop_back();
    return body.same_as(op->body)
               ? Stmt(op)
               : For::make(op->name, op->min, op->extent, op->for_type, op->partition_policy, op->device_api, body);
  }

 private:
  const Machine& machine_;
  const int threads_;
  Lets lets_;
  std::vector<const For*> loops_;
};

}  // namespace

Stmt prefetch_panels(const Stmt& s, const Machine& machine, int threads) {
  return PrefetchPanels(machine, threads).mutate(s);
}

}  // namespace heddle::targets
