#include <fstream>
#include <regex>
#include <sstream>

#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "base/file.hpp"
#include "dsl/stage.hpp"
#include "tests/dsl/schedule_fixture.hpp"

using heddle::Schedule;
using heddle::test::Convolution;
using heddle::test::message_of;
using namespace Halide;

namespace {

constexpr int kChannels = 32, kWidth = 13, kHeight = 5;

/// Small integers, so that sums are exact in every order and schedules must agree bit by bit.
Buffer<float> numbers(const std::vector<int>& sizes, int step) {
  Buffer<float> buffer(sizes);
  int i = 0;
  buffer.for_each_value([&](float& value) { value = static_cast<float>((i++ * step) % 15 - 7); });
  return buffer;
}

Buffer<float> realize(Convolution& c) {
  c.in.set(numbers({8, kWidth + 2, kHeight}, 7));
  c.w.set(numbers({kChannels, 8, 3}, 11));
  c.b.set(numbers({kChannels}, 4));
  c.pipeline.symbols[0].set(kWidth);
  return c.out.realize({kChannels, kWidth, kHeight});
}

/// Halide sorts by name in places, so that what it makes of t9 and t10 differs from what it makes of t10 and t11. Names
/// of one length sort as they were made; the shorter ones are skipped.
void skip_short_names() {
  static const bool done = [] {
    for (const char prefix : std::string_view("abcdefghijklmnopqrstuvwxyz"))
      for (int i = 0; i < 10000; ++i) Internal::unique_name(prefix);
    return true;
  }();
  (void)done;
}

/// What Halide lowers a scheduled pipeline to, with the numbers that it puts behind names taken off again.
std::string lowered(const heddle::Pipeline& p, const char* features = "") {
  skip_short_names();
  const Target target(std::string("x86-64-linux-avx2-fma-no_asserts-no_bounds_query-no_runtime") + features);
  std::ostringstream text;
  text << Halide::Pipeline(p.outputs).compile_to_module(p.arguments(), "kernel", target);
  // Numbers of Funcs, then of temporaries: those count through the process, so number them by their first appearance.
  // The device source's length follows from the lengths of the names in it.
  const std::string plain = std::regex_replace(
      text.str(), std::regex("_[0-9]+(?=_s[0-9])|(\\$|__)[0-9]+|, [0-9]+(?=\\)\n *assert\\(halide_opencl_initialize)"),
      "");
  std::string result;
  std::map<std::string, std::size_t> numbered;
  const std::regex temporary("[0-9]{5,}|\\b_[0-9]+\\b");
  std::size_t done = 0;
  for (std::sregex_iterator at(plain.begin(), plain.end(), temporary), end; at != end; ++at) {
    const auto start = static_cast<std::size_t>(at->position());
    result += plain.substr(done, start - done) +
              std::to_string(numbered.try_emplace(at->str(), numbered.size()).first->second);
    done = start + static_cast<std::size_t>(at->length());
  }
  return result + plain.substr(done);
}

struct Case {
  const char* name;
  const char* text;
  std::function<void(Convolution&)> hand;
  const char* features = "";
};

std::vector<Case> cases() {
  const Var coo("coo"), coi("coi"), xo("xo"), xi("xi"), yo("yo"), yi("yi"), u("u"), v("v"), xy("xy"), z("z");
  // Halide names the inner loop of vectorize(v, n) by a counter; schedules name it v$0, v$1...
  const Var co0("co$0");
  return {
      {"the design's example, the producer placed first",
       R"(acc.compute_at(out, xo).vectorize(co, 8).unroll(co).unroll(x)
          acc.update(0).reorder(co, x, ci, k).vectorize(co, 8).unroll(co).unroll(x).unroll(ci, 2)
          out.split(co, coo, coi, 16).split(x, xo, xi, 4, ShiftInwards).reorder(coi, xi, xo, y, coo)
          out.vectorize(coi, 8).unroll(coi).unroll(xi).parallel(coo))",
       [=](Convolution& c) {
         c.out.split(c.co, coo, coi, 16).split(c.x, xo, xi, 4, TailStrategy::ShiftInwards);
         c.out.reorder(coi, xi, xo, c.y, coo).split(coi, coi, Var("coi$0"), 8).vectorize(Var("coi$0"));
         c.out.unroll(coi).unroll(xi).parallel(coo);
         c.acc.compute_at(c.out, xo).split(c.co, c.co, co0, 8).vectorize(co0).unroll(c.co).unroll(c.x);
         c.acc.update().reorder(c.co, c.x, c.r.x, c.r.y).split(c.co, c.co, co0, 8).vectorize(co0);
         c.acc.update().unroll(c.co).unroll(c.x).split(c.r.x, c.r.x, RVar("ci$0"), 2).unroll(RVar("ci$0"));
       }},
      {"tile, fuse, rename, serial, partition, parallel with a task size, storage",
       R"(out.tile(co, x, coo, xo, coi, xi, 8, 3, GuardWithIf).fuse(xo, y, xy).rename(coo, z).serial(z)
          out.partition(xy, Never).parallel(xy, 2, GuardWithIf).vectorize(coi)
          acc.compute_at(out, xy).store_in(Stack).reorder_storage(x, co, y).align_storage(x, 4)
          acc.update(0).allow_race_conditions().vectorize(x, 4, GuardWithIf)
          pre.compute_inline())",
       [=](Convolution& c) {
         c.out.tile(c.co, c.x, coo, xo, coi, xi, 8, 3, TailStrategy::GuardWithIf).fuse(xo, c.y, xy).rename(coo, z);
         c.out.serial(z).partition(xy, Partition::Never);
         c.out.split(xy, xy, Var("xy$0"), 2, TailStrategy::GuardWithIf).parallel(xy).vectorize(coi);
         c.acc.compute_at(c.out, xy).store_in(MemoryType::Stack).reorder_storage(c.x, c.co, c.y).align_storage(c.x, 4);
         c.acc.update().allow_race_conditions().split(c.x, c.x, Var("x$0"), 4, TailStrategy::GuardWithIf);
         c.acc.update().vectorize(Var("x$0"));
       }},
      {"rfactor of a split reduction, scheduled under its new name",
       R"(acc.compute_root()
          acc.update(0).split(ci, cio, cii, 4).rfactor(cii, u, part)
          part.compute_at(acc, y).vectorize(u)
          part.update(0).reorder(u, co, x, y, cio, k).vectorize(u).unroll(cio)
          acc.update(0).unroll(cii))",
       [=](Convolution& c) {
         const RVar cio("cio"), cii("cii");
         c.acc.compute_root();
         Func part = c.acc.update().split(c.r.x, cio, cii, 4).rfactor(cii, u);
         part.compute_at(c.acc, c.y).vectorize(u).update().reorder(u, c.co, c.x, c.y, cio, c.r.y);
         part.update().vectorize(u).unroll(cio);
         c.acc.update().unroll(cii);
       }},
      {"rfactor over both reductions",
       R"(acc.compute_root()
          acc.update(0).split(ci, cio, cii, 4).rfactor(cii, u, k, v, part)
          part.compute_root().vectorize(co, 8)
          part.update(0).vectorize(co, 8))",
       [=](Convolution& c) {
         const RVar cio("cio"), cii("cii");
         c.acc.compute_root();
         Func part = c.acc.update().split(c.r.x, cio, cii, 4).rfactor({{cii, u}, {c.r.y, v}});
         part.compute_root().split(c.co, c.co, co0, 8).vectorize(co0);
         part.update().split(c.co, c.co, co0, 8).vectorize(co0);
       }},
      {"copies of an operand and of a stage, prefetch, atomic",
       R"(acc.compute_root()
          acc.update(0).atomic()
          w.in(packed, acc)
          packed.compute_at(acc, y).vectorize(co, 8).unroll(ci, 2)
          in.in(copy)
          copy.compute_root().reorder_storage(ci, y, x)
          acc.update(0).prefetch(copy, x, y, 2, NonFaulting)
          acc.in(lines, out)
          lines.compute_at(out, y).vectorize(co, 8))",
       [=](Convolution& c) {
         c.acc.compute_root().update().atomic();
         Func packed = c.w.in(c.acc);
         packed.compute_at(c.acc, c.y).split(_0, _0, Var("co$0"), 8).vectorize(Var("co$0"));
         packed.split(_1, _1, Var("ci$0"), 2).unroll(Var("ci$0"));
         Func copy = c.in.in();
         copy.compute_root().reorder_storage(_0, _2, _1);
         c.acc.update().prefetch(copy, c.x, c.y, 2, PrefetchBoundStrategy::NonFaulting);
         Func lines = c.acc.in(c.out);
         lines.compute_at(c.out, c.y).split(c.co, c.co, co0, 8).vectorize(co0);
       }},
      {"specialisations, nested and taken up again",
       R"(out.bound(x, 0, W)
          out.specialize(W % 8 == 5 && W <= max(13, 4)).vectorize(co, 16).specialize(W > 12).unroll(x, 13)
          out.specialize(W > 2*W - 1 || W/2 < 3).parallel(y)
          out.specialize(W % 8 == 5 && W <= max(13, 4)).parallel(y)
          out.vectorize(co, 8)
          acc.compute_at(out, y))",
       [=](Convolution& c) {
         const Expr w = c.pipeline.symbols[0];
         c.out.bound(c.x, 0, w);
         const Var lanes("co$0"), pixels("x$0");
         Halide::Stage narrow = c.out.specialize(w % 8 == 5 && w <= max(Expr(13), 4));
         narrow.split(c.co, c.co, lanes, 16)
             .vectorize(lanes)
             .specialize(w > 12)
             .split(c.x, c.x, pixels, 13)
             .unroll(pixels);
         c.out.specialize(w > 2 * w - 1 || w / 2 < 3).parallel(c.y);
         narrow.parallel(c.y);
         c.out.split(c.co, c.co, lanes, 8).vectorize(lanes);
         c.acc.compute_at(c.out, c.y);
       }},
      {"bounds",
       R"(out.bound(co, 0, 32).bound_extent(x, W).reorder(x, y, co).specialize(W == 13)
          out.specialize_fail("only rows of 13")
          acc.compute_at(out, y).align_bounds(co, 8, -8)
          pre.compute_at(acc, x).align_extent(ci, 4).bound_storage(x, 4).store_in(Stack))",
       [=](Convolution& c) {
         const Expr w = c.pipeline.symbols[0];
         c.out.bound(c.co, 0, 32).bound_extent(c.x, w).reorder(c.x, c.y, c.co);
         c.out.specialize(w == 13);
         Halide::Stage(c.out).specialize_fail("only rows of 13");
         c.acc.compute_at(c.out, c.y).align_bounds(c.co, 8, -8);
         c.pre.compute_at(c.acc, c.x).align_extent(Var("ci"), 4).bound_storage(c.x, 4).store_in(MemoryType::Stack);
       }},
      {"a sliding window in folded storage",
       R"(out.reorder(co, x, y)
          acc.compute_at(out, x).store_at(out, x)
          pre.compute_at(out, x).store_at(out, y).hoist_storage(out, y).fold_storage(x, 4))",
       [=](Convolution& c) {
         c.out.reorder(c.co, c.x, c.y);
         c.acc.compute_at(c.out, c.x).store_at(c.out, c.x);
         c.pre.compute_at(c.out, c.x).store_at(c.out, c.y).hoist_storage(c.out, c.y).fold_storage(c.x, 4);
       }},
      {"async through a ring buffer",
       R"(pre.compute_at(out, y).store_at(out, y).hoist_storage_root().async().ring_buffer(2)
          acc.compute_at(out, y))",
       [=](Convolution& c) {
         c.pre.compute_at(c.out, c.y).store_at(c.out, c.y).hoist_storage_root().async().ring_buffer(2);
         c.acc.compute_at(c.out, c.y);
       }},
      {"stored at the root, placed in an update's reduction",
       R"(acc.compute_root()
          acc.update(0).reorder(k, ci).prefetch(w, ci, ci)
          pre.store_root().compute_at(acc, ci))",
       [=](Convolution& c) {
         c.acc.compute_root().update().reorder(c.r.y, c.r.x).prefetch(c.w, c.r.x, c.r.x);
         c.pre.store_root().compute_at(c.acc, c.r.x);
       }},
  };
}

