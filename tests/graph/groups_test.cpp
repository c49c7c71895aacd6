#include <algorithm>

#include <catch2/catch.hpp>

#include "graph/groups.hpp"
#include "graph/layout.hpp"
#include "tests/graph/model_builder.hpp"

namespace heddle::graph {
namespace {

/// "conv+relu" for kernels, "view", "join" and "host" for others, in order.
std::vector<std::string> names(const std::vector<Group>& groups) {
  std::vector<std::string> result;
  for (const Group& group : groups)
    result.push_back(group.kind == Group::Kind::kernel ? group.workload->name() : std::string(name_of(group.kind)));
  return result;
}

using Names = std::vector<std::string>;

/// Every node but shape arithmetic is in one group, and groups only read what earlier ones made.
std::vector<Group> grouped(const Graph& g) {
  const auto groups = make_groups(g, Machine{}, {.threads = 2});
  std::vector<int> seen(g.nodes.size(), 0);
  std::vector<bool> ready(g.values.size(), false);
  for (std::size_t v = 0; v < g.values.size(); ++v) ready[v] = g.values[v].constant.has_value();
  for (const int v : g.inputs) ready[static_cast<std::size_t>(v)] = true;
  for (const Group& group : groups) {
    if (group.kind != Group::Kind::host)
      for (const int n : group.nodes) ++seen[static_cast<std::size_t>(n)];
    for (const int v : group.inputs) CHECK(ready[static_cast<std::size_t>(v)]);
    for (const int v : group.outputs) ready[static_cast<std::size_t>(v)] = true;
  }
  for (std::size_t n = 0; n < g.nodes.size(); ++n)
    if (!g.value(g.nodes[n].outputs[0]).extents) CHECK(seen[n] == 1);
  for (const int v : g.outputs) CHECK(ready[static_cast<std::size_t>(v)]);
  return groups;
}

TEST_CASE("a residual block is one kernel a convolution") {
  ModelBuilder m;
  const int x = m.input("x", "f32[1,4,6,6]{0,2,3,1}");
  const int a = m.op("relu", {m.op("conv", {x, m.constant("f32[4,4,1,1]")})});
  const int b = m.op("conv", {a, m.constant("f32[4,4,1,1]"), m.constant("f32[4]")});
  m.output(m.op("relu", {m.op("add", {b, x})}));
  const auto groups = grouped(m.graph);
  CHECK(names(groups) == Names{"conv+relu", "conv+add+relu"});
  // The anchor's operands come first, under its roles.
  const auto& inputs = groups[1].workload->inputs();
  REQUIRE(inputs.size() == 4);
  CHECK(inputs[0].role == "x");
  CHECK(inputs[1].role == "w");
  CHECK(inputs[2].role == "b");
  CHECK(inputs[3].role == "e0");
  CHECK(groups[1].inputs[0] == a);
  CHECK(groups[1].inputs[3] == x);
}

TEST_CASE("threads share a kernel whose work takes longer than handing it over") {
  const auto threads = [](const char* x) {
    ModelBuilder m;
    m.output(m.op("matmul", {m.input("x", x), m.constant("f32[256,256]")}));
    return grouped(m.graph)[0].workload->composition().threads;
  };
  CHECK(threads("f32[1,256]") == 1);
  CHECK(threads("f32[4,256]") == 1);
  CHECK(threads("f32[256,256]") == 2);
}

TEST_CASE("a depthwise convolution joins the pointwise one that makes its operand") {
  const auto model = [](bool read_twice, bool given, int group) {
    ModelBuilder m;
    const int x = m.input("x", "f32[1,4,8,8]{0,2,3,1}");
    const int a = m.op("relu", {m.op("conv", {x, m.constant("f32[16,4,1,1]"), m.constant("f32[16]")})});
    const int w = m.constant(group == 1 ? "f32[16,16,3,3]" : "f32[16,1,3,3]");
    m.output(m.op("relu", {m.op("conv", {a, w}, {{"pads", {1, 1, 1, 1}}, {"group", group}})}));
    if (read_twice) m.output(m.op("exp", {a}));
    if (given) m.output(a);
    return grouped(assign_layouts(m.graph, Padding::in_memory));
  };
  const auto groups = model(false, false, 16);
  REQUIRE(names(groups) == Names{"copy", "conv+relu+conv+relu", "copy"});
  // The anchor is the depthwise one; the weights of the other one can be packed as its own can.
  const Workload& w = *groups[1].workload;
  CHECK(w.anchor().attributes.at("group") == 16);
  REQUIRE(w.inputs().size() == 4);
  CHECK(w.inputs()[0].role == "w");
  CHECK(w.inputs()[1].role == "e0");
  CHECK(w.inputs()[1].packing_order.empty());
  CHECK(w.inputs()[2].dimensions == std::vector<std::string>{"co", "ci", "ky", "kx"});
  CHECK(!w.inputs()[3].packing_order.empty());

  CHECK(names(model(true, false, 16)) == Names{"copy", "conv+relu", "conv+relu", "exp", "copy", "copy"});
  CHECK(names(model(false, true, 16)) == Names{"copy", "conv+relu", "conv+relu", "copy", "copy"});
  CHECK(names(model(false, false, 1)) == Names{"copy", "conv+relu", "conv+relu", "copy"});
}

TEST_CASE("a value that two kernels read ends its group") {
  ModelBuilder m;
  const int x = m.input("x", "f32[1,4,6,6]{0,2,3,1}");
  const int a = m.op("conv", {x, m.constant("f32[4,4,1,1]")});
  const int b = m.op("relu", {a});
  m.output(m.op("conv", {b, m.constant("f32[4,4,1,1]")}));
  m.output(m.op("conv", {a, m.constant("f32[4,4,1,1]")}));
  CHECK(names(grouped(m.graph)) == Names{"conv", "relu", "conv", "conv"});
}

TEST_CASE("a result that the caller gets ends its group") {
  ModelBuilder m;
  const int a = m.op("conv", {m.input("x", "f32[1,4,6,6]{0,2,3,1}"), m.constant("f32[4,4,1,1]")});
  m.output(a);
  m.output(m.op("relu", {a}));
  CHECK(names(grouped(m.graph)) == Names{"conv", "relu"});
}

TEST_CASE("branches that meet again are taken whole") {
  ModelBuilder m;
  const int a = m.op("conv", {m.input("x", "f32[1,4,6,6]{0,2,3,1}"), m.constant("f32[4,4,1,1]")});
  const int s = m.op("sigmoid", {a});
  m.output(m.op("mul", {a, s}));
  CHECK(names(grouped(m.graph)) == Names{"conv+sigmoid+mul"});
}

TEST_CASE("branches that do not meet are not taken") {
  ModelBuilder m;
  const int a = m.op("conv", {m.input("x", "f32[1,4,6,6]{0,2,3,1}"), m.constant("f32[4,4,1,1]")});
  m.output(m.op("sigmoid", {a}));
  m.output(m.op("relu", {a}));
  CHECK(names(grouped(m.graph)) == Names{"conv", "sigmoid", "relu"});
}

TEST_CASE("elementwise operators make one kernel, whose loops are the last one's") {
  ModelBuilder m;
  const int x = m.input("x", "f32[2,3,4]"), y = m.input("y", "f32[2,3,4]");
  m.output(m.op("add", {m.op("exp", {x}), m.op("mul", {m.op("sigmoid", {y}), x})}));
  const auto groups = grouped(m.graph);
  REQUIRE(groups.size() == 1);
  CHECK(groups[0].workload->anchor().op->name() == "add");
  CHECK(groups[0].workload->output_types()[0].str() == "f32[24]");
}

TEST_CASE("a small value is not computed again in a large loop") {
  ModelBuilder m;
  const int x = m.input("x", "f32[1,4,6,6]"), gate = m.input("gate", "f32[1,4,1,1]");
  m.output(m.op("mul", {x, m.op("sigmoid", {gate})}));
  CHECK(names(grouped(m.graph)) == Names{"sigmoid", "mul"});
}

TEST_CASE("long chains are cut") {
  ModelBuilder m;
  int x = m.input("x", "f32[8]");
  for (int i = 0; i < 30; ++i) x = m.op("sigmoid", {x});
  m.output(x);
  const auto groups = grouped(m.graph);
  CHECK(groups.size() == 3);
  for (const Group& group : groups) CHECK(group.nodes.size() <= 12);
}

TEST_CASE("views and copies are groups of their own") {
  ModelBuilder m;
  const int x = m.input("x", "f32[2,3,4]");
  const int t = m.op("transpose", {x}, {{"perm", {0, 2, 1}}});
  m.output(m.op("relu", {m.op("reshape", {t}, {{"shape", {2, 12}}})}));
  CHECK(names(grouped(assign_layouts(m.graph))) == Names{"view", "copy", "view", "relu"});
}

TEST_CASE("a residual read in another order is not fused") {
  ModelBuilder m;
  const int x = m.input("x", "f32[1,4,6,6]"), y = m.input("y", "f32[1,4,6,6]");
  const int a = m.op("conv", {x, m.constant("f32[4,4,1,1]")});
  m.output(m.op("add", {a, y}));
  const auto groups = grouped(assign_layouts(m.graph));
  CHECK(names(groups) == Names{"copy", "copy", "conv+add", "copy"});
}

TEST_CASE("shapes known only at run time come from the host") {
  ModelBuilder m({{"W", {1, 64}}});
  const int x = m.input("x", "f32[1,W]");
  // What a reader leaves of Shape: a value of known elements whose producer is never run.
  const int shape = m.op("cast", {m.op("reduce_sum", {x})}, {{"to", "i64"}});
  m.graph.value(shape).extents = std::vector<Extent>{Extent::symbol("W") * Extent(2)};
  m.output(m.op("add", {shape, m.constant(Array::of<std::int64_t>({1, 1}, {5}))}));
  const auto groups = grouped(m.graph);
  const auto kinds = names(groups);
  CHECK(std::count(kinds.begin(), kinds.end(), "host") == 1);
  CHECK(kinds.back() == "add");
}

TEST_CASE("groups print with their workloads") {
  ModelBuilder m;
  m.output(m.op("relu", {m.op("conv", {m.input("x", "f32[1,4,6,6]{0,2,3,1}"), m.constant("f32[4,4,1,1]")})}));
  const Graph g = assign_layouts(m.graph);
  const std::string text = print(grouped(g), g);
  CHECK(text.find("(conv+relu)") != std::string::npos);
  CHECK(text.find("f32[1,4,1,36]{0,2,3,1}") != std::string::npos);
}

}  // namespace
}  // namespace heddle::graph
