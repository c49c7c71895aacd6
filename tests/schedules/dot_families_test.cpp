// The families of products of narrow numbers: of bytes bit for bit the reference's integers, whatever the knobs, over
// all values that bytes can have; and the instructions that they are written for.
//
// HEDDLE_SEED chooses the inputs and which knobs are tried.
#include <fmt/format.h>

#include <catch2/catch.hpp>

#include "generators/kernel.hpp"
#include "ops/catalog.hpp"
#include "schedules/matrix_tiles.hpp"
#include "targets/target.hpp"
#include "tests/schedules/family_support.hpp"
#include "tests/support/inputs.hpp"
#include "tests/support/run.hpp"

namespace heddle {
namespace {

Machine with_dots(Machine m) {
  m.int8_dot = m.bf16_dot = true;
  return m;
}

Workload convolution(const Json& attributes, const std::string& x, const std::string& w, int threads,
                     bool bias = true) {
  const Operators operators;
  const TensorType weights = TensorType::parse(w);
  Case test{attributes, {TensorType::parse(x), weights}};
  const DType sums = is_float(weights.dtype) ? weights.dtype : DType::i32;
  if (bias) test.inputs.push_back({sums, {weights.shape[0]}, {}});
  return testing::channels_last_form(operators.get("conv"), test, threads);
}

Workload product(const Json& attributes, const std::vector<std::string>& types, int threads, bool constant = true) {
  const Operators operators;
  std::vector<TensorType> inputs;
  for (const auto& type : types) inputs.push_back(TensorType::parse(type));
  const bool has_symbol = types[0].find('M') != std::string::npos;
  const SymbolRanges ranges = has_symbol ? SymbolRanges{{"M", {1, 64}}} : SymbolRanges{};
  Composition c = Workload::of(operators.get("matmul"), attributes, inputs, ranges, threads).composition();
  if (!constant)
    for (auto& input : c.inputs) input.constant = false;
  return Workload(std::move(c));
}

TEST_CASE("conv_dot agrees with the reference whatever its knobs and types") {
  const Json padded = {{"pads", {1, 1, 1, 1}}, {"pad_value", 3}};
  for (const std::string x : {"u8", "i8"})
    for (const std::string w : {"u8", "i8"})
      for (const Machine& m : {Machine{}, with_dots(Machine{})}) {
        INFO(x << " " << w << (m.int8_dot ? " with" : " without") << " dot products");
        // Every other one: channels that fill sums, one pixel after the other; odd channels in windows.
        if ((x == w) == m.int8_dot)
          CHECK(check_family("conv_dot", convolution(padded, x + "[1,5,6,9]", w + "[20,5,3,3]", 1), m) == "");
        else
          CHECK(check_family("conv_dot", convolution(Json::object(), x + "[2,16,5,7]", w + "[24,16,1,1]", 2, false),
                             m) == "");
      }
  const Json plain = {{"pads", {1, 1, 1, 1}}};
  CHECK(check_family("conv_dot", convolution(plain, "f16[1,5,6,9]", "f16[20,5,3,3]", 1), Machine{}) == "");
  CHECK(check_family("conv_dot", convolution(plain, "bf16[1,6,6,9]", "bf16[20,6,3,3]", 1), Machine{}) == "");
  CHECK(check_family("conv_dot", convolution(plain, "bf16[1,5,6,9]", "bf16[20,5,3,3]", 2), with_dots(wide())) == "");
}

TEST_CASE("conv_dot takes strides, dilations, groups, few and odd channels") {
  const Machine pairs, fours = with_dots(wide());
  const Json strided = {{"strides", {2, 2}}, {"pads", {3, 3, 3, 3}}};
  CHECK(check_family("conv_dot", convolution(strided, "u8[1,3,14,18]", "i8[16,3,7,7]", 2), pairs) == "");
  const Json skipping = {{"strides", {2, 2}}};
  CHECK(check_family("conv_dot", convolution(skipping, "u8[1,32,8,10]", "i8[48,32,1,1]", 1), fours) == "");
  const Json dilated = {{"dilations", {2, 1}}, {"pads", {2, 1, 2, 1}}};
  CHECK(check_family("conv_dot", convolution(dilated, "i8[1,7,9,8]", "i8[9,7,3,3]", 1), fours) == "");
  const Json grouped = {{"group", 2}, {"pads", {1, 1, 1, 1}}};
  CHECK(check_family("conv_dot", convolution(grouped, "u8[1,10,6,7]", "i8[64,5,3,3]", 2), pairs) == "");
  CHECK(check_family("conv_dot", convolution(Json::object(), "u8[1,40,1,1]", "i8[33,40,1,1]", 1), pairs) == "");
}

TEST_CASE("matmul_dot agrees with the reference whatever its knobs, types and shape") {
  const Json plain = Json::object(), transposed = {{"transpose_a", true}, {"transpose_b", true}};
  const Machine pairs, fours = with_dots(wide());
  CHECK(check_family("matmul_dot", product(plain, {"u8[13,24]", "i8[24,40]", "i32[40]"}, 2), fours) == "");
  CHECK(check_family("matmul_dot", product(plain, {"i8[7,33]", "i8[33,50]"}, 1), with_dots(pairs)) == "");
  CHECK(check_family("matmul_dot", product(plain, {"u8[1,35]", "i8[35,130]", "i32[130]"}, 2), pairs) == "");
  CHECK(check_family("matmul_dot", product(plain, {"u8[9,20]", "u8[20,17]", "i32[9,1]"}, 1), wide()) == "");
  CHECK(check_family("matmul_dot", product(plain, {"u8[9,21]", "i8[21,19]", "i32[19]"}, 1, false), pairs) == "");
  CHECK(check_family("matmul_dot", product(plain, {"i8[2,3,6,10]", "i8[3,10,18]"}, 2, false), fours) == "");
  CHECK(check_family("matmul_dot", product(transposed, {"u8[18,6]", "i8[24,18]"}, 1), pairs) == "");
  CHECK(check_family("matmul_dot", product(plain, {"f16[9,20]", "f16[20,17]", "f16[17]"}, 1), pairs) == "");
  CHECK(check_family("matmul_dot", product(plain, {"bf16[9,21]", "bf16[21,32]"}, 1), fours) == "");
}

TEST_CASE("8-bit products are the family's where there is one") {
  const Workload conv = convolution({{"pads", {1, 1, 1, 1}}}, "u8[1,64,14,14]", "i8[64,64,3,3]", 1);
  CHECK(choose(conv, Machine{}).implementation.variant == "pairs");
  CHECK(choose(conv, with_dots(wide())).implementation.variant == "fours");
  const Workload gemm = product(Json::object(), {"u8[64,64]", "u8[64,64]"}, 1);
  CHECK(choose(gemm, with_dots(wide())).implementation.variant == "pairs");
  // A filter for each channel has no sum over channels to split.
  const Workload depthwise = convolution({{"group", 16}}, "u8[1,16,8,8]", "i8[16,1,3,3]", 1);
  CHECK(choose(depthwise, Machine{}).source.starts_with("family conv_depthwise"));
}

Machine with_tiles() {
  Machine m = with_dots(wide());
  m.matrix_tiles = true;
  return m;
}

TEST_CASE("conv_matrix_tiles agrees with the reference whatever its knobs, types and strides") {
  const std::string name = "conv_matrix_tiles";
  const Machine m = with_tiles();
  const Json padded = {{"pads", {1, 1, 1, 1}}, {"pad_value", 3}}, strided = {{"strides", {2, 2}}};
  const Json image = {{"strides", {2, 2}}, {"pads", {3, 3, 3, 3}}}, grouped = {{"group", 2}, {"pads", {1, 1, 1, 1}}};
  CHECK(check_family(name, convolution(padded, "u8[1,32,6,19]", "i8[40,32,3,3]", 1), m) == "");
  CHECK(check_family(name, convolution(strided, "u8[1,64,7,36]", "i8[32,64,1,1]", 2), m) == "");
  CHECK(check_family(name, convolution(Json::object(), "i8[2,80,5,7]", "i8[48,80,1,1]", 1, false), m) == "");
  CHECK(check_family(name, convolution(image, "u8[1,3,20,37]", "i8[16,3,7,7]", 1), m) == "");
  CHECK(check_family(name, convolution(image, "bf16[1,3,20,37]", "bf16[16,3,7,7]", 1), m) == "");
  CHECK(check_family(name, convolution(grouped, "u8[1,48,5,9]", "i8[64,24,3,3]", 1), m) == "");
  CHECK(check_family(name, convolution(padded, "u8[1,64,1,1]", "i8[33,64,3,3]", 1), m) == "");
  CHECK(check_family(name, convolution({{"pads", {1, 1, 1, 1}}}, "bf16[1,24,6,17]", "bf16[24,24,3,3]", 2), m) == "");
}

TEST_CASE("matmul_matrix_tiles agrees with the reference whatever its knobs, types and shape") {
  const std::string name = "matmul_matrix_tiles";
  const Machine m = with_tiles();
  const Json plain = Json::object(), transposed = {{"transpose_a", true}, {"transpose_b", true}};
  CHECK(check_family(name, product(plain, {"u8[37,192]", "i8[192,40]", "i32[40]"}, 2), m) == "");
  CHECK(check_family(name, product(plain, {"i8[7,72]", "i8[72,50]"}, 1), m) == "");
  CHECK(check_family(name, product(plain, {"u8[M,35]", "i8[35,130]", "i32[130]"}, 2), m,
                     {{{"M", 1}}, {{"M", 19}}, {{"M", 40}}}) == "");
  CHECK(check_family(name, product(plain, {"i8[2,3,18,24]", "i8[3,24,18]"}, 2, false), m) == "");
  CHECK(check_family(name, product(transposed, {"u8[40,6]", "i8[24,40]"}, 1), m) == "");
  CHECK(check_family(name, product(plain, {"bf16[33,96]", "bf16[96,48]", "bf16[48]"}, 1), m) == "");
  CHECK(check_family(name, product(plain, {"bf16[9,21]", "bf16[21,32]"}, 1), m) == "");
}

TEST_CASE("tile registers are for sums that fill them") {
  const Machine m = with_tiles();
  const auto source = [&](const Workload& w) { return choose(w, m).source; };
  const Json plain = Json::object();
  CHECK(source(product(plain, {"u8[64,64]", "i8[64,64]"}, 1)).starts_with("family matmul_matrix_tiles"));
  CHECK(source(product(plain, {"bf16[64,64]", "bf16[64,64]"}, 1)).starts_with("family matmul_matrix_tiles"));
  CHECK(source(product(plain, {"u8[1,64]", "i8[64,64]"}, 1)).starts_with("family matmul_dot"));
  CHECK(source(product(plain, {"u8[64,68]", "i8[68,8]"}, 1)).starts_with("family matmul_dot"));
  CHECK(source(product(plain, {"u8[64,64]", "u8[64,64]"}, 1)).starts_with("family matmul_dot"));
  CHECK(source(product(plain, {"f16[64,64]", "f16[64,64]"}, 1)).starts_with("family matmul_dot"));
  CHECK(source(convolution(plain, "u8[1,3,9,9]", "i8[16,3,3,3]", 1)).starts_with("family conv_dot"));
}

TEST_CASE("sums leave tile registers to all operands of a step") {
  const Json padded = {{"pads", {1, 1, 1, 1}}};
  for (const Workload& w : {convolution(Json::object(), "u8[1,64,56,56]", "i8[256,64,1,1]", 1),
                            convolution(padded, "u8[1,128,28,28]", "i8[128,128,3,3]", 1),
                            convolution(padded, "u8[1,256,14,14]", "i8[256,256,3,3]", 1)}) {
    const std::string source = choose(w, with_tiles()).source;
    INFO(source);
    const auto knob = [&](const std::string& name) {
      return std::stoll(source.substr(source.find(name + "=") + name.size() + 1));
    };
    const std::int64_t columns = knob("vectors"), rows = schedules::tiles_along(knob("pixels")) * knob("rows");
    CHECK(columns * rows > 1);
    CHECK(columns * rows + columns + rows <= 8);
  }
}

std::string assembly(const Workload& workload, const std::string& target) {
  const Target t = find_target(target);
  const Choice choice = choose(workload, t.machine);
  KernelRequest request;
  request.workload = &workload;
  request.implementation = choice.implementation;
  request.target = t;
  return show_kernel(request, KernelStage::assembly);
}

TEST_CASE("sums of products of bytes are the processor's instructions") {
  const Workload conv = convolution({{"pads", {1, 1, 1, 1}}}, "u8[1,64,14,14]", "i8[64,64,3,3]", 1);
  const Workload gemm = product(Json::object(), {"u8[64,64]", "i8[64,64]"}, 1);
  const Workload offset = product(Json::object(), {"i8[64,64]", "i8[64,64]"}, 1);
  for (const Workload* w : {&conv, &gemm, &offset}) {
    INFO(w->text());
    CHECK_THAT(assembly(*w, "x86-64-linux-avx2"), Catch::Contains("vpmaddwd") && !Catch::Contains("vpmulld"));
    CHECK_THAT(assembly(*w, "x86-64-linux-avx512_zen4"), Catch::Contains("vpdpbusd"));
    const Target vnni = find_target("x86-64-linux-avx512_vnni");
    const std::string code = assembly(*w, vnni.name);
    CHECK(lacking_instruction(vnni.bytes.value(), code) == "");
    // Sums of the columns, which an offset needs, take a shuffle of VBMI: that kernel is generated without VNNI.
    const bool shuffles = !lacking_instruction(*vnni.bytes, assembly(*w, "x86-64-linux-avx512_zen4")).empty();
    CHECK(shuffles == (w == &offset));
    CHECK((code.find("vpdpbusd") != code.npos) == !shuffles);
    CHECK_THAT(assembly(*w, "x86-64-linux-avx512"), !Catch::Contains("vpdpbusd"));
  }
  const Workload half = product(Json::object(), {"bf16[64,64]", "bf16[64,64]"}, 1);
  CHECK_THAT(assembly(half, "x86-64-linux-avx512_zen4"), Catch::Contains("vdpbf16ps"));
  CHECK_THAT(assembly(half, "x86-64-linux-avx2"), Catch::Contains("vfmadd"));
}

TEST_CASE("families of tile registers become tile instructions") {
  const std::string xeon = "x86-64-linux-avx512_sapphirerapids";
  const Json padded = {{"pads", {1, 1, 1, 1}}}, image = {{"strides", {2, 2}}, {"pads", {3, 3, 3, 3}}};
  const Workload conv = convolution(padded, "u8[1,64,14,14]", "i8[64,64,3,3]", 1);
  const Workload first = convolution(image, "u8[1,3,32,32]", "i8[64,3,7,7]", 1);
  const Workload gemm = product(Json::object(), {"u8[64,64]", "i8[64,64]", "i32[64]"}, 1);
  const Workload offset = product(Json::object(), {"i8[M,192]", "i8[192,256]"}, 1);
  for (const Workload* w : {&conv, &first, &gemm, &offset}) {
    INFO(w->text());
    CHECK_THAT(assembly(*w, xeon), Catch::Contains("tdpbusd") && !Catch::Contains("vpdpbusd"));
  }
  const Workload half = product(Json::object(), {"bf16[64,64]", "bf16[64,64]"}, 1);
  const Workload half_groups = convolution({{"group", 2}}, "bf16[1,96,14,14]", "bf16[128,48,5,5]", 1);
  const Workload half_first = convolution(image, "bf16[1,3,32,32]", "bf16[64,3,7,7]", 1);
  const Workload half_conv = convolution(padded, "bf16[1,64,14,14]", "bf16[64,64,3,3]", 1);
  for (const Workload* w : {&half, &half_first, &half_groups, &half_conv}) {
    INFO(w->text());
    CHECK_THAT(assembly(*w, xeon), Catch::Contains("tdpbf16ps") && !Catch::Contains("vfmadd"));
  }
}

}  // namespace
}  // namespace heddle
