#include <algorithm>

#include "graph/arrays.hpp"
#include "graph/passes/passes.hpp"
#include "graph/passes/rewrite.hpp"
#include "ops/rules.hpp"

// Weights of few bits stay so in memory: what multiplies with them unpacks them as it reads.
namespace heddle::graph {
namespace {

/// A matrix by columns, whose blocks along k have a scale and a zero point each. Numbers and zero points are unsigned.
struct BlockWeights {
  Array numbers;       ///< [n, blocks, block]
  Array scale, zeros;  ///< [n, blocks]

  std::int64_t block() const { return numbers.shape()[2]; }
};

/// Signed bytes as unsigned ones, the least of each the same.
Array as_unsigned(const Array& bytes) {
  if (bytes.dtype() == DType::u8) return bytes;
  Array result(DType::u8, bytes.shape());
  std::ranges::transform(bytes.as<std::int8_t>(), result.as<std::uint8_t>().begin(),
                         [](std::int8_t v) { return static_cast<std::uint8_t>(v + 128); });
  return result;
}

/// The matrix product's right side, read through what the importer makes of DequantizeLinear with a block_size, and
/// through a transpose.
std::optional<BlockWeights> block_weights(const Rewriter& r, int id, bool by_columns) {
  if (const Node* transpose = r.producer(id, "transpose")) {
    if (r.type(id).rank() != 2) return std::nullopt;
    by_columns = !by_columns;
    id = transpose->inputs[0];
  }
  const Node* joined = r.producer(id, "reshape");
  const Node* node = joined == nullptr ? nullptr : r.producer(joined->inputs[0], "dequantize");
  if (node == nullptr || r.type(id).rank() != 2) return std::nullopt;
  const auto &x = r.constant(node->inputs[0]), &scale = r.constant(node->inputs[1]);
  if (!x || !scale || !ops::is_byte(x->dtype()) || scale->dtype() != DType::f32 || x->shape().size() != 3)
    return std::nullopt;
  const auto columns_first = [&](const Array& array) { return by_columns ? array : transposed(array, {2, 0, 1}); };
  BlockWeights w{columns_first(*x), {}, {}};
  const Shape& shape = w.numbers.shape();
  const Shape each = {shape[0], shape[1]};
  const Shape expected = by_columns ? Shape{shape[0], shape[1], 1} : Shape{shape[1], 1, shape[0]};
  if (scale->shape() != expected || !(r.type(id).shape[by_columns ? 0 : 1] == Extent(shape[0]))) return std::nullopt;
  Array zero(x->dtype(), expected);
  if (node->inputs.size() > 2) {
    const auto& known = r.constant(node->inputs[2]);
    if (!known || known->shape() != expected) return std::nullopt;
    zero = *known;
  }
  w.numbers = as_unsigned(w.numbers);
  w.scale = columns_first(*scale).reshaped(each);
  w.zeros = as_unsigned(columns_first(zero)).reshaped(each);
  return w;
}

/// Whether 4 bits hold the numbers and their zero points, less the same for all. They came as bytes.
bool make_four_bits(BlockWeights& w) {
  constexpr int most = 15;
  const auto numbers = std::as_const(w.numbers).as<std::uint8_t>();
  const auto zeros = w.zeros.as<std::uint8_t>();
  // Unsigned numbers begin at 0, signed ones 8 below their middle.
  for (const int least : {0, 128 - 8}) {
    const auto fits = [&](std::uint8_t v) { return v >= least && v <= least + most; };
    if (!std::ranges::all_of(zeros, fits) || !std::ranges::all_of(numbers, fits)) continue;
    for (std::uint8_t& v : zeros) v = static_cast<std::uint8_t>(v - least);
    Array packed(DType::u8, {w.numbers.shape()[0], w.numbers.shape()[1], w.block() / 2});
    const auto to = packed.as<std::uint8_t>();
    for (std::size_t i = 0; i < to.size(); ++i)
      to[i] = static_cast<std::uint8_t>((numbers[2 * i] - least) | (numbers[2 * i + 1] - least) << 4);
    w.numbers = packed;
    return true;
  }
  return false;
}

Result block_product(const Site& s) {
  if (!s.is("matmul") || s.in.size() != 2 || s.out().dtype != DType::f32 || s.attribute("transpose_a").get<bool>())
    return std::nullopt;
  auto w = block_weights(s.r, s.in[1], s.attribute("transpose_b").get<bool>());
  constexpr std::int64_t least_block = 16, in_word = 8;
  if (!w || w->block() < least_block || w->block() % in_word != 0) return std::nullopt;
  const std::int64_t block = w->block();
  const int bits = make_four_bits(*w) ? 4 : 8;
  std::vector<int> inputs = {s.in[0], s.constant(w->numbers, "~weights"), s.constant(w->scale, "~scale")};
  const auto is_middle = [&](std::uint8_t v) { return v == 1 << (bits - 1); };
  if (!std::ranges::all_of(w->zeros.as<std::uint8_t>(), is_middle)) inputs.push_back(s.constant(w->zeros, "~zero"));
  return s.add("matmul_blocks", {{"bits", bits}, {"block_size", block}}, inputs);
}

}  // namespace

/// Before: matmul(a, b), b = dequantize(integers, scales of blocks along k), all known, perhaps transposed. After:
/// matmul_blocks(a, the integers in 4 bits each if they fit, or 8, the scales).
Graph fold_block_weights(const Graph& graph) {
  const Operators operators;
  return rewrite_nodes(
      graph, [&](Rewriter& r, const Node& node) { return block_product({r, operators, node, r.operands(node)}); });
}

}  // namespace heddle::graph