std::vector<Case> gpu_cases() {
  const Var bx("bx"), by("by"), tx("tx"), ty("ty"), bz("bz"), tz("tz"), xo("xo"), xi("xi");
  return {
      {"two dimensions",
       R"(out.gpu_tile(co, x, bx, by, tx, ty, 16, 4, GuardWithIf)
          acc.compute_at(out, bx).store_in(GPUShared).gpu_threads(co, x)
          acc.update(0).gpu_threads(co, x))",
       [=](Convolution& c) {
         c.out.gpu_tile(c.co, c.x, bx, by, tx, ty, 16, 4, TailStrategy::GuardWithIf);
         c.acc.compute_at(c.out, bx).store_in(MemoryType::GPUShared).gpu_threads(c.co, c.x);
         c.acc.update().gpu_threads(c.co, c.x);
       },
       "-opencl"},
      {"one dimension, three, and a single thread",
       R"(out.gpu_tile(co, x, y, bx, by, bz, tx, ty, tz, 16, 2, 1)
          acc.compute_root().split(x, xo, xi, 4).reorder(xi, co, xo, y).gpu_blocks(xo, y).gpu_threads(co)
          acc.update(0).gpu_tile(co, bx, tx, 8)
          pre.compute_root().gpu_single_thread())",
       [=](Convolution& c) {
         c.out.gpu_tile(c.co, c.x, c.y, bx, by, bz, tx, ty, tz, 16, 2, 1);
         c.acc.compute_root().split(c.x, xo, xi, 4).reorder(xi, c.co, xo, c.y).gpu_blocks(xo, c.y).gpu_threads(c.co);
         c.acc.update().gpu_tile(c.co, bx, tx, 8);
         c.pre.compute_root().gpu_single_thread();
       },
       "-opencl"},
  };
}

