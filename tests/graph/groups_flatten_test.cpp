#include <cstring>

#include <catch2/catch.hpp>

#include "dsl/flatten.hpp"
#include "graph/weights.hpp"
#include "tests/graph/model_builder.hpp"

namespace heddle {
namespace {

/// The logical tensor in memory that `type` describes.
Array seen_through(const std::string& bytes, const TensorType& type) {
  Shape shape;
  for (const Extent& extent : type.shape) shape.push_back(extent.value());
  Array array(type.dtype, shape);
  const std::size_t element = size_of(type.dtype);
  REQUIRE(bytes.size() == static_cast<std::size_t>(type.allocated_elements().value()) * element);
  const auto strides = type.strides();
  auto* to = static_cast<char*>(array.mutable_data());
  std::vector<std::int64_t> index(shape.size(), 0);
  for (std::int64_t i = 0; i < array.size(); ++i) {
    std::int64_t at = type.origin().value();
    for (std::size_t d = 0; d < shape.size(); ++d) at += strides[d].value() * index[d];
    std::memcpy(to + static_cast<std::size_t>(i) * element, bytes.data() + static_cast<std::size_t>(at) * element,
                element);
    for (std::size_t d = shape.size(); d-- > 0;) {
      if (++index[d] < shape[d]) break;
      index[d] = 0;
    }
  }
  return array;
}

struct Builder {
  Composition c;
  Operators operators;

