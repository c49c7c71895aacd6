#include <cmath>
#include <limits>

#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "ops/catalog.hpp"
#include "ops/rules.hpp"

// References and type rules of the operators that combine many elements: windows, products, reductions, normalisations.
// The references are the oracles of every other test, so they are held against values worked out by hand.

using namespace heddle;
using Catch::Matchers::Contains;

namespace {

const Operator& find(std::string_view name) {
  static const Operators operators;
  return operators.get(name);
}

Array floats(Shape shape, std::vector<float> values) { return Array::of(std::move(shape), std::move(values)); }

Array evaluate(std::string_view name, const Json& attributes, const std::vector<Array>& in) {
  const auto out = find(name).evaluate(attributes, in);
  REQUIRE(out.size() == 1);
  return out[0];
}

void check_values(const Array& got, const Shape& shape, const std::vector<double>& want) {
  REQUIRE(got.shape() == shape);
  for (std::size_t i = 0; i < want.size(); ++i) {
    INFO("element " << i);
    CHECK(got.at(static_cast<std::int64_t>(i)) == Approx(want[i]).margin(1e-6));
  }
}

std::string inferred(std::string_view name, const Json& attributes, std::initializer_list<std::string_view> in) {
  return find(name).infer(attributes, ops::types(in)).at(0).str();
}

}  // namespace

TEST_CASE("conv: hand-computed windows") {
  const Array x = floats({1, 1, 4}, {1, 2, 3, 4});
  const Array w = floats({1, 1, 3}, {1, 0, -1});
  check_values(evaluate("conv", {{"pads", {1, 1}}}, {x, w, floats({1}, {10})}), {1, 1, 4}, {8, 8, 8, 13});
  check_values(evaluate("conv", Json::object(), {x, w}), {1, 1, 2}, {-2, -2});

  const Array seven = floats({1, 1, 7}, {1, 2, 3, 4, 5, 6, 7});
  check_values(evaluate("conv", {{"strides", {2}}, {"dilations", {2}}}, {seven, floats({1, 1, 2}, {1, 10})}), {1, 1, 3},
               {31, 53, 75});

  // Rows above and columns to the right are padded: beginnings come before ends.
  check_values(evaluate("conv", {{"pads", {1, 0, 0, 1}}},
                        {floats({1, 1, 2, 2}, {1, 2, 3, 4}), floats({1, 1, 2, 2}, {1, 1, 1, 1})}),
               {1, 1, 2, 2}, {3, 2, 10, 6});
}

TEST_CASE("conv: groups take their own channels") {
  const Array x = floats({1, 2, 2}, {1, 2, 3, 4});
  check_values(evaluate("conv", {{"group", 2}}, {x, floats({2, 1, 1}, {2, 5})}), {1, 2, 2}, {2, 4, 15, 20});
  check_values(evaluate("conv", {{"group", 2}}, {x, floats({4, 1, 1}, {1, 2, 3, 4})}), {1, 4, 2},
               {1, 2, 2, 4, 9, 12, 12, 16});
  check_values(evaluate("conv", Json::object(), {x, floats({1, 2, 1}, {1, 10})}), {1, 1, 2}, {31, 42});
}

TEST_CASE("conv: three dimensions and bytes") {
  const Array x = floats({1, 1, 2, 1, 2}, {1, 2, 3, 4});
  check_values(evaluate("conv", {{"pads", {1, 0, 0, 0, 0, 0}}}, {x, floats({1, 1, 2, 1, 2}, {1, 10, 100, 1000})}),
               {1, 1, 2, 1, 1}, {2100, 4321});
  const Array bytes = Array::of<std::uint8_t>({1, 1, 2}, {200, 255});
  const auto out = evaluate("conv", Json::object(),
                            {bytes, Array::of<std::int8_t>({1, 1, 2}, {-128, 127}), Array::of<std::int32_t>({1}, {5})});
  CHECK(out == Array::of<std::int32_t>({1, 1, 1}, {200 * -128 + 255 * 127 + 5}));
}

