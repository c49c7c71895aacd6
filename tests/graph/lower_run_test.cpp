// From a graph to what the runtime makes of it: every model here is compiled, written, loaded and run on poisoned
// memory.
#include <algorithm>

#include <catch2/catch.hpp>

#include "base/file.hpp"
#include "graph/compile.hpp"
#include "graph/interpret.hpp"
#include "graph/lower.hpp"
#include "runtime/model.hpp"
#include "runtime/session.hpp"
#include "tests/graph/loaded_model.hpp"

namespace heddle::graph {
namespace {

int count(const plan::Function& f, plan::StepKind kind) {
  return static_cast<int>(
      std::count_if(f.steps.begin(), f.steps.end(), [&](const plan::Step& s) { return s.kind == kind; }));
}

const plan::Value& named(const plan::Function& f, const std::string& name) {
  const auto found =
      std::find_if(f.values.begin(), f.values.end(), [&](const plan::Value& v) { return v.name == name; });
  REQUIRE(found != f.values.end());
  return *found;
}

TEST_CASE("a small convolutional network runs") {
  const Graph g = convolutions();
  const LoadedModel loaded(g);
  check_runs(g, loaded);
  CHECK(count(loaded.main(), plan::StepKind::fill_border) > 0);
  CHECK(named(loaded.main(), "y").storage == plan::Storage::output);
  CHECK(loaded.model->module().kernels.size() <= loaded.main().steps.size());
  for (const auto& value : loaded.main().values)
    if (value.storage == plan::Storage::constant) CHECK(value.file_offset % 64 == 0);
}

TEST_CASE("attention runs as one kernel, and its heads cost no copy") {
  ModelBuilder m;
  const int x = m.input("x", "f32[2,8,12]"), mask = m.input("mask", "f32[2,1,1,8]");
  const auto heads = [&](const Json& perm) {
    const int projected = m.op("add", {m.op("matmul", {x, m.constant("f32[12,12]")}), m.constant("f32[12]")});
    return m.op("transpose", {m.op("reshape", {projected}, {{"shape", {2, 8, 3, 4}}})}, {{"perm", perm}});
  };
  const int q = heads({0, 2, 1, 3}), k = heads({0, 2, 3, 1}), v = heads({0, 2, 1, 3});
  const int scores =
      m.op("add", {m.op("mul", {m.op("matmul", {q, k}), m.constant(Array::of<float>({}, {0.5F}))}), mask});
  const int merged = m.op("transpose", {m.op("matmul", {m.op("softmax", {scores}), v})}, {{"perm", {0, 2, 1, 3}}});
  const int out = m.op("matmul", {m.op("reshape", {merged}, {{"shape", {2, 8, 12}}}), m.constant("f32[12,12]")});
  m.output(m.op("layer_norm", {m.op("add", {out, x}), m.constant("f32[12]"), m.constant("f32[12]")}), "y");
  const LoadedModel loaded(m.graph);
  check_runs(m.graph, loaded);
  int copies = 0, kernels = 0;
  for (const auto& step : loaded.main().steps) {
    copies += step.label.find("(copy)") != std::string::npos;
    kernels += step.label.find("(attention)") != std::string::npos;
  }
  CHECK(copies == 0);
  CHECK(kernels == 1);
}

TEST_CASE("one package runs several sizes") {
  ModelBuilder m({{"N", {1, 4}}, {"W", {8, 64}}});
  const int x = m.input("x", "f32[N,3,8,W]");
  const int a =
      m.op("relu", {m.op("conv", {x, m.constant("f32[8,3,3,3]")}, {{"pads", {1, 1, 1, 1}}, {"strides", {2, 2}}})});
  const int b = m.op("mul", {a, m.op("sigmoid", {a})});
  const int c = m.op("conv", {b, m.constant("f32[12,8,1,1]"), m.constant("f32[12]")});
  const int pooled = m.op("average_pool", {c}, {{"kernel_shape", {4, 1}}});
  const Extent columns = m.graph.value(pooled).type.shape[3];
  const int row = m.op("reshape", {pooled}, {{"shape", {"N", 12, columns.str()}}});
  m.output(
      m.op("softmax", {m.op("matmul", {m.op("transpose", {row}, {{"perm", {0, 2, 1}}}), m.constant("f32[12,7]")})}),
      "y");
  const LoadedModel loaded(m.graph);
  for (const SymbolValues& symbols :
       {SymbolValues{{"N", 1}, {"W", 8}}, SymbolValues{{"N", 2}, {"W", 33}}, SymbolValues{{"N", 4}, {"W", 64}}})
    check_runs(m.graph, loaded, symbols);
}

TEST_CASE("an elementwise result takes the bytes of an operand that is used up") {
  ModelBuilder m;
  const int x = m.input("x", "f32[64]");
  const int a = m.op("matmul", {m.op("reshape", {x}, {{"shape", {8, 8}}}), m.constant("f32[8,8]")});
  const int b = m.op("reduce_sum", {a}, {{"axes", {1}}, {"keepdims", true}});
  const int c = m.op("sub", {a, b});
  m.output(m.op("matmul", {c, m.constant("f32[8,8]")}), "y");
  const LoadedModel loaded(m.graph);
  check_runs(m.graph, loaded);
  const auto& f = loaded.main();
  const auto& result = named(f, m.graph.value(c).name);
  REQUIRE(result.storage == plan::Storage::alias);
  CHECK(f.values[static_cast<std::size_t>(result.of)].name == m.graph.value(a).name);
}

TEST_CASE("concatenations find their operands in place, padding included") {
  ModelBuilder m({{"N", {1, 3}}, {"W", {4, 20}}});
  const int x = m.input("x", "f32[N,3,9,W]");
  const Json padded = {{"pads", {1, 1, 1, 1}}};
  const int a = m.op("relu", {m.op("conv", {x, m.constant("f32[17,3,3,3]"), m.constant("f32[17]")}, padded)});
  const int b = m.op("conv", {a, m.constant("f32[16,17,1,1]")});
  const int c = m.op("max_pool", {a}, {{"kernel_shape", {3, 3}}, {"pads", {1, 1, 1, 1}}});
  const int inner = m.op("concat", {a, b, c}, {{"axis", 1}});
  const int scaled = m.op("relu", {m.op("mul", {inner, m.constant("f32[50,1,1]")})});
  const int d = m.op("conv", {scaled, m.constant("f32[5,50,3,3]")}, padded);
  const int outer = m.op("concat", {inner, d, x}, {{"axis", 1}});
  m.output(m.op("conv", {outer, m.constant("f32[7,58,3,3]")}, padded), "y");
  m.output(m.op("reduce_mean", {outer}, {{"axes", {2, 3}}}), "z");
  const LoadedModel loaded(m.graph);
  for (const auto& step : loaded.main().steps) CHECK(step.label.find("(concat)") == std::string::npos);
  CHECK(named(loaded.main(), m.graph.value(a).name).storage == plan::Storage::alias);
  for (const SymbolValues& symbols : {SymbolValues{{"N", 1}, {"W", 4}}, SymbolValues{{"N", 3}, {"W", 19}}})
    check_runs(m.graph, loaded, symbols);
}

TEST_CASE("gaps between rows are nobody's") {
  ModelBuilder m({{"W", {4, 20}}});
  const int x = m.input("x", "f32[1,3,8,W]");
  const int a = m.op("relu", {m.op("conv", {x, m.constant("f32[512,3,1,1]")})});
  const int b = m.op("conv", {a, m.constant("f32[512,512,1,1]")});
  const int c = m.op("add", {b, a});
  const int d = m.op("concat", {c, m.op("conv", {c, m.constant("f32[512,512,1,1]")})}, {{"axis", 1}});
  const int e = m.op("conv", {d, m.constant("f32[8,1024,1,1]")});
  const int pooled = m.op("reduce_mean", {d}, {{"axes", {2, 3}}, {"keepdims", false}});
  m.output(m.op("add", {e, m.op("matmul", {pooled, m.constant("f32[1024,1]")})}), "y");
  const int hidden = m.op("gelu", {m.op("matmul", {m.input("z", "f32[2,9,4]"), m.constant("f32[4,1024]")})});
  m.output(m.op("matmul", {hidden, m.constant("f32[1024,3]")}), "v");
  const LoadedModel loaded(m.graph);
  for (const int value : {a, d, hidden})
    CHECK(named(loaded.main(), m.graph.value(value).name).border_after.size() ==
          m.graph.value(value).type.shape.size());
  CHECK(count(loaded.main(), plan::StepKind::fill_border) == 0);
  for (const SymbolValues& symbols : {SymbolValues{{"W", 4}}, SymbolValues{{"W", 19}}})
    check_runs(m.graph, loaded, symbols);
}

TEST_CASE("an operand that is read later, or elsewhere, keeps its bytes") {
  ModelBuilder m;
  const int x = m.input("x", "f32[8,8]");
  const int a = m.op("matmul", {x, m.constant("f32[8,8]")});
  const int c = m.op("sigmoid", {m.op("sub", {a, m.op("transpose", {a}, {{"perm", {1, 0}}})})});
  m.output(m.op("matmul", {c, m.constant("f32[8,8]")}), "y");
  m.output(m.op("matmul", {c, a}), "z");
  const LoadedModel loaded(m.graph);
  check_runs(m.graph, loaded);
}

TEST_CASE("inputs, constants and shared values may be outputs") {
  ModelBuilder m({{"W", {1, 16}}});
  const int x = m.input("x", "f32[2,W]");
  m.output(x);
  m.output(m.constant("f32[3]"));
  const int a = m.op("relu", {x});
  m.output(a, "a");
  m.output(m.op("reshape", {a}, {{"shape", {"W", 2}}}), "b");
  m.output(m.op("transpose", {a}, {{"perm", {1, 0}}}), "c");
  const LoadedModel loaded(m.graph);
  check_runs(m.graph, loaded, {{"W", 5}});
}

TEST_CASE("a result that is only seen reshaped is made in the caller's memory") {
  ModelBuilder m;
  const int a = m.op("matmul", {m.input("x", "f32[4,8]"), m.constant("f32[8,6]")});
  m.output(m.op("reshape", {a}, {{"shape", {2, 2, 6}}}), "y");
  const LoadedModel loaded(m.graph);
  check_runs(m.graph, loaded);
  CHECK(named(loaded.main(), "y").storage == plan::Storage::output);
  CHECK(named(loaded.main(), m.graph.value(a).name).storage == plan::Storage::alias);
}

TEST_CASE("two kernels of the same work are one") {
  ModelBuilder m;
  int x = m.input("x", "f32[1,16,4,4]");
  for (int i = 0; i < 3; ++i) x = m.op("relu", {m.op("conv", {x, m.constant("f32[16,16,1,1]")})});
  m.output(x, "y");
  const LoadedModel loaded(m.graph);
  check_runs(m.graph, loaded);
  CHECK(count(loaded.main(), plan::StepKind::kernel) == 5);
  CHECK(loaded.model->module().kernels.size() == 3);
}

TEST_CASE("a schedule written by hand replaces the family's") {
  ModelBuilder m;
  m.output(m.op("relu", {m.op("matmul", {m.input("x", "f32[8,16]"), m.constant("f32[16,32]")})}), "y");
  const TemporaryDirectory directory;
  write_file(directory.path() / "mine.sched", "out.vectorize(n, 8)\nacc.compute_at(out, m)\n");
  for (const std::string name : {"matmul", "matmul+relu", ""}) {
    CompileOptions o = compile_options();
    o.schedules[name] = directory.path() / "mine.sched";
    const LoadedModel loaded(m.graph, o);
    check_runs(m.graph, loaded);
    CHECK(loaded.model->module().kernels[0].source.find("mine.sched") != std::string::npos);
  }
  CompileOptions o = compile_options();
  o.schedules["conv"] = directory.path() / "mine.sched";
  CHECK_THROWS_WITH(compile(m.graph, o), Catch::Contains("no kernel of the model is called 'conv'"));
  write_file(directory.path() / "mine.sched", "out.vectorize(nn, 8)\n");
  o.schedules = {{"", directory.path() / "mine.sched"}};
  CHECK_THROWS_WITH(compile(m.graph, o), Catch::Contains("nn"));
}

TEST_CASE("only schedules with guarded tails may work in place") {
  const auto once = [](const char* text) { return writes_once(Schedule::parse(text)); };
  CHECK(once("out.vectorize(x, 16, GuardWithIf).parallel(y)"));
  CHECK(once("out.split(x, xo, xi, 16, Predicate).vectorize(xi)"));
  CHECK(once("out.split(x, block, thread, 64, GuardWithIf).gpu_blocks(block).gpu_threads(thread)"));
  CHECK(once("out.gpu_tile(x, block, thread, 64, GuardWithIf)"));
  CHECK_FALSE(once("out.gpu_tile(x, block, thread, 64)"));
  CHECK_FALSE(once("out.vectorize(x, 16)"));
  CHECK_FALSE(once("out.vectorize(x, 16, ShiftInwards)"));
  CHECK_FALSE(once("out.split(x, xo, xi, 16, RoundUp).vectorize(xi)"));
  CHECK_FALSE(once("e0_in.compute_root()\nout.vectorize(x, 16, GuardWithIf)"));
}

TEST_CASE("a package holds several instruction sets") {
  ModelBuilder m;
  const int a = m.op("conv", {m.input("x", "f32[1,3,6,6]"), m.constant("f32[16,3,3,3]"), m.constant("f32[16]")},
                     {{"pads", {1, 1, 1, 1}}});
  m.output(m.op("relu", {a}), "y");
  CompileOptions o = compile_options();
  o.targets.push_back(find_target("x86-64-linux-avx2"));
  const TemporaryDirectory directory;
  write_package(compile(m.graph, o), directory.path() / "package");
  const auto inputs = random_inputs(m.graph);
  for (const Target& target : o.targets) {
    runtime::LoadOptions load;
    load.target = target.name;
    const auto model = runtime::Model::load(directory.path() / "package", load);
    CHECK(model->module().target == target.name);
    runtime::Session session(model);
    CHECK(difference(run(session, inputs), interpret(m.graph, inputs)) < 1e-5);
  }
}

TEST_CASE("networks of any operators in any order run", "[slow]") {
  for (const std::uint32_t seed : {11U, 12U, 13U, 14U, 15U, 16U, 17U, 18U}) {
    INFO("seed " << seed);
    const Graph g = random_network(seed);
    check_runs(g, LoadedModel(g), {}, 5e-5);
  }
}

TEST_CASE("the plan prints") {
  const LoadedModel loaded(convolutions());
  const std::string text = print(loaded.compiled.package);
  CHECK(text.find("function main") != std::string::npos);
  CHECK(text.find("border of") != std::string::npos);
  CHECK(text.find("(conv+add+relu)") != std::string::npos);
}

}  // namespace
}  // namespace heddle::graph
