#include <array>
#include <cstring>

#include <fmt/format.h>

#include "base/error.hpp"
#include "graph/onnx/conversions.hpp"
#include "graph/onnx/importer.hpp"
#include "graph/onnx/quantization.hpp"
#include "graph/onnx/tensors.hpp"

namespace heddle::graph::onnx_import {
namespace {

bool is_one_element(const TensorType& type) { return type.element_count() == Extent(1); }

const std::optional<Array>& constant_of(OnnxNode& n, int value) { return n.importer().graph().value(value).constant; }

int reshaped(OnnxNode& n, int value, const std::vector<Extent>& shape) {
  if (n.type_of(value).shape == shape) return value;
  if (const auto& constant = constant_of(n, value)) {
    Shape fixed;
    for (const Extent& extent : shape) fixed.push_back(extent.value());
    return n.add_constant(constant->reshaped(fixed));
  }
  return n.op("reshape", {{"shape", n.shape_attribute(shape)}}, {value});
}

/// Every element `times` times along an axis, the last ones only as far as `extent` goes.
Array repeated(const Array& array, std::size_t axis, std::int64_t times, std::int64_t extent) {
  Shape shape = array.shape();
  std::int64_t outer = 1, inner = static_cast<std::int64_t>(size_of(array.dtype()));
  for (std::size_t d = 0; d < axis; ++d) outer *= shape[d];
  for (std::size_t d = axis + 1; d < shape.size(); ++d) inner *= shape[d];
  const std::int64_t blocks = shape[axis];
  shape[axis] = extent;
  Array result(array.dtype(), shape);
  const auto* from = static_cast<const std::byte*>(array.data());
  auto* to = static_cast<std::byte*>(result.mutable_data());
  for (std::int64_t o = 0; o < outer; ++o)
    for (std::int64_t i = 0; i < extent; ++i)
      std::memcpy(to + (o * extent + i) * inner, from + (o * blocks + i / times) * inner,
                  static_cast<std::size_t>(inner));
  return result;
}

void require_blocks(const OnnxNode& n, const TensorType& parameters, std::size_t axis, std::int64_t block,
                    const TensorType& x) {
  if (parameters.rank() != x.rank())
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("with blocks, scale and zero point have the rank of x ({}), not {}", x.str(), parameters.str()));
  n.require_equal(parameters.shape[axis], ceil_div(x.shape[axis], block),
                  fmt::format("blocks of {} along axis {}", block, axis));
}

/// A scale or zero point of blocks as one for every element.
int spread(OnnxNode& n, int value, std::size_t axis, std::int64_t block, const TensorType& x) {
  const TensorType type = n.type_of(value);
  require_blocks(n, type, axis, block, x);
  const auto& constant = constant_of(n, value);
  if (constant && x.shape[axis].is_constant())
    return n.add_constant(repeated(*constant, axis, block, x.shape[axis].value()));
  std::vector<Extent> apart = type.shape, wide = type.shape;
  apart.insert(apart.begin() + static_cast<std::ptrdiff_t>(axis) + 1, Extent(1));
  std::vector<Extent> repeated_shape = apart;
  repeated_shape[axis + 1] = block;
  wide[axis] = wide[axis] * Extent(block);
  const int expanded = n.op("expand", {{"shape", n.shape_attribute(repeated_shape)}}, {reshaped(n, value, apart)});
  const int joined = reshaped(n, expanded, wide);
  if (wide[axis] == x.shape[axis]) return joined;
  return n.op("slice",
              {{"starts", n.shape_attribute({0})},
               {"ends", n.shape_attribute({x.shape[axis]})},
               {"axes", {static_cast<std::int64_t>(axis)}},
               {"steps", {1}}},
              {joined});
}

/// A scale or zero point so that it broadcasts to x.
int aligned(OnnxNode& n, int value, const Quantization& q, const TensorType& x) {
  const TensorType type = n.type_of(value);
  if (q.block < 0) throw Error(ErrorCode::invalid_argument, fmt::format("block_size {} must not be negative", q.block));
  if (q.block == 0 && is_one_element(type)) return reshaped(n, value, {});
  const auto axis = static_cast<std::size_t>(n.normal_axis(q.axis, x.rank()));
  if (q.block > 0) return spread(n, value, axis, q.block, x);
  if (type.rank() != 1) return value;  // a matrix's rows or columns, as the quantised products give them
  n.require_equal(type.shape[0], x.shape[axis],
                  fmt::format("scales or zero points along axis {} of {}", axis, x.str()));
  std::vector<Extent> shape(x.shape.size() - axis, Extent(1));
  shape[0] = type.shape[0];
  return reshaped(n, value, shape);
}

bool is_zero(const Array& array) {
  for (std::int64_t i = 0; i < array.size(); ++i)
    if (array.at(i) != 0) return false;
  return true;
}

/// {x, scale} or {x, scale, zero}: a zero point that is known to be 0 says nothing.
std::vector<int> operands(OnnxNode& n, int x, const Quantization& q, DType integers) {
  const TensorType type = n.type_of(x);
  std::vector<int> all = {x, aligned(n, q.scale, q, type)};
  if (!q.zero) return all;
  const TensorType &scale = n.type_of(q.scale), &zero = n.type_of(*q.zero);
  if (zero.dtype != integers)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("the zero point is {}, but it is a number among the {} that it shifts",
                            to_string(zero.dtype), to_string(integers)));
  if (scale.shape != zero.shape && !(is_one_element(scale) && is_one_element(zero)))
    throw Error(ErrorCode::invalid_argument,
                fmt::format("scale {} and zero point {} differ in shape", scale.str(), zero.str()));
  const auto& known = constant_of(n, *q.zero);
  if (!known || !is_zero(*known)) all.push_back(aligned(n, *q.zero, q, type));
  return all;
}