TEST_CASE("conv: type rule") {
  CHECK(
      inferred("conv", {{"strides", {2, 2}}, {"pads", {3, 3, 3, 3}}}, {"f32[N,3,224,W]", "f32[64,3,7,7]", "f32[64]"}) ==
      TensorType{DType::f32, {Extent::symbol("N"), 64, 112, floor_div(Extent::symbol("W") + Extent(1), 2)}, {}}.str());
  CHECK(find("conv").flops(Json::object(), ops::types({"f32[1,3,8,8]", "f32[4,3,3,3]"}),
                           ops::types({"f32[1,4,6,6]"})) == Extent(2 * 27 * 4 * 36));
  CHECK_THROWS_WITH(inferred("conv", Json::object(), {"f32[1,3,8,8]", "f32[4,5,3,3]"}),
                    Contains("x's channels") && Contains("3") && Contains("5"));
  CHECK_THROWS_WITH(inferred("conv", Json::object(), {"f32[1,3,2,8]", "f32[4,3,3,3]"}),
                    Contains("window of 3") && Contains("does not fit into 2"));
  CHECK_THROWS_WITH(inferred("conv", {{"group", 3}}, {"f32[1,6,8,8]", "f32[4,2,3,3]"}),
                    Contains("do not divide into 3 groups"));
  CHECK_THROWS_WITH(inferred("conv", {{"strides", {1}}}, {"f32[1,3,8,8]", "f32[4,3,3,3]"}),
                    Contains("strides has 1 values, expected 2"));
  CHECK_THROWS_WITH(inferred("conv", {{"pads", {0, 0, -1, 0}}}, {"f32[1,3,8,8]", "f32[4,3,3,3]"}),
                    Contains("must not be negative"));
  CHECK_THROWS_WITH(inferred("conv", Json::object(), {"f32[1,3,8,8]", "f32[4,3,3,3]", "f32[5]"}),
                    Contains("b's extent is 5, must be 4"));
  CHECK_THROWS_WITH(inferred("conv", Json::object(), {"f32[1,3,8,8]", "f16[4,3,3,3]"}), Contains("x is f32 and w f16"));
  CHECK_THROWS_WITH(inferred("conv", Json::object(), {"f32[1,3,8,8]"}), Contains("expected 2 to 3 operands"));
  CHECK_THROWS_WITH(inferred("conv", {{"stride", {1, 1}}}, {"f32[1,3,8,8]", "f32[4,3,3,3]"}), Contains("strides"));
}

TEST_CASE("conv_transpose: hand-computed windows") {
  const Array x = floats({1, 1, 2}, {1, 2});
  const Array w = floats({1, 1, 3}, {1, 10, 100});
  check_values(evaluate("conv_transpose", {{"strides", {2}}}, {x, w}), {1, 1, 5}, {1, 10, 102, 20, 200});
  check_values(evaluate("conv_transpose", {{"strides", {2}}, {"pads", {1, 0}}}, {x, w, floats({1}, {0.5F})}), {1, 1, 4},
               {10.5, 102.5, 20.5, 200.5});
  check_values(evaluate("conv_transpose", {{"strides", {2}}, {"output_padding", {1}}}, {x, w}), {1, 1, 6},
               {1, 10, 102, 20, 200, 0});
  check_values(evaluate("conv_transpose", {{"dilations", {2}}}, {x, w}), {1, 1, 6}, {1, 2, 10, 20, 100, 200});
  // Two groups of one input and two output channels each.
  check_values(
      evaluate("conv_transpose", {{"group", 2}}, {floats({1, 2, 1}, {1, 2}), floats({2, 2, 1}, {1, 10, 100, 1000})}),
      {1, 4, 1}, {1, 10, 200, 2000});
  CHECK(inferred("conv_transpose", {{"strides", {2, 2}}}, {"f32[1,24,H,W]", "f32[24,24,2,2]"}) == "f32[1,24,2*H,2*W]");
  CHECK_THROWS_WITH(inferred("conv_transpose", {{"output_padding", {1, 0}}}, {"f32[1,2,3,3]", "f32[2,2,2,2]"}),
                    Contains("output_padding 1"));
  CHECK_THROWS_WITH(inferred("conv_transpose", Json::object(), {"f32[1,2,3,3]", "f32[3,2,2,2]"}),
                    Contains("x's channels"));
  CHECK_THROWS_WITH(inferred("conv_transpose", {{"pads", {2, 2, 2, 2}}}, {"f32[1,2,1,1]", "f32[2,2,2,2]"}),
                    Contains("leave nothing"));
}

