#include "dsl/schedule_call.hpp"
#include "dsl/schedule_table.hpp"

// The directives themselves: the one place that knows what each takes and which of Halide's calls it is.
namespace heddle {
namespace {

using Kind = ArgumentKind;

DirectiveParameter dim(std::string_view name) { return {name, Kind::dimension}; }
DirectiveParameter fresh(std::string_view name) { return {name, Kind::fresh}; }
DirectiveParameter pure(std::string_view name) { return {name, Kind::pure}; }
DirectiveParameter factor(std::string_view name) { return {name, Kind::factor}; }
DirectiveParameter number(std::string_view name) { return {name, Kind::number}; }
DirectiveParameter tail() { return {"tail", Kind::tail, true, false, "Auto"}; }
DirectiveParameter stage(std::string_view name) { return {name, Kind::stage}; }
DirectiveParameter loop(std::string_view name) { return {name, Kind::loop}; }

DirectiveParameter optional(DirectiveParameter p, std::string_view default_value = {}) {
  p.optional = true;
  p.default_value = default_value;
  return p;
}

DirectiveParameter repeated(DirectiveParameter p) {
  p.repeated = true;
  return p;
}

constexpr auto on_loops = DirectiveScope::loops;
constexpr auto on_stage = DirectiveScope::stage;

std::vector<Halide::Expr> numbers(const ScheduleCall& c, std::size_t from, std::size_t count) {
  std::vector<Halide::Expr> all;
  for (std::size_t i = from; i < from + count; ++i) all.push_back(c.number(i));
  return all;
}

// What a loop becomes when it is run in another way: on its own, or its inner part of a given size.
using Mark = Halide::Stage& (Halide::Stage::*)(const Halide::VarOrRVar&);

void mark_inner(ScheduleCall& c, Mark mark) { (c.loops().*mark)(c.has(1) ? c.split_in_place(0) : c.dimension(0)); }

void tile(ScheduleCall& c) {
  const bool rx = c.dimension(0).is_rvar, ry = c.dimension(1).is_rvar;
  c.loops().tile(c.dimension(0), c.dimension(1), c.fresh(2, rx), c.fresh(3, ry), c.fresh(4, rx), c.fresh(5, ry),
                 c.number(6), c.number(7), c.tail(8));
}

// gpu_tile in n dimensions: n loops, n blocks, n threads, n sizes, a tail.
void gpu_tile(ScheduleCall& c) {
  const std::size_t n = c.size() / 4;
  const auto d = [&](std::size_t i) { return c.dimension(i); };
  const auto f = [&](std::size_t i) { return c.fresh(i, c.dimension(i % n).is_rvar); };
  const auto s = numbers(c, 3 * n, n);
  const auto end = c.tail(4 * n);
  if (n == 1) c.loops().gpu_tile(d(0), f(1), f(2), s[0], end);
  else if (n == 2) c.loops().gpu_tile(d(0), d(1), f(2), f(3), f(4), f(5), s[0], s[1], end);
  else c.loops().gpu_tile(d(0), d(1), d(2), f(3), f(4), f(5), f(6), f(7), f(8), s[0], s[1], s[2], end);
}

void gpu_blocks(ScheduleCall& c) {
  const auto d = c.dimensions();
  if (d.size() == 1) c.loops().gpu_blocks(d[0]);
  else if (d.size() == 2) c.loops().gpu_blocks(d[0], d[1]);
  else c.loops().gpu_blocks(d[0], d[1], d[2]);
}

void gpu_threads(ScheduleCall& c) {
  const auto d = c.dimensions();
  if (d.size() == 1) c.loops().gpu_threads(d[0]);
  else if (d.size() == 2) c.loops().gpu_threads(d[0], d[1]);
  else c.loops().gpu_threads(d[0], d[1], d[2]);
}

std::vector<DirectiveRow> shaping_rows() {
  return {
      {"split",
       on_loops,
       {dim("old"), fresh("outer"), fresh("inner"), factor("factor"), tail()},
       "for old",
       "for outer: for inner in factor",
       [](ScheduleCall& c) {
         const bool r = c.dimension(0).is_rvar;
         c.loops().split(c.dimension(0), c.fresh(1, r), c.fresh(2, r), c.number(3), c.tail(4));
       }},
      {"fuse",
       on_loops,
       {dim("inner"), dim("outer"), fresh("fused")},
       "for outer: for inner",
       "for fused in outer * inner",
       [](ScheduleCall& c) {
         const auto inner = c.dimension(0), outer = c.dimension(1);
         c.loops().fuse(inner, outer, c.fresh(2, inner.is_rvar || outer.is_rvar));
       }},
      {"reorder",
       on_loops,
       {repeated(dim("innermost"))},
       "for a: for b: for c",
       "reorder(a, c): for c: for b: for a (those named, innermost first, in their places)",
       [](ScheduleCall& c) { c.loops().reorder(c.dimensions()); }},
      {"tile",
       on_loops,
       {dim("x"), dim("y"), fresh("xo"), fresh("yo"), fresh("xi"), fresh("yi"), factor("xf"), factor("yf"), tail()},
       "for y: for x",
       "for yo: for xo: for yi in yf: for xi in xf",
       tile},
      {"rename",
       on_loops,
       {dim("old"), fresh("new")},
       "for old",
       "for new",
       [](ScheduleCall& c) { c.loops().rename(c.dimension(0), c.fresh(1, c.dimension(0).is_rvar)); }},
      {"rfactor",
       on_loops,
       {dim("r"), {"u", Kind::fresh}, {"new_stage", Kind::fresh_stage}},
       "for r: stage += f(r)",
       "new_stage(u) += f(u); for r: stage += new_stage(r)",
       [](ScheduleCall& c) { c.rfactor(); },
       DirectiveChain::ends},
      {"rfactor",
       on_loops,
       {dim("r1"), {"u1", Kind::fresh}, dim("r2"), {"u2", Kind::fresh}, {"new_stage", Kind::fresh_stage}},
       "for r2: for r1: stage += f(r1, r2)",
       "the same over two loops",
       [](ScheduleCall& c) { c.rfactor(); },
       DirectiveChain::ends},
      {"rfactor",
       on_loops,
       {dim("r1"),
        {"u1", Kind::fresh},
        dim("r2"),
        {"u2", Kind::fresh},
        dim("r3"),
        {"u3", Kind::fresh},
        {"new_stage", Kind::fresh_stage}},
       "for r3: for r2: for r1: stage += f(r1, r2, r3)",
       "the same over three loops",
       [](ScheduleCall& c) { c.rfactor(); },
       DirectiveChain::ends},
      {"specialize",
       on_loops,
       {{"condition", Kind::condition}},
       "loops",
       "if (condition) copy of the loops, which the rest of the line schedules; else loops",
       [](ScheduleCall& c) { c.specialised(c.loops().specialize(c.condition(0))); },
       DirectiveChain::specialises},
      {"specialize_fail",
       on_loops,
       {{"message", Kind::text}},
       "if (a) ...; else loops",
       "if (a) ...; else fail at run time with the message",
       [](ScheduleCall& c) { c.loops().specialize_fail(c.text(0)); },
       DirectiveChain::ends},
  };
}

std::vector<DirectiveRow> running_rows() {
  return {
      {"vectorize",
       on_loops,
       {dim("v"), optional(factor("factor")), tail()},
       "for v",
       "v as the lanes of a vector; with a factor: for v: factor lanes",
       [](ScheduleCall& c) { mark_inner(c, &Halide::Stage::vectorize); }},
      {"unroll",
       on_loops,
       {dim("v"), optional(factor("factor")), tail()},
       "for v",
       "the body once for each v; with a factor: for v: the body factor times",
       [](ScheduleCall& c) { mark_inner(c, &Halide::Stage::unroll); }},
      {"parallel",
       on_loops,
       {dim("v"), optional(factor("task")), tail()},
       "for v",
       "parallel for v; with a task size: parallel for v: for task",
       [](ScheduleCall& c) {
         if (c.has(1)) c.split_in_place(0);
         c.loops().parallel(c.dimension(0));
       }},
      {"serial",
       on_loops,
       {dim("v")},
       "for v of any kind",
       "for v",
       [](ScheduleCall& c) { c.loops().serial(c.dimension(0)); }},
      {"atomic",
       on_loops,
       {optional({"override", Kind::flag}, "false")},
       "stage += f",
       "atomic stage += f; override skips the proof that the update is associative",
       [](ScheduleCall& c) { c.loops().atomic(c.flag(0, false)); }},
      {"allow_race_conditions",
       on_loops,
       {},
       "a parallel loop with a hazard is refused",
       "it is taken as it is",
       [](ScheduleCall& c) { c.loops().allow_race_conditions(); }},
      {"partition",
       on_loops,
       {dim("v"), {"policy", Kind::partition}},
       "for v",
       "for v in a prologue, a steady state and an epilogue: Always, Never, or as Halide sees fit: Auto",
       [](ScheduleCall& c) {
         c.loops().partition(c.dimension(0), c.enumerator(1, partitions(), Halide::Partition::Auto));
       }},
      {"prefetch",
       on_loops,
       {{"what", Kind::source},
        dim("at"),
        dim("from"),
        optional(number("offset"), "1"),
        optional({"bounds", Kind::prefetch}, "GuardWithIf")},
       "for at: use what(from)",
       "for at: prefetch what(from + offset); use what(from)",
       [](ScheduleCall& c) { c.prefetch(); },
       DirectiveChain::goes_on,
       false,
       false},
      {"gpu_blocks",
       on_loops,
       {dim("x"), optional(dim("y")), optional(dim("z"))},
       "for v",
       "v as the grid's index",
       gpu_blocks},
      {"gpu_threads",
       on_loops,
       {dim("x"), optional(dim("y")), optional(dim("z"))},
       "for v",
       "v as the index within a block",
       gpu_threads},
      {"gpu_lanes",
       on_loops,
       {dim("v")},
       "for v",
       "v as the index within a warp",
       [](ScheduleCall& c) { c.loops().gpu_lanes(c.dimension(0)); }},
      {"gpu_single_thread",
       on_loops,
       {},
       "loops",
       "one block of one thread runs the loops",
       [](ScheduleCall& c) { c.loops().gpu_single_thread(); }},
      {"gpu_tile",
       on_loops,
       {dim("x"), fresh("bx"), fresh("tx"), factor("nx"), tail()},
       "for x",
       "block bx: thread tx in nx",
       gpu_tile},
      {"gpu_tile",
       on_loops,
       {dim("x"), dim("y"), fresh("bx"), fresh("by"), fresh("tx"), fresh("ty"), factor("nx"), factor("ny"), tail()},
       "for y: for x",
       "block by, bx: thread ty in ny, tx in nx",
       gpu_tile},
      {"gpu_tile",
       on_loops,
       {dim("x"), dim("y"), dim("z"), fresh("bx"), fresh("by"), fresh("bz"), fresh("tx"), fresh("ty"), fresh("tz"),
        factor("nx"), factor("ny"), factor("nz"), tail()},
       "for z: for y: for x",
       "the same in three dimensions",
       gpu_tile},
  };
}

std::vector<DirectiveRow> placing_rows() {
  return {
      {"compute_root",
       on_stage,
       {},
       "computed where it is used",
       "computed once, before its consumers",
       [](ScheduleCall& c) { c.func().compute_root(); }},
      {"compute_at",
       on_stage,
       {stage("stage"), loop("v")},
       "for v: use stage",
       "for v: compute; use",
       [](ScheduleCall& c) { c.func().compute_at(c.level(0)); }},
      {"compute_inline",
       on_stage,
       {},
       "for v: compute; use",
       "for v: use(the expression itself)",
       [](ScheduleCall& c) { c.func().compute_inline(); }},
      {"compute_with",
       on_loops,
       {{"stage", Kind::definition}, loop("v"), optional({"align", Kind::alignment}, "Auto")},
       "for v: stage; for v: this",
       "for v: stage; this (the loops from the outermost to v are shared)",
       [](ScheduleCall& c) {
         c.loops().compute_with(c.definition(0), c.loop(1),
                                c.enumerator(2, loop_alignments(), Halide::LoopAlignStrategy::Auto));
       }},
      {"store_root",
       on_stage,
       {},
       "stored where it is computed",
       "stored outside all loops",
       [](ScheduleCall& c) { c.func().store_root(); }},
      {"store_at",
       on_stage,
       {stage("stage"), loop("v")},
       "stored where it is computed",
       "for v: allocate",
       [](ScheduleCall& c) { c.func().store_at(c.level(0)); }},
      {"store_in",
       on_stage,
       {{"memory", Kind::memory}},
       "Halide picks the memory",
       "heap, stack, registers, GPU shared...",
       [](ScheduleCall& c) { c.func().store_in(c.enumerator(0, memory_types(), Halide::MemoryType::Auto)); }},
      {"hoist_storage",
       on_stage,
       {stage("stage"), loop("v")},
       "allocated where it is stored",
       "for v: allocate the most that is needed within",
       [](ScheduleCall& c) { c.func().hoist_storage(c.level(0)); }},
      {"hoist_storage_root",
       on_stage,
       {},
       "allocated where it is stored",
       "allocated outside all loops",
       [](ScheduleCall& c) { c.func().hoist_storage_root(); }},
      {"in",
       on_stage,
       {{"new_stage", Kind::fresh_stage}, repeated(optional(stage("consumer")))},
       "consumer reads this",
       "new_stage = this; consumer reads new_stage (no consumer: all of them)",
       [](ScheduleCall& c) { c.wrap(); },
       DirectiveChain::ends,
       true},
      {"async",
       on_stage,
       {},
       "compute; use",
       "a thread of its own computes, its consumer waits",
       [](ScheduleCall& c) { c.func().async(); }},
      {"ring_buffer",
       on_stage,
       {factor("n")},
       "one buffer between async stages",
       "n of them in a ring",
       [](ScheduleCall& c) { c.func().ring_buffer(c.number(0)); }},
  };
}

std::vector<DirectiveRow> storage_rows() {
  return {
      {"bound",
       on_stage,
       {pure("v"), number("min"), factor("extent")},
       "v over what is asked for",
       "v over [min, min + extent), checked unless no_asserts",
       [](ScheduleCall& c) { c.func().bound(c.pure(0), c.number(1), c.number(2)); }},
      {"bound_extent",
       on_stage,
       {pure("v"), factor("extent")},
       "v over what is asked for",
       "v over `extent` elements, checked unless no_asserts",
       [](ScheduleCall& c) { c.func().bound_extent(c.pure(0), c.number(1)); }},
      {"align_bounds",
       on_stage,
       {pure("v"), factor("modulus"), optional(number("remainder"), "0")},
       "v over what is asked for",
       "v from a multiple of modulus (plus remainder), a multiple of it long",
       [](ScheduleCall& c) {
         c.func().align_bounds(c.pure(0), c.number(1), c.has(2) ? c.number(2) : Halide::Expr(0));
       }},
      {"align_extent",
       on_stage,
       {pure("v"), factor("modulus")},
       "v over what is asked for",
       "v over a multiple of modulus elements",
       [](ScheduleCall& c) { c.func().align_extent(c.pure(0), c.number(1)); }},
      {"reorder_storage",
       on_stage,
       {repeated(pure("innermost"))},
       "stored in the order of the dimensions",
       "stored in this order, innermost first",
       [](ScheduleCall& c) {
         std::vector<Halide::Var> order;
         for (std::size_t i = 0; i < c.size(); ++i) order.push_back(c.pure(i));
         c.func().reorder_storage(order);
       }},
      {"align_storage",
       on_stage,
       {pure("v"), factor("n")},
       "v stored in as many elements as it has",
       "rounded up to a multiple of n",
       [](ScheduleCall& c) { c.func().align_storage(c.pure(0), c.number(1)); }},
      {"fold_storage",
       on_stage,
       {pure("v"), factor("n"), optional({"forward", Kind::flag}, "true")},
       "all of v stored",
       "the last n stored, v modulo n; forward: v grows from use to use",
       [](ScheduleCall& c) { c.func().fold_storage(c.pure(0), c.number(1), c.flag(2, true)); }},
      {"bound_storage",
       on_stage,
       {pure("v"), factor("n")},
       "v stored in as many elements as it needs",
       "in n elements, checked at run time",
       [](ScheduleCall& c) { c.func().bound_storage(c.pure(0), c.number(1)); }},
  };
}

}  // namespace

const std::vector<DirectiveRow>& directive_table() {
  static const std::vector<DirectiveRow> table = [] {
    std::vector<DirectiveRow> all;
    for (auto rows : {shaping_rows(), running_rows(), placing_rows(), storage_rows()})
      all.insert(all.end(), rows.begin(), rows.end());
    return all;
  }();
  return table;
}

}  // namespace heddle