/// Integers whose blocks have a dimension of their own, along which scale and zero point are repeated.
struct Apart {
  int x;
  Quantization q;
};

/// Where whole blocks make up the axis. Nothing is repeated then, and passes see the blocks.
std::optional<Apart> blocks_apart(OnnxNode& n, int x, const Quantization& q) {
  const TensorType type = n.type_of(x);
  if (q.block <= 0) return std::nullopt;
  const auto axis = static_cast<std::size_t>(n.normal_axis(q.axis, type.rank()));
  if (!(mod(type.shape[axis], q.block) == Extent(0))) return std::nullopt;
  const auto with_block = [&](int value, std::int64_t extent) {
    std::vector<Extent> shape = n.type_of(value).shape;
    if (value == x) shape[axis] = floor_div(shape[axis], q.block);
    shape.insert(shape.begin() + static_cast<std::ptrdiff_t>(axis) + 1, Extent(extent));
    return reshaped(n, value, shape);
  };
  require_blocks(n, n.type_of(q.scale), axis, q.block, type);
  Apart apart{with_block(x, q.block), q};
  apart.q.block = 0;
  apart.q.scale = with_block(q.scale, 1);
  if (q.zero) {
    require_blocks(n, n.type_of(*q.zero), axis, q.block, type);
    apart.q.zero = with_block(*q.zero, 1);
  }
  return apart;
}

int cast_to(OnnxNode& n, int value, DType type) {
  if (n.type_of(value).dtype == type) return value;
  return n.op("cast", {{"to", std::string(to_string(type))}}, {value});
}

void convert_quantize(OnnxNode& n) {
  Quantization q = quantization(n, 1, 2, n.integer("axis", 1));
  q.block = n.integer("block_size", 0);
  const auto wanted = static_cast<int>(n.integer("output_dtype", 0));
  const DType type = q.zero ? n.type_of(*q.zero).dtype : wanted != 0 ? dtype_of(wanted) : DType::u8;
  if (wanted != 0 && dtype_of(wanted) != type)
    throw Error(ErrorCode::invalid_argument, fmt::format("output_dtype is {}, but the zero point is {}",
                                                         to_string(dtype_of(wanted)), to_string(type)));
  n.set_result(quantized(n, n.input(0), q, type));
}

