#include <catch2/catch.hpp>

#include <cmath>
#include <map>

#include <fmt/format.h>

#include "base/error.hpp"
#include "graph/compile.hpp"
#include "graph/interpret.hpp"
#include "graph/passes/passes.hpp"
#include "tests/graph/model_builder.hpp"
#include "tests/graph/pass_check.hpp"

using namespace heddle;
using namespace heddle::graph;

namespace {

Array scalar(double value) {
  Array array(DType::f32, {});
  array.set(0, value);
  return array;
}

Array filled_with(const Shape& shape, double value) {
  Array array(DType::f32, shape);
  for (std::int64_t i = 0; i < array.size(); ++i) array.set(i, value);
  return array;
}

int count(const Graph& graph, std::string_view op) {
  int n = 0;
  for (const Node& node : graph.nodes) n += node.op->name() == op ? 1 : 0;
  return n;
}

const Node& only(const Graph& graph, std::string_view op) {
  REQUIRE(count(graph, op) == 1);
  for (const Node& node : graph.nodes)
    if (node.op->name() == op) return node;
  throw std::logic_error("unreachable");
}

}  // namespace

TEST_CASE("fold_constants computes what is known and leaves the rest", "[passes]") {
  ModelBuilder m;
  const int x = m.input("x", "f32[2,3]");
  const int a = m.constant("f32[3,2]"), b = m.constant("f32[2,3]");
  const int known = m.op("add", {m.op("transpose", {a}, {{"perm", {1, 0}}}), b});
  m.output(m.op("mul", {x, known}), "y");
  const Graph result = checked(m.graph, fold_constants);
  CHECK(result.nodes.size() == 1);
  // Large expansions are made at run time instead of being stored.
  ModelBuilder large;
  const int big = large.op("expand", {large.constant(scalar(2))}, {{"shape", {512, 512}}});
  large.output(large.op("add", {large.input("x", "f32[512,512]"), big}), "y");
  CHECK(count(fold_constants(large.graph), "expand") == 1);
}

TEST_CASE("fold_constants transposes weights of any rank like the operator does", "[passes]") {
  for (const std::vector<std::int64_t>& perm :
       std::vector<std::vector<std::int64_t>>{{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 0, 3, 2}, {2, 3, 0, 1}, {0, 2, 3, 1}}) {
    ModelBuilder m;
    const int w = m.op("transpose", {m.constant("f32[3,1,37,41]")}, {{"perm", perm}});
    m.output(m.op("relu", {w}), "y");
    const Graph result = fold_constants(m.graph);
    CHECK(difference(interpret(result, {}), interpret(m.graph, {})) == 0);
  }
}

TEST_CASE("an output stays an output of its own", "[passes]") {
  ModelBuilder m;
  const int x = m.input("x", "f32[4]");
  m.output(m.op("identity", {x}), "same");
  m.output(m.op("relu", {m.op("identity", {x})}), "y");
  const int z = m.op("neg", {x});
  m.output(z, "z");
  m.output(m.op("identity", {z}), "z_again");
  m.output(m.op("identity", {m.op("abs", {x})}), "w");
  m.output(m.op("add", {m.constant("f32[4]"), m.constant("f32[4]")}), "known");
  for (auto* pass : {canonicalise, eliminate_common, fold_constants}) checked(m.graph, pass);
  CHECK(canonicalise(m.graph).nodes.size() == 6);
}

TEST_CASE("a graph may hand an input through and name one value twice", "[passes]") {
  ModelBuilder m;
  const int x = m.input("x", "f32[4]");
  const int y = m.op("div", {x, m.constant(scalar(2))});
  m.graph.outputs = {x, y, y};
  for (auto* pass : {canonicalise, eliminate_common, fold_constants}) {
    const Graph result = checked(m.graph, pass);
    CHECK(result.outputs[1] == result.outputs[2]);
  }
}