void check_lowers_alike(const Case& test) {
  INFO(test.name);
  Convolution by_text, by_hand;
  apply(Schedule::parse(test.text), by_text.pipeline);
  test.hand(by_hand);
  const std::string got = lowered(by_text.pipeline, test.features), want = lowered(by_hand.pipeline, test.features);
  const std::size_t at =
      static_cast<std::size_t>(std::mismatch(got.begin(), got.end(), want.begin(), want.end()).first - got.begin());
  INFO("by text: ..." << got.substr(at - std::min<std::size_t>(at, 200), 400));
  INFO("by hand: ..." << want.substr(std::min(want.size(), at - std::min<std::size_t>(at, 200)), 400));
  CHECK((got == want));
}

}  // namespace

TEST_CASE("a schedule's text lowers to what Halide's own calls lower to", "[schedule]") {
  for (const Case& test : cases()) check_lowers_alike(test);
  for (const Case& test : gpu_cases()) check_lowers_alike(test);
  // The comparison can tell schedules apart.
  Convolution a, b;
  apply(Schedule::parse("out.vectorize(co, 8)"), a.pipeline);
  apply(Schedule::parse("out.vectorize(co, 4)"), b.pipeline);
  CHECK(lowered(a.pipeline) != lowered(b.pipeline));
}

