#include <catch2/catch.hpp>

#include <cmath>
#include <fstream>

#include "base/error.hpp"
#include "graph/interpret.hpp"
#include "tests/graph/model_builder.hpp"
#include "tests/graph/onnx_builder.hpp"

using namespace heddle;
using namespace heddle::graph;

namespace {

std::string error_of(const std::function<void()>& f, ErrorCode code) {
  try {
    f();
  } catch (const Error& e) {
    CHECK(e.code() == code);
    return e.what();
  }
  FAIL("no error");
  return {};
}

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

std::string shape_of_output(const Graph& graph, std::size_t i = 0) {
  return graph.value(graph.outputs.at(i)).type.str();
}

/// One node on constants: the reader folds it, and what it gives must be what ONNX says.
Array folded(int opset, const std::string& op_type, const std::vector<Array>& inputs,
             const OnnxBuilder::Attributes& attributes = {}) {
  OnnxBuilder b(opset);
  b.input("unused", DType::f32, {1});
  std::vector<std::string> names;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    names.push_back(inputs[i].size() == 0 && inputs[i].shape().size() == 1 ? "" : "c" + std::to_string(i));
    if (!names.back().empty()) b.initializer(names.back(), inputs[i]);
  }
  b.node(op_type, names, {"y"}, attributes).output("y");
  return interpret(b.read(), std::vector<Array>{Array(DType::f32, {1})}).at(0);
}

const Array none(DType::f32, {0});  // an operand that is left out

}  // namespace

TEST_CASE("a small network reads, with names and origins", "[onnx]") {
  OnnxBuilder b;
  b.input("x", DType::f32, {1, 3, 8, 8}).initializer("w", counting({4, 3, 3, 3})).initializer("b", counting({4}));
  b.node("Conv", {"x", "w", "b"}, {"c"},
         {{"pads", std::vector<std::int64_t>{1, 1, 1, 1}}, {"strides", std::vector<std::int64_t>{2, 2}}});
  b.node("Relu", {"c"}, {"r"})
      .node("GlobalAveragePool", {"r"}, {"g"})
      .node("Identity", {"g"}, {"y"})
      .output("y")
      .output("r");
  const Graph graph = b.read();
  graph.check();
  REQUIRE(graph.outputs.size() == 2);
  CHECK(graph.value(graph.outputs[0]).name == "y");
  CHECK(graph.value(graph.outputs[1]).name == "r");
  CHECK(shape_of_output(graph) == "f32[1,4,1,1]");
  CHECK(graph.nodes.size() == 3);
  CHECK(graph.value(graph.nodes[0].outputs[0]).origin == "c");
}

TEST_CASE("files that are no models", "[onnx]") {
  const TemporaryDirectory directory;
  const Operators operators;
  const auto read = [&](const std::filesystem::path& path) {
    return [&operators, path] { read_model(path, operators); };
  };
  const auto write = [&](const std::string& name, const std::string& bytes) {
    std::ofstream(directory.path() / name, std::ios::binary) << bytes;
    return directory.path() / name;
  };
  CHECK(contains(error_of(read(directory.path() / "none.onnx"), ErrorCode::not_found), "none.onnx"));
  error_of(read(directory.path()), ErrorCode::invalid_argument);
  error_of(read(write("empty.onnx", "")), ErrorCode::corrupt);
  error_of(read(write("text.onnx", "This is a text, not a model.\n")), ErrorCode::corrupt);
  OnnxBuilder b;
  b.input("x", DType::f32, {2, 8}).initializer("w", counting({8, 64})).node("MatMul", {"x", "w"}, {"y"}).output("y");
  const std::string whole = b.model.SerializeAsString();
  CHECK(read_model(write("whole.onnx", whole), operators).nodes.size() == 1);
  for (std::size_t length = 1; length < whole.size(); length += 37)
    CHECK(contains(error_of(read(write("cut.onnx", whole.substr(0, length))), ErrorCode::corrupt), "cut"));
}

