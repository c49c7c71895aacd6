#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>

#include "graph/compile.hpp"
#include "graph/interpret.hpp"
#include "graph/passes/passes.hpp"
#include "tests/graph/loaded_model.hpp"
#include "tests/graph/model_builder.hpp"
#include "tests/graph/pass_check.hpp"

using namespace heddle;
using namespace heddle::graph;

namespace {

/// Half a step of 255 may go either way; a residual's sum adds another.
constexpr double two_steps = 2.01 / 255;

Array integers(DType type, const Shape& shape, double low, double high, std::uint32_t seed = 3) {
  Array array(type, shape);
  for (std::int64_t i = 0; i < array.size(); ++i) {
    seed = seed * 1664525U + 1013904223U;
    array.set(i, std::floor(low + static_cast<double>(seed >> 8) * 0x1p-24 * (high - low + 1)));
  }
  return array;
}

Array number(DType type, double value) {
  Array array(type, {});
  array.set(0, value);
  return array;
}

Array scales(Shape shape, double first) {
  Array array(DType::f32, std::move(shape));
  for (std::int64_t i = 0; i < array.size(); ++i) array.set(i, first * static_cast<double>(i + 1));
  return array;
}

/// A model between quantize and dequantize.
struct Quantised : ModelBuilder {
  int parameters(DType type, double scale, double zero, int x, const char* operation) {
    std::vector<int> inputs = {x, constant(number(DType::f32, scale))};
    if (zero != 0) inputs.push_back(constant(number(type, zero)));
    const Json to = {{"to", std::string(to_string(type))}};
    return op(operation, inputs, std::string_view(operation) == "quantize" ? to : Json::object());
  }
  int q(int x, double scale, double zero, DType type = DType::u8) {
    return parameters(type, scale, zero, x, "quantize");
  }
  int dq(int x, double scale, double zero, DType type = DType::u8) {
    return parameters(type, scale, zero, x, "dequantize");
  }
  int qdq(int x, double scale, double zero, DType type = DType::u8) {
    return dq(q(x, scale, zero, type), scale, zero, type);
  }
  int weights(Array bytes, Array scale, std::optional<Array> zero = std::nullopt) {
    std::vector<int> inputs = {constant(std::move(bytes)), constant(std::move(scale))};
    if (zero) inputs.push_back(constant(std::move(*zero)));
    return op("dequantize", inputs);
  }
  int image(const char* name = "x") { return input(name, "f32[1,6,7,8]"); }
};

const Json padded = {{"pads", {1, 1, 1, 1}}};

const Node* find(const Graph& graph, std::string_view op) {
  for (const Node& node : graph.nodes)
    if (node.op->name() == op) return &node;
  return nullptr;
}

DType operand(const Graph& graph, std::string_view op, std::size_t i = 0) {
  const Node* node = find(graph, op);
  REQUIRE(node != nullptr);
  return graph.value(node->inputs.at(i)).type.dtype;
}

int count(const Graph& graph, std::string_view op) {
  const auto names = operator_names(graph);
  return static_cast<int>(std::count(names.begin(), names.end(), op));
}

Graph folded(const Graph& graph, double tolerance = two_steps) {
  return checked(graph, fold_quantization, {}, tolerance);
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("a convolution of bytes has its zero point in padding and bias", "[passes]") {
  for (const double zero : {0.0, 37.0}) {
    Quantised m;
    const int b =
        m.op("dequantize", {m.constant(integers(DType::i32, {5}, -3000, 3000)), m.constant(scales({5}, 0.01 * 0.002))});
    const int w = m.weights(integers(DType::i8, {5, 6, 3, 3}, -127, 127), scales({5, 1, 1, 1}, 0.002));
    m.output(m.q(m.op("conv", {m.qdq(m.image(), 0.01, zero), w, b}, padded), 0.03, 128));
    const Graph graph = folded(m.graph);
    CHECK(operator_names(graph) == Names{"quantize", "conv", "cast", "quantize"});
    const Node& conv = *find(graph, "conv");
    CHECK(conv.attributes.at("pad_value") == zero);
    CHECK(operand(graph, "conv") == DType::u8);
    CHECK(operand(graph, "conv", 1) == DType::i8);
    CHECK(operand(graph, "conv", 2) == DType::i32);
  }
}

TEST_CASE("biases: absent, of another scale, and not known", "[passes]") {
  Quantised m;
  const auto conv = [&](const char* name, std::vector<int> bias) {
    std::vector<int> inputs = {m.qdq(m.image(name), 0.01, 0),
                               m.weights(integers(DType::i8, {4, 6, 1, 1}, -127, 127), number(DType::f32, 0.004))};
    inputs.insert(inputs.end(), bias.begin(), bias.end());
    m.output(m.op("conv", inputs));
  };
  conv("absent", {});
  conv("other", {m.weights(integers(DType::i32, {4}, -300, 300), number(DType::f32, 0.001))});
  conv("unknown", {m.input("b", "f32[4]")});
  const Graph graph = folded(m.graph, 1e-5);
  CHECK(count(graph, "conv") == 3);
  CHECK(count(graph, "add") == 2);
  for (const Node& node : graph.nodes)
    if (node.op->name() == "conv") CHECK(node.inputs.size() == 2);
}

TEST_CASE("weights with a zero point are shifted where they stay bytes", "[passes]") {
  const auto model = [](Array bytes, double zero) {
    Quantised m;
    const DType type = bytes.dtype();
    m.output(m.op("conv",
                  {m.qdq(m.image(), 0.01, 100, DType::u8),
                   m.weights(std::move(bytes), scales({5, 1, 1, 1}, 0.01), number(type, zero))},
                  padded));
    return m.graph;
  };
  const Graph shifted = folded(model(integers(DType::u8, {5, 6, 3, 3}, 0, 255), 128), 1e-5);
  CHECK(operand(shifted, "conv", 1) == DType::i8);
  const Graph plain = folded(model(integers(DType::u8, {5, 6, 3, 3}, 0, 255), 0), 1e-5);
  CHECK(operand(plain, "conv", 1) == DType::u8);
  // -100 to 155 is neither.
  const Graph floats = folded(model(integers(DType::u8, {5, 6, 3, 3}, 0, 255), 100), 1e-5);
  CHECK(operand(floats, "conv") == DType::f32);
}

TEST_CASE("signed activations and convolutions in groups", "[passes]") {
  Quantised m;
  Json grouped = padded;
  grouped["group"] = 3;
  const int w = m.weights(integers(DType::i8, {9, 2, 3, 3}, -127, 127), scales({9, 1, 1, 1}, 0.001));
  m.output(m.q(m.op("conv", {m.qdq(m.image(), 0.01, -7, DType::i8), w}, grouped), 0.02, 3, DType::i8));
  const Graph graph = folded(m.graph, 2 * two_steps);
  CHECK(operand(graph, "conv") == DType::i8);
  CHECK(find(graph, "conv")->attributes.at("pad_value") == -7);
}

TEST_CASE("products of bytes, by column and transposed", "[passes]") {
  for (const bool transposed : {false, true}) {
    Quantised m;
    const Shape shape = transposed ? Shape{9, 12} : Shape{12, 9};
    const Shape by_column = transposed ? Shape{9, 1} : Shape{9};
    const int w = m.weights(integers(DType::i8, shape, -127, 127), scales(by_column, 0.001));
    const int product =
        m.op("matmul", {m.qdq(m.input("x", "f32[2,5,12]"), 0.008, 128), w}, {{"transpose_b", transposed}});
    m.output(m.op("add", {product, m.constant("f32[9]")}));
    const Graph graph = folded(m.graph, 1e-5);
    CHECK(operator_names(graph) == Names{"quantize", "matmul", "dequantize", "add"});
    CHECK(operand(graph, "matmul") == DType::u8);
    CHECK(find(graph, "matmul")->attributes.at("transpose_b") == false);
  }
}

TEST_CASE("products of two unknown tensors need zero points of 0", "[passes]") {
  for (const double zero : {0.0, 5.0}) {
    Quantised m;
    const int a = m.qdq(m.input("a", "f32[2,5,12]"), 0.01, 0, DType::i8);
    const int b = m.qdq(m.input("b", "f32[2,12,4]"), 0.01, zero, DType::i8);
    m.output(m.op("matmul", {a, b}));
    CHECK(operand(folded(m.graph, 1e-5), "matmul") == (zero == 0 ? DType::i8 : DType::f32));
  }
}

TEST_CASE("scales along what is summed over keep floats", "[passes]") {
  Quantised m;
  const int w = m.weights(integers(DType::i8, {12, 9}, -127, 127), scales({12, 1}, 0.001));
  m.output(m.op("matmul", {m.qdq(m.input("x", "f32[5,12]"), 0.008, 128), w}));
  CHECK(operand(folded(m.graph, 1e-5), "matmul") == DType::f32);
  Quantised by_channel;
  const int x = by_channel.op("quantize", {by_channel.image(), by_channel.constant(scales({6, 1, 1}, 0.01))});
  const int v = by_channel.weights(integers(DType::i8, {5, 6, 1, 1}, -127, 127), number(DType::f32, 0.001));
  const int floats = by_channel.op("dequantize", {x, by_channel.constant(scales({6, 1, 1}, 0.01))});
  by_channel.output(by_channel.op("conv", {floats, v}));
  CHECK(operand(folded(by_channel.graph, 1e-5), "conv") == DType::f32);
}

TEST_CASE("relu and clip vanish where the integers end there", "[passes]") {
  const auto model = [](const char* clamp, const Json& attributes, double zero) {
    Quantised m;
    m.output(m.q(m.op(clamp, {m.op("mul", {m.image(), m.constant(number(DType::f32, 3))})}, attributes), 0.01, zero));
    return folded(m.graph);
  };
  CHECK(count(model("relu", Json::object(), 0), "relu") == 0);
  CHECK(count(model("relu", Json::object(), 10), "relu") == 1);
  CHECK(count(model("clip", {{"min", 0.0}, {"max", 6.0}}, 0), "clip") == 0);
  CHECK(count(model("clip", {{"min", 0.0}, {"max", 1.0}}, 0), "clip") == 1);
  CHECK(count(model("clip", {{"min", 0.5}, {"max", 6.0}}, 0), "clip") == 1);
}

TEST_CASE("what moves elements moves bytes, and equal parameters cancel", "[passes]") {
  Quantised m;
  const auto moved = [&](const char* op, const Json& attributes) {
    m.output(m.q(m.op(op, {m.qdq(m.image(op), 0.01, 100)}, attributes), 0.01, 100));
  };
  moved("max_pool", {{"kernel_shape", {2, 2}}, {"pads", {1, 1, 1, 1}}});
  moved("reshape", {{"shape", {6, 56}}});
  moved("transpose", {{"perm", {0, 2, 3, 1}}});
  moved("slice", {{"starts", {1}}, {"ends", {5}}, {"axes", {2}}, {"steps", {2}}});
  moved("pad", {{"pads", {0, 0, 1, 1, 0, 0, 2, 0}}});
  m.output(m.q(m.op("concat", {m.qdq(m.image("left"), 0.01, 100), m.qdq(m.image("right"), 0.01, 100)}, {{"axis", 1}}),
               0.01, 100));
  const Graph graph = folded(m.graph, 1e-9);
  CHECK(count(graph, "dequantize") == 0);
  CHECK(count(graph, "quantize") == 7);
  for (const char* op : {"max_pool", "reshape", "transpose", "slice", "pad", "concat"})
    CHECK(operand(graph, op) == DType::u8);
}

TEST_CASE("moves of other parameters stay in floats", "[passes]") {
  Quantised m;
  m.output(m.q(m.op("max_pool", {m.qdq(m.image("pooled"), 0.01, 100)}, {{"kernel_shape", {2, 2}}}), 0.02, 100));
  m.output(m.op("concat", {m.qdq(m.image("left"), 0.01, 100), m.qdq(m.image("right"), 0.01, 90)}, {{"axis", 1}}));
  m.output(m.op("pad", {m.qdq(m.image("padded"), 0.01, 100)}, {{"pads", {0, 0, 1, 1, 0, 0, 2, 0}}, {"value", 1.0}}));
  const Graph graph = folded(m.graph);
  CHECK(operand(graph, "max_pool") == DType::u8);
  CHECK(operand(graph, "concat") == DType::f32);
  CHECK(operand(graph, "pad") == DType::f32);
  CHECK(count(graph, "dequantize") == 4);
}

TEST_CASE("a quantised residual block is one kernel a convolution, with bytes between", "[passes]") {
  Quantised m;
  const auto conv = [&](int x, const Shape& shape, const Json& attributes) {
    return m.op("conv", {x, m.weights(integers(DType::i8, shape, -127, 127, 5), scales({shape[0], 1, 1, 1}, 0.001))},
                attributes);
  };
  const int x = m.qdq(m.input("x", "f32[1,16,8,8]"), 0.01, 120);
  const int first = m.qdq(m.op("relu", {conv(x, {16, 16, 3, 3}, padded)}), 0.01, 0);
  const int second = m.qdq(conv(first, {16, 16, 1, 1}, Json::object()), 0.02, 128);
  const int sum = m.q(m.op("relu", {m.op("add", {second, x})}), 0.02, 0);
  m.output(conv(m.dq(sum, 0.02, 0), {8, 16, 1, 1}, Json::object()), "y");
  checked(m.graph, fold_quantization, {}, 0.03);
  Graph graph = m.graph;
  for (const Pass& pass : passes()) graph = pass.run(graph);
  const auto groups = make_groups(graph, Machine{}, {.threads = 1});
  REQUIRE(groups.size() == 4);
  for (std::size_t i = 0; i + 1 < groups.size(); ++i) CHECK(graph.value(groups[i].outputs[0]).type.dtype == DType::u8);
  CHECK(groups[2].workload->name() == "dequantize+conv+cast+fake_quantize+add+quantize");
}

TEST_CASE("of two quantised convolutions that are added, one stays bytes on its way to the other", "[passes]") {
  Quantised m;
  const auto conv = [&](int x, int seed) {
    return m.op("conv",
                {x, m.weights(integers(DType::i8, {16, 16, 1, 1}, -127, 127, seed), scales({16, 1, 1, 1}, 0.001))});
  };
  const int x = m.qdq(m.input("x", "f32[1,16,8,8]"), 0.01, 120);
  const int left = m.qdq(conv(x, 5), 0.02, 128), right = m.qdq(conv(x, 6), 0.03, 120);
  m.output(m.q(m.op("add", {left, right}), 0.02, 0), "y");
  checked(m.graph, fold_quantization, {}, 0.03);
  Graph graph = m.graph;
  for (const Pass& pass : passes()) graph = pass.run(graph);
  const auto groups = make_groups(graph, Machine{}, {.threads = 1});
  std::vector<std::string> names;
  for (const Group& group : groups)
    if (group.workload) {
      names.push_back(group.workload->name());
      CHECK(graph.value(group.outputs[0]).type.dtype == DType::u8);
    }
  CHECK(names ==
        std::vector<std::string>{"quantize", "conv+cast+quantize", "conv+cast+dequantize+fake_quantize+add+quantize"});
}

TEST_CASE("dequantised constants that no integer operator takes are folded", "[passes]") {
  Quantised m;
  m.output(m.op("mul", {m.image(), m.weights(integers(DType::i8, {6, 1, 1}, -9, 9), number(DType::f32, 0.5))}));
  Graph graph = m.graph;
  for (const Pass& pass : passes()) graph = pass.run(graph);
  CHECK(operator_names(graph) == Names{"mul"});
}

TEST_CASE("integer products of known weights are products of bytes", "[passes]") {
  Quantised m;
  const auto wide = [&](int x, int zero, const char* type) {
    const Json to = {{"to", type}};
    return m.op("sub", {m.op("cast", {x}, to), m.op("cast", {zero}, to)});
  };
  const int a = m.input("a", "u8[3,5]"), zero = m.input("zero", "u8[]");
  const int b = m.constant(integers(DType::u8, {5, 4}, 0, 255));
  m.output(m.op("matmul", {wide(a, zero, "i32"), wide(b, m.constant(number(DType::u8, 128)), "i32")}));
  const int x = m.input("x", "u8[1,2,4,5]"), w = m.constant(integers(DType::i8, {3, 2, 3, 3}, -128, 127));
  const int sums =
      m.op("conv", {wide(x, m.constant(number(DType::u8, 3)), "f64"), m.op("cast", {w}, {{"to", "f64"}})}, padded);
  m.output(m.op("cast", {sums}, {{"to", "i32"}}));
  const Graph graph = folded(m.graph, 1e-12);
  CHECK(operand(graph, "matmul") == DType::u8);
  CHECK(operand(graph, "matmul", 1) == DType::i8);
  CHECK(operand(graph, "conv") == DType::u8);
}

TEST_CASE("quantised networks run", "[passes]") {
  Quantised m;
  const auto conv = [&](int x, const Shape& shape, const Json& attributes) {
    return m.op("conv", {x, m.weights(integers(DType::i8, shape, -127, 127, 5), scales({shape[0], 1, 1, 1}, 0.001))},
                attributes);
  };
  const int x = m.qdq(m.input("x", "f32[1,16,9,7]"), 0.01, 120);
  const int first = m.qdq(m.op("relu", {conv(x, {16, 16, 3, 3}, padded)}), 0.02, 0);
  const int second = m.qdq(conv(first, {16, 16, 1, 1}, Json::object()), 0.04, 128);
  const int sum = m.qdq(m.op("relu", {m.op("add", {second, x})}), 0.04, 0);
  m.output(m.op("reduce_mean", {m.op("max_pool", {sum}, {{"kernel_shape", {2, 2}}})}, {{"axes", {2, 3}}}), "y");
  const LoadedModel loaded(m.graph);
  check_runs(m.graph, loaded, {}, 0.03);
  const auto& steps = loaded.main().steps;
  CHECK(std::any_of(steps.begin(), steps.end(),
                    [](const auto& step) { return step.label.find("(dequantize+reduce_mean)") != std::string::npos; }));
}

TEST_CASE("convolutions that want other values around one operand run", "[passes]") {
  ModelBuilder m;
  const int x = m.op("quantize", {m.input("x", "f32[1,8,6,5]"), m.constant(number(DType::f32, 0.01))});
  for (const int value : {0, 7, 200}) {
    Json attributes = padded;
    attributes["pad_value"] = value;
    m.output(m.op("conv", {x, m.constant(integers(DType::i8, {16, 8, 3, 3}, -127, 127))}, attributes));
  }
  check_runs(m.graph, LoadedModel(m.graph), {}, 1e-12);
}