TEST_CASE("eliminate_common merges equal work and equal constants", "[passes]") {
  ModelBuilder m;
  const int x = m.input("x", "f32[2,3]");
  const int a = m.op("add", {x, m.constant(filled_with({3}, 2))});
  const int b = m.op("add", {x, m.constant(filled_with({3}, 2))});
  const int c = m.op("add", {x, m.constant(filled_with({3}, 3))});
  m.output(m.op("mul", {m.op("mul", {m.op("relu", {a}), m.op("relu", {b})}), c}), "y");
  const Graph result = checked(m.graph, eliminate_common);
  CHECK(count(result, "add") == 2);
  CHECK(count(result, "relu") == 1);
}

TEST_CASE("canonicalise has one form for one meaning", "[passes]") {
  ModelBuilder m({{"N", {1, 8}}});
  const int x = m.input("x", "f32[N,4,6]");
  const auto c = [&](double v) { return m.constant(scalar(v)); };
  std::map<std::string, int> want;
  SECTION("sub of a constant is add") { m.output(m.op("sub", {x, c(3)}), "y"), want = {{"add", 1}}; }
  SECTION("division by a power of two is a product") { m.output(m.op("div", {x, c(8)}), "y"), want = {{"mul", 1}}; }
  SECTION("other divisions stay: the product would round twice") {
    m.output(m.op("div", {x, c(6)}), "y"), want = {{"div", 1}};
  }
  SECTION("squares") { m.output(m.op("pow", {x, c(2)}), "y"), want = {{"mul", 1}}; }
  SECTION("cubes") { m.output(m.op("pow", {x, c(3)}), "y"), want = {{"mul", 2}}; }
  SECTION("neutral constants") {
    m.output(m.op("relu", {m.op("mul", {m.op("add", {x, c(0)}), c(1)})}), "y"), want = {{"relu", 1}};
  }
  SECTION("a neutral constant of more dimensions broadcasts") {
    m.output(m.op("add", {x, m.constant(filled_with({2, 1, 1, 1}, 0))}), "y"), want = {{"add", 1}};
  }
  SECTION("constants come last") { m.output(m.op("add", {c(5), x}), "y"), want = {{"add", 1}}; }
  SECTION("transposes compose and cancel") {
    const int t = m.op("transpose", {m.op("transpose", {x}, {{"perm", {1, 2, 0}}})}, {{"perm", {2, 0, 1}}});
    m.output(m.op("neg", {t}), "y"), want = {{"neg", 1}};
  }
  SECTION("a transpose that moves extents of 1 is a reshape") {
    const int one = m.op("reshape", {x}, {{"shape", {"N", 1, 24}}});
    m.output(m.op("neg", {m.op("transpose", {one}, {{"perm", {1, 0, 2}}})}), "y"), want = {{"reshape", 1}, {"neg", 1}};
  }
  SECTION("reshapes of reshapes") {
    const int flat = m.op("reshape", {m.op("reshape", {x}, {{"shape", {"N", 24}}})}, {{"shape", {"4*N", 6}}});
    m.output(m.op("neg", {flat}), "y"), want = {{"reshape", 1}, {"neg", 1}};
  }
  SECTION("relu and an upper bound are a clip") {
    m.output(m.op("min", {m.op("max", {x, c(0)}), c(0.5)}), "y"), want = {{"clip", 1}};
  }
  SECTION("relu of a clip that reaches below") {
    m.output(m.op("relu", {m.op("clip", {x}, {{"min", -0.5}})}), "y"), want = {{"relu", 1}};
  }
  SECTION("bounds that do not overlap") {
    m.output(m.op("clip", {m.op("clip", {x}, {{"min", 0.5}, {"max", 0.75}})}, {{"min", -1}, {"max", 0}}), "y"),
        want = {{"clip", 1}};
  }
  SECTION("things that do nothing") {
    const int same =
        m.op("cast", {m.op("slice", {x}, {{"starts", {0}}, {"ends", {4}}, {"axes", {1}}})}, {{"to", "f32"}});
    m.output(m.op("neg", {m.op("concat", {m.op("expand", {same}, {{"shape", {"N", 4, 6}}})}, {{"axis", 1}})}), "y"),
        want = {{"neg", 1}};
  }
  SECTION("a backward slice of everything is no nothing") {
    m.output(m.op("slice", {x}, {{"starts", {5}}, {"ends", {-1}}, {"axes", {2}}, {"steps", {-1}}}), "y"),
        want = {{"slice", 1}};
  }
  SECTION("a matrix to be transposed is transposed at once") {
    m.output(m.op("matmul", {x, m.constant("f32[5,6]")}, {{"transpose_b", true}}), "y"), want = {{"matmul", 1}};
  }
  const Graph result = checked(m.graph, canonicalise, {{"N", 3}});
  std::map<std::string, int> got;
  for (const Node& node : result.nodes) {
    ++got[std::string(node.op->name())];
    if (node.op->name() == "matmul") CHECK(node.attributes.at("transpose_b") == false);
    if (node.op->name() == "add" && node.inputs.size() == 2) CHECK(result.value(node.inputs[1]).constant);
  }
  CHECK(got == want);
}