TEST_CASE("what is not supported is named", "[onnx]") {
  const auto one = [](const std::string& op_type, int opset = 17, const std::string& domain = "") {
    return [=] {
      OnnxBuilder b(opset);
      if (!domain.empty()) {
        b.model.add_opset_import()->set_domain(domain);
        b.model.mutable_opset_import(1)->set_version(3);
      }
      b.input("x", DType::f32, {4}).node(op_type, {"x"}, {"y"}, {}, domain).output("y").read();
    };
  };
  const std::string unknown = error_of(one("Frobnicate"), ErrorCode::unsupported);
  CHECK(contains(unknown, "Frobnicate"));
  CHECK(contains(unknown, "Frobnicate_y"));
  CHECK(contains(unknown, "version 17"));
  const std::string foreign = error_of(one("Blur", 17, "com.example"), ErrorCode::unsupported);
  CHECK(contains(foreign, "com.example"));
  CHECK(contains(foreign, "version 3"));
  CHECK(contains(foreign, "--ops"));
  CHECK(contains(error_of(one("Relu", 99), ErrorCode::unsupported), "version 99"));
}

TEST_CASE("shapes that do not fit name the node", "[onnx]") {
  OnnxBuilder b;
  b.input("x", DType::f32, {2, 3}).initializer("w", counting({4, 5})).node("MatMul", {"x", "w"}, {"y"}).output("y");
  const std::string message = error_of([&] { b.read(); }, ErrorCode::invalid_argument);
  CHECK(contains(message, "MatMul_y"));
  OnnxBuilder missing;
  missing.input("x", DType::f32, {2, 3}).node("Add", {"x", "z"}, {"y"}).output("y");
  CHECK(contains(error_of([&] { missing.read(); }, ErrorCode::corrupt), "'z'"));
  OnnxBuilder short_weights;
  short_weights.input("x", DType::f32, {2, 4})
      .initializer("w", counting({4, 5}))
      .node("MatMul", {"x", "w"}, {"y"})
      .output("y");
  short_weights.model.mutable_graph()->mutable_initializer(0)->mutable_raw_data()->resize(12);
  CHECK(contains(error_of([&] { short_weights.read(); }, ErrorCode::corrupt), "'w'"));
}

TEST_CASE("a user's operator is found by its name in another domain", "[onnx]") {
  OnnxBuilder b;
  b.model.add_opset_import()->set_domain("com.example");
  b.input("x", DType::f32, {2, 4});
  // The catalog's own operators stand in for a user's: CamelCase becomes snake_case, attributes keep their names.
  b.node("LeakyRelu", {"x"}, {"a"}, {{"alpha", 0.25F}}, "com.example");
  b.node("matmul", {"a", "a"}, {"y"}, {{"transpose_b", std::int64_t(1)}}, "com.example").output("y");
  const Graph graph = b.read();
  REQUIRE(graph.nodes.size() == 2);
  CHECK(graph.nodes[0].op->name() == "leaky_relu");
  CHECK(graph.nodes[0].attributes.at("alpha") == 0.25);
  CHECK(shape_of_output(graph) == "f32[2,2]");
}

TEST_CASE("dynamic dimensions become symbols", "[onnx]") {
  const auto model = [] {
    OnnxBuilder b;
    b.input("x", DType::f32, {"p2o.Batch.0", 3, "?", -1}).node("Relu", {"x"}, {"y"}).output("y");
    return b;
  };
  const Graph free = model().read();
  CHECK(shape_of_output(free) == "f32[p2o_Batch_0,3,x_2,x_3]");
  CHECK(free.symbols.at("x_2") == Range{1, 4096});
  ReadOptions options;
  options.dimensions = {{"p2o.Batch.0", {1, 1}}, {"x:2", {32, 960}}, {"x_3", {7, 100}}};
  options.multiples = {{"x:2", 32}};
  const Graph narrowed = model().read(options);
  CHECK(shape_of_output(narrowed) == "f32[1,3,32*x_2_32,x_3]");
  CHECK(narrowed.symbols.at("x_2_32") == Range{1, 30});
  CHECK(narrowed.symbols.at("x_3") == Range{7, 100});
  options.dimensions["W"] = {1, 2};
  CHECK(contains(error_of([&] { model().read(options); }, ErrorCode::invalid_argument), "'W'"));
  ReadOptions fixed;
  fixed.dimensions = {{"x:1", {4, 4}}};
  CHECK(contains(error_of([&] { model().read(fixed); }, ErrorCode::invalid_argument), "fixed at 3"));
}

