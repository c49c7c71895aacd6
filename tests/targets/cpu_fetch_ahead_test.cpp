// Which lines of an operand a product fetches before it reads them, and where nothing is fetched ahead.
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <Halide.h>

#include <catch2/catch.hpp>

#include "targets/cpu/fetch_ahead.hpp"
#include "targets/pass.hpp"

namespace heddle {
namespace {

namespace hi = Halide::Internal;
using Halide::Expr;
using Halide::Func;
using Halide::Var;

/// Elements at which fetches begin, by the iteration of the loop over panels.
using Elements = std::map<std::int64_t, std::set<std::int64_t>>;

struct Fetched {
  Elements into_second_cache, into_first_cache;
};

/// Runs the loops around what is fetched.
class Fetches : public hi::IRMutator {
 public:
  explicit Fetches(Fetched& found) : found_(found) {}
  using hi::IRMutator::mutate;

 protected:
  using hi::IRMutator::visit;

  hi::Stmt visit(const hi::For* op) override {
    loops_.push_back(op);
    const hi::Stmt result = hi::IRMutator::visit(op);
    loops_.pop_back();
    return result;
  }

  hi::Stmt visit(const hi::LetStmt* op) override {
    lets_.emplace_back(op->name, op->value);
    const hi::Stmt result = hi::IRMutator::visit(op);
    lets_.pop_back();
    return result;
  }

  hi::Stmt visit(const hi::Evaluate* op) override {
    const auto* call = op->value.as<hi::Call>();
    if (call == nullptr || call->name != "llvm.prefetch.p0") return op;
    Expr bytes = hi::substitute("b", hi::make_zero(Halide::type_of<void*>()), call->args[0]);
    for (auto let = lets_.rbegin(); let != lets_.rend(); ++let) bytes = hi::substitute(let->first, let->second, bytes);
    const bool first = *hi::as_const_int(call->args[2]) == 3;
    run(0, Halide::cast<int>(Halide::reinterpret(Halide::UInt(64), bytes)), 0,
        first ? found_.into_first_cache : found_.into_second_cache);
    return op;
  }

 private:
  void run(std::size_t depth, const Expr& offset, std::int64_t panel, Elements& found) {
    if (depth == loops_.size()) {
      const auto byte = hi::as_const_int(hi::simplify(offset));
      REQUIRE(byte);
      found[panel].insert(*byte / 4);
      return;
    }
    const hi::For* loop = loops_[depth];
    const std::int64_t min = *hi::as_const_int(loop->min), extent = *hi::as_const_int(loop->extent);
    const bool is_panel = loop->name.find(".no") != std::string::npos;
    for (std::int64_t i = min; i < min + extent; ++i)
      run(depth + 1, hi::substitute(loop->name, static_cast<int>(i), offset), is_panel ? i : panel, found);
  }

  Fetched& found_;
  std::vector<const hi::For*> loops_;
  std::vector<std::pair<std::string, Expr>> lets_;
};

/// out = a b with b in panels of 32 columns, in tiles of `rows` rows.
struct Product {
  int rows = 4, tiles = 6, panels = 3, depth = 20;
  int spacing = 1;  ///< panels from one to the next that is read
  std::int64_t l1_bytes = 1 << 15, l2_bytes = 1 << 20;
  bool panels_outside = true, parallel = false;
  int threads = 2;