TEST_CASE("max_pool: hand-computed windows") {
  const Array five = floats({1, 1, 5}, {1, 2, 3, 4, 5});
  check_values(evaluate("max_pool", {{"kernel_shape", {2}}, {"strides", {2}}}, {five}), {1, 1, 2}, {2, 4});
  check_values(evaluate("max_pool", {{"kernel_shape", {2}}, {"strides", {2}}, {"ceil_mode", true}}, {five}), {1, 1, 3},
               {2, 4, 5});
  check_values(evaluate("max_pool", {{"kernel_shape", {2}}, {"dilations", {3}}}, {five}), {1, 1, 2}, {4, 5});
  check_values(evaluate("max_pool", {{"kernel_shape", {3}}, {"pads", {1, 1}}}, {floats({1, 1, 3}, {-5, -3, -4})}),
               {1, 1, 3}, {-3, -3, -3});
  // A window that would start behind the last element does not count.
  check_values(evaluate("max_pool", {{"kernel_shape", {1, 1}}, {"strides", {2, 2}}, {"ceil_mode", true}},
                        {floats({1, 1, 2, 2}, {1, 2, 3, 4})}),
               {1, 1, 1, 1}, {1});
  CHECK_THROWS_WITH(inferred("max_pool", {{"kernel_shape", {2}}}, {"f32[1,3,8,8]"}),
                    Contains("kernel_shape has 1 values, expected 2"));
  CHECK_THROWS_WITH(inferred("max_pool", {{"kernel_shape", {2}}, {"pads", {2, 0}}}, {"f32[1,3,8]"}),
                    Contains("pads 2 and 0"));
}

TEST_CASE("average_pool: what counts") {
  const Array x = floats({1, 1, 4}, {1, 2, 3, 4});
  check_values(evaluate("average_pool", {{"kernel_shape", {3}}, {"pads", {1, 1}}}, {x}), {1, 1, 4}, {1.5, 2, 3, 3.5});
  check_values(evaluate("average_pool", {{"kernel_shape", {3}}, {"pads", {1, 1}}, {"count_include_pad", true}}, {x}),
               {1, 1, 4}, {1, 2, 3, 7.0 / 3});
  // What a window reaches beyond the pads never counts.
  check_values(
      evaluate("average_pool",
               {{"kernel_shape", {3}}, {"strides", {2}}, {"ceil_mode", true}, {"count_include_pad", true}}, {x}),
      {1, 1, 2}, {2, 3.5});
  CHECK_THROWS_WITH(inferred("average_pool", {{"kernel_shape", {3}}}, {"i32[1,3,8]"}), Contains("expected a float"));
}

TEST_CASE("matmul: products, transposes, batches and c") {
  const Array a = floats({2, 3}, {1, 2, 3, 4, 5, 6});
  const Array b = floats({3, 2}, {1, 0, 10, 1, 100, 2});
  check_values(evaluate("matmul", Json::object(), {a, b}), {2, 2}, {321, 8, 654, 17});
  check_values(evaluate("matmul", Json::object(), {a, b, floats({2}, {1000, 2000})}), {2, 2}, {1321, 2008, 1654, 2017});
  check_values(evaluate("matmul", Json::object(), {a, b, floats({2, 1}, {1000, 2000})}), {2, 2},
               {1321, 1008, 2654, 2017});
  const Array a_t = floats({3, 2}, {1, 4, 2, 5, 3, 6});
  const Array b_t = floats({2, 3}, {1, 10, 100, 0, 1, 2});
  check_values(evaluate("matmul", {{"transpose_a", true}, {"transpose_b", true}}, {a_t, b_t}), {2, 2},
               {321, 8, 654, 17});
  // Two batches of rows against one matrix, and one row against two matrices.
  check_values(evaluate("matmul", Json::object(), {floats({2, 1, 2}, {1, 2, 3, 4}), floats({2, 1}, {10, 100})}),
               {2, 1, 1}, {210, 430});
  check_values(evaluate("matmul", Json::object(), {floats({1, 2}, {1, 2}), floats({2, 2, 1}, {10, 100, 20, 200})}),
               {2, 1, 1}, {210, 420});
  const std::int64_t big = (std::int64_t{1} << 53) + 1;  // no double
  CHECK(evaluate("matmul", Json::object(),
                 {Array::of<std::int64_t>({1, 1}, {big}), Array::of<std::int64_t>({1, 1}, {3})}) ==
        Array::of<std::int64_t>({1, 1}, {3 * big}));

  CHECK(inferred("matmul", Json::object(), {"f32[N,1,S,64]", "f32[12,64,S]"}) == "f32[N,12,S,S]");
  CHECK_THROWS_WITH(inferred("matmul", Json::object(), {"f32[2,3]", "f32[4,5]"}),
                    Contains("b's inner extent") && Contains("is 4, must be 3"));
  CHECK_THROWS_WITH(inferred("matmul", Json::object(), {"f32[2,3]", "f32[3,5]", "f32[4]"}),
                    Contains("do not broadcast"));
  CHECK_THROWS_WITH(inferred("matmul", Json::object(), {"f32[3]", "f32[3,5]"}), Contains("a has rank 1"));
  CHECK_THROWS_WITH(inferred("matmul", Json::object(), {"f32[2,3]", "i32[3,5]"}), Contains("a is f32 and b i32"));
}

