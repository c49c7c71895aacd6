#include "graph/graph.hpp"

#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "graph/interpret.hpp"
#include "tests/graph/model_builder.hpp"

using namespace heddle;
using namespace heddle::graph;

TEST_CASE("add_node infers types, makes names unique and says where it fails", "[graph]") {
  ModelBuilder m({{"N", {1, 8}}});
  Operators operators;
  const int x = m.input("x", "f32[N,4]");
  const int w = m.constant("f32[4,3]");
  const auto y = m.graph.add_node("product", operators.get("matmul"), Json::object(), {x, w}, {"y"});
  REQUIRE(y.size() == 1);
  CHECK(m.graph.value(y[0]).type.str() == "f32[N,3]");
  const auto again = m.graph.add_node("product", operators.get("matmul"), Json::object(), {x, w}, {"y"});
  CHECK(m.graph.value(again[0]).name != "y");
  try {
    m.graph.add_node("broken", operators.get("matmul"), Json::object(), {w, w}, {"z"});
    FAIL("a 4x3 matrix times itself");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::invalid_argument);
    CHECK(std::string(e.what()).find("broken") != std::string::npos);
  }
  m.graph.outputs = {y[0], again[0]};
  m.graph.check();
}

TEST_CASE("producers, consumers, compact", "[graph]") {
  ModelBuilder m;
  const int x = m.input("x", "f32[4]");
  const int dead = m.op("neg", {x});
  m.op("abs", {dead});
  const int a = m.op("relu", {x});
  const int b = m.op("add", {a, a});
  m.output(b, "y");
  m.constant("f32[100]");
  const auto producer = m.graph.producer();
  CHECK(producer[static_cast<std::size_t>(x)] == -1);
  CHECK(m.graph.nodes[static_cast<std::size_t>(producer[static_cast<std::size_t>(b)])].op->name() == "add");
  CHECK(m.graph.consumers()[static_cast<std::size_t>(a)].size() == 1);
  const Graph small = compact(m.graph);
  small.check();
  CHECK(small.nodes.size() == 2);
  CHECK(small.values.size() == 3);
  CHECK(small.value(small.outputs[0]).name == "y");
  const auto inputs = random_inputs(m.graph);
  CHECK(difference(interpret(small, inputs), interpret(m.graph, inputs)) == 0);
}

TEST_CASE("print is one line a node, with types and the attributes that are not defaults", "[graph]") {
  ModelBuilder m({{"H", {1, 64}}});
  m.graph.name = "tiny";
  const int x = m.input("x", "f32[1,3,H,8]");
  m.output(m.op("conv", {x, m.constant("f32[4,3,3,3]")}, {{"strides", {2, 2}}, {"pads", {1, 1, 1, 1}}}), "y");
  const std::string text = m.graph.print();
  CHECK(text.find("graph tiny\nsymbol H in [1, 64]\ninput %0 x: f32[1,3,H,8]\n") == 0);
  CHECK(text.find("%2 y: f32[1,4,div(H + 1, 2),4] = conv(%0, %1) {\"pads\":[1,1,1,1],\"strides\":[2,2]}\n") !=
        std::string::npos);
  CHECK(text.find("group") == std::string::npos);
  CHECK(text.find("output %2 y") != std::string::npos);
}

TEST_CASE("check finds what is wrong", "[graph]") {
  ModelBuilder m;
  const int x = m.input("x", "f32[4]");
  const int a = m.op("relu", {x});
  const int b = m.op("neg", {a});
  m.output(b, "y");
  m.graph.check();
  Graph g = m.graph;
  SECTION("order") { std::swap(g.nodes[0], g.nodes[1]); }
  SECTION("a value written twice") { g.nodes[1].outputs = {a}; }
  SECTION("a type that the operator does not give") { g.value(b).type.shape = {5}; }
  SECTION("a name twice") { g.value(b).name = "x"; }
  SECTION("a value that does not exist") { g.nodes[1].inputs = {99}; }
  SECTION("an output that nothing writes") { g.nodes.pop_back(); }
  SECTION("a symbol without range") { g.value(x).type.shape = {Extent::symbol("N")}; }
  CHECK_THROWS_AS(g.check(), Error);
}

TEST_CASE("interpret binds symbols by the inputs' shapes", "[graph]") {
  ModelBuilder m({{"N", {1, 8}}, {"W", {1, 9}}});
  const int x = m.input("x", "f32[N,3,W]");
  m.output(m.op("reshape", {m.op("transpose", {x}, {{"perm", {0, 2, 1}}})}, {{"shape", {"N*W", 3}}}), "y");
  Array in(DType::f32, {2, 3, 4});
  for (std::int64_t i = 0; i < in.size(); ++i) in.set(i, static_cast<double>(i));
  const auto out = interpret(m.graph, std::vector<Array>{in});
  REQUIRE(out.size() == 1);
  CHECK(out[0].shape() == Shape{8, 3});
  CHECK(out[0].at(1) == 4);
  CHECK(out[0].at(3) == 1);
  CHECK_THROWS_AS(interpret(m.graph, std::vector<Array>{Array(DType::f32, {2, 4, 4})}), Error);
  CHECK_THROWS_AS(interpret(m.graph, std::vector<Array>{Array(DType::i32, {2, 3, 4})}), Error);
}