  Fetched fetches() const {
    const int columns = 32;
    Var ni("ni"), no("no"), m("m"), mo("mo"), mi("mi");
    Halide::ImageParam a(Halide::Float(32), 2, "a"), b(Halide::Float(32), 3, "b");
    b.dim(0).set_bounds(0, columns);
    b.dim(1).set_bounds(0, depth).set_stride(columns);
    b.dim(2).set_bounds(0, panels).set_stride(depth * columns * spacing);
    Halide::RDom k(0, depth, "k");
    Func acc("acc"), out("out");
    acc(ni, no, m) = 0.0F;
    acc(ni, no, m) += a(k, m) * b(ni, k, no);
    out(ni, no, m) = acc(ni, no, m);
    out.bound(ni, 0, columns).bound(no, 0, panels).bound(m, 0, rows * tiles);
    out.output_buffer().dim(0).set_bounds(0, columns);
    out.output_buffer().dim(1).set_bounds(0, panels);
    out.output_buffer().dim(2).set_bounds(0, rows * tiles);
    out.split(m, mo, mi, rows, Halide::TailStrategy::RoundUp).vectorize(ni, 16).unroll(ni).unroll(mi);
    if (panels_outside) out.reorder(ni, mi, mo, no);
    else out.reorder(ni, mi, no, mo);
    if (parallel) out.parallel(no);
    acc.compute_at(out, panels_outside ? mo : no).vectorize(ni, 16).unroll(ni).unroll(m);
    acc.update().reorder(ni, m, k).vectorize(ni, 16).unroll(ni).unroll(m).unroll(k, 2);

    Machine machine;
    machine.l1_bytes = l1_bytes;
    machine.l2_bytes = l2_bytes;
    Fetched found;
    Halide::Pipeline pipeline(out);
    targets::add_pass(pipeline, [&](const hi::Stmt& s) { return targets::fetch_ahead(s, machine, threads); });
    targets::add_pass(pipeline, [&](const hi::Stmt& s) { return Fetches(found).mutate(s); });
    pipeline.compile_to_module({a, b}, "f",
                               Halide::Target("x86-64-linux-avx2-fma-no_asserts-no_bounds_query-no_runtime"));
    return found;
  }
};

/// Whether fetches begin in every line of `size` elements from `first` on, and in one more at most, where a step's
/// share is rounded up.
bool are_the_lines_of(const std::set<std::int64_t>& elements, std::int64_t first, std::int64_t size) {
  constexpr std::int64_t line = 16;
  for (std::int64_t element = first; element < first + size; element += line) {
    const auto at = elements.lower_bound(element);
    if (at == elements.end() || *at >= element + line) return false;
  }
  return *elements.begin() == first && *elements.rbegin() < first + size + line;
}

TEST_CASE("the parts that tiles fetch are the next panel") {
  const int tiles = GENERATE(2, 3, 4, 5, 6, 7, 16, 39, 40, 41, 49, 100);
  const int depth = GENERATE(4, 20, 34);
  CAPTURE(tiles, depth);
  const Product product{.tiles = tiles, .depth = depth};
  const std::int64_t size = 32 * depth;
  const Elements found = product.fetches().into_second_cache;
  REQUIRE(found.size() == static_cast<std::size_t>(product.panels));
  for (const auto& [panel, elements] : found) CHECK(are_the_lines_of(elements, (panel + 1) * size, size));
}

TEST_CASE("a panel for each task: the one that the same thread comes to") {
  const Product product{.parallel = true, .threads = 3};
  for (const auto& [panel, elements] : product.fetches().into_second_cache)
    CHECK(are_the_lines_of(elements, (panel + 3) * 640, 640));
}

// Winograd's weights: fetching the panel that lies next brought what was due 16 panels later.
TEST_CASE("panels that lie apart: the one that is read next") {
  const bool parallel = GENERATE(false, true);
  CAPTURE(parallel);
  const Elements found = Product{.spacing = 16, .parallel = parallel}.fetches().into_second_cache;
  REQUIRE_FALSE(found.empty());
  for (const auto& [panel, elements] : found)
    CHECK(are_the_lines_of(elements, (panel + (parallel ? 2 : 1)) * 16 * 640, 640));
}

TEST_CASE("an operand that is read as a whole by each tile is one panel") {
  const Product product{.panels_outside = false};
  const Elements found = product.fetches().into_second_cache;
  REQUIRE_FALSE(found.empty());
  std::set<std::int64_t> all;
  for (const auto& [panel, elements] : found) all.insert(elements.begin(), elements.end());
  CHECK(are_the_lines_of(all, 3 * 640, 3 * 640));
}

TEST_CASE("nothing is fetched ahead where a panel is read once, or two fill the cache") {
  CHECK(Product{.tiles = 1}.fetches().into_second_cache.empty());
  CHECK(Product{.l2_bytes = 2 * 20 * 32 * 4 - 1}.fetches().into_second_cache.empty());
  CHECK_FALSE(Product{.l2_bytes = 2 * 20 * 32 * 4}.fetches().into_second_cache.empty());
}

TEST_CASE("lines come into the first cache 2 KiB before they are read, where a panel does not stay in it") {
  constexpr std::int64_t size = 32 * 20, ahead = 2048 / 4, line = 16;
  const Elements found = Product{.l1_bytes = 2 * size * 4 - 1}.fetches().into_first_cache;
  REQUIRE(found.size() == 3);
  for (const auto& [panel, elements] : found) {
    std::set<std::int64_t> expected;
    for (std::int64_t i = 0; i < size; i += line) expected.insert(panel * size + ahead + i);
    CHECK(elements == expected);
  }
  CHECK(Product{.l1_bytes = 2 * size * 4}.fetches().into_first_cache.empty());
  CHECK(Product{.tiles = 1, .l1_bytes = 1024}.fetches().into_first_cache.empty());
}

TEST_CASE("lines are fetched where a panel is too large for the next one to be") {
  const Fetched found = Product{.l1_bytes = 1024, .l2_bytes = 1024}.fetches();
  CHECK(found.into_second_cache.empty());
  CHECK(found.into_first_cache.size() == 3);
}

}  // namespace
}  // namespace heddle
