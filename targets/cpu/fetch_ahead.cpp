#include "targets/cpu/fetch_ahead.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "targets/affine.hpp"
#include "targets/cpu/tile_products.hpp"

namespace heddle::targets {
namespace {

using namespace Halide::Internal;
using Halide::Expr;

constexpr std::int64_t line_bytes = 64;
constexpr std::int64_t fewest_tiles = 2;

/// How far ahead lines are fetched into the first cache. The second cache's latency is 14 to 16 cycles on an idle core,
/// and a product uses 20 to 30 bytes a cycle; from 1 to 4 KiB ResNet-50 and BERT gained alike.
constexpr std::int64_t bytes_ahead = 2048;

/// The dense vectors that one iteration of an innermost loop reads of an input: elements from `first` on.
struct Reading {
  Affine first;
  std::int64_t elements = 0;
  Halide::Type type;  ///< of an element; bytes where they are rows of tiles
  bool is_tiles = false;
  bool is_dense = true;
};

/// Calls `read` with the name of each input of which a dense vector is loaded, and the vector. Rows of a tile are
/// vectors of bytes.
class DenseLoads : public IRVisitor {
 public:
  using Read = std::function<void(const std::string&, const Reading&)>;
  /// `allocated`: what is no input.
  DenseLoads(const Lets& around, const std::set<std::string>& allocated, Read read)
      : allocated_(allocated), read_(std::move(read)) {
    lets_.set_containing_scope(&around);
  }
  bool has_loops = false;

 protected:
  using IRVisitor::visit;

  void visit(const For*) override { has_loops = true; }

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
    read_(op->name, {affine(ramp->base, lets_), ramp->lanes, op->type.element_of()});
  }

  void visit(const Call* op) override {
    IRVisitor::visit(op);
    const auto load = tile_load_of(*op);
    if (!load || allocated_.contains(load->name)) return;
    const Affine first = affine(load->first, lets_), pitch = affine(load->pitch, lets_);
    if (!pitch.terms.empty()) return;
    for (std::int64_t row = 0; row < load->rows; ++row) {
      Reading reading{first, load->row_bytes, Halide::UInt(8), true};
      reading.first.constant += row * pitch.constant;
      read_(load->name, reading);
    }
  }

 private:
  const std::set<std::string>& allocated_;
  Read read_;
  Lets lets_;
};

/// What an innermost loop's body reads of each input; nothing of the body of another loop.
std::map<std::string, Reading> readings_of(const Stmt& body, const Lets& around,
                                           const std::set<std::string>& allocated) {
  std::map<std::string, Reading> found;
  DenseLoads loads(around, allocated, [&](const std::string& input, const Reading& vector) {
    const auto [at, is_new] = found.try_emplace(input, vector);
    Reading& reading = at->second;
    if (is_new) return;
    Affine apart = vector.first;
    apart.add(reading.first, -1);
    if (!apart.terms.empty() || reading.is_tiles != vector.is_tiles) {
      reading.is_dense = false;
      return;
    }
    const std::int64_t end = std::max(reading.elements, apart.constant + vector.elements);
    reading.elements = end - std::min<std::int64_t>(0, apart.constant);
    if (apart.constant < 0) reading.first = vector.first;
  });
  body.accept(&loads);
  if (loads.has_loops) found.clear();
  return found;
}

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

/// What is read of an input again and again: elements from `first` on.
struct Panel {
  Affine first;
  std::int64_t size = 0;
  Count steps;                 ///< that read all of it
  std::optional<Count> tiles;  ///< that each read all of it; nothing where their number is not known
  std::int64_t apart = 0;      ///< from this panel to the one that this thread reads next, in elements
};

/// `loops` are those around, the innermost last; the reading is of the last one's body.
std::optional<Panel> panel_of(const Reading& reading, const std::vector<const For*>& loops, int threads) {
  if (!reading.is_dense) return {};
  Panel panel{.first = reading.first, .size = reading.elements};
  auto loop = loops.rbegin();
  for (; loop != loops.rend() && panel.first.coefficient((*loop)->name) == panel.size; ++loop) {
    if ((*loop)->is_parallel() || !panel.steps.take(**loop)) break;
    panel.first.add(Affine{0, {{Variable::make(Halide::Int(32), (*loop)->name), 1}}}, -panel.size);
    panel.first.constant += *as_const_int((*loop)->min) * panel.size;
    if (panel.first.uses((*loop)->name)) return {};
    panel.size = reading.elements * panel.steps.extent;
  }
  if (loop == loops.rbegin()) return {};
  Count tiles;
  bool varies = false;
  for (; loop != loops.rend() && !(*loop)->is_parallel() && !panel.first.uses((*loop)->name) && !varies; ++loop)
    varies = !tiles.take(**loop);
  if (tiles.extent >= fewest_tiles) panel.tiles = tiles;
  else if (!varies) return {};
  // Panels that a loop passes over need not lie side by side: Winograd's are an element of all channels' blocks each.
  const std::int64_t stride = loop != loops.rend() ? panel.first.coefficient((*loop)->name) : 0;
  const bool overlap = stride < panel.size;
  panel.apart = overlap ? panel.size : stride;
  // The panels between are other threads'.
  if (!overlap && (*loop)->is_parallel()) panel.apart *= threads;
  return panel;
}

enum class Cache { first = 3, second = 2 };  // LLVM's degrees of locality

Stmt fetch(const std::string& input, const Expr& element, std::int64_t bytes, Cache into) {
  // Halide's own prefetch is for data that is read once: on Intel it passes the second cache by.
  constexpr int read = 0, data = 1;
  const Expr start = Halide::reinterpret(Halide::UInt(64), Variable::make(Halide::type_of<void*>(), input));
  const Expr address = start + Halide::cast<std::uint64_t>(simplify(element)) * static_cast<int>(bytes);
  return Evaluate::make(Call::make(
      Halide::Int(32), "llvm.prefetch.p0",
      {Halide::reinterpret(Halide::type_of<void*>(), address), Expr(read), Expr(static_cast<int>(into)), Expr(data)},
      Call::Extern));
}

/// The loop's body behind fetches of a part of the next panel.
Stmt fetch_next_panel(const Stmt& body, const std::string& input, const Reading& reading, const Panel& panel) {
  const std::int64_t bytes = reading.type.bytes();
  const std::int64_t elements = line_bytes / bytes;
  const auto [part, lines] = part_of_panel(ceil_div(panel.size, elements), elements, *panel.tiles, panel.steps);
  const Expr next = panel.first.expr() + static_cast<int>(panel.apart) + part;
  Stmt result = body;
  for (std::int64_t line = lines - 1; line >= 0; --line)
    result = Block::make(fetch(input, next + static_cast<int>(line * elements), bytes, Cache::second), result);
  return result;
}

/// Puts a fetch of the line `bytes_ahead` later before the statement that is the first to read a line: all at once they
/// would wait for one another, and what is read for them.
class FetchNextLines : public IRMutator {
 public:
  FetchNextLines(const std::string& input, const Reading& reading, const Lets& around)
      : input_(input), reading_(reading) {
    lets_.set_containing_scope(&around);
  }

