#include <catch2/catch.hpp>

#include "dsl/schedule_table.hpp"
#include "dsl/stage.hpp"
#include "tests/dsl/schedule_fixture.hpp"

using namespace heddle;
using heddle::test::message_of;

TEST_CASE("recording a schedule", "[schedule]") {
  Schedule s;
  s["out"].split("co", "coo", "coi", 64).reorder("coi", "x", "coo").vectorize("coi", 16).parallel("coo");
  s["acc"].compute_at("out", "x");
  s["acc"].update(0).unroll("ci", 2);
  Stage wide = s["out"].specialize("W>=64");
  wide.parallel("y");
  CHECK(s.print() ==
        "out.split(co, coo, coi, 64).reorder(coi, x, coo).vectorize(coi, 16).parallel(coo)\n"
        "acc.compute_at(out, x)\n"
        "acc.update(0).unroll(ci, 2)\n"
        "out.specialize(W >= 64).parallel(y)\n");
  CHECK(Schedule::parse(s.print()) == s);
}

TEST_CASE("the text's order is the calls' order", "[schedule]") {
  Schedule s;
  Stage out = s["out"];
  Stage acc = s["acc"];
  Stage unused = s["unused"];
  out.split("x", "xo", "xi", 8);
  out.unroll("xi");
  acc.compute_at("out", "xo");
  out.parallel("y");
  Stage wide = out.specialize("W > 8");
  Stage wider = wide.specialize("W > 64");
  out.vectorize("co");
  wider.vectorize("co", 8);
  wide.vectorize("co", 4);
  Stage copy = s["w"].in("wc", "acc");
  copy.compute_root();
  CHECK(s.print() ==
        "out.split(x, xo, xi, 8).unroll(xi)\n"
        "acc.compute_at(out, xo)\n"
        "out.parallel(y).specialize(W > 8).specialize(W > 64)\n"
        "out.vectorize(co)\n"
        "out.specialize(W > 8).specialize(W > 64).vectorize(co, 8)\n"
        "out.specialize(W > 8).vectorize(co, 4)\n"
        "w.in(wc, acc)\n"
        "wc.compute_root()\n");
  CHECK(Schedule::parse(s.print()) == s);
}