TEST_CASE("normalisations: hand-computed values") {
  check_values(evaluate("lrn", {{"size", 3}, {"alpha", 3.0}, {"beta", 1.0}}, {floats({1, 3, 1}, {1, 2, 3})}), {1, 3, 1},
               {1.0 / 6, 2.0 / 15, 3.0 / 14});
  // An even size reaches further behind than before.
  check_values(
      evaluate("lrn", {{"size", 2}, {"alpha", 2.0}, {"beta", 1.0}, {"bias", 0.0}}, {floats({1, 2, 1}, {1, 2})}),
      {1, 2, 1}, {0.2, 0.5});
  check_values(evaluate("batch_norm", {{"epsilon", 1.0}},
                        {floats({1, 2, 1}, {3, 5}), floats({2}, {5, 1}), floats({2}, {7, 0}), floats({2}, {1, 1}),
                         floats({2}, {3, 15})}),
               {1, 2, 1}, {12, 1});
  const Array x = floats({2, 2}, {1, 3, 10, 14});
  check_values(evaluate("layer_norm", {{"epsilon", 0.0}}, {x, floats({2}, {2, 3}), floats({2}, {10, 20})}), {2, 2},
               {8, 23, 8, 23});
  check_values(evaluate("layer_norm", {{"epsilon", 0.0}, {"axis", 0}}, {floats({2, 1}, {1, 3}), floats({1}, {2})}),
               {2, 1}, {-2, 2});
  CHECK_THROWS_WITH(inferred("batch_norm", Json::object(), {"f32[1,3,4]", "f32[3]", "f32[4]", "f32[3]", "f32[3]"}),
                    Contains("b's extent") && Contains("is 4, must be 3"));
  CHECK_THROWS_WITH(inferred("layer_norm", {{"axis", 2}}, {"f32[2,3]", "f32[3]"}),
                    Contains("axis 2 is outside a tensor of rank 2"));
  CHECK_THROWS_WITH(inferred("layer_norm", Json::object(), {"f32[2,3]", "f32[4]"}), Contains("do not broadcast"));
}

TEST_CASE("softmax: shares of the sum") {
  const float ln3 = std::log(3.0F);
  check_values(evaluate("softmax", Json::object(), {floats({1, 2}, {0, ln3})}), {1, 2}, {0.25, 0.75});
  check_values(evaluate("softmax", {{"axis", 0}}, {floats({2, 2}, {0, 5, ln3, 5})}), {2, 2}, {0.25, 0.5, 0.75, 0.5});
  check_values(evaluate("softmax", {{"log", true}}, {floats({2}, {0, ln3})}), {2}, {std::log(0.25), std::log(0.75)});
  const float infinity = std::numeric_limits<float>::infinity();
  check_values(evaluate("softmax", Json::object(), {floats({3}, {1000, 1000, -infinity})}), {3}, {0.5, 0.5, 0});
  const Array masked = evaluate("softmax", Json::object(), {floats({2}, {-infinity, -infinity})});
  CHECK(std::isnan(masked.at(0)));
  CHECK_THROWS_WITH(inferred("softmax", {{"axis", 2}}, {"f32[2,3]"}), Contains("axis 2 is outside"));
}