TEST_CASE("one name in two inputs is one symbol", "[onnx]") {
  OnnxBuilder b;
  b.input("a", DType::f32, {"N", 4}).input("b", DType::f32, {"N", 4}).node("Add", {"a", "b"}, {"y"}).output("y");
  CHECK(shape_of_output(b.read()) == "f32[N,4]");
}

TEST_CASE("sizes that must be multiples are found", "[onnx]") {
  // Halved twice and doubled twice, then added: equal to itself for multiples of 4 only.
  OnnxBuilder b;
  const OnnxBuilder::Attributes pool = {{"kernel_shape", std::vector<std::int64_t>{2, 2}},
                                        {"strides", std::vector<std::int64_t>{2, 2}}};
  b.input("x", DType::f32, {"N", 1, "H", 16}).initializer("scales", floats({4}, {1, 1, 4, 4}));
  b.node("MaxPool", {"x"}, {"a"}, pool).node("MaxPool", {"a"}, {"b"}, pool).node("Resize", {"b", "", "scales"}, {"c"});
  b.node("Add", {"x", "c"}, {"y"}).output("y");
  const Graph graph = b.read();
  CHECK(shape_of_output(graph) == "f32[N,1,4*H_4,16]");
  CHECK(graph.symbols.at("H_4") == Range{1, 1024});
  CHECK(graph.symbols.at("N") == Range{1, 4096});
  ReadOptions fixed;
  fixed.dimensions = {{"H", {12, 12}}};
  CHECK(shape_of_output(b.read(fixed)) == "f32[N,1,12,16]");
}

TEST_CASE("sizes that no multiple makes equal are an error with a way out", "[onnx]") {
  OnnxBuilder b;
  b.input("x", DType::f32, {"N", 4, "H"}).initializer("shape", ints({-1, 12}));
  b.node("Reshape", {"x", "shape"}, {"y"}).output("y");
  ReadOptions fine;
  fine.dimensions = {{"H", {6, 6}}};
  CHECK(shape_of_output(b.read(fine)) == "f32[2*N,12]");
  const std::string message = error_of([&] { b.read(); }, ErrorCode::unsupported);
  CHECK(contains(message, "--dim"));
  CHECK(contains(message, "Reshape_y"));
}