TEST_CASE("batch norms and constants a channel go into convolutions", "[passes]") {
  const auto norm = [](ModelBuilder& m, int x, int channels) {
    const std::string type = fmt::format("f32[{}]", channels);
    return m.op("batch_norm",
                {x, m.constant(type), m.constant(type), m.constant(type), m.constant(filled_with({channels}, 0.7))},
                {{"epsilon", 1e-3}});
  };
  const auto fold = [](const Graph& g) { return fold_affine(expand_batch_norm(g)); };
  SECTION("conv, batch_norm") {
    ModelBuilder m({{"H", {1, 9}}});
    const int y = m.op("conv", {m.input("x", "f32[1,6,H,5]"), m.constant("f32[4,3,3,3]"), m.constant("f32[4]")},
                       {{"pads", {1, 1, 1, 1}}, {"group", 2}});
    const int n = norm(m, y, 4);
    m.graph.value(n).origin = "normalised";
    m.output(m.op("relu", {n}), "y");
    const Graph result = checked(m.graph, fold, {{"H", 4}});
    CHECK(result.nodes.size() == 2);
    CHECK(result.value(only(result, "conv").outputs[0]).origin == "normalised");
  }
  SECTION("conv_transpose with groups, batch_norm, then mul and add") {
    ModelBuilder m;
    const int y = m.op("conv_transpose", {m.input("x", "f32[2,4,3,5]"), m.constant("f32[4,3,2,2]")},
                       {{"strides", {2, 2}}, {"group", 2}});
    const int z = m.op("add", {m.op("mul", {norm(m, y, 6), m.constant("f32[6,1,1]")}), m.constant("f32[1,6,1,1]")});
    m.output(z, "y");
    const Graph result = checked(m.graph, fold);
    CHECK(result.nodes.size() == 1);
  }
  SECTION("matmul, its scale and its bias") {
    ModelBuilder m;
    const int y = m.op("matmul", {m.input("x", "f32[2,3,8]"), m.constant("f32[8,5]")});
    m.output(m.op("add", {m.op("mul", {m.op("add", {y, m.constant("f32[5]")}), m.constant(scalar(0.3))}),
                          m.constant("f32[1,5]")}),
             "y");
    const Graph result = checked(m.graph, fold);
    CHECK(result.nodes.size() == 1);
    CHECK(result.nodes[0].inputs.size() == 3);
  }
  SECTION("a convolution that others read keeps its weights") {
    ModelBuilder m;
    const int y = m.op("conv", {m.input("x", "f32[1,3,5,5]"), m.constant("f32[4,3,1,1]")});
    m.output(norm(m, y, 4), "y");
    m.output(m.op("relu", {y}), "z");
    const Graph result = checked(m.graph, fold);
    CHECK(count(result, "conv") == 1);
    CHECK(count(result, "mul") == 1);
  }
  SECTION("a constant that varies along pixels stays") {
    ModelBuilder m;
    const int y = m.op("conv", {m.input("x", "f32[1,3,5,5]"), m.constant("f32[5,3,1,1]")});
    m.output(m.op("add", {m.op("mul", {y, m.constant("f32[5]")}), m.constant("f32[5,1]")}), "y");
    const Graph result = checked(m.graph, fold);
    CHECK(count(result, "mul") == 1);
    CHECK(count(result, "add") == 1);
  }
  SECTION("chains without a convolution become one mul and one add") {
    ModelBuilder m;
    const int y = norm(m, m.op("max_pool", {m.input("x", "f32[1,4,6,6]")}, {{"kernel_shape", {2, 2}}}), 4);
    m.output(m.op("relu", {m.op("add", {m.op("mul", {y, m.constant("f32[4,1,1]")}), m.constant("f32[4,1,1]")})}), "y");
    const Graph result = checked(m.graph, fold);
    CHECK(result.nodes.size() == 4);
  }
  SECTION("unknown statistics stay a batch_norm") {
    ModelBuilder m;
    const int x = m.input("x", "f32[1,4,2]"), s = m.input("s", "f32[4]");
    m.output(m.op("batch_norm", {x, s, s, s, m.constant(filled_with({4}, 1))}), "y");
    CHECK(count(checked(m.graph, fold), "batch_norm") == 1);
  }
}