TEST_CASE("scheduled pipelines compute what the algorithm says", "[schedule]") {
  Convolution plain;
  const Buffer<float> want = realize(plain);
  for (const Case& test : cases()) {
    INFO(test.name);
    Convolution c;
    apply(Schedule::parse(test.text), c.pipeline);
    Buffer<float> got;
    try {
      got = realize(c);
    } catch (const Halide::Error& error) {
      FAIL_CHECK(error.what());
      continue;
    }
    int wrong = 0;
    got.for_each_element([&](const int* at) { wrong += got(at) != want(at) ? 1 : 0; });
    CHECK(wrong == 0);
  }
}

TEST_CASE("compute_with and gpu_lanes", "[schedule]") {
  const auto build = [](Func& f, Func& g) {
    Var x("x");
    f(x) = x * 2;
    f(x) += 1;
    g(x) = x + 3;
    g(x) += 2;
    Func out("out");
    out(x) = f(x) + g(x);
    heddle::Pipeline p;
    p.stages = {{"f", f, {}}, {"g", g, {}}, {"out", out, {}}};
    p.outputs = {out};
    return p;
  };
  Func f1("f"), g1("g"), f2("f"), g2("g");
  heddle::Pipeline by_text = build(f1, g1), by_hand = build(f2, g2);
  apply(Schedule::parse("f.compute_root().split(x, xo, xi, 4)\n"
                        "g.compute_root().split(x, xo, xi, 4).compute_with(f, xo, AlignEnd)\n"
                        "f.update(0).serial(x)\n"
                        "g.update(0).compute_with(f.update(0), x)"),
        by_text);
  const Var x("x"), xo("xo"), xi("xi");
  f2.compute_root().split(x, xo, xi, 4);
  g2.compute_root().split(x, xo, xi, 4).compute_with(f2, xo, LoopAlignStrategy::AlignEnd);
  f2.update().serial(x);
  g2.update().compute_with(f2.update(), x);
  CHECK(lowered(by_text) == lowered(by_hand));

  Func f("f"), g("g");
  heddle::Pipeline p = build(f, g);
  apply(Schedule::parse("out.split(x, xo, xi, 32).gpu_lanes(xi)"), p);
  const auto dims = Halide::Stage(p.outputs[0]).get_schedule().dims();
  CHECK(dims[0].for_type == Internal::ForType::GPULane);
}