TEST_CASE("shape arithmetic becomes expressions", "[onnx]") {
  OnnxBuilder b;
  b.input("x", DType::f32, {"N", 3, "H", 8});
  b.initializer("zero", ints({0}))
      .initializer("one", ints({1}))
      .initializer("two", ints({2}))
      .initializer("three", ints({3}));
  b.initializer("minus", ints({-1})).initializer("half", floats({}, {0.5F})).initializer("axes", ints({0}));
  b.node("Shape", {"x"}, {"s"});
  SECTION("slices, casts and concatenation, as exporters write a flatten") {
    b.node("Cast", {"s"}, {"s32"}, {{"to", std::int64_t(6)}}).node("Slice", {"s32", "zero", "one", "zero"}, {"n"});
    b.node("Cast", {"n"}, {"n64"}, {{"to", std::int64_t(7)}})
        .node("Concat", {"n64", "minus"}, {"to"}, {{"axis", std::int64_t(0)}});
    b.node("Reshape", {"x", "to"}, {"y"}).output("y");
    CHECK(shape_of_output(b.read()) == "f32[N,24*H]");
  }
  SECTION("gather, arithmetic and squeeze") {
    b.initializer("i2", Array::of<std::int64_t>({}, {2})).node("Gather", {"s", "i2"}, {"h"});
    b.node("Add", {"h", "h"}, {"h2"}).node("Unsqueeze", {"h2", "axes"}, {"h2v"});
    b.node("Concat", {"minus", "h2v"}, {"to"}, {{"axis", std::int64_t(0)}})
        .node("Reshape", {"x", "to"}, {"y"})
        .output("y");
    CHECK(shape_of_output(b.read()) == "f32[12*N,2*H]");
  }
  SECTION("through float and back") {
    b.node("Slice", {"s", "two", "three"}, {"h"}).node("Cast", {"h"}, {"hf"}, {{"to", std::int64_t(1)}});
    b.node("Mul", {"hf", "half"}, {"hh"})
        .node("Floor", {"hh"}, {"hfl"})
        .node("Cast", {"hfl"}, {"hi"}, {{"to", std::int64_t(7)}});
    b.node("Slice", {"x", "zero", "hi", "two"}, {"y"}).output("y");
    CHECK(shape_of_output(b.read()) == "f32[N,3,div(H, 2),8]");
  }
  SECTION("a scale computed from two shapes") {
    b.initializer("size", ints({4, 4}));
    b.node("Slice", {"s", "zero", "two"}, {"nc"}).node("Slice", {"s", "two", "three"}, {"h"});
    b.node("Add", {"h", "h"}, {"h2"}).initializer("sixteen", ints({16}));
    b.node("Concat", {"nc", "h2", "sixteen"}, {"sizes"}, {{"axis", std::int64_t(0)}});
    b.node("Resize", {"x", "", "", "sizes"}, {"y"}).output("y");
    CHECK(shape_of_output(b.read()) == "f32[N,3,2*H,16]");
  }
  SECTION("expand of -1, as torch writes it") {
    b.initializer("wanted", ints({5, -1, -1, -1, -1})).initializer("neg", Array::of<std::int64_t>({}, {-1}));
    b.node("Concat", {"one", "s"}, {"s5"}, {{"axis", std::int64_t(0)}}).node("Equal", {"wanted", "neg"}, {"open"});
    b.node("Where", {"open", "s5", "wanted"}, {"to"}).node("Expand", {"x", "to"}, {"y"}).output("y");
    CHECK(shape_of_output(b.read()) == "f32[5,N,3,H,8]");
  }
  SECTION("filled tensors and ranges") {
    b.node("ConstantOfShape", {"s"}, {"f"}).node("Add", {"x", "f"}, {"y"}).output("y");
    b.initializer("start", Array::of<std::int64_t>({}, {0})).initializer("step", Array::of<std::int64_t>({}, {2}));
    b.initializer("i2", Array::of<std::int64_t>({}, {2})).node("Gather", {"s", "i2"}, {"h"});
    b.node("Range", {"start", "h", "step"}, {"r"}).node("Neg", {"r"}, {"z"}).output("z");
    const Graph graph = b.read();
    CHECK(shape_of_output(graph) == "f32[N,3,H,8]");
    CHECK(shape_of_output(graph, 1) == "i64[div(H + 1, 2)]");
    const auto out = interpret(graph, std::vector<Array>{Array(DType::f32, {1, 3, 5, 8})});
    CHECK(out[1].as<std::int64_t>()[2] == -4);
  }
  SECTION("a shape that depends on the data") {
    b.input("to", DType::i64, {2}).node("Reshape", {"x", "to"}, {"y"}).output("y");
    CHECK(contains(error_of([&] { b.read(); }, ErrorCode::unsupported), "depends on the data"));
  }
  SECTION("a shape used as data") {
    b.node("Cast", {"s"}, {"f"}, {{"to", std::int64_t(1)}}).node("Exp", {"f"}, {"y"}).output("y");
    CHECK(contains(error_of([&] { b.read(); }, ErrorCode::unsupported), "--dim"));
    ReadOptions fixed;
    fixed.dimensions = {{"N", {2, 2}}, {"H", {4, 4}}};
    CHECK(shape_of_output(b.read(fixed)) == "f32[4]");
  }
}