TEST_CASE("a batch norm of narrow numbers is expanded only into the convolution before it", "[passes]") {
  ModelBuilder m;
  const auto norm = [&](int x) {
    const int c = m.constant("f16[4]");
    return m.op("batch_norm", {x, c, c, c, m.constant(filled_with({4}, 0.7))});
  };
  const int x = m.input("x", "f16[1,3,5,5]");
  m.output(m.op("relu", {norm(m.op("conv", {x, m.constant("f16[4,3,1,1]")}))}), "y");
  m.output(norm(m.op("relu", {m.input("z", "f16[1,4,5,5]")})), "w");
  const Graph result = compact(fold_affine(expand_batch_norm(m.graph)));
  CHECK(count(result, "batch_norm") == 1);
  CHECK(count(result, "mul") + count(result, "add") == 0);
  CHECK(count(result, "conv") == 1);
}

TEST_CASE("pads go into the window behind them", "[passes]") {
  ModelBuilder m;
  const int x = m.input("x", "f32[1,3,6,7]");
  const Json pads = {0, 0, 1, 0, 0, 0, 2, 1};
  SECTION("conv") {
    m.output(m.op("conv", {m.op("pad", {x}, {{"pads", pads}}), m.constant("f32[4,3,3,3]")}, {{"pads", {1, 1, 0, 0}}}),
             "y");
    const Graph result = checked(m.graph, fold_pads);
    CHECK(result.nodes.size() == 1);
    CHECK(result.nodes[0].attributes.at("pads") == Json({2, 1, 2, 1}));
  }
  SECTION("average_pool counts them") {
    m.output(m.op("average_pool", {m.op("pad", {x}, {{"pads", pads}})}, {{"kernel_shape", {3, 3}}}), "y");
    CHECK(checked(m.graph, fold_pads).nodes.size() == 1);
  }
  SECTION("max_pool: only what never wins") {
    m.output(m.op("max_pool", {m.op("pad", {x}, {{"pads", pads}})}, {{"kernel_shape", {3, 3}}}), "y");
    m.output(m.op("max_pool", {m.op("pad", {x}, {{"pads", pads}, {"value", "-inf"}})}, {{"kernel_shape", {3, 3}}}),
             "z");
    CHECK(count(checked(m.graph, fold_pads), "pad") == 1);
  }
  SECTION("neither another value, nor channels, nor a mirror image") {
    const int w = m.constant("f32[4,3,3,3]");
    m.output(m.op("conv", {m.op("pad", {x}, {{"pads", pads}, {"value", 1.5}}), w}), "a");
    m.output(m.op("conv", {m.op("pad", {x}, {{"pads", pads}, {"mode", "reflect"}}), w}), "b");
    m.output(m.op("conv", {m.op("pad", {m.input("z", "f32[1,2,6,7]")}, {{"pads", {0, 1, 0, 0, 0, 0, 0, 0}}}), w}), "c");
    CHECK(count(checked(m.graph, fold_pads), "pad") == 3);
  }
}