TEST_CASE("a recorded schedule applies as its text does", "[schedule]") {
  Convolution recorded, parsed;
  Schedule s;
  s["out"].split("co", "coo", "coi", 16).vectorize("coi").parallel("coo");
  s["acc"].compute_at("out", "coo");
  s["acc"].update(0).unroll("ci", 4);
  apply(s, recorded.pipeline);
  apply(Schedule::parse(s.print()), parsed.pipeline);
  CHECK(lowered(recorded.pipeline) == lowered(parsed.pipeline));
}

TEST_CASE("pipelines that Halide renames compile to the same bytes", "[schedule]") {
  skip_short_names();
  // No parallel loop: the function that Halide makes of its body is called after the Func.
  const Schedule schedule = Schedule::parse(
      "w.in(packed)\n"
      "out.split(co, coo, coi, 16).reorder(coi, x, y, coo).vectorize(coi, 8).unroll(x, 4)\n"
      "acc.compute_at(out, x).vectorize(co, 8).unroll(co)\n"
      "acc.update(0).reorder(co, x, ci, k).vectorize(co, 8).unroll(ci, 2)\n"
      "packed.compute_at(out, coo).vectorize(co, 8)");
  const Target target("x86-64-linux-avx2-fma-no_asserts-no_bounds_query-no_runtime-user_context");
  const heddle::TemporaryDirectory directory(std::filesystem::temp_directory_path());
  std::vector<std::string> objects, names;
  for (int i = 0; i < 2; ++i) {
    Convolution c;
    names.push_back(c.out.name());
    apply(schedule, c.pipeline);
    const auto path = directory.path() / ("kernel" + std::to_string(i) + ".o");
    // Without metadata, which hold the output's name: out$1 for the second.
    Halide::Pipeline(c.pipeline.outputs)
        .compile_to_module(c.pipeline.arguments(), "kernel", target, LinkageType::ExternalPlusArgv)
        .compile({{OutputFileType::object, path.string()}});
    objects.push_back(heddle::read_file(path));
  }
  CHECK(names[0] != names[1]);
  CHECK(objects[0].size() > 1000);
  CHECK((objects[0] == objects[1]));
}