TEST_CASE("reductions: one row a function") {
  const Array x = floats({2, 3}, {1, -2, 3, 4, 5, -6});
  const auto along_rows = [&](const char* name, const std::vector<double>& want) {
    INFO(name);
    check_values(evaluate(name, {{"axes", {1}}}, {x}), {2, 1}, want);
    check_values(evaluate(name, {{"axes", {-1}}, {"keepdims", false}}, {x}), {2}, want);
  };
  along_rows("reduce_sum", {2, 3});
  along_rows("reduce_mean", {2.0 / 3, 1});
  along_rows("reduce_max", {3, 5});
  along_rows("reduce_min", {-2, -6});
  along_rows("reduce_prod", {-6, -120});
  along_rows("reduce_l1", {6, 15});
  along_rows("reduce_l2", {std::sqrt(14.0), std::sqrt(77.0)});
  along_rows("reduce_sum_square", {14, 77});
  along_rows("reduce_log_sum", {std::log(2.0), std::log(3.0)});
  along_rows("reduce_log_sum_exp", {std::log(std::exp(1.0) + std::exp(-2.0) + std::exp(3.0)),
                                    std::log(std::exp(4.0) + std::exp(5.0) + std::exp(-6.0))});

  check_values(evaluate("reduce_sum", {{"axes", {0}}}, {x}), {1, 3}, {5, 3, -3});
  check_values(evaluate("reduce_sum", {{"keepdims", false}}, {x}), {}, {5});
  check_values(evaluate("reduce_sum", Json::object(), {floats({}, {7})}), {}, {7});
  check_values(evaluate("reduce_log_sum_exp", Json::object(), {floats({2}, {1000, 1000})}), {1},
               {1000 + std::log(2.0)});
  const auto integers = Array::of<std::int32_t>({2}, {-3, -2});
  CHECK(evaluate("reduce_mean", Json::object(), {integers}) == Array::of<std::int32_t>({1}, {-2}));
  CHECK(evaluate("reduce_sum", Json::object(),
                 {Array::of<std::int32_t>({2}, {std::numeric_limits<std::int32_t>::max(), 1})}) ==
        Array::of<std::int32_t>({1}, {std::numeric_limits<std::int32_t>::min()}));
  const std::int64_t big = std::int64_t{1} << 53;  // big + 1 is no double
  CHECK(evaluate("reduce_max", Json::object(), {Array::of<std::int64_t>({2}, {big + 1, big})}) ==
        Array::of<std::int64_t>({1}, {big + 1}));

  CHECK(inferred("reduce_mean", {{"axes", {2, 3}}, {"keepdims", false}}, {"f32[N,C,H,W]"}) == "f32[N,C]");
  CHECK(find("reduce_mean").dimensions({{"axes", {1}}, {"keepdims", false}}, ops::types({"f32[2,3,4]"})) ==
        std::vector<std::string>{"c", "x"});
  CHECK_THROWS_WITH(inferred("reduce_sum", {{"axes", {0, -2}}}, {"f32[2,3]"}), Contains("name dimension 0 twice"));
  CHECK_THROWS_WITH(inferred("reduce_sum", {{"axes", {2}}}, {"f32[2,3]"}), Contains("axes 2 is outside"));
  CHECK_THROWS_WITH(inferred("reduce_l2", Json::object(), {"i32[2,3]"}), Contains("x is i32"));
}

