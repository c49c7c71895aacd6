#include <Halide.h>
#include <catch2/catch.hpp>

#include "autoscheduler/nest.hpp"
#include "base/error.hpp"
#include "ops/catalog.hpp"
#include "tests/autoscheduler/pictures.hpp"

namespace heddle::autoscheduler {
namespace {

Workload workload(const std::string& op, const Json& attributes, std::vector<std::string> inputs, int threads = 1) {
  std::vector<TensorType> types;
  for (const auto& text : inputs) types.push_back(TensorType::parse(text));
  return Workload::of(Operators().get(op), attributes, types, {}, threads);
}

const Access& read_of(const StageNode& stage, const std::string& source) {
  for (const Access& access : stage.accesses)
    if (access.source == source) return access;
  throw Error(ErrorCode::not_found, source);
}

TEST_CASE("a product reads rows of one operand and columns of the other") {
  const Subject s = make_subject(workload("matmul", Json::object(), {"f32[5,7]", "f32[7,9]"}), Machine{});
  const StageNode& acc = s.dependences.stage("acc");
  CHECK(acc.accumulates);
  CHECK(acc.associative);
  CHECK(acc.elements() == 45);
  CHECK(acc.reduction_steps() == 7);
  CHECK(acc.update_operations == 2);
  // Loops: n, m, then k. Halide's order of a's dimensions: k, m; of b's: n, k.
  const auto& a = read_of(acc, "a").index;
  const auto& b = read_of(acc, "b").index;
  CHECK(a[0].coefficients == std::vector<std::int64_t>{0, 0, 1});
  CHECK(a[1].coefficients == std::vector<std::int64_t>{0, 1, 0});
  CHECK(b[0].coefficients == std::vector<std::int64_t>{1, 0, 0});
  CHECK(b[1].coefficients == std::vector<std::int64_t>{0, 0, 1});
  const auto needed = s.dependences.regions("out", {{0, 4}, {2, 3}});
  CHECK(needed.at("a")[1].min == 2);
  CHECK(needed.at("a")[1].extent == 3);
  CHECK(needed.at("a")[0].extent == 7);
  CHECK(needed.at("b")[0].extent == 4);
}

TEST_CASE("a strided window asks for its halo") {
  const Subject s =
      make_subject(workload("conv", {{"strides", {2, 2}}}, {"f32[1,4,11,13]", "f32[8,4,3,3]"}), Machine{});
  const auto needed = s.dependences.regions("out", s.dependences.out().box);
  // Halide's order: x, y, ci, n.
  CHECK(needed.at("x")[0].extent == 13);
  CHECK(needed.at("x")[1].extent == 11);
  CHECK(needed.at("x")[2].extent == 4);
  const auto tile = s.dependences.regions("out", {{1, 2}, {0, 1}, {0, 8}, {0, 1}});
  CHECK(tile.at("x")[0].min == 2);
  CHECK(tile.at("x")[0].extent == 5);
  CHECK(tile.at("x")[1].extent == 3);
}

TEST_CASE("padding is followed through its clamps") {
  const Subject s = make_subject(
      workload("max_pool", {{"kernel_shape", {3, 3}}, {"pads", {1, 1, 1, 1}}}, {"f32[1,2,8,8]"}), Machine{});
  for (const AffineIndex& index : read_of(s.dependences.stage("padded"), "x").index) CHECK(index.affine);
}

TEST_CASE("rows are reduced and read again by their elements") {
  const Subject s = make_subject(workload("softmax", Json::object(), {"f32[6,40]"}), Machine{});
  CHECK(s.dependences.consumers("max").size() == 1);
  CHECK(s.dependences.consumers("exp").size() == 2);
  CHECK(s.dependences.stage("sum").reductions[0].extent == 40);
  CHECK(s.dependences.stage("exp").pure_operations > 10);
}

TEST_CASE("symbolic extents are refused with what to do") {
  const auto message = [](const auto& f) {
    try {
      f();
    } catch (const Error& e) {
      CHECK(e.code() == ErrorCode::unsupported);
      return std::string(e.what());
    }
    return std::string();
  };
  const Workload symbolic =
      Workload::of(Operators().get("relu"), Json::object(), {TensorType::parse("f32[N,4]")}, {{"N", {1, 9}}});
  CHECK_THAT(message([&] { make_subject(symbolic, Machine{}); }), Catch::Contains("--dim"));
}

Nest nest_of(const Subject& s, NestShape shape) {
  std::string why;
  auto nest = Nest::make(s, shape, why);
  INFO(why);
  REQUIRE(nest.has_value());
  return *nest;
}

TEST_CASE("a nest's loops cover the output once, blocks and fused tasks included") {
  const Subject s = make_subject(workload("relu", Json::object(), {"f32[12,30,64]"}, 2), Machine{});
  REQUIRE(s.rank() == 3);
  REQUIRE(s.extent(0) == 64);
  NestShape shape{{16, 5, 1}, {0, 2, 0}, 0, 2, 2, false};
  const Nest nest = nest_of(s, shape);
  // Tiles: 4 x 6 x 12; the middle one in 3 blocks of 2; the two outermost loops are one.
  CHECK(nest.iterations(0) == 4 * 6 * 12);
  CHECK(nest.loops().back().name == "task");
  CHECK(nest.tasks() == 12 * 3);
  CHECK(nest.vectors() == 2);
  CHECK(nest.waste() == 1.0);
  std::int64_t elements = 1;
  for (const Interval& i : nest.region(nest.levels())) elements *= i.extent;
  CHECK(elements == 12 * 30 * 64);
  elements = 1;
  for (const Interval& i : nest.region(0)) elements *= i.extent;
  CHECK(elements == 16 * 5);
}

TEST_CASE("choices without a meaning stand for the nearest one that has") {
  const Subject s = make_subject(workload("relu", Json::object(), {"f32[1,30,64]"}), Machine{});
  const Nest nest = nest_of(s, {{16, 30, 1}, {0, 64, 0}, 1, 1, 0, false});
  CHECK(nest.levels() == 1);  // the other loops have one iteration
  CHECK(nest.shape().innermost == 0);
  std::string why;
  CHECK_FALSE(Nest::make(s, {{16, 31, 1}, {0, 0, 0}, 0, 1, 0, false}, why));
  CHECK_THAT(why, Catch::Contains("a tile of 31 is longer than"));
}

TEST_CASE("what cannot be good is pruned, and why is said") {
  const auto space = make_space(workload("matmul", Json::object(), {"f32[64,96]", "f32[96,64]"}), Machine{}, false);
  const Sketch& sketch = space->sketches().at(0);
  const auto with = [&](std::vector<std::pair<std::string, std::int64_t>> values) {
    Point p = space->defaults().front();
    for (const auto& [name, value] : values)
      for (std::size_t k = 0; k < sketch.knobs.size(); ++k)
        if (sketch.knobs[k].name == name) p.values[k] = value;
    const auto made = space->emit(p);
    return std::holds_alternative<Pruned>(made) ? std::get<Pruned>(made).reason : std::string("kept");
  };
  CHECK(with({}) == "kept");
  CHECK(with({{"vectors", 4}, {"tile_m", 8}, {"unroll_acc", 1}}) == "registers: 37 of 16");
  CHECK_THAT(with({{"vectors", 4}, {"tile_m", 14}, {"unroll_acc", 8}}), Catch::Contains("code size"));
}

TEST_CASE("an index that halves its loop asks for half as much") {
  Halide::Var x("x"), y("y");
  Halide::ImageParam in(Halide::Float(32), 1, "in");
  in.dim(0).set_bounds(0, 66);
  Halide::Func half("half"), out("out");
  half(x) = in(x) * 2.0f;
  out(x, y) = half(x / 2 + x % 2) + half(y / 16);
  Pipeline pipeline;
  pipeline.stages = {{"half", half}, {"out", out}};
  pipeline.operands["in"] = in;
  pipeline.outputs = {out};
  const Dependences d = analyse(pipeline, {128, 64});
  CHECK(d.stage("half").box[0].min == 0);
  CHECK(d.stage("half").box[0].extent >= 65);
  CHECK(d.stage("half").box[0].extent <= 67);
  const auto tile = d.regions("out", {{32, 16}, {0, 16}});
  CHECK(tile.at("half")[0].extent <= 27);
}

TEST_CASE("what an expression asks of its place is known a phase at a time") {
  Halide::Var x("x"), y("y"), c("c");
  Halide::ImageParam in(Halide::Float(32), 2, "in");
  in.dim(0).set_bounds(0, 80);
  in.dim(1).set_bounds(0, 40);
  Halide::Func even("even"), odd("odd"), woven("woven"), out("out");
  even(x, y) = in(x, y) * 2.0f;
  odd(x, y) = in(x, y) + 1.0f;
  const Halide::Expr even_here = even(x / 2, y), odd_here = odd(x / 2, y);
  woven(x, y, c) = Halide::select(x % 2 == 0, Halide::mux(c, {even_here, odd_here}), odd_here + even_here);
  out(x, y) = woven(x, 2 * y, 0) + woven(x / 2, y, 1);
  Pipeline pipeline;
  pipeline.stages = {{"even", even}, {"odd", odd}, {"woven", woven}, {"out", out}};
  pipeline.operands["in"] = in;
  pipeline.outputs = {out};
  const Dependences d = analyse(pipeline, {128, 16});
  const StageNode& node = d.stage("woven");
  REQUIRE(node.phases.size() == 3);
  CHECK((node.phases[0].count == 2 && node.phases[0].repeat));
  CHECK(node.phases[1].count == 1);
  CHECK((node.phases[2].count == 2 && !node.phases[2].repeat));
  // Of the four phases one colour of every even pixel reads one of both, and odd pixels read both: one sum in two.
  CHECK(node.pure_operations == 0.5);
  CHECK(read_of(node, "even").share == 0.75);
  // In a reader's expression x / 2 makes two phases four, and the colours are its constants.
  const auto none = phases_with_inlined(d, d.out(), [](const StageNode&) { return false; });
  CHECK(none[0].count == 2);
  const auto all = phases_with_inlined(d, d.out(), [](const StageNode& s) { return s.role == "woven"; });
  CHECK((all[0].count == 4 && all[0].repeat));
  CHECK(all[1].count == 1);
}

TEST_CASE("the border of a long loop is no phase of it") {
  Halide::Var x("x"), c("c");
  Halide::ImageParam in(Halide::Float(32), 1, "in");
  in.dim(0).set_bounds(0, 80);
  Halide::Func out("out");
  out(x, c) = Halide::select(x == 0, 0.0f, c == 1, in(x) * 2.0f, in(x));
  Pipeline pipeline;
  pipeline.stages = {{"out", out}};
  pipeline.operands["in"] = in;
  pipeline.outputs = {out};
  const Dependences d = analyse(pipeline, {80, 2});
  CHECK(d.out().phases[0].count == 1);
  CHECK((d.out().phases[1].count == 2 && !d.out().phases[1].repeat));
}

TEST_CASE("phases of a stage have instructions of their own where it is computed") {
  const auto space = make_space(
      Workload::of(testing::mosaic(), {{"repeat_edge", true}}, {TensorType::parse("f32[36,132]")}), Machine{}, false);
  std::size_t apart = 0;
  for (const Point& point : space->defaults()) {
    const auto made = space->emit(point);
    const std::string text = std::get<Candidate>(made).implementation.print();
    const auto at = text.find("woven.compute_");
    if (at == std::string::npos) continue;
    const std::string line = text.substr(at, text.find('\n', at) - at);
    if (line.find("x_o") != std::string::npos) continue;  // a nest of its own, whose tiles are unrolled
    ++apart;
    INFO(line);
    CHECK(line.find("align_bounds(y, 2)") != std::string::npos);
    CHECK(line.find("unroll(y_phase)") != std::string::npos);
    CHECK(line.find("unroll(x_phase)") != std::string::npos);
  }
  CHECK(apart > 0);
}

}  // namespace
}  // namespace heddle::autoscheduler