TEST_CASE("every directive can be recorded", "[schedule]") {
  using Halide::LoopAlignStrategy;
  using Halide::MemoryType;
  using Halide::Partition;
  using Halide::PrefetchBoundStrategy;
  using Halide::TailStrategy;
  Schedule s;
  Stage a = s["a"];
  a.split("x", "xo", "xi", 8, TailStrategy::GuardWithIf).split("y", "yo", "yi", "H/2").fuse("x", "y", "xy");
  a.reorder("x", "y", "z").reorder({"x", "y"}).tile("x", "y", "xo", "yo", "xi", "yi", 8, 4, TailStrategy::RoundUp);
  a.rename("x", "z").vectorize("x").vectorize("x", 8).vectorize("x", 8, TailStrategy::Predicate).unroll("x");
  a.unroll("x", 2, TailStrategy::ShiftInwards).parallel("y").parallel("y", 2).serial("z").atomic().atomic(true);
  a.allow_race_conditions().partition("x", Partition::Never).prefetch("w", "x", "y").prefetch("w", "x", "y", 2);
  a.prefetch("w", "x", "y", 2, PrefetchBoundStrategy::NonFaulting).gpu_blocks("x").gpu_blocks("x", "y");
  a.gpu_threads("x", "y", "z").gpu_lanes("x").gpu_single_thread().gpu_tile("x", "bx", "tx", 8);
  a.gpu_tile("x", "y", "bx", "by", "tx", "ty", 8, 4).gpu_tile("x", "y", "z", "a", "b", "c", "d", "e", "f", 1, 2, 3);
  a.compute_root().compute_at("b", "x").compute_inline().compute_with("b.update(1)", "x", LoopAlignStrategy::AlignEnd);
  a.store_root().store_at("b", "x").store_in(MemoryType::Stack).hoist_storage("b", "x").hoist_storage_root().async();
  a.ring_buffer(2).bound("x", 0, "W").bound_extent("x", 8).align_bounds("x", 8).align_bounds("x", 8, 1);
  a.align_extent("x", 8).reorder_storage("y", "x").reorder_storage({"x", "y"}).align_storage("x", 16);
  a.fold_storage("x", 4, false).bound_storage("x", 32);
  a.in("c");
  a.update(1).rfactor("r", "u", "p");
  a.update(1).rfactor("r", "u", "s", "v", "q");
  a.update(1).rfactor("r", "u", "s", "v", "t", "w", "o");
  a.specialize("W == 3").vectorize("x");
  a.specialize_fail("too wide");
  CHECK(s.print() ==
        "a.split(x, xo, xi, 8, GuardWithIf).split(y, yo, yi, H/2).fuse(x, y, xy).reorder(x, y, z).reorder(x, y)"
        ".tile(x, y, xo, yo, xi, yi, 8, 4, RoundUp).rename(x, z).vectorize(x).vectorize(x, 8)"
        ".vectorize(x, 8, Predicate).unroll(x).unroll(x, 2, ShiftInwards).parallel(y).parallel(y, 2).serial(z)"
        ".atomic().atomic(true).allow_race_conditions().partition(x, Never).prefetch(w, x, y).prefetch(w, x, y, 2)"
        ".prefetch(w, x, y, 2, NonFaulting).gpu_blocks(x).gpu_blocks(x, y).gpu_threads(x, y, z).gpu_lanes(x)"
        ".gpu_single_thread().gpu_tile(x, bx, tx, 8).gpu_tile(x, y, bx, by, tx, ty, 8, 4)"
        ".gpu_tile(x, y, z, a, b, c, d, e, f, 1, 2, 3).compute_root().compute_at(b, x).compute_inline()"
        ".compute_with(b.update(1), x, AlignEnd).store_root().store_at(b, x).store_in(Stack).hoist_storage(b, x)"
        ".hoist_storage_root().async().ring_buffer(2).bound(x, 0, W).bound_extent(x, 8).align_bounds(x, 8)"
        ".align_bounds(x, 8, 1).align_extent(x, 8).reorder_storage(y, x).reorder_storage(x, y).align_storage(x, 16)"
        ".fold_storage(x, 4, false).bound_storage(x, 32).in(c)\n"
        "a.update(1).rfactor(r, u, p)\n"
        "a.update(1).rfactor(r, u, s, v, q)\n"
        "a.update(1).rfactor(r, u, s, v, t, w, o)\n"
        "a.specialize(W == 3).vectorize(x)\n"
        "a.specialize_fail(\"too wide\")\n");
  CHECK(Schedule::parse(s.print()) == s);
  std::set<std::string> recorded;
  for (const auto& line : s.lines)
    for (const auto& directive : line.directives) recorded.insert(directive.name);
  for (const auto& name : directive_names()) CHECK(recorded.count(name) == 1);
}

TEST_CASE("recording refuses what cannot be read back", "[schedule]") {
  Schedule s;
  CHECK(message_of([&] { s["out"].split("x y", "xo", "xi", 8); }) ==
        "schedule: in out.split: 'old' must be a dimension's name, not 'x y'");
  CHECK(message_of([&] { s["out"].split("x", "xo", "xi", 0); }) ==
        "schedule: in out.split: 'factor' must be at least 1, not 0");
  CHECK(message_of([&] { s["out"].specialize("W"); }) ==
        "schedule: in out.specialize: 'condition' must be a condition such as W >= 64, not 'W'");
  CHECK(message_of([&] { s["out"].update(0).compute_root(); }) ==
        "schedule: in out.compute_root: compute_root is about the whole stage: write it on a line that starts "
        "'out.compute_root('");
  CHECK(message_of([&] { s["out"].bound("x", 0, std::int64_t{1} << 40); }) ==
        "schedule: in out.bound: the integer is too large: it must fit 32 bits");
  CHECK(message_of([&] { s["a b"].unroll("x"); }) == "schedule: in a b.unroll: 'a b' is not a stage's name");
  CHECK(message_of([&] { s["out"].update(-1); }) == "schedule: 'out' has no update -1");
  CHECK(s.lines.empty());
}