void convert_dequantize(OnnxNode& n) {
  Quantization q = quantization(n, 1, 2, n.integer("axis", 1));
  q.block = n.integer("block_size", 0);
  const int result = dequantized(n, n.input(0), q);
  const auto wanted = static_cast<int>(n.integer("output_dtype", 0));
  n.set_result(wanted == 0 ? result : cast_to(n, result, dtype_of(wanted)));
}

/// Scale and zero point from the data's own range, which is taken to hold 0.
void convert_dynamic_quantize(OnnxNode& n) {
  const int x = n.input(0);
  const auto binary = [&](const char* op, int a, int b) { return n.op(op, Json::object(), {a, b}); };
  const auto number = [&](double value) { return n.add_scalar(DType::f32, value); };
  const Json all = {{"axes", Json::array()}, {"keepdims", false}};
  const int zero = number(0);
  const int low = binary("min", n.op("reduce_min", all, {x}), zero);
  const int high = binary("max", n.op("reduce_max", all, {x}), zero);
  const int range = binary("sub", high, low);
  // Zeros alone: any scale will do but 0.
  const int scale =
      n.op("where", Json::object(), {binary("equal", range, zero), number(1), binary("div", range, number(255))});
  const int shift = n.op("round", Json::object(), {binary("div", binary("sub", zero, low), scale)});
  const int zero_point = cast_to(n, n.op("clip", {{"min", 0.0}, {"max", 255.0}}, {shift}), DType::u8);
  n.set_result(0, n.op("quantize", {{"to", "u8"}}, {x, scale, zero_point}));
  n.set_result(1, scale);
  n.set_result(2, zero_point);
}

/// Scales of a's rows and of b's columns; of vectors there is one.
void convert_qlinear_matmul(OnnxNode& n) {
  const int a = dequantized(n, n.input(0), quantization(n, 1, 2, n.rank(0) < 2 ? 0 : -2));
  const int b = dequantized(n, n.input(3), quantization(n, 4, 5, -1));
  const int product = numpy_matmul(n, a, b);
  n.set_result(quantized(n, product, quantization(n, 6, 7, n.type_of(product).rank() < 2 ? 0 : -2)));
}

/// As 32-bit integers where the zero points are not known: the passes make bytes of constants that are.
void convert_matmul_integer(OnnxNode& n) {
  const auto zero = [&](int i) { return n.has_input(i) ? std::optional(n.input(i)) : std::nullopt; };
  const int a = n.input(0), b = n.input(1);
  const bool plain = !n.has_input(2) && !n.has_input(3);
  if (plain) return n.set_result(numpy_matmul(n, a, b));
  n.set_result(numpy_matmul(n, shifted(n, a, zero(2), n.rank(0) < 2 ? 0 : -2, DType::i32),
                            shifted(n, b, zero(3), -1, DType::i32)));
}

/// Zero points of columns and blocks, which lie packed as the weights do, each in a byte.
Array unpacked_zeros(const OnnxNode& n, const Array& packed, std::int64_t columns, std::int64_t blocks,
                     std::int64_t bits) {
  if (packed.dtype() != DType::u8) n.fail("zero points that are not packed bytes are not supported");
  const std::int64_t row = (blocks * bits + 7) / 8;
  if (packed.size() != columns * row)
    throw Error(ErrorCode::invalid_argument, fmt::format("{} bytes of zero points, expected {} for each of {} columns",
                                                         packed.size(), row, columns));
  Array zeros(DType::u8, {columns, blocks});
  const auto from = packed.as<std::uint8_t>();
  const auto to = zeros.as<std::uint8_t>();
  for (std::int64_t c = 0; c < columns; ++c)
    for (std::int64_t b = 0; b < blocks; ++b)
      to[static_cast<std::size_t>(c * blocks + b)] = static_cast<std::uint8_t>(
          from[static_cast<std::size_t>(c * row + b * bits / 8)] >> b * bits % 8 & ((1 << bits) - 1));
  return zeros;
}

