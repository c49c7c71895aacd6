#include <catch2/catch.hpp>

#include "graph/passes/passes.hpp"
#include "tests/graph/model_builder.hpp"
#include "tests/graph/pass_check.hpp"

using namespace heddle;
using namespace heddle::graph;

namespace {

/// Sums of 64 products, in f32 in another order.
constexpr double rounding = 1e-5;

using Names = std::vector<std::string>;

/// Numbers from `low` to `high`, both among them.
Array integers(DType type, const Shape& shape, int low, int high) {
  Array array(type, shape);
  for (std::int64_t i = 0; i < array.size(); ++i) array.set(i, low + static_cast<int>(i * 37 % (high - low + 1)));
  return array;
}

/// As the importer reads blocks: integers [4, 16, 6] or, by columns, [6, 4, 16], then the matrix.
struct Blocks : ModelBuilder {
  int weights(DType type, int low, int high, bool by_columns, bool has_zero, int block = 16) {
    const std::int64_t blocks = 64 / block;
    const Shape numbers = by_columns ? Shape{6, blocks, block} : Shape{blocks, block, 6};
    const Shape each = by_columns ? Shape{6, blocks, 1} : Shape{blocks, 1, 6};
    std::uint32_t state = 5;
    std::vector<int> inputs = {constant(integers(type, numbers, low, high)),
                               constant(random_array(DType::f32, each, state))};
    if (has_zero) inputs.push_back(constant(integers(type, each, low, high)));
    return op("reshape", {op("dequantize", inputs)}, {{"shape", by_columns ? Json{6, 64} : Json{64, 6}}});
  }
  Graph product(int b, const Json& attributes = Json::object()) {
    output(op("matmul", {input("a", "f32[3,64]"), b}, attributes), "y");
    return checked(graph, fold_block_weights, {}, rounding);
  }
};

}  // namespace

TEST_CASE("products with weights in blocks read them as they are", "[passes]") {
  const bool by_columns = GENERATE(false, true), has_zero = GENERATE(false, true);
  const auto [type, low, high, bits] = GENERATE(table<DType, int, int, int>({{DType::u8, 0, 15, 4},
                                                                             {DType::i8, -8, 7, 4},
                                                                             {DType::u8, 0, 16, 8},
                                                                             {DType::u8, 0, 255, 8},
                                                                             {DType::i8, -128, 127, 8}}));
  Blocks m;
  const int b = m.weights(type, low, high, by_columns, has_zero);
  const Graph result = m.product(b, {{"transpose_b", by_columns}});
  REQUIRE(operator_names(result) == Names{"matmul_blocks"});
  CHECK(result.nodes[0].attributes.at("bits") == bits);
  CHECK(result.value(result.nodes[0].inputs[1]).type.str() == (bits == 4 ? "u8[6,4,8]" : "u8[6,4,16]"));
  // Signed numbers without a zero point have it in the middle of unsigned ones.
  CHECK(result.nodes[0].inputs.size() == (has_zero || type == DType::u8 ? 4 : 3));
}

TEST_CASE("weights in blocks are read through a transpose", "[passes]") {
  Blocks m;
  const int b = m.op("transpose", {m.weights(DType::i8, -8, 7, true, false)}, {{"perm", {1, 0}}});
  CHECK(operator_names(m.product(b)) == Names{"matmul_blocks"});
}

TEST_CASE("weights that are no blocks of whole words stay", "[passes]") {
  Blocks small;
  CHECK(operator_names(small.product(small.weights(DType::i8, -8, 7, false, false, 8))) ==
        Names{"dequantize", "reshape", "matmul"});
  Blocks transposed;
  const int b = transposed.weights(DType::i8, -8, 7, false, false);
  transposed.output(transposed.op("matmul", {transposed.input("a", "f32[64,3]"), b}, {{"transpose_a", true}}), "y");
  CHECK(operator_names(checked(transposed.graph, fold_block_weights, {}, rounding)) ==
        Names{"dequantize", "reshape", "matmul"});
}
