#include <algorithm>
#include <cmath>
#include <limits>

#include <catch2/catch.hpp>

#include "graph/interpret.hpp"
#include "graph/passes/passes.hpp"
#include "tests/graph/model_builder.hpp"
#include "tests/graph/pass_check.hpp"

namespace heddle::graph {
namespace {

using Names = std::vector<std::string>;

Graph fused(const Graph& before, const SymbolValues& symbols = {}) {
  return checked(before, fuse_attention, symbols, 1e-5);
}

const Node* attention_in(const Graph& g) {
  const auto at =
      std::find_if(g.nodes.begin(), g.nodes.end(), [](const Node& n) { return n.op->name() == "attention"; });
  return at == g.nodes.end() ? nullptr : &*at;
}

Array number(float value) { return Array::of<float>({}, {value}); }

/// A 5 x 7 mask of true where a row may see a key.
Array causal() {
  Array mask(DType::boolean, {1, 1, 5, 7});
  for (std::int64_t i = 0; i < mask.size(); ++i) mask.set(i, i % 7 <= i / 7 + 2 ? 1 : 0);
  return mask;
}

struct Heads {
  ModelBuilder m;
  int q = m.input("q", "f32[2,3,5,8]");
  int k = m.input("k", "f32[2,3,7,8]");
  int v = m.input("v", "f32[2,3,7,6]");
  int by(const char* op, int x, float c) { return m.op(op, {x, m.constant(number(c))}); }
  int transposed(int x) { return m.op("transpose", {x}, {{"perm", {0, 1, 3, 2}}}); }
  int finish(int logits) { return m.op("matmul", {m.op("softmax", {logits}), v}); }
};

TEST_CASE("fuse_attention: scores divided by a number, with a mask added") {
  Heads t;
  const int scores = t.by("div", t.m.op("matmul", {t.q, t.transposed(t.k)}), 3);
  t.m.output(t.finish(t.m.op("add", {scores, t.m.input("mask", "f32[2,1,1,7]")})), "y");
  const Graph g = fused(t.m.graph);
  CHECK(operator_names(g) == Names{"attention"});
  REQUIRE(attention_in(g) != nullptr);
  CHECK(attention_in(g)->inputs.size() == 4);
  CHECK(attention_in(g)->attributes.at("scale").get<double>() == Approx(1.0 / 3));
}

TEST_CASE("fuse_attention: scales at q and k, keys by rows, no mask") {
  Heads t;
  const int q = t.by("mul", t.q, 0.5F), k = t.by("mul", t.k, 0.25F);
  t.m.output(t.finish(t.m.op("matmul", {q, k}, {{"transpose_b", true}})), "y");
  const Graph g = fused(t.m.graph);
  CHECK(operator_names(g) == Names{"attention"});
  CHECK(attention_in(g)->attributes.at("scale").get<double>() == Approx(0.125));
}

TEST_CASE("fuse_attention: a causal where in both orders becomes a mask") {
  const bool masked_first = GENERATE(false, true);
  Heads t;
  Array condition = causal();
  for (std::int64_t i = 0; masked_first && i < condition.size(); ++i) condition.set(i, condition.at(i) == 0 ? 1 : 0);
  const int scores = t.m.op("matmul", {t.q, t.transposed(t.k)});
  const int low = t.m.constant(number(-std::numeric_limits<float>::infinity()));
  const int seen = t.m.constant(condition);
  t.m.output(t.finish(t.m.op("where",
                             masked_first ? std::vector<int>{seen, low, scores} : std::vector<int>{seen, scores, low})),
             "y");
  const Graph g = fused(t.m.graph);
  REQUIRE(attention_in(g) != nullptr);
  CHECK(g.value(attention_in(g)->inputs[3]).constant.has_value());
}

TEST_CASE("fuse_attention: a condition that is known at run time becomes a where of numbers") {
  Heads t;
  const int scores = t.m.op("matmul", {t.q, t.transposed(t.k)});
  const int seen = t.m.op("less", {t.m.input("x", "f32[5,7]"), t.m.constant(number(0.9F))});
  t.m.output(t.finish(t.m.op("where", {seen, scores, t.m.constant(number(-1e30F))})), "y");
  const Graph g = fused(t.m.graph);
  REQUIRE(attention_in(g) != nullptr);
  CHECK(g.value(attention_in(g)->inputs[3]).type.str() == "f32[5,7]");
}

TEST_CASE("fuse_attention: rows that see nothing become zeros where the model says so") {
  Heads t;
  Array mask(DType::f32, {5, 7});
  for (std::int64_t i = 0; i < mask.size(); ++i)
    mask.set(i, i / 7 == 1 || i % 7 == 3 ? -std::numeric_limits<double>::infinity() : 0.0);
  const int p = t.m.op("softmax", {t.m.op("add", {t.m.op("matmul", {t.q, t.transposed(t.k)}), t.m.constant(mask)})});
  const int safe = t.m.op("where", {t.m.op("is_nan", {p}), t.m.constant(number(0)), p});
  t.m.output(t.m.op("matmul", {safe, t.v}), "y");
  const Graph g = fused(t.m.graph);
  CHECK(operator_names(g) == Names{"attention"});
  CHECK(interpret(g, random_inputs(g))[0].at(6) == 0);
}

TEST_CASE("fuse_attention: keys transposed with heads and batch merged are read as they were") {
  Heads t;
  const int merged = t.m.op("reshape", {t.k}, {{"shape", {6, 7, 8}}});
  const int swapped = t.m.op("transpose", {merged}, {{"perm", {0, 2, 1}}});
  const int split = t.m.op("reshape", {swapped}, {{"shape", {2, 3, 8, 7}}});
  t.m.output(t.finish(t.m.op("matmul", {t.q, split})), "y");
  CHECK(operator_names(fused(t.m.graph)) == Names{"attention"});

  Heads other;  // the same shapes, but another transpose: heads and depth change places
  const int moved = other.m.op("transpose", {other.m.input("k4", "f32[2,8,7,3]")}, {{"perm", {0, 3, 1, 2}}});
  other.m.output(other.finish(other.m.op("matmul", {other.q, moved})), "y");
  CHECK(operator_names(fused(other.m.graph)) == Names{"transpose", "transpose", "attention"});
}

TEST_CASE("fuse_attention: heads and batch in one dimension, symbolic lengths") {
  ModelBuilder m({{"M", {1, 16}}, {"N", {1, 16}}});
  const int q = m.input("q", "f32[6,M,8]"), k = m.input("k", "f32[6,N,8]"), v = m.input("v", "f32[6,N,8]");
  const int scores = m.op("matmul", {q, m.op("transpose", {k}, {{"perm", {0, 2, 1}}})});
  m.output(m.op("matmul", {m.op("softmax", {scores}, {{"axis", 2}}), v}), "y");
  const Graph g = fused(m.graph, {{"M", 3}, {"N", 5}});
  CHECK(attention_in(g) != nullptr);
  CHECK(g.value(g.outputs[0]).type.str() == "f32[6,M,8]");
}

TEST_CASE("fuse_attention leaves what others read, other axes, and masks that widen the scores") {
  {
    Heads t;
    const int p = t.m.op("softmax", {t.m.op("matmul", {t.q, t.transposed(t.k)})});
    t.m.output(t.m.op("matmul", {p, t.v}), "y");
    t.m.output(p, "weights");
    CHECK(attention_in(fused(t.m.graph)) == nullptr);
  }
  {
    Heads t;
    const int scores = t.m.op("matmul", {t.q, t.transposed(t.k)});
    t.m.output(t.m.op("matmul", {t.m.op("softmax", {scores}, {{"axis", 2}}), t.v}), "y");
    CHECK(attention_in(fused(t.m.graph)) == nullptr);
  }
  {
    ModelBuilder m;
    const int q = m.input("q", "f32[1,3,5,8]"), k = m.input("k", "f32[1,3,8,7]"), v = m.input("v", "f32[2,3,7,6]");
    const int logits = m.op("add", {m.op("matmul", {q, k}), m.input("mask", "f32[2,1,5,7]")});
    m.output(m.op("matmul", {m.op("softmax", {logits}), v}), "y");
    CHECK(attention_in(fused(m.graph)) == nullptr);
  }
  {
    Heads t;
    const int scores = t.m.op("matmul", {t.q, t.transposed(t.k)});
    const int seen = t.m.constant(causal());
    // Minus four is a logit like any other.
    t.m.output(t.finish(t.m.op("where", {seen, scores, t.m.constant(number(-4))})), "y");
    CHECK(attention_in(fused(t.m.graph)) == nullptr);
  }
}

}  // namespace
}  // namespace heddle::graph