 protected:
  using IRMutator::visit;

  Stmt visit(const LetStmt* op) override {
    const ScopedBinding<Expr> bound(lets_, op->name, op->value);
    return IRMutator::visit(op);
  }

  Stmt visit(const Store* op) override {
    Stmt result = op;
    const std::int64_t bytes = reading_.type.bytes();
    for (const std::int64_t line : lines_of(op->value)) {
      if (!fetched_.insert(line).second) continue;
      const std::int64_t ahead = (line * line_bytes + bytes_ahead) / bytes;
      result = Block::make(fetch(input_, reading_.first.expr() + static_cast<int>(ahead), bytes, Cache::first), result);
    }
    return result;
  }

 private:
  /// Counted from what the loop's step reads first.
  std::set<std::int64_t> lines_of(const Expr& value) const {
    std::set<std::int64_t> lines;
    const std::set<std::string> none;
    DenseLoads loads(lets_, none, [&](const std::string& input, const Reading& vector) {
      if (input != input_) return;
      Affine apart = vector.first;
      apart.add(reading_.first, -1);
      const std::int64_t elements = line_bytes / reading_.type.bytes();
      for (std::int64_t i = 0; i < vector.elements; i += elements) lines.insert((apart.constant + i) / elements);
    });
    value.accept(&loads);
    return lines;
  }

  const std::string& input_;
  const Reading& reading_;
  Lets lets_;
  std::set<std::int64_t> fetched_;
};

class FetchAhead : public IRMutator {
 public:
  FetchAhead(const Machine& machine, int threads) : machine_(machine), threads_(threads) {}

 protected:
  using IRMutator::visit;

  Stmt visit(const LetStmt* op) override {
    const ScopedBinding<Expr> bound(lets_, op->name, op->value);
    const Stmt body = mutate(op->body);
    return body.same_as(op->body) ? Stmt(op) : LetStmt::make(op->name, op->value, body);
  }

  Stmt visit(const Allocate* op) override {
    allocated_.insert(op->name);
    return IRMutator::visit(op);
  }

  Stmt visit(const For* op) override {
    loops_.push_back(op);
    Stmt body = mutate(op->body);
    if (op->for_type == ForType::Serial)
      for (const auto& [input, reading] : readings_of(op->body, lets_, allocated_))
        body = fetched_ahead(body, input, reading);
    loops_.pop_back();
    return body.same_as(op->body)
               ? Stmt(op)
               : For::make(op->name, op->min, op->extent, op->for_type, op->partition_policy, op->device_api, body);
  }

 private:
  Stmt fetched_ahead(Stmt body, const std::string& input, const Reading& reading) {
    const auto panel = panel_of(reading, loops_, threads_);
    if (!panel) return body;
    const std::int64_t bytes = panel->size * reading.type.bytes();
    // A tile's lines are all asked for at once, tiles ahead of their use.
    if (!reading.is_tiles && 2 * bytes > machine_.l1_bytes) body = FetchNextLines(input, reading, lets_).mutate(body);
    if (panel->tiles && 2 * bytes <= machine_.l2_bytes) body = fetch_next_panel(body, input, reading, *panel);
    return body;
  }

  const Machine& machine_;
  const int threads_;
  Lets lets_;
  std::vector<const For*> loops_;
  std::set<std::string> allocated_;
};

}  // namespace

Stmt fetch_ahead(const Stmt& s, const Machine& machine, int threads) { return FetchAhead(machine, threads).mutate(s); }

}  // namespace heddle::targets