/// a times weights of few bits. accuracy_level allows for rounding a, of which no use is made.
void convert_matmul_bits(OnnxNode& n) {
  const std::int64_t depth = n.integer("K", 0), columns = n.integer("N", 0), block = n.integer("block_size", 0),
                     bits = n.integer("bits", 4);
  if (depth <= 0 || columns <= 0 || block <= 0)
    throw Error(ErrorCode::invalid_argument, fmt::format("K={}, N={}, block_size={}", depth, columns, block));
  if (bits != 4 && bits != 8) n.fail(fmt::format("weights of {} bits are not supported, only 4 and 8", bits));
  const std::int64_t blocks = (depth + block - 1) / block;
  if (n.has_input(4)) {
    const auto group = n.constant(4);
    for (std::int64_t k = 0; k < depth; ++k)
      if (!group || group->size() != depth || static_cast<std::int64_t>(group->at(k)) != k / block)
        n.fail("a g_idx that reorders the rows of b is not supported");
  }
  const DType type = n.type(0).dtype;
  n.require_equal(n.type(0).shape.back(), depth, "a's last extent");
  std::vector<int> operands = {cast_to(n, n.input(0), DType::f32),
                               reshaped(n, n.input(1), {columns, blocks, block * bits / 8}),
                               cast_to(n, reshaped(n, n.input(2), {columns, blocks}), DType::f32)};
  if (n.has_input(3)) {
    const auto zeros = n.constant(3);
    if (!zeros) n.fail("zero points that are not known beforehand are not supported");
    operands.push_back(n.add_constant(unpacked_zeros(n, *zeros, columns, blocks, bits)));
  }
  if (n.has_input(5)) operands.push_back(cast_to(n, n.input(5), DType::f32));
  n.set_result(cast_to(n, n.op("matmul_blocks", {{"bits", bits}, {"block_size", block}}, operands), type));
}

constexpr std::array rows = {
    Conversion{"DequantizeLinear", 10, newest_version, convert_dequantize},
    Conversion{"DynamicQuantizeLinear", 11, newest_version, convert_dynamic_quantize},
    Conversion{"MatMulInteger", 10, newest_version, convert_matmul_integer},
    Conversion{"MatMulNBits", 1, 1, convert_matmul_bits, microsoft},
    Conversion{"QLinearMatMul", 10, newest_version, convert_qlinear_matmul},
    Conversion{"QuantizeLinear", 10, newest_version, convert_quantize},
};

}  // namespace

Quantization quantization(const OnnxNode& n, int scale, int zero, std::int64_t axis) {
  return {n.input(scale), n.has_input(zero) ? std::optional(n.input(zero)) : std::nullopt, axis, 0};
}

int dequantized(OnnxNode& n, int x, const Quantization& q) {
  if (const auto apart = blocks_apart(n, x, q))
    return reshaped(n, dequantized(n, apart->x, apart->q), std::vector<Extent>(n.type_of(x).shape));
  return n.op("dequantize", Json::object(), operands(n, x, q, n.type_of(x).dtype));
}

int quantized(OnnxNode& n, int x, const Quantization& q, DType type) {
  if (q.zero) type = n.type_of(*q.zero).dtype;
  if (!is_float(n.type_of(x).dtype)) x = cast_to(n, x, n.type_of(q.scale).dtype);
  return n.op("quantize", {{"to", std::string(to_string(type))}}, operands(n, x, q, type));
}

int shifted(OnnxNode& n, int x, std::optional<int> zero, std::int64_t axis, DType type) {
  const int wide = cast_to(n, x, type);
  if (!zero) return wide;
  const int shift = aligned(n, *zero, {*zero, std::nullopt, axis, 0}, n.type_of(x));
  return n.op("sub", Json::object(), {wide, cast_to(n, shift, type)});
}

std::span<const Conversion> quantization_conversions() { return rows; }

}  // namespace heddle::graph::onnx_import