TEST_CASE("errors of apply name the place, the name and the near ones", "[schedule]") {
  struct Bad {
    const char* text;
    const char* message;
  };
  const std::vector<Bad> all{
      {"aut.compute_root()", "s:1:1: no stage 'aut' (did you mean 'out'?); there are pre, acc, out, b, in, w"},
      {"out.compute_root()\nacc.compute_at(ot, x)",
       "s:2:16: no stage 'ot' (did you mean 'out'?); there are pre, acc, out"},
      {"out.split(xx, xo, xi, 4)", "s:1:11: 'out' has no dimension 'xx' (did you mean 'x'?); it has co, x, y"},
      {"out.split(co, coo, coi, 8).vectorize(co)",
       "s:1:38: 'out' has no dimension 'co' (did you mean 'coi' or 'coo'?); it has coi, coo, x, y"},
      {"acc.update(0).unroll(cii)",
       "s:1:22: 'acc.update(0)' has no dimension 'cii' (did you mean 'ci'?); it has ci, k, co, x, y"},
      {"acc.unroll(ci)", "s:1:12: 'acc' has no dimension 'ci' (did you mean 'co'?); it has co, x, y"},
      {"acc.update(1).unroll(ci)", "s:1:1: 'acc' has no update(1); the last is update(0)"},
      {"out.update(0).unroll(x)", "s:1:1: 'out' has no updates"},
      {"# c\nacc.compute_at(out, xoo)\nout.split(x, xo, xi, 4)",
       "s:2:21: 'out' has no dimension 'xoo' (did you mean 'xo'?); it has co, xi, xo, y"},
      {"acc.compute_at(out, x)\nout.split(x, xo, xi, 4)",
       "s:1:21: 'out' has no dimension 'x' (did you mean 'xi' or 'xo' or 'y'?); it has co, xi, xo, y"},
      {"acc.compute_at(acc, x)", "s:1:16: 'acc' cannot be placed within itself"},
      {"out.split(x, y, xi, 4)", "s:1:14: 'out' already has a dimension 'y': choose another name"},
      {"out.split(x, xo, xo, 4)", "s:1:18: 'xo' is named twice"},
      {"out.reorder(x, y, x)", "s:1:19: 'x' is named twice"},
      {"out.fuse(x, x, xx)", "s:1:13: 'x' is named twice"},
      {"out.split(x, xo, xi, V/2)", "s:1:22: no symbolic extent 'V' (did you mean 'W'?); there are W"},
      {"out.specialize(W > 3 && H > 4)", "s:1:25: no symbolic extent 'H' (did you mean 'W'?); there are W"},
      {"out.split(x, xo, xi, 4).bound(xo, 0, 4)",
       "s:1:31: 'out' itself has no dimension 'xo' (did you mean 'co' or 'x'?); it has co, x, y"},
      {"out.reorder_storage(x, q)",
       "s:1:24: 'out' itself has no dimension 'q' (did you mean 'x' or 'y'?); it has co, x, y"},
      {"w.compute_root()", "s:1:3: 'w' is an operand: only its copy can be scheduled, made by w.in(NAME)"},
      {"w.update(0).unroll(x)", "s:1:1: 'w' is an operand and has no updates"},
      {"w.in(acc)", "s:1:6: there is a stage 'acc' already: choose another name"},
      {"w.in(wc, ac)", "s:1:10: no stage 'ac' (did you mean 'acc'?); there are pre, acc, out"},
      {"w.in(wc)\nwc.vectorize(cco)", "s:2:14: 'wc' has no dimension 'cco' (did you mean 'co'?); it has co, ci, k"},
      {"acc.update(0).rfactor(co, u, part)", "s:1:23: 'co' is no reduction dimension of 'acc'"},
      {"acc.update(0).prefetch(v, ci, k)",
       "s:1:24: no stage 'v' (did you mean 'b' or 'w'?); there are pre, acc, out, b, in, w"},
      {"acc.compute_with(out.update(0), x)", "s:1:18: 'out' has no update(0)"},
      {"acc.compute_with(out, q)", "s:1:23: 'out' has no dimension 'q' (did you mean 'x' or 'y'?); it has co, x, y"},
      // Halide's own complaints, with the directive that caused them.
      {"out.unroll(x)\n  out.in(copy, out)", "s:2:7: in in(copy, out): Cannot create wrapper of itself (\"out\")"},
      {"out.specialize_fail(\"a\")\nout.specialize(W > 1)",
       "s:2:5: in specialize(W > 1): Cannot add new specializations after specialize_fail()."},
  };
  for (const auto& bad : all) {
    INFO(bad.text);
    Convolution c;
    std::string got = message_of([&] { apply(Schedule::parse(bad.text, "s"), c.pipeline, "s"); });
    // Halide's own messages call a second `out` of the process out$1.
    got = std::regex_replace(got, std::regex("out\\$[0-9]+"), "out");
    CHECK(got == bad.message);
  }

  Convolution c;
  Schedule recorded;
  recorded["out"].unroll("x");
  recorded["acc"].compute_at("out", "y").vectorize("q");
  CHECK(message_of([&] { apply(recorded, c.pipeline, "family conv"); }) ==
        "family conv:2:34: 'acc' has no dimension 'q' (did you mean 'x' or 'y'?); it has co, x, y");

  Schedule by_search;
  by_search.lines = {{"out", -1, {{"unroll", {{"x).parallel(y", {}}}, {}}}, {}}};
  CHECK(message_of([&] { apply(by_search, c.pipeline, "s"); }).find("s: the schedule is not in canonical form") == 0);
}

