#include <algorithm>

#include <catch2/catch.hpp>

#include "graph/interpret.hpp"
#include "graph/layout.hpp"
#include "tests/graph/model_builder.hpp"

namespace heddle::graph {
namespace {

int count(const Graph& g, std::string_view op) {
  return static_cast<int>(
      std::count_if(g.nodes.begin(), g.nodes.end(), [&](const Node& n) { return n.op->name() == op; }));
}

const Value& named(const Graph& g, const std::string& name) {
  const auto found = std::find_if(g.values.begin(), g.values.end(), [&](const Value& v) { return v.name == name; });
  REQUIRE(found != g.values.end());
  return *found;
}

const TensorType& result_of(const Graph& g, std::string_view op) {
  const auto node = std::find_if(g.nodes.begin(), g.nodes.end(), [&](const Node& n) { return n.op->name() == op; });
  REQUIRE(node != g.nodes.end());
  return g.value(node->outputs[0]).type;
}

const Node& node_of(const Graph& g, std::string_view op) {
  const auto node = std::find_if(g.nodes.begin(), g.nodes.end(), [&](const Node& n) { return n.op->name() == op; });
  REQUIRE(node != g.nodes.end());
  return *node;
}

/// Every result is what it was, the graph is sound, and inputs and outputs are the caller's.
Graph assigned(const Graph& before, const SymbolValues& symbols = {}) {
  const Graph after = assign_layouts(before);
  after.check();
  const auto inputs = random_inputs(before, symbols);
  CHECK(difference(interpret(after, inputs), interpret(before, inputs)) == 0);
  for (const int v : after.inputs) CHECK(is_row_major(after.value(v).type));
  REQUIRE(after.outputs.size() == before.outputs.size());
  for (std::size_t i = 0; i < after.outputs.size(); ++i) {
    CHECK(is_row_major(after.value(after.outputs[i]).type));
    CHECK(after.value(after.outputs[i]).name == before.value(before.outputs[i]).name);
  }
  return after;
}

TEST_CASE("between convolutions data is channels last, with a border where a padded one reads") {
  ModelBuilder m;
  const int x = m.input("x", "f32[1,2,8,8]");
  const int a = m.op("relu", {m.op("conv", {x, m.constant("f32[4,2,3,3]")}, {{"pads", {1, 1, 1, 1}}})});
  const int b = m.op("conv", {a, m.constant("f32[5,4,3,3]")}, {{"pads", {1, 1, 1, 1}}, {"strides", {2, 2}}});
  const int c = m.op("conv", {b, m.constant("f32[6,5,1,1]")});
  m.output(c, "y");
  const Graph g = assigned(m.graph);
  // One copy brings the input to channels last and gives it its border, one brings the result back.
  CHECK(count(g, "copy") == 2);
  CHECK(result_of(g, "copy").str() == "f32[1,2,8,8]{0,2,3,1|2:1+1,3:1+1}");
  CHECK(result_of(g, "relu").str() == "f32[1,4,8,8]{0,2,3,1|2:1+1,3:1+1}");
  CHECK(g.value(node_of(g, "relu").inputs[0]).type.str() == "f32[1,4,8,8]{0,2,3,1}");
  CHECK(named(g, "y").type.str() == "f32[1,6,4,4]");
}

TEST_CASE("where kernels pad, the same values are channels last and none has a border") {
  ModelBuilder m;
  const int x = m.input("x", "f32[1,2,8,8]");
  const int a = m.op("relu", {m.op("conv", {x, m.constant("f32[4,2,3,3]")}, {{"pads", {1, 1, 1, 1}}})});
  const int b = m.op("conv", {a, m.constant("f32[5,4,3,3]")}, {{"pads", {1, 1, 1, 1}}, {"strides", {2, 2}}});
  m.output(b, "y");
  m.output(m.op("conv", {m.input("image", "f32[1,3,8,8]"), m.constant("f32[4,3,3,3]")}, {{"pads", {1, 1, 1, 1}}}));
  const Graph g = assign_layouts(m.graph, Padding::in_kernel);
  g.check();
  const auto inputs = random_inputs(m.graph);
  CHECK(difference(interpret(g, inputs), interpret(m.graph, inputs)) == 0);
  for (const Value& value : g.values) CHECK_FALSE(value.type.has_border());
  CHECK(result_of(g, "copy").str() == "f32[1,2,8,8]{0,2,3,1}");
  CHECK(result_of(g, "relu").str() == "f32[1,4,8,8]{0,2,3,1}");
  // x to channels last, two results back; the image is read as it lies, which a border would have cost a copy.
  CHECK(count(g, "copy") == 3);
}

TEST_CASE("an image's convolution reads it as it lies, but for the border") {
  ModelBuilder m;
  const int x = m.input("x", "f32[1,3,8,8]");
  m.output(m.op("softmax", {m.op("conv", {x, m.constant("f32[4,3,3,3]")}, {{"pads", {1, 1, 1, 1}}})}, {{"axis", 1}}));
  const Graph g = assigned(m.graph);
  CHECK(result_of(g, "copy").str() == "f32[1,3,8,8]{|2:1+1,3:1+1}");
  CHECK(result_of(g, "conv").str() == "f32[1,4,8,8]{0,2,3,1}");
}

TEST_CASE("the border is the largest that a consumer wants") {
  ModelBuilder m;
  const int x = m.op("relu", {m.op("conv", {m.input("x", "f32[1,3,8,8]"), m.constant("f32[4,3,1,1]")})});
  m.output(m.op("add", {m.op("conv", {x, m.constant("f32[5,4,3,3]")}, {{"pads", {1, 1, 1, 1}}}),
                        m.op("conv", {x, m.constant("f32[5,4,5,5]")}, {{"pads", {2, 2, 2, 2}}})}));
  const Graph g = assigned(m.graph);
  CHECK(result_of(g, "relu").str() == "f32[1,4,8,8]{0,2,3,1|2:2+2,3:2+2}");
}

TEST_CASE("a value that leaves the graph gets no border; its convolution reads a copy") {
  ModelBuilder m;
  const int a = m.op("relu", {m.op("conv", {m.input("x", "f32[1,3,6,6]"), m.constant("f32[4,3,1,1]")})});
  m.output(m.op("conv", {a, m.constant("f32[5,4,3,3]")}, {{"pads", {1, 1, 1, 1}}}), "y");
  m.output(a, "a");
  const Graph g = assigned(m.graph);
  CHECK_FALSE(named(g, "a").type.has_border());
  for (const Node& node : g.nodes)
    if (node.op->name() == "conv" && node.attributes["pads"] != Json::array())
      CHECK(g.value(node.inputs[0]).type.has_border());
}

TEST_CASE("rows that would share a cache's sets lie apart") {
  const auto pixels = [](int channels, int stride) {
    ModelBuilder m;
    const auto weights = [](int co, int ci) {
      return "f32[" + std::to_string(co) + "," + std::to_string(ci) + ",1,1]";
    };
    const int x = m.input("x", "f32[1,3,8,8]");
    const int a = m.op("relu", {m.op("conv", {x, m.constant(weights(channels, 3))})});
    m.output(m.op("conv", {a, m.constant(weights(4, channels))}, {{"strides", {stride, stride}}}), "y");
    return result_of(assigned(m.graph), "relu").str();
  };
  CHECK(pixels(512, 1) == "f32[1,512,8,8]{0,2,3,1|1:0+16}");
  CHECK(pixels(256, 1) == "f32[1,256,8,8]{0,2,3,1}");
  CHECK(pixels(256, 2) == "f32[1,256,8,8]{0,2,3,1|1:0+16}");
  CHECK(pixels(520, 1) == "f32[1,520,8,8]{0,2,3,1}");
  CHECK(pixels(512, 4) == "f32[1,512,8,8]{0,2,3,1}");  // so few that a set holds them

  const auto rows = [](const std::string& b, bool transposed, bool leaves = false) {
    ModelBuilder m;
    const int a = m.op("matmul", {m.input("x", "f32[2,9,4]"), m.constant("f32[4,512]")});
    const int c = m.op("gelu", {a});
    m.output(m.op("matmul", {transposed ? m.op("transpose", {c}, {{"perm", {1, 0, 2}}}) : c, m.constant(b)}), "y");
    if (leaves) m.output(c);
    return result_of(assigned(m.graph), "gelu").str();
  };
  CHECK(rows("f32[512,3]", false) == "f32[2,9,512]{|2:0+16}");
  CHECK(rows("f32[2,512,3]", false) == "f32[2,9,512]");  // a matrix of its own for each
  CHECK(rows("f32[512,3]", true) == "f32[2,9,512]");     // read through a view
  CHECK(rows("f32[512,3]", false, true) == "f32[2,9,512]");
}

TEST_CASE("layouts that make no difference need no copy") {
  ModelBuilder m;
  const int x = m.input("x", "f32[1,1,8,8]");
  const int a = m.op("conv", {x, m.constant("f32[4,1,8,8]")});
  m.output(m.op("reshape", {a}, {{"shape", {1, 4}}}));
  const Graph g = assigned(m.graph);
  CHECK(count(g, "copy") == 0);
  CHECK(is_view(g, node_of(g, "reshape")));
}

TEST_CASE("one copy serves every consumer") {
  ModelBuilder m;
  const int x = m.input("x", "f32[1,2,8,8]");
  const int a = m.op("conv", {x, m.constant("f32[4,2,1,1]")}), b = m.op("conv", {x, m.constant("f32[4,2,1,1]")});
  m.output(m.op("add", {a, b}));
  CHECK(count(assigned(m.graph), "copy") == 2);
}

TEST_CASE("an elementwise operand of another order is copied, a constant one is stored so") {
  ModelBuilder m;
  const int x = m.input("x", "f32[1,2,4,4]"), y = m.input("y", "f32[1,6,4,4]");
  const int a = m.op("conv", {x, m.constant("f32[6,2,1,1]")});
  m.output(m.op("add", {m.op("mul", {a, m.constant("f32[1,6,4,4]")}), y}));
  const Graph g = assigned(m.graph);
  // x, y and the result; not the constant.
  CHECK(count(g, "copy") == 3);
  CHECK(g.value(node_of(g, "mul").inputs[1]).type.str() == "f32[1,6,4,4]{0,2,3,1}");
}

/// Attention as exporters write it: heads are split off by a reshape and a transpose, and merged the same way.
Graph attention() {
  ModelBuilder m;
  const int x = m.input("x", "f32[2,8,12]");
  const auto heads = [&](const Json& perm) {
    const int projected = m.op("matmul", {x, m.constant("f32[12,12]")});
    return m.op("transpose", {m.op("reshape", {projected}, {{"shape", {2, 8, 3, 4}}})}, {{"perm", perm}});
  };
  const int q = heads({0, 2, 1, 3}), k = heads({0, 2, 3, 1}), v = heads({0, 2, 1, 3});
  const int weights = m.op("softmax", {m.op("matmul", {q, k})});
  const int merged = m.op("transpose", {m.op("matmul", {weights, v})}, {{"perm", {0, 2, 1, 3}}});
  m.output(m.op("matmul", {m.op("reshape", {merged}, {{"shape", {2, 8, 12}}}), m.constant("f32[12,12]")}), "y");
  return m.graph;
}

TEST_CASE("attention's reshapes and transposes are views but for the keys") {
  const Graph g = assigned(attention());
  for (const Node& node : g.nodes)
    if (node.op->name() == "reshape" || node.op->name() == "transpose") CHECK(is_view(g, node));
  // q * k needs k's tokens innermost.
  CHECK(count(g, "copy") == 1);
  CHECK(g.value(g.nodes[static_cast<std::size_t>(g.producer()[static_cast<std::size_t>(g.outputs[0])])].inputs[0])
            .type.str() == "f32[2,8,12]");
}

TEST_CASE("what moves elements anyway moves them to where they are wanted") {
  ModelBuilder m;
  const int x = m.input("x", "f32[8,24]"), y = m.input("y", "f32[8,12]");
  const int k = m.op("slice", {x}, {{"starts", {12}}, {"ends", {24}}, {"axes", {1}}});
  const int heads = m.op("transpose", {m.op("reshape", {k}, {{"shape", {8, 3, 4}}})}, {{"perm", {1, 2, 0}}});
  const int q = m.op("transpose", {m.op("reshape", {y}, {{"shape", {8, 3, 4}}})}, {{"perm", {1, 0, 2}}});
  m.output(m.op("matmul", {q, heads}));
  const Graph g = assigned(m.graph);
  CHECK(count(g, "copy") == 0);
  CHECK(result_of(g, "slice").str() == "f32[8,12]{1,0}");
}

TEST_CASE("the squeezed rows of a text recogniser need no copy") {
  ModelBuilder m({{"W", {16, 320}}});
  const int x = m.input("x", "f32[1,3,4,W]");
  const int features = m.op("conv", {x, m.constant("f32[8,3,4,1]")});
  const int row = m.op("reshape", {features}, {{"shape", {1, 8, "W"}}});
  const int steps = m.op("transpose", {row}, {{"perm", {0, 2, 1}}});
  m.output(m.op("matmul", {steps, m.constant("f32[8,5]")}));
  const Graph g = assigned(m.graph, {{"W", 20}});
  CHECK(count(g, "copy") == 0);
  CHECK(is_row_major(result_of(g, "transpose")));
}

TEST_CASE("a reshape that no order can say reads a copy") {
  ModelBuilder m;
  const int a = m.op("conv", {m.input("x", "f32[1,3,4,4]"), m.constant("f32[6,3,1,1]")});
  m.output(m.op("reshape", {a}, {{"shape", {1, 96}}}));
  const Graph g = assigned(m.graph);
  CHECK(is_view(g, node_of(g, "reshape")));
  CHECK(g.value(node_of(g, "reshape").inputs[0]).type.str() == "f32[1,6,4,4]");
}

TEST_CASE("reductions and normalisations keep their operand's order") {
  ModelBuilder m;
  const int a = m.op("conv", {m.input("x", "f32[2,3,4,4]"), m.constant("f32[6,3,1,1]")});
  const int mean = m.op("reduce_mean", {a}, {{"axes", {2, 3}}, {"keepdims", false}});
  const int channels = m.op("reduce_max", {a}, {{"axes", {0}}, {"keepdims", false}});
  const int soft = m.op("softmax", {a}, {{"axis", 1}});
  m.output(mean);
  m.output(channels);
  m.output(soft);
  const Graph g = assigned(m.graph);
  CHECK(result_of(g, "softmax").str() == "f32[2,6,4,4]{0,2,3,1}");
  CHECK(result_of(g, "reduce_max").str() == "f32[6,4,4]{1,2,0}");
  CHECK(result_of(g, "reduce_mean").str() == "f32[2,6]");
}

TEST_CASE("an input that is the output stays as it is") {
  ModelBuilder m;
  const int x = m.input("x", "f32[1,3,4,4]");
  m.output(x);
  m.output(m.constant("f32[2]"));
  const Graph g = assigned(m.graph);
  CHECK(g.nodes.empty());
}

TEST_CASE("operands of a concatenation lie where its result has them") {
  ModelBuilder m;
  const int x = m.input("x", "f32[1,4,6,6]");
  const auto conv = [&](int of, const char* weights) { return m.op("conv", {of, m.constant(weights)}); };
  const int a = conv(x, "f32[8,4,1,1]"), b = m.op("relu", {conv(a, "f32[5,8,1,1]")});
  const int inner = m.op("concat", {a, b}, {{"axis", 1}});
  const int c = conv(inner, "f32[3,13,1,1]");
  // x is the caller's and a repeated operand is in one place alone: both are copied into theirs.
  const int outer = m.op("concat", {inner, c, x, c}, {{"axis", -3}});
  m.output(m.op("conv", {outer, m.constant("f32[2,23,3,3]")}, {{"pads", {1, 1, 1, 1}}}), "y");
  const Graph g = assigned(m.graph);
  for (const Node& node : g.nodes)
    if (node.op->name() == "concat") CHECK(is_join(g, node));
  const auto type = [&](int v) { return named(g, m.graph.value(v).name).type.str(); };
  CHECK(type(outer) == "f32[1,23,6,6]{0,2,3,1|2:1+1,3:1+1}");
  CHECK(type(inner) == "f32[1,13,6,6]{0,2,3,1|1:0+10,2:1+1,3:1+1}");
  CHECK(type(a) == "f32[1,8,6,6]{0,2,3,1|1:0+15,2:1+1,3:1+1}");
  CHECK(type(b) == "f32[1,5,6,6]{0,2,3,1|1:8+10,2:1+1,3:1+1}");
  CHECK(count(g, "copy") == 5);  // x to channels last, x and c twice into their places, y back
}

TEST_CASE("a concatenation of what lies elsewhere copies, and devices copy always") {
  ModelBuilder m;
  const int x = m.input("x", "f32[1,4,6,6]"), z = m.input("z", "f32[1,2,6,6]");
  const int both = m.op("concat", {x, z}, {{"axis", 1}});
  m.output(both, "y");
  const int a = m.op("conv", {both, m.constant("f32[8,6,1,1]")}), b = m.op("conv", {both, m.constant("f32[5,6,1,1]")});
  m.output(m.op("conv", {m.op("concat", {a, b}, {{"axis", 1}}), m.constant("f32[2,13,1,1]")}), "w");
  const Graph processor = assigned(m.graph), device = assign_layouts(m.graph, Padding::in_kernel);
  const auto joins = [](const Graph& g) {
    return std::count_if(g.nodes.begin(), g.nodes.end(), [&](const Node& n) { return is_join(g, n); });
  };
  CHECK(count(processor, "concat") == 2);
  CHECK(joins(processor) == 1);
  CHECK(joins(device) == 0);
}

}  // namespace
}  // namespace heddle::graph