TEST_CASE("resize: hand-computed values") {
  const auto resized = [](const Json& attributes, const std::vector<float>& x, const std::vector<double>& want) {
    INFO(attributes.dump());
    check_values(evaluate("resize", attributes, {floats({static_cast<std::int64_t>(x.size())}, x)}),
                 {static_cast<std::int64_t>(want.size())}, want);
  };
  resized({{"scales", {2}}, {"coordinate_transformation_mode", "asymmetric"}, {"nearest_mode", "floor"}}, {1, 2},
          {1, 1, 2, 2});
  // Output 1 lies on 0.5: the tie goes down, then up.
  resized({{"scales", {2}}, {"coordinate_transformation_mode", "asymmetric"}}, {1, 2}, {1, 1, 2, 2});
  resized({{"scales", {2}}, {"coordinate_transformation_mode", "asymmetric"}, {"nearest_mode", "round_prefer_ceil"}},
          {1, 2}, {1, 2, 2, 2});
  resized({{"scales", {2}}, {"coordinate_transformation_mode", "asymmetric"}, {"nearest_mode", "ceil"}}, {1, 2, 3},
          {1, 2, 2, 3, 3, 3});
  resized({{"scales", {2}}, {"mode", "linear"}}, {1, 2}, {1, 1.25, 1.75, 2});
  resized({{"scales", {2}}, {"mode", "linear"}, {"coordinate_transformation_mode", "asymmetric"}}, {1, 2},
          {1, 1.5, 2, 2});
  resized({{"sizes", {"3"}}, {"mode", "linear"}, {"coordinate_transformation_mode", "align_corners"}}, {1, 2},
          {1, 1.5, 2});
  resized({{"sizes", {"1"}}, {"mode", "linear"}, {"coordinate_transformation_mode", "align_corners"}}, {1, 2}, {1});
  resized({{"sizes", {"1"}}, {"mode", "linear"}}, {1, 2}, {1.5});
  resized({{"sizes", {"1"}}, {"mode", "linear"}, {"coordinate_transformation_mode", "pytorch_half_pixel"}}, {1, 2},
          {1});
  // Half of the tensor, and beyond its end the extrapolation value.
  resized({{"sizes", {"3"}},
           {"mode", "linear"},
           {"coordinate_transformation_mode", "tf_crop_and_resize"},
           {"roi", {0.5, 1.5}},
           {"extrapolation_value", -1}},
          {0, 1, 2, 3, 4}, {2, 4, -1});
  // The kernel for a = -0.75 at distances 1/4, 3/4, 5/4 and 7/4, times 128: 112.5, 33.5, -13.5, -4.5.
  resized({{"scales", {2}}, {"mode", "cubic"}}, {0, 0, 128, 0, 0},
          {0, -4.5, -13.5, 33.5, 112.5, 112.5, 33.5, -13.5, -4.5, 0});

  CHECK(inferred("resize", {{"scales", {1, 1, 2, 1.5}}}, {"f32[1,3,H,W]"}) == "f32[1,3,2*H,div(3*W, 2)]");
  CHECK(inferred("resize", {{"sizes", {"1", "3", "2*H", "W + 1"}}}, {"f32[1,3,H,W]"}) == "f32[1,3,2*H,W + 1]");
  CHECK(inferred("resize", {{"scales", {0.699999988079071}}}, {"f32[10]"}) == "f32[7]");
  CHECK_THROWS_WITH(inferred("resize", {{"scales", {2}}}, {"f32[1,3,4]"}), Contains("scales has 1 values, expected 3"));
  CHECK_THROWS_WITH(inferred("resize", {{"scales", {0.3333}}}, {"f32[W]"}), Contains("symbolic"));
  CHECK_THROWS_WITH(inferred("resize", Json::object(), {"f32[4]"}), Contains("either scales or sizes"));
  CHECK_THROWS_WITH(inferred("resize", {{"scales", {0.1}}}, {"f32[4]"}), Contains("would become 0"));
  CHECK_THROWS_WITH(inferred("resize", {{"scales", {2}}, {"mode", "linaer"}}, {"f32[4]"}), Contains("linear"));
}

TEST_CASE("operands that are packed name their memory order") {
  const auto conv = find("conv").operands(Json::object(), ops::types({"f32[1,3,8,8]", "f32[4,3,3,3]", "f32[4]"}));
  CHECK(conv[1].dimensions == std::vector<std::string>{"co", "ci", "ky", "kx"});
  CHECK(conv[1].packing_order == std::vector<std::string>{"ci", "kx", "ky", "co"});
  CHECK(conv[1].constant);
  CHECK_FALSE(conv[0].constant);
  const auto dense = find("matmul").operands({{"transpose_b", true}}, ops::types({"f32[2,8,16]", "f32[4,16]"}));
  CHECK(dense[1].dimensions == std::vector<std::string>{"n", "k"});
  CHECK(dense[1].packing_order == std::vector<std::string>{"k", "n"});
  // A batch of right-hand sides is another operator's result, as in attention.
  CHECK_FALSE(find("matmul").operands(Json::object(), ops::types({"f32[2,8,16]", "f32[2,16,8]"}))[1].constant);
}
