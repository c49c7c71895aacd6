// Contractions on devices: that every shape of tile computes the right thing, with tails on every side, and what the
// analytic rules choose. Run by Halide's own OpenCL runtime; tests/gpu runs the catalog by ours.
#include <fmt/format.h>

#include <catch2/catch.hpp>

#include "ops/catalog.hpp"
#include "targets/target.hpp"
#include "tests/schedules/family_support.hpp"
#include "tests/support/inputs.hpp"
#include "tests/support/run.hpp"

namespace heddle {
namespace {

Machine device() { return find_target("opencl").machine; }

struct Example {
  std::string op;
  Json attributes;
  std::vector<std::string> types;
  Json knobs;  ///< over those of the rule
  std::vector<SymbolValues> bindings = {{}};
  bool channels_last = true;
};

Workload workload(const Example& example) {
  const Operators operators;
  std::vector<TensorType> inputs;
  SymbolRanges ranges;
  for (const auto& type : example.types) {
    inputs.push_back(TensorType::parse(type));
    for (const auto& extent : inputs.back().shape)
      for (const auto& symbol : extent.symbols()) ranges[symbol] = {1, 64};
  }
  Composition c = Workload::of(operators.get(example.op), example.attributes, inputs, ranges).composition();
  if (example.op == "conv" && example.channels_last) {
    c.inputs[0].type.layout.order = channels_last(c.inputs[0].type.rank());
    c.output_layouts = {Layout{channels_last(c.inputs[0].type.rank())}};
  }
  return Workload(std::move(c));
}

/// What differs; empty if nothing.
std::string run(const std::string& name, const Example& example) {
  const Workload w = workload(example);
  if (!matches(family(name), w, device())) return name + " does not take " + w.text();
  Json knobs = family(name).rule(w, device());
  if (example.knobs.is_object()) knobs.update(example.knobs);
  const Implementation implementation = family(name).make(w, device(), knobs);
  Case test;
  for (const auto& input : w.composition().inputs) test.inputs.push_back(input.type);
  auto random = testing::generator_for(testing::seed(), w.text());
  try {
    const testing::Kernel kernel(w, implementation, device().gpu);
    for (const auto& symbols : example.bindings) {
      const auto inputs = testing::draw_inputs(test, symbols, testing::Extremes::none, random);
      const std::string difference = testing::compare(w, inputs, kernel.run(inputs, symbols), symbols);
      if (!difference.empty())
        return fmt::format("{} {}\n{}\n{}", w.text(), knobs.dump(), difference, implementation.print());
    }
  } catch (const std::exception& e) {
    return fmt::format("{} {}\n{}\n{}", w.text(), knobs.dump(), e.what(), implementation.print());
  }
  return "";
}

Json tile(int columns, int rows, int thread_columns, int thread_rows, int depth, int slices) {
  return {{"columns", columns},         {"rows", rows},   {"thread_columns", thread_columns},
          {"thread_rows", thread_rows}, {"depth", depth}, {"slices", slices}};
}

Json rectangle(int columns, int x, int y, int thread_columns, int thread_rows, int depth, int slices, int taps) {
  return {{"columns", columns},         {"pixels_x", x},  {"pixels_y", y},    {"thread_columns", thread_columns},
          {"thread_rows", thread_rows}, {"depth", depth}, {"slices", slices}, {"tap_slices", taps}};
}

TEST_CASE("devices: matrix products in tiles with tails on every side") {
  const Json none = Json::object();
  for (const Example& example : std::vector<Example>{
           {"matmul", none, {"f32[64,32]", "f32[32,64]"}, tile(32, 32, 4, 4, 16, 1)},
           {"matmul", none, {"f32[37,33]", "f32[33,45]", "f32[45]"}, tile(32, 32, 8, 8, 16, 1)},
           {"matmul", none, {"f32[33,64]", "f32[64,48]", "f32[48]"}, tile(16, 16, 4, 2, 16, 2)},
           {"matmul", none, {"f32[5,67]", "f32[67,19]"}, tile(16, 4, 4, 1, 8, 3)},
           {"matmul", none, {"f32[1,96]", "f32[96,40]", "f32[40]"}, tile(32, 1, 4, 1, 8, 4)},
           {"matmul", none, {"f32[1,1]", "f32[1,1]"}, {}},
           {"matmul", {{"transpose_b", true}}, {"f32[2,3,17,24]", "f32[2,3,33,24]"}, tile(16, 16, 4, 4, 8, 1)},
           {"matmul", {{"transpose_a", true}}, {"f32[2,24,20]", "f32[24,20]"}, tile(16, 16, 4, 4, 8, 2)},
           {"matmul", none, {"f32[2,3,17,33]", "f32[2,3,33,20]"}, tile(16, 16, 2, 4, 16, 1)},
           {"matmul", none, {"f16[17,24]", "f16[24,20]", "f16[20]"}, tile(16, 16, 4, 4, 8, 1)},
           {"matmul", none, {"u8[5,19]", "i8[19,33]", "i32[33]"}, tile(16, 8, 4, 1, 8, 1)},
           {"matmul",
            none,
            {"f32[M,40]", "f32[40,36]", "f32[36]"},
            tile(16, 16, 4, 4, 8, 2),
            {{{"M", 1}}, {{"M", 37}}}},
           {"matmul",
            none,
            {"f32[2,M,K]", "f32[2,K,N]"},
            tile(16, 16, 4, 4, 8, 1),
            {{{"M", 37}, {"N", 21}, {"K", 19}}, {{"M", 1}, {"N", 1}, {"K", 1}}}},
       })
    CHECK(run("gpu_matmul", example) == "");
}

TEST_CASE("devices: convolutions as implicit products") {
  const Json same = {{"pads", {1, 1, 1, 1}}}, none = Json::object();
  for (const Example& example : std::vector<Example>{
           {"conv", same, {"f32[1,16,9,11]", "f32[24,16,3,3]", "f32[24]"}, rectangle(16, 8, 4, 4, 4, 8, 1, 0)},
           {"conv",
            {{"pads", {1, 1, 1, 1}}, {"strides", {2, 2}}},
            {"f32[2,16,9,11]", "f32[24,16,3,3]", "f32[24]"},
            rectangle(16, 8, 4, 4, 4, 8, 2, 1)},
           {"conv", same, {"f32[1,20,7,7]", "f32[20,20,3,3]", "f32[20]"}, rectangle(16, 8, 8, 4, 8, 8, 1, 2)},
           {"conv",
            {{"pads", {3, 3, 3, 3}}, {"strides", {2, 2}}},
            {"f32[1,3,17,19]", "f32[20,3,7,7]", "f32[20]"},
            rectangle(16, 8, 4, 4, 4, 3, 1, 0)},
           {"conv", none, {"f32[1,16,1,37]", "f32[24,16,1,1]", "f32[24]"}, rectangle(16, 32, 1, 4, 4, 8, 1, 0)},
           {"conv",
            {{"pads", {1, 1, 1, 1}}, {"group", 3}},
            {"f32[2,9,9,11]", "f32[48,3,3,3]", "f32[48]"},
            rectangle(16, 4, 4, 4, 2, 3, 1, 0)},
           {"conv", same, {"u8[1,5,6,7]", "i8[6,5,3,3]", "i32[6]"}, {}},
           {"conv", same, {"f16[1,8,5,6]", "f16[4,8,3,3]", "f16[4]"}, {}},
           {"conv", {{"dilations", {2, 1}}, {"pads", {2, 0, 1, 1}}}, {"f32[1,5,8,9]", "f32[7,5,3,2]"}, {}},
           {"conv",
            same,
            {"f32[N,16,H,W]", "f32[24,16,3,3]", "f32[24]"},
            rectangle(16, 8, 4, 4, 4, 8, 1, 0),
            {{{"N", 2}, {"H", 9}, {"W", 11}}, {{"N", 1}, {"H", 1}, {"W", 3}}}},
           {"conv", same, {"f32[1,6,5,7]", "f32[9,6,3,3]"}, {}, {{}}, false},
           {"conv", {{"pads", {2, 2}}, {"strides", {2}}}, {"f32[2,3,19]", "f32[5,3,5]", "f32[5]"}, {}},
           {"conv", {{"pads", {1, 0, 1, 0, 1, 1}}}, {"f32[1,2,4,5,6]", "f32[3,2,2,3,3]"}, {}},
       })
    CHECK(run("gpu_conv", example) == "");
}

TEST_CASE("devices: depthwise convolutions") {
  const auto knobs = [](int channels, int pixels, int rows, int threads) {
    return Json{{"channels", channels}, {"pixels", pixels}, {"rows", rows}, {"threads_x", threads}};
  };
  const Json same = {{"pads", {1, 1, 1, 1}}, {"group", 20}};
  for (const Example& example : std::vector<Example>{
           {"conv", same, {"f32[1,20,9,11]", "f32[20,1,3,3]", "f32[20]"}, knobs(16, 2, 2, 4)},
           {"conv",
            same,
            {"f32[1,20,H,W]", "f32[20,1,3,3]"},
            knobs(32, 4, 1, 2),
            {{{"H", 1}, {"W", 1}}, {{"H", 5}, {"W", 9}}}},
           {"conv",
            {{"pads", {1, 1, 1, 1}}, {"strides", {2, 2}}, {"group", 19}},
            {"f32[2,19,9,11]", "f32[19,1,3,3]", "f32[19]"},
            knobs(16, 2, 2, 4)},
           {"conv", {{"pads", {2, 2, 2, 2}}, {"group", 6}}, {"f32[1,6,7,8]", "f32[12,1,5,5]"}, {}},
       })
    CHECK(run("gpu_depthwise", example) == "");
}

TEST_CASE("devices: tiles are small and depths sliced where the grid would leave processors idle") {
  const auto blocks = [](const char* a, const char* b) {
    const Workload w = workload({"matmul", Json::object(), {a, b}, {}});
    const Json k = family("gpu_matmul").rule(w, device());
    const auto rows = w.output_types()[0].shape[0].value(), columns = w.output_types()[0].shape[1].value();
    const auto of = [&](std::int64_t extent, const char* knob) {
      return (extent + k[knob].get<std::int64_t>() - 1) / k[knob].get<std::int64_t>();
    };
    return of(rows, "rows") * of(columns, "columns") * k["slices"].get<std::int64_t>();
  };
  CHECK(blocks("f32[128,768]", "f32[768,768]") >= 96);
  CHECK(blocks("f32[49,2048]", "f32[2048,512]") >= 96);
  CHECK(blocks("f32[1,2048]", "f32[2048,1000]") >= 96);
  const Workload large = workload({"matmul", Json::object(), {"f32[4096,4096]", "f32[4096,4096]"}, {}});
  const Json knobs = family("gpu_matmul").rule(large, device());
  CHECK(knobs["thread_columns"] == 8);
  CHECK(knobs["thread_rows"] == 8);
  CHECK(knobs["slices"] == 1);
}

TEST_CASE("devices: every candidate's block fits the device") {
  const Workload w = workload({"matmul", Json::object(), {"f32[128,768]", "f32[768,768]"}, {}});
  for (const Json& k : family("gpu_matmul").candidates(w, device())) {
    const auto threads =
        k["columns"].get<int>() / k["thread_columns"].get<int>() * k["rows"].get<int>() / k["thread_rows"].get<int>();
    CHECK(threads <= device().gpu->block_threads);
    CHECK((k["columns"].get<int>() + k["rows"].get<int>()) * k["depth"].get<int>() * 4 <= device().gpu->shared_bytes);
  }
}

}  // namespace
}  // namespace heddle