TEST_CASE("extents as expressions over a pipeline's symbols", "[pipeline]") {
  using heddle::Extent;
  const std::vector<Param<int>> symbols{Param<int>("H"), Param<int>("W")};
  const Extent w = Extent::symbol("W"), h = Extent::symbol("H");
  const auto evaluated = [&](const Extent& e, int height, int width) {
    Func f;
    f() = heddle::to_expr(e, symbols);
    Param<int> a = symbols[0], b = symbols[1];
    a.set(height);
    b.set(width);
    return static_cast<Buffer<int>>(f.realize())();
  };
  const Extent e = floor_div((w + 1) * h - 3, 4) + mod(w, 3) * 7 - max(w, h) + min(w * 2, 30);
  CHECK(evaluated(e, 5, 14) == e.evaluate({{"H", 5}, {"W", 14}}));
  CHECK(evaluated(e, 1, 1) == e.evaluate({{"H", 1}, {"W", 1}}));
  CHECK_THROWS_AS(heddle::to_expr(Extent::symbol("D"), symbols), heddle::Error);
  CHECK_THROWS_AS(heddle::to_expr(Extent(std::int64_t{1} << 40), symbols), heddle::Error);

  const Convolution c;
  const auto arguments = c.pipeline.arguments();
  REQUIRE(arguments.size() == 4);
  CHECK(arguments[0].name == "W");
  CHECK(arguments[2].name == "w");
}