TEST_CASE("slices count from both ends and are clamped", "[onnx]") {
  const Array x = counting({2, 10});
  const auto slice = [&](std::int64_t start, std::int64_t end, std::int64_t step) {
    return folded(13, "Slice", {x, ints({start}), ints({end}), ints({1}), ints({step})});
  };
  CHECK(slice(2, 5, 1) == floats({2, 3}, {2, 3, 4, 12, 13, 14}));
  CHECK(slice(-3, 1000, 1) == floats({2, 3}, {7, 8, 9, 17, 18, 19}));
  CHECK(slice(-100, 4, 2) == floats({2, 2}, {0, 2, 10, 12}));
  CHECK(slice(9, std::numeric_limits<std::int64_t>::min(), -4) == floats({2, 3}, {9, 5, 1, 19, 15, 11}));
  CHECK(slice(std::numeric_limits<std::int64_t>::max(), -4, -1) == floats({2, 3}, {9, 8, 7, 19, 18, 17}));
  CHECK(slice(5, 2, 1).shape() == Shape{2, 0});
  const Array old = folded(9, "Slice", {x},
                           {{"starts", std::vector<std::int64_t>{1, -2}}, {"ends", std::vector<std::int64_t>{2, 10}}});
  CHECK(old == floats({1, 2}, {18, 19}));
}