TEST_CASE("a layer norm spelled out becomes one operator", "[passes]") {
  ModelBuilder m({{"N", {1, 4}}});
  const int x = m.input("x", "f32[N,5,8]");
  const Json last = {{"axes", {-1}}, {"keepdims", true}};
  const int d = m.op("sub", {x, m.op("reduce_mean", {x}, last)});
  const auto c = [&](double v) { return m.constant(scalar(v)); };
  const auto root = [&](int square) {
    return m.op("sqrt", {m.op("add", {m.op("reduce_mean", {square}, last), c(1e-5)})});
  };
  SECTION("as PP-OCR writes it") {
    const int y = m.op("div", {d, root(m.op("pow", {d, c(2)}))});
    m.output(m.op("add", {m.op("mul", {y, m.constant("f32[8]")}), m.constant("f32[8]")}), "y");
    const Graph result = checked(m.graph, fuse_layer_norm, {{"N", 2}});
    CHECK(result.nodes.size() == 1);
    CHECK(result.nodes[0].inputs.size() == 3);
  }
  SECTION("with a reciprocal, without a scale") {
    m.output(m.op("relu", {m.op("mul", {m.op("reciprocal", {root(m.op("mul", {d, d}))}), d})}), "y");
    CHECK(checked(m.graph, fuse_layer_norm, {{"N", 2}}).nodes.size() == 2);
  }
  SECTION("another axis is another thing") {
    const int square = m.op("mul", {d, d});
    const int other = m.op("sqrt", {m.op("add", {m.op("reduce_mean", {square}, {{"axes", {1}}}), c(1e-5)})});
    m.output(m.op("div", {d, other}), "y");
    CHECK(count(checked(m.graph, fuse_layer_norm, {{"N", 2}}), "layer_norm") == 0);
  }
  SECTION("a scale a row is not the norm's") {
    const int y = m.op("div", {d, root(m.op("mul", {d, d}))});
    m.output(m.op("mul", {y, m.constant("f32[5,1]")}), "y");
    const Graph result = checked(m.graph, fuse_layer_norm, {{"N", 2}});
    CHECK(count(result, "layer_norm") == 1);
    CHECK(count(result, "mul") == 1);
  }
}

TEST_CASE("activations spelled out become one operator", "[passes]") {
  ModelBuilder m;
  const int x = m.op("neg", {m.input("x", "f32[3,40]")});
  const auto c = [&](double v) { return m.constant(scalar(v)); };
  const auto mul = [&](int a, int b) { return m.op("mul", {a, b}); };
  std::string want;
  const int gate = m.op("clip", {m.op("add", {x, c(3)})}, {{"min", 0}, {"max", 6}});
  SECTION("hard_swish with a division at the end") {
    m.output(m.op("div", {mul(x, gate), c(6)}), "y"), want = "hard_swish";
  }
  SECTION("hard_swish with a division inside") {
    m.output(mul(m.op("div", {gate, c(6)}), x), "y"), want = "hard_swish";
  }
  SECTION("hard_swish with a factor") { m.output(mul(mul(x, c(1.0F / 6)), gate), "y"), want = "hard_swish"; }
  SECTION("hard_swish from hard_sigmoid") {
    m.output(mul(x, m.op("hard_sigmoid", {x}, {{"alpha", 1.0F / 6}, {"beta", 0.5}})), "y"), want = "hard_swish";
  }
  SECTION("hard_sigmoid") { m.output(m.op("div", {gate, c(6)}), "y"), want = "hard_sigmoid"; }
  SECTION("swish") { m.output(mul(m.op("sigmoid", {x}), x), "y"), want = "swish"; }
  SECTION("swish with a factor inside") { m.output(mul(x, m.op("sigmoid", {mul(x, c(1.702))})), "y"), want = "swish"; }
  SECTION("gelu as exporters write it") {
    const int inner = m.op("add", {m.op("erf", {m.op("div", {x, c(std::sqrt(2.0F))})}), c(1)});
    m.output(mul(x, mul(c(0.5), inner)), "y"), want = "gelu";
  }
  SECTION("gelu in another order") {
    const int inner = m.op("add", {c(1), m.op("erf", {mul(x, c(0.70710678F))})});
    m.output(mul(mul(x, inner), c(0.5)), "y"), want = "gelu";
  }
  SECTION("gelu by tanh") {
    const int cubic = m.op("add", {x, mul(m.op("pow", {x, c(3)}), c(0.044715F))});
    m.output(mul(mul(x, c(0.5)), m.op("add", {m.op("tanh", {mul(cubic, c(0.7978845834732056))}), c(1)})), "y"),
        want = "gelu";
  }
  SECTION("gelu by tanh, the cube as products") {
    const int cubic = m.op("add", {x, mul(mul(mul(x, x), x), c(0.044715F))});
    m.output(mul(mul(x, c(0.5)), m.op("add", {m.op("tanh", {mul(cubic, c(0.7978845834732056))}), c(1)})), "y"),
        want = "gelu";
  }
  const Graph result = checked(m.graph, fuse_activations, {}, 2e-5);
  CHECK(result.nodes.size() == 2);
  CHECK(count(result, want) == 1);
}