  int input(std::string_view type, bool constant = false) {
    c.inputs.push_back({TensorType::parse(type), constant});
    return static_cast<int>(c.inputs.size()) - 1;
  }
  /// Inputs have to be added before the first node.
  int node(const std::string& op, std::vector<int> operands, const Json& attributes = Json::object()) {
    c.nodes.push_back({&operators.get(op), operators.get(op).canonical(attributes), std::move(operands)});
    return static_cast<int>(c.inputs.size() + c.nodes.size()) - 1;
  }
  Composition finish(int output, const Layout& layout = {}, int anchor = 0) {
    c.outputs = {output};
    c.output_layouts = {layout};
    c.anchor = anchor;
    return c;
  }
};

Layout order(std::vector<int> order, std::vector<Border> border = {}) {
  return {std::move(order), std::move(border), 0};
}

/// Both compositions compute the same bytes from the same bytes.
void check_same_bytes(const Composition& before, const Composition& after) {
  const Workload a(before), b(after);
  std::vector<Array> inputs, others;
  std::uint32_t state = 3;
  for (std::size_t i = 0; i < before.inputs.size(); ++i) {
    const TensorType& type = before.inputs[i].type;
    Shape shape;
    for (const Extent& extent : type.shape) shape.push_back(extent.value());
    inputs.push_back(graph::random_array(type.dtype, shape, state));
    others.push_back(seen_through(graph::lay_out(inputs.back(), type), after.inputs[i].type));
  }
  const Array want = a.reference(inputs)[0], got = b.reference(others)[0];
  const Array again = seen_through(graph::lay_out(want, a.output_types()[0]), b.output_types()[0]);
  CHECK(graph::difference({got}, {again}) < 1e-6);
  // The views that a caller passes cover the same allocation.
  const auto views = a.input_views(), flat = b.input_views();
  for (std::size_t i = 0; i < views.size(); ++i) CHECK(views[i].elements == flat[i].elements);
  CHECK(a.output_views()[0].elements == b.output_views()[0].elements);
}

std::string input(const Composition& c, std::size_t i) { return c.inputs[i].type.str(); }
std::string output(const Composition& c) { return Workload(c).output_types()[0].str(); }

TEST_CASE("flatten: dense elementwise operands become one dimension") {
  Builder b;
  const int x = b.input("f32[2,8,3,5]{0,2,3,1}"), y = b.input("f32[2,8,3,5]{0,2,3,1}"), s = b.input("f32[]", true);
  const int sum = b.node("add", {x, y});
  const Composition c = b.finish(b.node("mul", {sum, s}), order({0, 2, 3, 1}), 1);
  const Composition f = flatten(c);
  CHECK(input(f, 0) == "f32[240]");
  CHECK(input(f, 2) == "f32[]");
  CHECK(output(f) == "f32[240]");
  check_same_bytes(c, f);
}

TEST_CASE("flatten: a per-channel operand keeps the channels apart") {
  Builder b;
  const int x = b.input("f32[2,8,3,5]{0,2,3,1}"), bias = b.input("f32[8,1,1]", true);
  const Composition c = b.finish(b.node("add", {x, bias}), order({0, 2, 3, 1}));
  const Composition f = flatten(c);
  CHECK(input(f, 0) == "f32[30,8]");
  CHECK(input(f, 1) == "f32[8]");
  check_same_bytes(c, f);
}

TEST_CASE("flatten: a gate per image and channel keeps images and channels apart") {
  Builder b;
  const int x = b.input("f32[2,8,3,5]{0,2,3,1}"), gate = b.input("f32[2,8,1,1]");
  const Composition c = b.finish(b.node("mul", {x, gate}), order({0, 2, 3, 1}));
  const Composition f = flatten(c);
  CHECK(input(f, 0) == "f32[2,15,8]");
  CHECK(input(f, 1) == "f32[2,1,8]");
  check_same_bytes(c, f);
}

TEST_CASE("flatten: a bordered operand keeps its rows apart, whole pixels merge") {
  Builder b;
  const int x = b.input("f32[2,8,3,5]{0,2,3,1|2:1+1,3:1+2}"), y = b.input("f32[2,8,3,5]{0,2,3,1}");
  const Composition c = b.finish(b.node("add", {x, y}), order({0, 2, 3, 1}, {{}, {}, {1, 1}, {1, 1}}));
  const Composition f = flatten(c);
  CHECK(input(f, 0) == "f32[2,3,40]{|1:1+1,2:8+16}");
  CHECK(input(f, 1) == "f32[2,3,40]");
  CHECK(output(f) == "f32[2,3,40]{|1:1+1,2:8+8}");
  check_same_bytes(c, f);
}

TEST_CASE("flatten: an operand of another order is read across") {
  Builder b;
  const int x = b.input("f32[2,8,3,5]{0,2,3,1}"), y = b.input("f32[2,8,3,5]");
  const Composition c = b.finish(b.node("add", {x, y}), order({0, 2, 3, 1}));
  const Composition f = flatten(c);
  CHECK(input(f, 0) == "f32[2,15,8]");
  CHECK(input(f, 1) == "f32[2,15,8]{0,2,1}");
  check_same_bytes(c, f);
}

TEST_CASE("flatten: symbolic extents multiply") {
  Builder b;
  const int x = b.input("f32[N,8,W]{0,2,1}"), y = b.input("f32[8,1]");
  Composition c = b.finish(b.node("add", {x, y}), order({0, 2, 1}));
  c.symbols = {{"N", {1, 4}}, {"W", {1, 64}}};
  const Composition f = flatten(c);
  CHECK(input(f, 0) == "f32[N*W,8]");
}

TEST_CASE("flatten: one element keeps a loop") {
  Builder b;
  const int x = b.input("f32[1,1]"), y = b.input("f32[]");
  const Composition c = b.finish(b.node("add", {x, y}));
  const Composition f = flatten(c);
  CHECK(output(f) == "f32[1]");
  check_same_bytes(c, f);
}

TEST_CASE("flatten: trailing reductions are rows") {
  Builder b;
  const int x = b.input("f32[2,3,4,5]");
  const Composition c = b.finish(b.node("softmax", {x}));
  const Composition f = flatten(c);
  CHECK(input(f, 0) == "f32[24,5]");
  check_same_bytes(c, f);
}

TEST_CASE("flatten: a softmax over channels last is one over rows") {
  Builder b;
  const int x = b.input("f32[2,6,3,4]{0,2,3,1}");
  const Composition c = b.finish(b.node("softmax", {x}, {{"axis", 1}}), order({0, 2, 3, 1}));
  const Composition f = flatten(c);
  CHECK(input(f, 0) == "f32[24,6]");
  check_same_bytes(c, f);
}

TEST_CASE("flatten: a softmax over rows of the image keeps the pixels' order") {
  Builder b;
  const int x = b.input("f32[2,6,3,4]{0,2,3,1}");
  const Composition c = b.finish(b.node("softmax", {x}, {{"axis", 2}}), order({0, 2, 3, 1}));
  const Composition f = flatten(c);
  CHECK(input(f, 0) == "f32[2,3,24]");
  check_same_bytes(c, f);
}

TEST_CASE("flatten: a global pool reduces one dimension") {
  Builder b;
  const int x = b.input("f32[2,6,3,4]{0,2,3,1}"), gate = b.input("f32[2,6,1,1]");
  const int mean = b.node("reduce_mean", {x}, {{"axes", {2, 3}}, {"keepdims", true}});
  const Composition c = b.finish(b.node("mul", {mean, gate}));
  const Composition f = flatten(c);
  CHECK(input(f, 0) == "f32[2,12,6]");
  CHECK(output(f) == "f32[2,1,6]");
  check_same_bytes(c, f);
}

TEST_CASE("flatten: a reduction that drops its dimensions") {
  Builder b;
  const int x = b.input("f32[2,6,3,4]{0,2,3,1}"), bias = b.input("f32[6]");
  const int mean = b.node("reduce_mean", {x}, {{"axes", {-1, 2}}, {"keepdims", false}});
  const Composition c = b.finish(b.node("add", {mean, bias}));
  const Composition f = flatten(c);
  CHECK(input(f, 0) == "f32[2,12,6]");
  CHECK(output(f) == "f32[2,6]");
  check_same_bytes(c, f);
}

TEST_CASE("flatten: a layer norm with its operands") {
  Builder b;
  const int x = b.input("f32[2,3,8]"), scale = b.input("f32[8]", true), shift = b.input("f32[8]", true),
            residual = b.input("f32[2,3,8]");
  const int norm = b.node("layer_norm", {x, scale, shift}, {{"axis", -1}});
  const Composition c = b.finish(b.node("add", {norm, residual}));
  const Composition f = flatten(c);
  CHECK(input(f, 0) == "f32[6,8]");
  CHECK(input(f, 1) == "f32[8]");
  CHECK(output(f) == "f32[6,8]");
  check_same_bytes(c, f);
}

TEST_CASE("flatten: a layer norm over two dimensions becomes one over their product") {
  Builder b;
  const int x = b.input("f32[2,3,4,5]"), scale = b.input("f32[4,5]", true);
  const Composition c = b.finish(b.node("layer_norm", {x, scale}, {{"axis", 2}}));
  const Composition f = flatten(c);
  CHECK(input(f, 0) == "f32[6,20]");
  CHECK(input(f, 1) == "f32[20]");
  check_same_bytes(c, f);
}

TEST_CASE("flatten: a pointwise convolution has one row of pixels") {
  Builder b;
  const int x = b.input("f32[2,5,3,4]{0,2,3,1}"), w = b.input("f32[6,5,1,1]", true), bias = b.input("f32[6]", true),
            residual = b.input("f32[2,6,3,4]{0,2,3,1}"), slope = b.input("f32[1,6,1,1]", true);
  const int conv = b.node("conv", {x, w, bias});
  const int sum = b.node("add", {conv, residual});
  const Composition c = b.finish(b.node("mul", {sum, slope}), order({0, 2, 3, 1}));
  const Composition f = flatten(c);
  CHECK(input(f, 0) == "f32[1,5,1,24]{0,2,3,1}");
  CHECK(input(f, 3) == "f32[1,6,1,24]{0,2,3,1}");
  CHECK(input(f, 4) == "f32[1,6,1,1]");
  CHECK(output(f) == "f32[1,6,1,24]{0,2,3,1}");
  check_same_bytes(c, f);
}

TEST_CASE("flatten: convolutions that cannot lose their rows stay as they are") {
  const auto unchanged = [](const std::string& x, const Json& attributes, const std::string& w, const Layout& layout,
                            const std::string& extra = "") {
    Builder b;
    const int xi = b.input(x), wi = b.input(w, true);
    const int e = extra.empty() ? -1 : b.input(extra);
    int out = b.node("conv", {xi, wi}, attributes);
    if (e >= 0) out = b.node("mul", {out, e});
    const Composition c = b.finish(out, layout);
    CHECK(Workload(flatten(c)).text() == Workload(c).text());
  };
  const Layout last = order({0, 2, 3, 1});
  unchanged("f32[1,5,4,4]{0,2,3,1}", {{"strides", {2, 2}}}, "f32[6,5,1,1]", last);
  unchanged("f32[1,5,4,4]{0,2,3,1}", Json::object(), "f32[6,5,3,3]", last);
  unchanged("f32[1,5,4,4]{0,2,3,1|2:1+1,3:1+1}", Json::object(), "f32[6,5,1,1]", last);
  unchanged("f32[1,5,4,4]{0,2,3,1}", Json::object(), "f32[6,5,1,1]", order({0, 2, 3, 1}, {{}, {}, {1, 1}, {1, 1}}));
  unchanged("f32[1,5,4,4]", Json::object(), "f32[6,5,1,1]", last);
  unchanged("f32[2,5,4,4]{0,2,3,1}", Json::object(), "f32[6,5,1,1]", last, "f32[2,6,1,1]");
  unchanged("f32[2,5,4,4]{0,2,3,1}", Json::object(), "f32[6,5,1,1]", last, "f32[1,6,4,1]");
}

TEST_CASE("flatten: batches of a product with one matrix are rows") {
  Builder b;
  const int x = b.input("f32[2,3,5]"), w = b.input("f32[5,7]", true), bias = b.input("f32[7]", true),
            residual = b.input("f32[2,3,7]");
  const int product = b.node("matmul", {x, w, bias});
  const Composition c = b.finish(b.node("add", {product, residual}));
  const Composition f = flatten(c);
  CHECK(input(f, 0) == "f32[6,5]");
  CHECK(input(f, 3) == "f32[6,7]");
  CHECK(output(f) == "f32[6,7]");
  check_same_bytes(c, f);
}

TEST_CASE("flatten: gaps between rows stay") {
  Builder b;
  const int x = b.input("f32[2,3,5]{|2:0+4}"), w = b.input("f32[5,7]", true), residual = b.input("f32[2,3,7]{|2:0+1}");
  const Composition c = b.finish(b.node("add", {b.node("matmul", {x, w}), residual}), {{}, {{}, {}, {0, 9}}});
  const Composition f = flatten(c);
  CHECK(input(f, 0) == "f32[6,5]{|1:0+4}");
  CHECK(input(f, 2) == "f32[6,7]{|1:0+1}");
  CHECK(output(f) == "f32[6,7]{|1:0+9}");
  check_same_bytes(c, f);
}

TEST_CASE("flatten: products of batches, or of transposed rows, stay as they are") {
  const auto unchanged = [](const std::string& x, const std::string& w, const Json& attributes,
                            const std::string& extra = "") {
    Builder b;
    const int xi = b.input(x), wi = b.input(w);
    const int e = extra.empty() ? -1 : b.input(extra);
    int out = b.node("matmul", {xi, wi}, attributes);
    if (e >= 0) out = b.node("add", {out, e});
    const Composition c = b.finish(out);
    CHECK(Workload(flatten(c)).text() == Workload(c).text());
  };
  unchanged("f32[2,3,5]", "f32[2,5,7]", Json::object());
  unchanged("f32[2,3,5]{1,0,2}", "f32[5,7]", Json::object());
  unchanged("f32[2,3,5]{|1:0+4}", "f32[5,7]", Json::object());
  unchanged("f32[2,5,3]", "f32[5,7]", {{"transpose_a", true}});
  unchanged("f32[2,3,5]", "f32[5,7]", Json::object(), "f32[2,1,7]");
}

}  // namespace
}  // namespace heddle