TEST_CASE("operators as the operator sets define them", "[onnx]") {
  const auto list = [](std::vector<std::int64_t> v) { return v; };
  SECTION("Gemm") {
    const Array a = counting({2, 3}), b = counting({2, 3}), c = floats({2}, {10, 20});
    const Array y = folded(13, "Gemm", {a, b, c}, {{"transB", std::int64_t(1)}, {"alpha", 2.0F}, {"beta", 0.5F}});
    CHECK(y == floats({2, 2}, {15, 38, 33, 110}));
  }
  SECTION("MatMul of vectors") {
    CHECK(folded(13, "MatMul", {counting({3}), counting({3})}) == floats({}, {5}));
    CHECK(folded(13, "MatMul", {counting({3}), counting({3, 2})}) == floats({2}, {10, 13}));
    CHECK(folded(13, "MatMul", {counting({2, 2, 3}), counting({3})}) == floats({2, 2}, {5, 14, 23, 32}));
  }
  SECTION("Softmax flattens before version 13") {
    const Array x = floats({1, 2, 2}, {0, 0, 0, 0});
    CHECK(folded(11, "Softmax", {x}, {{"axis", std::int64_t(1)}}).at(0) == Approx(0.25));
    CHECK(folded(13, "Softmax", {x}, {{"axis", std::int64_t(1)}}).at(0) == Approx(0.5));
  }
  SECTION("Clip, old and new") {
    const Array x = floats({3}, {-1, 0.5, 9});
    CHECK(folded(6, "Clip", {x}, {{"min", 0.0F}, {"max", 6.0F}}) == floats({3}, {0, 0.5, 6}));
    CHECK(folded(13, "Clip", {x, floats({}, {0})}) == floats({3}, {0, 0.5, 9}));
    CHECK(folded(13, "Clip", {x, none, floats({}, {1})}) == floats({3}, {-1, 0.5, 1}));
  }
  SECTION("axes as attribute and as operand") {
    const Array x = counting({2, 3});
    CHECK(folded(11, "ReduceSum", {x}, {{"axes", list({1})}, {"keepdims", std::int64_t(0)}}) == floats({2}, {3, 12}));
    CHECK(folded(13, "ReduceSum", {x, ints({-1})}) == floats({2, 1}, {3, 12}));
    CHECK(folded(13, "ReduceMean", {x}) == floats({1, 1}, {2.5}));
    CHECK(folded(11, "Unsqueeze", {x}, {{"axes", list({0, 3})}}).shape() == Shape{1, 2, 3, 1});
    CHECK(folded(13, "Squeeze", {folded(13, "Unsqueeze", {x, ints({1})})}).shape() == Shape{2, 3});
  }
  SECTION("Split by number and by sizes") {
    OnnxBuilder b(18);
    b.input("x", DType::f32, {7}).initializer("sizes", ints({1, 4, 2}));
    b.node("Split", {"x"}, {"a", "b", "c"}, {{"num_outputs", std::int64_t(3)}})
        .node("Split", {"x", "sizes"}, {"d", "e", "f"});
    for (const char* name : {"a", "b", "c", "d", "e", "f"}) b.output(name);
    const auto out = interpret(b.read(), std::vector<Array>{counting({7})});
    CHECK(out[2] == floats({1}, {6}));
    CHECK(out[0] == floats({3}, {0, 1, 2}));
    CHECK(out[4] == floats({4}, {1, 2, 3, 4}));
  }
  SECTION("Pad with axes") {
    const Array y = folded(18, "Pad", {counting({2, 2}), ints({1, 0}), floats({}, {9}), ints({1})});
    CHECK(y == floats({2, 3}, {9, 0, 1, 9, 2, 3}));
  }
  SECTION("Upsample and Resize of every version") {
    const Array x = counting({1, 1, 1, 2}), scales = floats({4}, {1, 1, 1, 2});
    const Array want = floats({1, 1, 1, 4}, {0, 0, 1, 1});
    CHECK(folded(7, "Upsample", {x}, {{"scales", std::vector<float>{1, 1, 1, 2}}}) == want);
    CHECK(folded(9, "Upsample", {x, scales}) == want);
    CHECK(folded(10, "Resize", {x, scales}) == want);
    CHECK(folded(13, "Resize", {x, none, scales},
                 {{"coordinate_transformation_mode", std::string("asymmetric")},
                  {"nearest_mode", std::string("floor")}}) == want);
    CHECK(folded(18, "Resize", {x, none, none, ints({4})}, {{"axes", list({3})}}).shape() == Shape{1, 1, 1, 4});
  }
  SECTION("auto_pad") {
    OnnxBuilder b;
    b.input("x", DType::f32, {1, 1, 5, "W"}).initializer("w", counting({1, 1, 3, 2}));
    b.node("Conv", {"x", "w"}, {"y"}, {{"auto_pad", std::string("SAME_UPPER")}, {"strides", list({2, 1})}}).output("y");
    const Graph graph = b.read();
    CHECK(shape_of_output(graph) == "f32[1,1,3,W]");
    CHECK(graph.nodes[0].attributes.at("pads") == Json({1, 0, 1, 1}));
  }
  SECTION("ConvTranspose with an output shape") {
    OnnxBuilder b;
    b.input("x", DType::f32, {1, 1, 3, 3}).initializer("w", counting({1, 2, 3, 3}));
    b.node("ConvTranspose", {"x", "w"}, {"y"},
           {{"strides", list({3, 2})}, {"output_shape", list({10, 8})}, {"output_padding", list({1, 1})}})
        .output("y");
    CHECK(shape_of_output(b.read()) == "f32[1,2,10,8]");
  }
  SECTION("Where, comparisons, logic") {
    const Array c = folded(13, "Less", {counting({3}), floats({}, {1.5F})});
    CHECK(c.dtype() == DType::boolean);
    CHECK(folded(13, "Where", {folded(13, "Not", {c}), floats({}, {7}), counting({3})}) == floats({3}, {0, 1, 7}));
  }
  SECTION("old broadcasting") {
    const Array y = folded(6, "Add", {counting({2, 2, 2}), floats({2}, {10, 20})},
                           {{"broadcast", std::int64_t(1)}, {"axis", std::int64_t(1)}});
    CHECK(y == floats({2, 2, 2}, {10, 11, 22, 23, 14, 15, 26, 27}));
  }
  SECTION("Tile, Expand, Flatten, DepthToSpace") {
    CHECK(folded(13, "Tile", {counting({1, 2}), ints({2, 2})}) == floats({2, 4}, {0, 1, 0, 1, 0, 1, 0, 1}));
    CHECK(folded(13, "Expand", {counting({2, 1}), ints({2})}) == floats({2, 2}, {0, 0, 1, 1}));
    CHECK(folded(13, "Flatten", {counting({2, 3, 4})}, {{"axis", std::int64_t(-1)}}).shape() == Shape{6, 4});
    CHECK(folded(13, "DepthToSpace", {counting({1, 4, 1, 1})}, {{"blocksize", std::int64_t(2)}}) ==
          floats({1, 1, 2, 2}, {0, 1, 2, 3}));
  }
  SECTION("variadic ones") {
    CHECK(folded(13, "Sum", {counting({2}), counting({2}), counting({2})}) == floats({2}, {0, 3}));
    CHECK(folded(13, "Mean", {counting({2}), counting({2})}) == floats({2}, {0, 1}));
    CHECK(folded(13, "Max", {counting({3}), floats({}, {1})}) == floats({3}, {1, 1, 2}));
  }
}

