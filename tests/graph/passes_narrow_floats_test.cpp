#include <catch2/catch.hpp>

#include <cmath>
#include <limits>
#include <map>
#include <string>

#include <fmt/format.h>

#include "graph/compile.hpp"
#include "graph/interpret.hpp"
#include "graph/passes/passes.hpp"
#include "tests/graph/loaded_model.hpp"
#include "tests/graph/model_builder.hpp"
#include "tests/graph/pass_check.hpp"

namespace heddle::graph {
namespace {

using Names = std::vector<std::string>;

constexpr double least = std::numeric_limits<float>::lowest();

Array vector_of(const std::vector<float>& values) {
  return Array::of<float>({static_cast<std::int64_t>(values.size())}, values);
}

Graph narrowed(const Graph& graph, DType type, double tolerance, const SymbolValues& symbols = {}) {
  const auto to_bf16 = [](const Graph& g) { return narrow_floats(g, DType::bf16); };
  const auto to_f16 = [](const Graph& g) { return narrow_floats(g, DType::f16); };
  return type == DType::bf16 ? checked(graph, to_bf16, symbols, tolerance) : checked(graph, to_f16, symbols, tolerance);
}

const Node& only(const Graph& graph, std::string_view op) {
  const Node* found = nullptr;
  for (const Node& node : graph.nodes)
    if (node.op->name() == op) {
      REQUIRE(found == nullptr);
      found = &node;
    }
  REQUIRE(found != nullptr);
  return *found;
}

/// The types of a node's operands, then of its result.
std::string types(const Graph& graph, const Node& node) {
  std::string text;
  for (const int id : node.inputs) text += std::string(to_string(graph.value(id).type.dtype)) + " ";
  return text + "-> " + std::string(to_string(graph.value(node.outputs[0]).type.dtype));
}

/// softmax(x w + mask) w, where the mask is computed of whole numbers: 0 where they are 1, the lowest float elsewhere.
ModelBuilder masked() {
  ModelBuilder m;
  const int x = m.input("x", "f32[4,6]");
  const int kept = m.op("cast", {m.input("kept", "i64[4,6]")}, {{"to", "f32"}});
  const int dropped = m.op("sub", {m.constant(vector_of({1})), kept});
  const int mask = m.op("mul", {dropped, m.constant(vector_of({static_cast<float>(least)}))});
  const int w = m.constant("f32[6,6]");
  const int scores = m.op("add", {m.op("matmul", {x, w}), mask});
  m.output(m.op("matmul", {m.op("softmax", {scores}), w}), "y");
  return m;
}

}  // namespace

TEST_CASE("narrow_floats: data is narrow between an input and an output that keep their types", "[passes]") {
  for (const DType type : {DType::bf16, DType::f16}) {
    ModelBuilder m({{"N", {1, 8}}});
    const int x = m.input("x", "f32[N,3,8,8]");
    const int c = m.op("conv", {x, m.constant("f32[4,3,3,3]"), m.constant("f32[4]")}, {{"pads", {1, 1, 1, 1}}});
    const int r = m.op("relu", {c});
    const int d = m.op("conv", {r, m.constant("f32[4,4,1,1]")});
    m.output(m.op("max_pool", {m.op("add", {d, r})}, {{"kernel_shape", {2, 2}}}), "y");
    const Graph graph = narrowed(m.graph, type, 4 * (type == DType::bf16 ? 0x1p-8 : 0x1p-11), {{"N", 2}});
    CHECK(operator_names(graph) == Names{"cast", "conv", "relu", "conv", "add", "max_pool", "cast"});
    const std::string_view t = to_string(type);
    // There are few biases, and they are added to sums of f32.
    CHECK(types(graph, graph.nodes[1]) == fmt::format("{0} {0} f32 -> {0}", t));
    CHECK(types(graph, graph.nodes[4]) == fmt::format("{0} {0} -> {0}", t));
  }
}

TEST_CASE("narrow_floats: an input that two read is cast once, and casts share their neighbours' kernels", "[passes]") {
  ModelBuilder m;
  const int x = m.input("x", "f32[1,4,8,8]");
  const int c = m.op("conv", {x, m.constant("f32[4,4,3,3]")}, {{"pads", {1, 1, 1, 1}}});
  m.output(m.op("relu", {m.op("add", {c, x})}), "y");
  const GroupedGraph grouped = prepare(m.graph, find_target("x86-64-linux-avx2"), {.threads = 1}, DType::bf16);
  Names kernels;
  for (const Group& group : grouped.groups)
    if (group.workload) kernels.push_back(group.workload->name());
  CHECK(kernels == Names{"cast", "copy", "conv+add+relu+cast", "copy"});  // copies: the layouts of f32 as well
}

TEST_CASE("narrow_floats: what is computed of positions and counts stays f32", "[passes]") {
  ModelBuilder m;
  const int x = m.input("x", "f32[1,400,8]");
  const int positions = m.op("reshape", {m.op("iota", {}, {{"dtype", "f32"}, {"extent", 400}})}, {{"shape", {400, 1}}});
  const int angles = m.op("matmul", {positions, m.constant("f32[1,8]")});
  const int turned = m.op("mul", {m.op("matmul", {x, m.constant("f32[8,8]")}), m.op("cos", {angles})});
  m.output(turned, "y");
  const Graph graph = narrowed(m.graph, DType::bf16, 0x1p-6);
  CHECK(types(graph, only(graph, "cos")) == "f32 -> f32");
}

TEST_CASE("narrow_floats: float indices are computed in f32", "[passes]") {
  ModelBuilder m;
  const int x = m.op("matmul", {m.input("x", "f32[4,4]"), m.constant("f32[4,4]")});
  const int scaled = m.op("floor", {m.op("mul", {x, m.constant(vector_of({1000}))})});
  m.output(m.op("cast", {scaled}, {{"to", "i64"}}), "index");
  const Graph graph = narrow_floats(m.graph, DType::bf16);
  graph.check();
  CHECK(types(graph, only(graph, "mul")) == "f32 f32 -> f32");
  CHECK(types(graph, only(graph, "floor")) == "f32 -> f32");
}

TEST_CASE("narrow_floats: squares are summed in f32, which f16 would not hold", "[passes]") {
  ModelBuilder m;
  const int x =
      m.op("matmul", {m.input("x", "f32[4,16]"), m.constant(Array::of<float>({16, 1}, std::vector<float>(16, 300)))});
  const int tall = m.op("matmul", {x, m.constant("f32[1,16]")});
  const int squares = m.op("reduce_mean", {m.op("mul", {tall, tall})}, {{"axes", {-1}}});
  m.output(m.op("matmul", {m.op("div", {tall, m.op("sqrt", {squares})}), m.constant("f32[16,16]")}), "y");
  const Graph graph = narrowed(m.graph, DType::f16, 0x1p-7);
  CHECK(types(graph, only(graph, "reduce_mean")) == "f32 -> f32");
  CHECK(types(graph, only(graph, "div")) == "f16 f16 -> f16");
}

TEST_CASE("narrow_floats: what a transformer's layers add up stays f32, what they multiply is narrow", "[passes]") {
  ModelBuilder m;
  const int x = m.op("gather", {m.constant("f32[50,8]"), m.input("ids", "i64[4]")}, {{"axis", 0}});
  const int sum = m.op("add", {x, m.op("matmul", {x, m.constant("f32[8,8]")})});
  const int flat = m.op("reshape", {sum}, {{"shape", {4, 8}}});
  const int norm = m.op("layer_norm", {flat, m.constant("f32[8]"), m.constant("f32[8]")});
  m.output(m.op("add", {sum, m.op("matmul", {norm, m.constant("f32[8,8]")})}), "y");
  const Graph graph = narrow_floats(m.graph, DType::bf16);
  graph.check();
  CHECK(types(graph, only(graph, "gather")) == "bf16 i64 -> bf16");
  CHECK(types(graph, only(graph, "layer_norm")) == "f32 f32 f32 -> f32");
  for (const Node& node : graph.nodes)
    if (node.op->name() == "matmul") CHECK(types(graph, node) == "bf16 bf16 -> bf16");
}

TEST_CASE("narrow_floats: masks mask alike, rows that see nothing as well", "[passes]") {
  const ModelBuilder m = masked();
  std::uint32_t state = 1;
  Array kept(DType::i64, {4, 6});
  for (std::int64_t i = 0; i < kept.size(); ++i) kept.set(i, i < 6 ? 0 : i % 3 == 0 ? 0 : 1);
  const std::vector<Array> inputs = {random_array(DType::f32, {4, 6}, state), kept};
  for (const DType type : {DType::bf16, DType::f16}) {
    const Graph graph = narrow_floats(m.graph, type);
    graph.check();
    // The lowest float would be rounded to -inf.
    CHECK(only(graph, "clip").attributes.at("min").get<double>() == (type == DType::f16 ? -65504 : -0x1.FEp127));
    CHECK(difference(interpret(graph, inputs), interpret(m.graph, inputs)) < (type == DType::f16 ? 0x1p-9 : 0x1p-6));
  }
}

TEST_CASE("narrow_floats: constants keep their infinities and no number becomes one", "[passes]") {
  const float infinity = std::numeric_limits<float>::infinity();
  ModelBuilder m;
  const int x = m.op("matmul", {m.input("x", "f32[2,3]"), m.constant("f32[3,4]")});
  m.output(m.op("matmul", {m.op("add", {x, m.constant(vector_of({-infinity, static_cast<float>(least), 1e5F, 2}))}),
                           m.constant("f32[4,4]")}),
           "y");
  const Graph graph = narrow_floats(m.graph, DType::f16);
  for (const Node& node : graph.nodes)
    if (node.op->name() == "add") {
      const Array& c = graph.value(node.inputs[1]).constant.value();
      CHECK(c.at(0) == -infinity);
      CHECK(c.at(1) == -65504);
      CHECK(c.at(2) == 65504);
      CHECK(c.at(3) == 2);
    }
}

TEST_CASE("narrow_floats: quantised layers are left alone", "[passes]") {
  ModelBuilder m;
  const auto scale = [&] { return m.constant(vector_of({0.05F})); };
  const int x = m.op("quantize", {m.input("x", "f32[2,8]"), scale()}, {{"to", "i8"}});
  Array weights(DType::i8, {8, 8});
  for (std::int64_t i = 0; i < weights.size(); ++i) weights.set(i, static_cast<double>(i % 7) - 3);
  const int sums = m.op("dequantize", {m.op("matmul", {x, m.constant(weights)}), scale()});
  const int again = m.op("quantize", {m.op("relu", {sums}), scale()}, {{"to", "i8"}});
  m.output(m.op("softmax", {m.op("dequantize", {again, scale()})}), "y");
  CHECK(narrow_floats(m.graph, DType::bf16).print() == m.graph.print());
}

TEST_CASE("narrow_floats: operators that take f32 alone are fed f32", "[passes]") {
  ModelBuilder m;
  const int x = m.op("matmul", {m.input("x", "f32[2,32]"), m.constant("f32[32,32]")});
  Array bytes(DType::u8, {16, 1, 16});
  for (std::int64_t i = 0; i < bytes.size(); ++i) bytes.set(i, static_cast<double>(i % 256));
  const int y =
      m.op("matmul_blocks", {x, m.constant(bytes), m.constant("f32[16,1]")}, {{"bits", 4}, {"block_size", 32}});
  m.output(m.op("matmul", {y, m.constant("f32[16,4]")}), "y");
  const Graph graph = narrowed(m.graph, DType::bf16, 0x1p-5);
  CHECK(operator_names(graph) == Names{"cast", "matmul", "cast", "matmul_blocks", "cast", "matmul", "cast"});
}

TEST_CASE("narrow_floats: what runs agrees with f32, with and without instructions for bf16", "[passes][gpu]") {
  ModelBuilder m = masked();
  std::uint32_t state = 3;
  Array kept(DType::i64, {4, 6});
  for (std::int64_t i = 0; i < kept.size(); ++i) kept.set(i, i % 2 == 0 ? 1 : 0);
  const std::vector<Array> inputs = {random_array(DType::f32, {4, 6}, state), kept};
  const auto want = interpret(m.graph, inputs);
  for (const DType type : {DType::bf16, DType::f16})
    for (const Target& target :
         {find_target("x86-64-linux"), host_target(), find_target("opencl"), find_target("vulkan")}) {
      CompileOptions options = compile_options();
      options.targets = {target};
      options.precision = type;
      INFO(to_string(type) << " on " << target.name);
      const LoadedModel loaded(m.graph, options);
      runtime::Session session(loaded.model, {.threads = 1, .poison = true});
      CHECK(difference(run(session, inputs), want) < (type == DType::f16 ? 0x1p-9 : 0x1p-6));
    }
}

}  // namespace heddle::graph
