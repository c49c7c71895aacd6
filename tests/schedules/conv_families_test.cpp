// The families of convolutions on channels-last data: knobs of every kind against the double reference.
//
// HEDDLE_SEED chooses the inputs and which knobs are tried.
#include <fmt/format.h>

#include <catch2/catch.hpp>

#include "ops/catalog.hpp"
#include "tests/schedules/family_support.hpp"
#include "tests/support/inputs.hpp"
#include "tests/support/run.hpp"

namespace heddle {
namespace {

Workload convolution(const Json& attributes, const std::string& x, const std::string& w, int threads,
                     const std::vector<SymbolValues>& bindings = {}) {
  const Operators operators;
  const Operator& conv = operators.get("conv");
  const TensorType weights = TensorType::parse(w);
  const DType sums = is_float(weights.dtype) ? weights.dtype : DType::i32;
  Case test{attributes, {TensorType::parse(x), weights, {sums, {weights.shape[0]}, {}}}, bindings};
  return testing::channels_last_form(conv, test, threads);
}

/// A pointwise convolution with an activation and the depthwise one behind it, as a model has them.
struct Expansion {
  std::string x, kernel;
  Json attributes = {{"pads", {1, 1, 1, 1}}};
  int threads = 1;
  bool biased = true;
};

Workload expanded(const Expansion& e) {
  const Operators operators;
  const auto type = [](const std::string& text) { return TensorType::parse(text); };
  const Extent inputs = type(e.x).shape[1], channels = type(e.kernel).shape[0];
  Composition c;
  c.inputs.push_back({type(e.x + "{0,2,3,1}"), false});
  c.inputs.push_back({{DType::f32, {channels, inputs, 1, 1}, {}}, true});
  c.inputs.push_back({type(e.kernel), true});
  for (int i = 0; e.biased && i < 2; ++i) c.inputs.push_back({{DType::f32, {channels}, {}}, true});
  const int first = static_cast<int>(c.inputs.size());
  const Operator& conv = operators.get("conv");
  const Operator& relu = operators.get("relu");
  Json depthwise = e.attributes;
  depthwise["group"] = channels.value();
  const auto with_bias = [&](std::vector<int> operands, int bias) {
    if (e.biased) operands.push_back(bias);
    return operands;
  };
  c.nodes.push_back({&conv, conv.canonical(Json::object()), with_bias({0, 1}, 3)});
  c.nodes.push_back({&relu, relu.canonical(Json::object()), {first}});
  c.nodes.push_back({&conv, conv.canonical(depthwise), with_bias({first + 1, 2}, 4)});
  c.nodes.push_back({&relu, relu.canonical(Json::object()), {first + 2}});
  c.anchor = 2;
  c.outputs = {first + 3};
  c.output_layouts = {c.inputs[0].type.layout};
  c.threads = e.threads;
  return Workload(std::move(c));
}

TEST_CASE("conv_expanded agrees with the reference whatever its knobs") {
  const Json three = {{"pads", {1, 1, 1, 1}}}, five = {{"pads", {2, 2, 2, 2}}}, none = Json::object();
  const Json halved = {{"pads", {0, 0, 1, 1}}, {"strides", {2, 2}}};
  const Json lopsided = {{"pads", {1, 0, 0, 2}}}, dilated = {{"pads", {2, 2, 2, 2}}, {"dilations", {2, 2}}};
  // Odd numbers of rows and of input channels; padding on all sides, on some and on none; a batch; two threads.
  for (const Expansion& e : {
           Expansion{"f32[1,8,8,12]", "f32[48,1,3,3]", three, 1, true},
           Expansion{"f32[1,5,7,7]", "f32[32,1,3,3]", three, 2, true},
           Expansion{"f32[2,4,9,14]", "f32[32,1,5,5]", five, 2, false},
           Expansion{"f32[1,3,12,16]", "f32[16,1,3,3]", halved, 1, true},
           Expansion{"f32[1,6,11,13]", "f32[64,1,3,3]", halved, 2, true},
           Expansion{"f32[1,6,6,8]", "f32[16,1,3,3]", none, 1, true},
           Expansion{"f32[1,2,5,10]", "f32[32,1,2,4]", lopsided, 1, true},
           Expansion{"f32[1,4,9,9]", "f32[16,1,3,3]", dilated, 1, true},
           Expansion{"f32[1,4,1,1]", "f32[16,1,3,3]", three, 2, true},
       }) {
    CAPTURE(e.x, e.kernel, e.attributes.dump(), e.threads);
    CHECK(check_family("conv_expanded", expanded(e), Machine{}) == "");
    CHECK(check_family("conv_expanded", expanded(e), wide()) == "");
  }
}

TEST_CASE("a kernel of two convolutions is for tiles that fill rows, and is right in any schedule") {
  const Workload good = expanded({"f32[1,8,12,14]", "f32[64,1,3,3]"});
  const Workload narrow = expanded({"f32[1,8,12,7]", "f32[16,1,3,3]"});
  CHECK(pays_together(good, wide()));
  CHECK_FALSE(pays_together(narrow, Machine{}));
  Machine device = wide();
  device.gpu.emplace();
  CHECK_FALSE(pays_together(good, device));
  CHECK(check_family("any", good, wide()) == "");
  CHECK(family("conv_expanded").matches(good, wide()));
  for (const char* other : {"conv_direct", "conv_depthwise", "window_channels"})
    CHECK_FALSE(family(other).matches(good, wide()));
}

TEST_CASE("conv_winograd agrees with the reference whatever its knobs") {
  const Json padded = {{"pads", {1, 1, 1, 1}}};
  // Channels that fill blocks and not; extents that tiles divide and not; one and two threads, a batch.
  CHECK(check_family("conv_winograd", convolution(padded, "f32[1,32,12,12]", "f32[48,32,3,3]", 1), Machine{}) == "");
  CHECK(check_family("conv_winograd", convolution(padded, "f32[1,16,13,9]", "f32[20,16,3,3]", 2), Machine{}) == "");
  CHECK(check_family("conv_winograd", convolution(padded, "f32[2,16,7,7]", "f32[64,16,3,3]", 2), wide()) == "");
  CHECK(check_family("conv_winograd", convolution(Json::object(), "f32[1,16,14,10]", "f32[16,16,3,3]", 1), Machine{}) ==
        "");
}

TEST_CASE("conv_winograd agrees with the reference at extents that are known at run time only") {
  const Json padded = {{"pads", {1, 1, 1, 1}}};
  const std::vector<SymbolValues> any = {{{"down", 1}, {"across", 1}},
                                         {{"down", 13}, {"across", 5}},
                                         {{"down", 4}, {"across", 30}},
                                         {{"down", 21}, {"across", 44}}};
  const std::vector<SymbolValues> eighths = {
      {{"down", 1}, {"across", 1}}, {{"down", 2}, {"across", 5}}, {{"down", 1}, {"across", 6}}};
  const auto check = [&](const char* x, const char* w, int threads, const Machine& m,
                         const std::vector<SymbolValues>& bindings) {
    return check_family("conv_winograd", convolution(padded, x, w, threads, bindings), m, bindings);
  };
  CHECK(check("f32[1,16,down,across]", "f32[20,16,3,3]", 1, Machine{}, any) == "");
  CHECK(check("f32[1,16,8*down,8*across]", "f32[24,16,3,3]", 1, wide(), eighths) == "");
  CHECK(check("f32[2,16,8*down,8*across]", "f32[16,16,3,3]", 2, Machine{}, eighths) == "");
  CHECK(check("f32[1,16,down,22]", "f32[16,16,3,3]", 1, Machine{}, {{{"down", 1}}, {{"down", 13}}}) == "");
}

TEST_CASE("conv_direct's tiles of several rows agree with the reference") {
  const Json padded = {{"pads", {1, 1, 1, 1}}}, strided = {{"pads", {1, 1, 1, 1}}, {"strides", {2, 2}}};
  CHECK(check_family("conv_direct", convolution(padded, "f32[1,5,10,8]", "f32[24,5,3,3]", 1), Machine{}) == "");
  CHECK(check_family("conv_direct", convolution(strided, "f32[1,5,13,11]", "f32[20,5,3,3]", 2), Machine{}) == "");
  CHECK(check_family("conv_direct", convolution(padded, "f32[2,4,7,7]", "f32[32,4,3,3]", 2), wide()) == "");
}

TEST_CASE("conv_grouped agrees with the reference where groups do not fill vectors") {
  const Json by_three = {{"group", 3}}, padded = {{"group", 2}, {"pads", {1, 1, 1, 1}}};
  CHECK(check_family("conv_grouped", convolution(by_three, "f32[1,12,6,9]", "f32[42,4,1,1]", 1), Machine{}) == "");
  CHECK(check_family("conv_grouped", convolution(padded, "f32[2,6,5,7]", "f32[8,3,3,3]", 2), Machine{}) == "");
  CHECK(check_family("conv_grouped", convolution(padded, "f32[1,8,5,13]", "f32[68,4,3,3]", 2), wide()) == "");
  CHECK(check_family("conv_grouped", convolution(padded, "bf16[1,8,5,13]", "bf16[68,4,3,3]", 1), wide()) == "");
  CHECK(check_family("conv_grouped", convolution(by_three, "f16[1,12,6,9]", "f16[42,4,1,1]", 1), Machine{}) == "");
}

TEST_CASE("conv_transpose agrees with the reference whatever its knobs") {
  const Operators operators;
  const Operator& op = operators.get("conv_transpose");
  const auto transposed = [&](const Json& attributes, const std::string& x, const std::string& w, int threads) {
    const TensorType weights = TensorType::parse(w);
    const Case test{attributes, {TensorType::parse(x), weights, {weights.dtype, {weights.shape[1]}, {}}}};
    return testing::channels_last_form(op, test, threads);
  };
  const Json twice = {{"strides", {2, 2}}},
             cut = {{"strides", {2, 3}}, {"pads", {1, 1, 0, 2}}, {"output_padding", {1, 0}}},
             dilated = {{"strides", {1, 2}}, {"dilations", {2, 3}}, {"pads", {1, 0, 0, 2}}};
  CHECK(check_family("conv_transpose", transposed(twice, "f32[1,6,5,7]", "f32[6,24,2,2]", 1), wide()) == "");
  CHECK(check_family("conv_transpose", transposed(twice, "f32[2,3,1,1]", "f32[3,9,3,3]", 2), Machine{}) == "");
  CHECK(check_family("conv_transpose", transposed(cut, "f32[1,4,4,6]", "f32[4,40,4,4]", 2), wide()) == "");
  CHECK(check_family("conv_transpose", transposed(dilated, "f32[1,3,4,5]", "f32[3,20,3,2]", 1), Machine{}) == "");
  // A single channel has no use for vectors of channels.
  const Workload one = transposed(twice, "f32[1,6,5,7]", "f32[6,1,2,2]", 1);
  CHECK_FALSE(choose(one, wide()).source.starts_with("family conv_transpose"));
}

TEST_CASE("conv_depthwise agrees with the reference where channels do not fill vectors") {
  const auto by_channel = [](int channels, const char* type, const char* weights_type, int threads) {
    return convolution({{"pads", {1, 1, 1, 1}}, {"group", channels}}, fmt::format("{}[1,{},6,9]", type, channels),
                       fmt::format("{}[{},1,3,3]", weights_type, channels), threads);
  };
  for (const int channels : {1, 3, 8, 20, 40}) {
    const Workload w = by_channel(channels, "f32", "f32", channels == 20 ? 2 : 1);
    CHECK(check_family("conv_depthwise", w, wide()) == "");
    // Predicated accumulators would lie in memory: ten times slower.
    const Json knobs = family("conv_depthwise").rule(w, wide());
    CHECK_THAT(family("conv_depthwise").make(w, wide(), knobs).print(), !Catch::Contains("coi, 16, GuardWithIf"));
    CHECK_THAT(family("conv_depthwise").make(w, wide(), knobs).print(),
               Catch::Contains("acc.compute_at(out, coo).bound"));
  }
  CHECK(check_family("conv_depthwise", by_channel(20, "f32", "f32", 1), Machine{}) == "");
  CHECK(check_family("conv_depthwise", by_channel(24, "u8", "i8", 2), wide()) == "");
}

TEST_CASE("Winograd's algorithm is chosen where it is faster and not forbidden") {
  const Json padded = {{"pads", {1, 1, 1, 1}}};
  const Workload w = convolution(padded, "f32[1,64,56,56]", "f32[64,64,3,3]", 1);
  for (const Machine& m : {wide(), Machine{}}) CHECK(choose(w, m).implementation.variant == "winograd4");
  Composition exact = w.composition();
  exact.exact = true;
  const Workload plain(exact);
  CHECK(choose(plain, Machine{}).implementation.variant == "direct");
  CHECK(plain.text() != w.text());
  const std::vector<SymbolValues> sizes = {{{"down", 1}, {"across", 1}}, {{"down", 30}, {"across", 30}}};
  CHECK(choose(convolution(padded, "f32[1,96,8*down,8*across]", "f32[24,96,3,3]", 1, sizes), wide())
            .implementation.variant == "winograd4");
  // One tile of results is no work for it.
  CHECK(choose(convolution(padded, "f32[1,8,1,1]", "f32[512,8,3,3]", 1), Machine{}).implementation.variant == "direct");
  CHECK_THROWS_WITH(family("conv_winograd")
                        .make(w, Machine{}, {{"tile", 4}, {"vectors", 2}, {"tiles", 6}, {"rows", 3}, {"channels", 48}}),
                    Catch::Contains("must divide"));
}

TEST_CASE("what is made at run time is not packed") {
  const Json padded = {{"pads", {1, 1, 1, 1}}}, by_channel = {{"pads", {1, 1, 1, 1}}, {"group", 16}};
  for (const Workload& w : {convolution(padded, "f32[1,16,8,8]", "f32[16,16,3,3]", 1),
                            convolution(by_channel, "f32[1,16,8,8]", "f32[16,1,3,3]", 1),
                            convolution(Json::object(), "u8[1,16,8,8]", "i8[16,16,1,1]", 1)}) {
    REQUIRE_FALSE(choose(w, Machine{}).implementation.packings.empty());
    for (const std::string role : {"w", "b"}) {
      Composition made = w.composition();
      for (std::size_t i = 0; i < w.inputs().size(); ++i)
        if (w.inputs()[i].role == role) made.inputs[i].constant = false;
      const Workload workload(made);
      for (const Packing& packing : choose(workload, Machine{}).implementation.packings) CHECK(packing.operand != role);
      CHECK(workload.text() != w.text());
    }
  }
}

}  // namespace
}  // namespace heddle