TEST_CASE("dropout hands its operand on and drops nothing", "[onnx]") {
  OnnxBuilder b(13);
  b.input("x", DType::f32, {2, 2})
      .node("Dropout", {"x"}, {"d", "mask"})
      .node("Relu", {"d"}, {"y"})
      .output("y")
      .output("mask");
  const Graph graph = b.read();
  const auto out = interpret(graph, std::vector<Array>{floats({2, 2}, {1, -1, 2, -2})});
  CHECK(out[0] == floats({2, 2}, {1, 0, 2, 0}));
  CHECK(out[1].dtype() == DType::boolean);
  CHECK(out[1].at(3) == 1);
}

TEST_CASE("functions of the model and branches that are decided are read in place", "[onnx]") {
  OnnxBuilder b;
  auto* function = b.model.add_functions();
  function->set_name("ScaledRelu");
  function->set_domain("local");
  function->add_input("a");
  function->add_output("b");
  function->add_attribute("slope");
  function->add_opset_import()->set_version(17);
  OnnxBuilder::add_node(*function->add_node(), "LeakyRelu", {"a"}, {"t"}, {{"alpha", 0.0F}}, "");
  function->mutable_node(0)->mutable_attribute(0)->set_ref_attr_name("slope");
  OnnxBuilder::add_node(*function->add_node(), "Neg", {"t"}, {"b"}, {}, "");
  b.model.add_opset_import()->set_domain("local");
  b.input("x", DType::f32, {2}).node("ScaledRelu", {"x"}, {"f"}, {{"slope", 0.5F}}, "local");
  Array yes(DType::boolean, {});
  yes.set(0, 1);
  b.initializer("yes", yes).node("If", {"yes"}, {"y"}).output("y");
  for (const char* name : {"then_branch", "else_branch"}) {
    auto* attribute = b.model.mutable_graph()->mutable_node(1)->add_attribute();
    attribute->set_name(name);
    attribute->set_type(::onnx::AttributeProto::GRAPH);
    OnnxBuilder::add_node(*attribute->mutable_g()->add_node(), name[0] == 't' ? "Abs" : "Neg", {"f"}, {"inner"}, {},
                          "");
    attribute->mutable_g()->add_output()->set_name("inner");
  }
  const Graph graph = b.read();
  const auto out = interpret(graph, std::vector<Array>{floats({2}, {4, -4})});
  CHECK(out[0] == floats({2}, {4, 2}));
}

