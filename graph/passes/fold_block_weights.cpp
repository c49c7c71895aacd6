#include <algorithm>

#include "graph/passes/passes.hpp"
#include "graph/passes/rewrite.hpp"
#include "ops/rules.hpp"

// Weights of few bits stay so in memory: what multiplies with them unpacks them as it reads.
namespace heddle::graph {
namespace {

/// A matrix of integers whose blocks along k have a scale and a zero point each; by columns: [n, blocks, block].
struct BlockWeights {
  std::int64_t columns = 0, blocks = 0, block = 0;
  std::vector<int> numbers;  ///< as they are stored, signed or not
  std::vector<int> zeros;    ///< [n, blocks]
  Array scale;               ///< [n, blocks]

  std::int64_t depth() const { return blocks * block; }
};

/// Element [n, kb, k] of arrays that lie [kb, k, n] or, by columns, [n, kb, k]; k is 0 where it has extent 1.
template <class F>
void for_each_weight(const Array& array, bool by_columns, F f) {
  const Shape& shape = array.shape();
  for (std::int64_t i = 0; i < array.size(); ++i) {
    const std::int64_t inner = i % shape[2], middle = i / shape[2] % shape[1], outer = i / shape[2] / shape[1];
    if (by_columns) f(outer, middle, inner, i);
    else f(inner, outer, middle, i);
  }
}

/// The matrix product's right side, read through what the importer makes of DequantizeLinear with a block_size, and a
/// transpose.
std::optional<BlockWeights> block_weights(const Rewriter& r, int id, bool by_columns) {
  if (const Node* transpose = r.producer(id, "transpose")) {
    if (r.type(id).rank() != 2) return std::nullopt;
    by_columns = !by_columns;
    id = transpose->inputs[0];
  }
  const Node* joined = r.producer(id, "reshape");
  if (joined == nullptr || r.type(id).rank() != 2) return std::nullopt;
  const Node* node = r.producer(joined->inputs[0], "dequantize");
  if (node == nullptr) return std::nullopt;
  const auto &x = r.constant(node->inputs[0]), &scale = r.constant(node->inputs[1]);
  if (!x || !scale || !ops::is_byte(x->dtype()) || scale->dtype() != DType::f32 || x->shape().size() != 3)
    return std::nullopt;
  BlockWeights w;
  const Shape& shape = x->shape();
  w.columns = shape[by_columns ? 0 : 2];
  w.blocks = shape[by_columns ? 1 : 0];
  w.block = shape[by_columns ? 2 : 1];
  const Shape expected = by_columns ? Shape{w.columns, w.blocks, 1} : Shape{w.blocks, 1, w.columns};
  const Shape matrix = by_columns ? Shape{w.columns, w.depth()} : Shape{w.depth(), w.columns};
  for (std::size_t d = 0; d < 2; ++d)
    if (!(r.type(id).shape[d] == Extent(matrix[d]))) return std::nullopt;
  if (scale->shape() != expected) return std::nullopt;
  w.numbers.resize(static_cast<std::size_t>(x->size()));
  for_each_weight(*x, by_columns, [&](std::int64_t n, std::int64_t kb, std::int64_t k, std::int64_t from) {
    w.numbers[static_cast<std::size_t>((n * w.blocks + kb) * w.block + k)] = static_cast<int>(x->at(from));
  });
  w.scale = Array(DType::f32, {w.columns, w.blocks});
  w.zeros.assign(static_cast<std::size_t>(scale->size()), 0);
  for_each_weight(*scale, by_columns, [&](std::int64_t n, std::int64_t kb, std::int64_t, std::int64_t from) {
    w.scale.set(n * w.blocks + kb, scale->at(from));
  });
  if (node->inputs.size() < 3) return w;
  const auto& zero = r.constant(node->inputs[2]);
  if (!zero || zero->shape() != expected) return std::nullopt;
  for_each_weight(*zero, by_columns, [&](std::int64_t n, std::int64_t kb, std::int64_t, std::int64_t from) {
    w.zeros[static_cast<std::size_t>(n * w.blocks + kb)] = static_cast<int>(zero->at(from));
  });
  return w;
}

/// Shifts numbers and zero points into what so many bits hold; false where they do not all fit.
bool shift_into(BlockWeights& w, int bits) {
  const int most = (1 << bits) - 1;
  for (const int shift : {0, 1 << (bits - 1)}) {
    const auto fits = [&](int v) { return v + shift >= 0 && v + shift <= most; };
    if (!std::ranges::all_of(w.numbers, fits) || !std::ranges::all_of(w.zeros, fits)) continue;
    for (auto* all : {&w.numbers, &w.zeros})
      for (int& v : *all) v += shift;
    return true;
  }
  return false;
}

Array bytes(const Shape& shape, const std::vector<int>& values, int bits) {
  Array array(DType::u8, shape);
  const auto to = array.as<std::uint8_t>();
  const std::size_t in_byte = static_cast<std::size_t>(8 / bits);
  for (std::size_t i = 0; i < values.size(); ++i)
    to[i / in_byte] =
        static_cast<std::uint8_t>(to[i / in_byte] | values[i] << i % in_byte * static_cast<std::size_t>(bits));
  return array;
}

Result block_product(const Site& s) {
  if (!s.is("matmul") || s.in.size() != 2 || s.out().dtype != DType::f32 || s.attribute("transpose_a").get<bool>())
    return std::nullopt;
  auto w = block_weights(s.r, s.in[1], s.attribute("transpose_b").get<bool>());
  constexpr std::int64_t least_block = 16;
  if (!w || w->block < least_block) return std::nullopt;
  // Numbers of 4 bits came as bytes. Blocks are whole words.
  const int bits = w->block % 8 == 0 && shift_into(*w, 4) ? 4 : w->block % 4 == 0 && shift_into(*w, 8) ? 8 : 0;
  if (bits == 0) return std::nullopt;
  const bool is_middle = std::ranges::all_of(w->zeros, [&](int v) { return v == 1 << (bits - 1); });
  std::vector<int> inputs = {
      s.in[0], s.constant(bytes({w->columns, w->blocks, w->block * bits / 8}, w->numbers, bits), "~weights"),
      s.constant(w->scale, "~scale")};
  if (!is_middle) inputs.push_back(s.constant(bytes({w->columns, w->blocks}, w->zeros, 8), "~zero"));
  return s.add("matmul_blocks", {{"bits", bits}, {"block_size", w->block}}, inputs);
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
