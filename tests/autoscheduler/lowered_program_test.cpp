#include <cmath>

#include <fmt/format.h>
#include <catch2/catch.hpp>

#include "autoscheduler/lowered_estimate.hpp"
#include "autoscheduler/subject.hpp"
#include "ops/catalog.hpp"
#include "targets/target.hpp"

namespace heddle::autoscheduler {
namespace {

using Halide::Func;
using Halide::ImageParam;
using Halide::Var;

const Machine machine{.target = "x86-64-linux-avx2"};

LoweredProgram lowered(Func f, const std::vector<int>& extents, const std::vector<Halide::Argument>& arguments) {
  for (int d = 0; d < f.dimensions(); ++d) f.output_buffer().dim(d).set_bounds(0, extents[static_cast<std::size_t>(d)]);
  if (f.dimensions() > 1) f.output_buffer().dim(1).set_stride(extents[0]);
  Halide::Target target = find_target(machine.target).halide;
  target.set_features({Halide::Target::NoAsserts, Halide::Target::NoBoundsQuery});
  return analyse_lowered(f.compile_to_module(arguments, "counted", target), machine, {});
}

/// A row of three taps, whose first stage is computed where `place` says.
struct Taps {
  Var x{"x"}, y{"y"}, yo{"yo"}, yi{"yi"};
  ImageParam in{Halide::Float(32), 2, "in"};
  Func first{"first"}, out{"out"};
  Taps() {
    in.dim(0).set_bounds(0, 256).dim(1).set_bounds(0, 66).set_stride(256);
    first(x, y) = in(x, y) * 2.0f;
    out(x, y) = first(x, y) + first(x, y + 1) + first(x, y + 2);
    out.vectorize(x, 8);
  }
  Instructions count() { return all_instructions(lowered(out, {256, 64}, {in}).body); }
};

TEST_CASE("instructions of a stage are counted where it is computed") {
  constexpr double vectors = 256.0 * 64 / 8;
  Taps inlined;
  // Three products of which two are added at once, three loads, a store.
  CHECK(inlined.count().loads == Approx(3 * vectors).epsilon(0.02));
  CHECK(inlined.count().stores == Approx(vectors).epsilon(0.02));
  Taps root;
  root.first.compute_root().vectorize(root.x, 8);
  const Instructions apart = root.count();
  CHECK(apart.loads == Approx((66.0 / 64 + 3) * vectors).epsilon(0.02));
  CHECK(apart.stores == Approx((66.0 / 64 + 1) * vectors).epsilon(0.02));
}

TEST_CASE("where a vector lies in memory takes no arithmetic of vectors") {
  Taps inlined;
  // Three products: two of them are added by the same instruction, and the two sums need no other.
  CHECK(inlined.count().arithmetic == Approx(3 * 256.0 * 64 / 8).epsilon(0.02));
}

TEST_CASE("a window that slides is counted once, one that does not each time") {
  constexpr double vectors = 256.0 * 64 / 8;
  Taps sliding;
  sliding.first.store_root().compute_at(sliding.out, sliding.y).vectorize(sliding.x, 8);
  CHECK(sliding.count().stores == Approx(2 * vectors).epsilon(0.1));
  Taps again;
  again.first.compute_at(again.out, again.y).vectorize(again.x, 8);
  CHECK(again.count().stores == Approx(4 * vectors).epsilon(0.1));
}

TEST_CASE("sums in registers are neither loaded nor stored, and wait for each other") {
  Var x("x");
  ImageParam in(Halide::Float(32), 2, "in");
  in.dim(0).set_bounds(0, 8).dim(1).set_bounds(0, 1000).set_stride(8);
  Halide::RDom r(0, 1000, "r");
  Func total("total"), out("out");
  total(x) = 0.0f;
  total(x) += in(x, r);
  out(x) = total(x);
  out.vectorize(x, 8);
  total.compute_at(out, x).vectorize(x, 8).update().reorder(x, r).vectorize(x, 8);
  const LoweredProgram program = lowered(out, {8}, {in});
  CHECK(all_instructions(program.body).stores == Approx(1).margin(2));
  CHECK(all_instructions(program.body).loads == Approx(1000).epsilon(0.01));
  CHECK(program.complete);
  REQUIRE(!program.body.loops.empty());
  CHECK(program.body.loops.back().extent == 1000);
  CHECK(program.body.loops.back().latency >= 4);
}

TEST_CASE("elements that do not lie side by side are loaded one by one") {
  Var x("x");
  ImageParam in(Halide::Float(32), 1, "in"), places(Halide::Int(32), 1, "places");
  in.dim(0).set_bounds(0, 800);
  places.dim(0).set_bounds(0, 800);
  Func out("out");
  out(x) = in(Halide::clamp(places(x), 0, 799));
  out.vectorize(x, 8);
  CHECK(all_instructions(lowered(out, {800}, {in, places}).body).loads == Approx(900).epsilon(0.02));
}

TEST_CASE("an estimate knows memory that is walked across from memory that is walked along") {
  std::vector<double> seconds, bytes;
  for (const bool across : {false, true}) {
    Var x("x"), y("y");
    ImageParam in(Halide::Float(32), 2, "in");
    in.dim(0).set_bounds(0, 4096).dim(1).set_bounds(0, 4096).set_stride(4096);
    Func out("out");
    out(x, y) = in(x, y) + 1.0f;
    Var xi("xi");
    out.split(x, x, xi, 8).vectorize(xi);
    if (across) out.reorder(xi, y, x);
    std::map<std::string, double> features;
    seconds.push_back(program_seconds(lowered(out, {4096, 4096}, {in}), machine, features));
    bytes.push_back(std::exp2(features.at("lowered.l1")));
  }
  // Each line is brought in for either half of it.
  CHECK(bytes[1] > 1.5 * bytes[0]);
  CHECK(seconds[1] > seconds[0]);
}

TEST_CASE("lines that are read in strips have to be found by prefetchers again and again") {
  std::vector<double> bytes;
  for (const bool strips : {false, true}) {
    Var x("x"), y("y"), xi("xi"), yi("yi");
    ImageParam in(Halide::Float(32), 2, "in");
    in.dim(0).set_bounds(0, 512).dim(1).set_bounds(0, 512).set_stride(512);
    Func out("out");
    out(x, y) = in(x, y) + 1.0f;
    // Whole lines either way, and 64 rows of them stay in the second-level cache.
    out.split(y, y, yi, 64).split(x, x, xi, 16).reorder(xi, x, yi, y);
    if (strips) out.reorder(xi, yi, x, y);
    out.vectorize(xi, 8).unroll(xi);
    std::map<std::string, double> features;
    program_seconds(lowered(out, {512, 512}, {in}), machine, features);
    bytes.push_back(std::exp2(features.at("lowered.l2")));
  }
  CHECK(bytes[1] > 1.5 * bytes[0]);
}

TEST_CASE("what tiles read in common comes into the cache once") {
  std::vector<double> bytes;
  for (const int height : {1, 4}) {
    Var x("x"), y("y"), xi("xi"), yi("yi");
    ImageParam in(Halide::Float(32), 2, "in");
    in.dim(0).set_bounds(0, 258).dim(1).set_bounds(0, 258).set_stride(258);
    Func out("out");
    out(x, y) = in(x, y) + in(x + 2, y) + in(x, y + 2) + in(x + 2, y + 2);
    out.split(x, x, xi, 8).split(y, y, yi, height).reorder(xi, yi, x, y).vectorize(xi).unroll(yi);
    std::map<std::string, double> features;
    program_seconds(lowered(out, {256, 256}, {in}), machine, features);
    bytes.push_back(std::exp2(features.at("lowered.l1")));
  }
  CHECK(bytes[1] == Approx(bytes[0]).epsilon(0.1));
}

TEST_CASE("what the last iterations of a loop touch comes beside what the others do") {
  std::vector<double> bytes;
  for (const int width : {8, 24}) {  // 24 does not divide the width: the last tile is a loop of its own
    Var x("x"), y("y"), xi("xi");
    ImageParam in(Halide::Float(32), 2, "in");
    in.dim(0).set_bounds(0, 64).dim(1).set_bounds(0, 8192).set_stride(64);
    Func out("out");
    out(x, y) = in(Halide::clamp(x, 0, 63), y) + 1.0f;
    out.split(x, x, xi, width, Halide::TailStrategy::ShiftInwards).vectorize(xi, 8);
    std::map<std::string, double> features;
    program_seconds(lowered(out, {64, 8192}, {in}), machine, features);
    bytes.push_back(std::exp2(features.at("lowered.l2")));
  }
  CHECK(bytes[1] > 0.9 * bytes[0]);
}

TEST_CASE("a stage that only the first of a loop's iterations compute is counted") {
  Var x("x"), y("y"), c("c"), yo("yo"), yi("yi");
  ImageParam in(Halide::Float(32), 2, "in");
  in.dim(0).set_bounds(0, 256).dim(1).set_bounds(0, 66).set_stride(256);
  Func first("first"), out("out");
  first(x, y) = in(x, y) * 2.0f;
  out(x, y, c) = first(x, y) * Halide::cast<float>(c);
  out.split(y, yo, yi, 16).reorder(x, yi, c, yo).vectorize(x, 8);
  first.store_at(out, yo).compute_at(out, yi).vectorize(x, 8);
  constexpr double vectors = 256.0 * 64 / 8;
  CHECK(all_instructions(lowered(out, {256, 64, 3}, {in}).body).stores == Approx((3 + 1) * vectors).epsilon(0.1));
}

TEST_CASE("a tile whose operands do not stay in registers waits for the stack") {
  std::vector<double> waiting;
  for (const int pixels : {3, 12}) {
    Var c("c"), x("x"), xi("xi");
    ImageParam in(Halide::Float(32), 2, "in"), weights(Halide::Float(32), 2, "weights");
    in.dim(0).set_bounds(0, 8).dim(1).set_bounds(0, 122).set_stride(8);
    weights.dim(0).set_bounds(0, 8).dim(1).set_bounds(0, 3).set_stride(8);
    Halide::RDom tap(0, 3, "tap");
    Func acc("acc"), out("out");
    acc(c, x) = 0.0f;
    acc(c, x) += in(c, x + tap) * weights(c, tap);
    out(c, x) = acc(c, x);
    out.split(x, x, xi, pixels).reorder(c, xi, x).vectorize(c, 8).unroll(xi);
    acc.compute_at(out, x).vectorize(c, 8).unroll(x);
    acc.update().reorder(c, x, tap).vectorize(c, 8).unroll(x).unroll(tap);
    waiting.push_back(all_instructions(lowered(out, {8, 120}, {in, weights}).body).calls);
  }
  CHECK(waiting[1] > 4 * waiting[0]);
}

TEST_CASE("a line that the next iteration reads on comes into the cache once") {
  constexpr int rows = 8, steps = 1 << 16;
  Var x("x");
  ImageParam in(Halide::Float(32), 2, "in");
  in.dim(0).set_bounds(0, steps).dim(1).set_bounds(0, rows).set_stride(steps + 48);
  Halide::RDom r(0, steps, "r");
  Func total("total"), out("out");
  total(x) = 0.0f;
  total(x) += in(r, x);
  out(x) = total(x);
  total.compute_root().unroll(x).update().reorder(x, r).unroll(x);
  std::map<std::string, double> features;
  program_seconds(lowered(out, {rows}, {in}), machine, features);
  CHECK(std::exp2(features.at("lowered.l1")) == Approx(4.0 * rows * steps).epsilon(0.02));
}

TEST_CASE("a schedule that does less work is estimated to be faster") {
  const Workload product = Workload::of(Operators().get("matmul"), Json::object(),
                                        {TensorType::parse("f32[64,64]"), TensorType::parse("f32[64,64]")}, {}, 1);
  const auto estimate = [&](const std::string& text) {
    std::map<std::string, double> features;
    return lowered_seconds(product, Implementation::parse(text), machine, features);
  };
  const double scalar = estimate("variant direct\nacc.compute_at(out, n)\n");
  const double vectors = estimate(
      "variant direct\nout.split(n, n_o, n_i, 16).split(m, m_o, m_i, 4).reorder(n_i, m_i, n_o, m_o)."
      "vectorize(n_i, 8).unroll(n_i).unroll(m_i)\nacc.compute_at(out, n_o).vectorize(n, 8).unroll(n).unroll(m)\n"
      "acc.update(0).reorder(n, m, k).vectorize(n, 8).unroll(n).unroll(m)\n");
  CHECK(vectors * 4 < scalar);
}

TEST_CASE("steps of a reduction that are unrolled share the loop's own instructions and nothing else") {
  const Workload product = Workload::of(Operators().get("matmul"), Json::object(),
                                        {TensorType::parse("f32[64,64]"), TensorType::parse("f32[64,64]")}, {}, 1);
  struct Counted {
    double seconds = 0;
    std::map<std::string, double> features;
  };
  const auto count = [&](const std::string& unroll, const std::string& split) {
    Counted counted;
    counted.seconds = lowered_seconds(
        product,
        Implementation::parse("variant direct\nout.split(n, n_o, n_i, 8).reorder(n_i, m, n_o).vectorize(n_i, 8)\n"
                              "acc.compute_at(out, m).vectorize(n, 8)\n"
                              "acc.update(0)" +
                              split + ".vectorize(n, 8)" + unroll + "\n"),
        machine, counted.features);
    return counted;
  };
  for (const auto& [loop, split] : {std::pair<std::string, std::string>{"k", ".reorder(n, k)"},
                                    {"k_d", ".split(k, k_b, k_d, 32).reorder(n, k_d, k_b)"}}) {
    INFO(loop);
    const Counted plain = count("", split), unrolled = count(".unroll(" + loop + ", 4)", split);
    CHECK(unrolled.seconds < plain.seconds);
    CHECK(unrolled.features.at("lowered.loads") == plain.features.at("lowered.loads"));
    CHECK(unrolled.features.at("lowered.arithmetic") == plain.features.at("lowered.arithmetic"));
  }
}

TEST_CASE("each thread does its share of a parallel loop, fused or not, and pays for its tasks") {
  const auto type = [](const char* text) { return TensorType::parse(text); };
  const Workload product =
      Workload::of(Operators().get("matmul"), Json::object(), {type("f32[96,256]"), type("f32[256,64]")}, {}, 2);
  const auto estimate = [&](int rows, const std::string& shared, const std::string& placed) {
    std::map<std::string, double> features;
    return lowered_seconds(
        product,
        Implementation::parse(
            fmt::format("variant direct\nout.split(n, n_o, n_i, 16).split(m, m_o, m_i, {}).reorder(n_i, m_i, n_o, m_o)."
                        "vectorize(n_i, 8).unroll(n_i){}\nacc.compute_at(out, {}).vectorize(n, 8).unroll(n)\n"
                        "acc.update(0).reorder(n, m, k).vectorize(n, 8).unroll(n)\n",
                        rows, shared, placed)),
        machine, features);
  };
  const auto shared = [&](int rows) { return estimate(rows, ".parallel(m_o)", "n_o"); };
  const double start = 1e-6;
  CHECK(shared(12) == Approx(estimate(12, "", "n_o") / 2).margin(start));
  CHECK(shared(32) == Approx(estimate(32, "", "n_o") * 2 / 3).margin(start));  // three tasks
  CHECK(estimate(12, ".fuse(n_o, m_o, task).parallel(task)", "task") == Approx(shared(12)).margin(start));
  // Of one row and 16 columns each.
  const double small = estimate(1, ".fuse(n_o, m_o, task).parallel(task)", "task");
  CHECK(small > estimate(1, "", "n_o") / 2 + 96 * 4 / 2 * 10e-9);
}

}  // namespace
}  // namespace heddle::autoscheduler