TEST_CASE("external data is read from beside the model, and from nowhere else", "[onnx]") {
  const TemporaryDirectory directory;
  const Operators operators;
  OnnxBuilder b;
  b.input("x", DType::f32, {2}).initializer("w", counting({2})).node("Add", {"x", "w"}, {"y"}).output("y");
  auto* tensor = b.model.mutable_graph()->mutable_initializer(0);
  const std::string bytes = tensor->raw_data();
  tensor->clear_raw_data();
  tensor->set_data_location(::onnx::TensorProto::EXTERNAL);
  const auto set = [&](const std::string& location, const std::string& offset) {
    tensor->clear_external_data();
    for (const auto& [key, value] : std::vector<std::pair<std::string, std::string>>{
             {"location", location}, {"offset", offset}, {"length", "8"}}) {
      auto* entry = tensor->add_external_data();
      entry->set_key(key);
      entry->set_value(value);
    }
  };
  std::ofstream(directory.path() / "weights.bin", std::ios::binary) << "....." << bytes;
  set("weights.bin", "5");
  const Graph graph = read_model(b.write(directory.path()), operators);
  CHECK(interpret(graph, std::vector<Array>{floats({2}, {1, 1})})[0] == floats({2}, {1, 2}));
  set("weights.bin", "6");
  CHECK(contains(error_of([&] { read_model(b.write(directory.path()), operators); }, ErrorCode::corrupt), "shorter"));
  set("../weights.bin", "5");
  CHECK(contains(error_of([&] { read_model(b.write(directory.path()), operators); }, ErrorCode::corrupt), "inside"));
  set("none.bin", "0");
  CHECK(
      contains(error_of([&] { read_model(b.write(directory.path()), operators); }, ErrorCode::not_found), "none.bin"));
}

TEST_CASE("quantised operators as the operator sets define them", "[onnx]") {
  const auto bytes = [](Shape shape, std::vector<std::uint8_t> values) {
    return Array::of<std::uint8_t>(shape, values);
  };
  // Halves go to the even integer, and what does not fit saturates.
  CHECK(folded(10, "QuantizeLinear", {floats({5}, {1, 3, 5, 1000, -1000}), floats({}, {2}), bytes({}, {100})}) ==
        bytes({5}, {100, 102, 102, 255, 0}));
  CHECK(folded(10, "QuantizeLinear", {floats({2}, {3, -1}), floats({}, {2})}) == bytes({2}, {2, 0}));
  CHECK(folded(13, "DequantizeLinear", {bytes({2, 2}, {1, 2, 3, 4}), floats({2}, {2, 10}), bytes({2}, {1, 0})},
               {{"axis", std::int64_t(0)}}) == floats({2, 2}, {0, 2, 30, 40}));
  CHECK(folded(21, "DequantizeLinear", {bytes({1, 5}, {1, 2, 3, 4, 5}), floats({1, 2}, {2, 10})},
               {{"block_size", std::int64_t(3)}, {"axis", std::int64_t(1)}}) == floats({1, 5}, {2, 4, 6, 40, 50}));
  // 2 * 3 + 5 * 7 with zero points of 1 and 2.
  CHECK(folded(10, "MatMulInteger", {bytes({1, 2}, {3, 6}), bytes({2, 1}, {5, 9}), bytes({}, {1}), bytes({}, {2})}) ==
        Array::of<std::int32_t>({1, 1}, {41}));
  CHECK(folded(10, "ConvInteger", {bytes({1, 1, 1, 2}, {3, 6}), bytes({1, 1, 1, 2}, {5, 9}), bytes({}, {1})},
               {{"pads", std::vector<std::int64_t>{0, 1, 0, 0}}}) == Array::of<std::int32_t>({1, 1, 1, 2}, {18, 55}));
}

TEST_CASE("quantisation that does not fit is named", "[onnx]") {
  const auto message = [](const Array& x, const Array& scale, const Array& zero) {
    return error_of([&] { folded(13, "DequantizeLinear", {x, scale, zero}); }, ErrorCode::invalid_argument);
  };
  const Array x(DType::u8, {2, 3});
  CHECK(contains(message(x, floats({2}, {1, 1}), Array(DType::u8, {2})), "axis 1"));
  CHECK(contains(message(x, floats({}, {1}), Array(DType::i8, {})), "the zero point is i8"));
  CHECK(contains(message(x, floats({3}, {1, 1, 1}), Array(DType::u8, {})), "differ in shape"));
}
