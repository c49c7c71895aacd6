#include <algorithm>

#include <catch2/catch.hpp>

#include "graph/interpret.hpp"
#include "graph/passes/passes.hpp"
#include "tests/graph/model_builder.hpp"
#include "tests/graph/pass_check.hpp"

namespace heddle::graph {
namespace {

using Names = std::vector<std::string>;

Graph sunk(const Graph& before, const SymbolValues& symbols = {}) { return checked(before, sink_views, symbols, 1e-6); }

TEST_CASE("sink_views: a chain passes a reshape and a transpose") {
  ModelBuilder m;
  const int a = m.op("matmul", {m.input("x", "f32[8,6]"), m.constant("f32[6,12]")});
  const int heads = m.op("transpose", {m.op("reshape", {a}, {{"shape", {2, 4, 3, 4}}})}, {{"perm", {0, 2, 1, 3}}});
  m.output(m.op("relu", {m.op("mul", {heads, m.constant(Array::of<float>({}, {0.5F}))})}), "y");
  CHECK(operator_names(sunk(m.graph)) == Names{"matmul", "mul", "relu", "reshape", "transpose"});
}

TEST_CASE("sink_views: a bias along the last dimension passes a reshape, not a transpose") {
  ModelBuilder m;
  const int a = m.op("matmul", {m.input("x", "f32[8,6]"), m.constant("f32[6,12]")});
  m.output(m.op("add", {m.op("reshape", {a}, {{"shape", {2, 4, 12}}}), m.constant("f32[1,1,12]")}), "y");
  CHECK(operator_names(sunk(m.graph)) == Names{"matmul", "add", "reshape"});

  ModelBuilder t;
  const int b = t.op("matmul", {t.input("x", "f32[8,6]"), t.constant("f32[6,8]")});
  t.output(t.op("add", {t.op("transpose", {b}), t.constant("f32[8]")}), "y");
  CHECK(operator_names(sunk(t.graph)) == Names{"matmul", "transpose", "add"});
}

TEST_CASE("sink_views: a bias whose dimension the reshape splits stays") {
  ModelBuilder m;
  const int a = m.op("matmul", {m.input("x", "f32[8,6]"), m.constant("f32[6,12]")});
  m.output(m.op("add", {m.op("reshape", {a}, {{"shape", {8, 3, 4}}}), m.constant("f32[4]")}), "y");
  CHECK(operator_names(sunk(m.graph)) == Names{"matmul", "reshape", "add"});
}

TEST_CASE("sink_views: a residual of the same shape passes a reshape that is free") {
  ModelBuilder m;
  const int x = m.input("x", "f32[8,6]"), residual = m.input("r", "f32[1,8,12]");
  const int a = m.op("matmul", {x, m.constant("f32[6,12]")});
  m.output(m.op("add", {residual, m.op("reshape", {a}, {{"shape", {1, 8, 12}}})}), "y");
  CHECK(operator_names(sunk(m.graph)) == Names{"matmul", "reshape", "add", "reshape"});

  // Another reshape might cost a copy of the residual.
  ModelBuilder n;
  const int b = n.op("matmul", {n.input("x", "f32[8,6]"), n.constant("f32[6,12]")});
  n.output(n.op("add", {n.input("r", "f32[2,4,12]"), n.op("reshape", {b}, {{"shape", {2, 4, 12}}})}), "y");
  CHECK(operator_names(sunk(n.graph)) == Names{"matmul", "reshape", "add"});
}

TEST_CASE("sink_views: two operands under the same reshape") {
  ModelBuilder m;
  const int x = m.input("x", "f32[8,6]");
  const Json shape = {{"shape", {2, 4, 3, 4}}};
  const int a = m.op("reshape", {m.op("matmul", {x, m.constant("f32[6,12]")})}, shape);
  const int b = m.op("reshape", {m.op("matmul", {x, m.constant("f32[6,12]")})}, shape);
  m.output(m.op("add", {a, b}), "y");
  const Names names = operator_names(sunk(m.graph));
  CHECK(std::count(names.begin(), names.end(), "reshape") == 1);
  CHECK(names.back() == "reshape");
}

TEST_CASE("sink_views: views of inputs, and views that others read, stay") {
  ModelBuilder m;
  const int x = m.input("x", "f32[8,6]");
  m.output(m.op("relu", {m.op("reshape", {x}, {{"shape", {48}}})}), "y");
  CHECK(operator_names(sunk(m.graph)) == Names{"reshape", "relu"});

  ModelBuilder n;
  const int b =
      n.op("reshape", {n.op("matmul", {n.input("x", "f32[8,6]"), n.constant("f32[6,12]")})}, {{"shape", {96}}});
  n.output(n.op("relu", {b}), "y");
  n.output(b, "z");
  CHECK(operator_names(sunk(n.graph)) == Names{"matmul", "reshape", "relu"});
}

TEST_CASE("sink_views: broadcasting that makes the result larger stays") {
  ModelBuilder m;
  const int a = m.op("reduce_sum", {m.input("x", "f32[8,6]")}, {{"axes", {1}}, {"keepdims", true}});
  m.output(m.op("add", {m.op("reshape", {a}, {{"shape", {8}}}), m.constant("f32[4,8]")}), "y");
  CHECK(operator_names(sunk(m.graph)) == Names{"reduce_sum", "reshape", "add"});
}

TEST_CASE("sink_views: symbolic extents") {
  ModelBuilder m({{"N", {1, 4}}});
  const int a = m.op("matmul", {m.input("x", "f32[N,5,6]"), m.constant("f32[6,12]")});
  const int v = m.op("reshape", {a}, {{"shape", {"5*N", 12}}});
  m.output(m.op("mul", {m.op("add", {v, m.constant("f32[12]")}), m.constant("f32[1,1]")}), "y");
  CHECK(operator_names(sunk(m.graph, {{"N", 3}})) == Names{"matmul", "add", "mul", "reshape"});
}

}  // namespace
}  // namespace heddle::graph