TEST_CASE("what only looks like an activation stays", "[passes]") {
  ModelBuilder m;
  const int x = m.input("x", "f32[3,40]"), z = m.input("z", "f32[3,40]");
  const auto c = [&](double v) { return m.constant(scalar(v)); };
  m.output(m.op("mul", {x, m.op("sigmoid", {z})}), "another_gate");
  m.output(m.op("div", {m.op("mul", {x, m.op("clip", {m.op("add", {x, c(3)})}, {{"min", 0}, {"max", 6}})}), c(5)}),
           "another_number");
  const int shared = m.op("sigmoid", {x});
  m.output(m.op("mul", {x, shared}), "shared_gate");
  m.output(shared, "gate");
  const Graph result = checked(m.graph, fuse_activations);
  CHECK(result.nodes.size() == m.graph.nodes.size());
}

TEST_CASE("every pass keeps the meaning of random graphs", "[passes]") {
  // Small graphs of operators that the passes look for, wired at random.
  for (std::uint32_t seed = 1; seed <= 40; ++seed) {
    std::uint32_t state = seed * 2654435761U;
    const auto pick = [&](std::size_t n) {
      state = state * 1664525U + 1013904223U;
      return static_cast<std::size_t>(state >> 16) % n;
    };
    ModelBuilder m({{"N", {1, 4}}});
    std::vector<int> values{m.input("x", "f32[N,4,6,6]")};
    const double numbers[] = {0, 1, 2, 0.5, 3, 1.0 / 6, -1.5, 8};
    for (int i = 0; i < 14; ++i) {
      const int a = values[pick(values.size())], b = values[pick(values.size())];
      const int number = m.constant(scalar(numbers[pick(8)]));
      switch (pick(14)) {
        case 0: values.push_back(m.op("conv", {a, m.constant("f32[4,4,3,3]")}, {{"pads", {1, 1, 1, 1}}})); break;
        case 1: values.push_back(m.op("add", {a, m.constant("f32[4,1,1]")})); break;
        case 2: values.push_back(m.op("mul", {a, m.constant("f32[1,4,1,1]")})); break;
        case 3: values.push_back(m.op("relu", {a})); break;
        case 4: values.push_back(m.op("add", {a, b})); break;
        case 5: values.push_back(m.op("mul", {a, number})); break;
        case 6: values.push_back(m.op("add", {number, a})); break;
        case 7: values.push_back(m.op("clip", {a}, {{"min", 0}, {"max", 6}})); break;
        case 8: values.push_back(m.op("mul", {a, m.op("sigmoid", {a})})); break;
        case 9: values.push_back(m.op("transpose", {a}, {{"perm", {0, 1, 3, 2}}})); break;
        case 10:
          values.push_back(m.op("batch_norm", {a, m.constant("f32[4]"), m.constant("f32[4]"), m.constant("f32[4]"),
                                               m.constant(filled_with({4}, 0.5))}));
          break;
        case 11: values.push_back(m.op("sub", {a, number})); break;
        case 12: values.push_back(m.op("identity", {a})); break;
        default: values.push_back(m.op("div", {a, m.constant(scalar(pick(2) == 0 ? 4 : 6))})); break;
      }
    }
    m.output(values.back(), "y");
    m.output(m.op("neg", {values[pick(values.size())]}), "z");
    Graph now = compact(m.graph);
    for (auto* pass : {fold_constants, eliminate_common, canonicalise, fuse_layer_norm, fuse_activations,
                       expand_batch_norm, fold_affine, fold_pads}) {
      INFO("seed " << seed);
      now = checked(now, pass, {{"N", 2}}, 2e-5);
    }
  }
}
