#include "ops/dot.hpp"

#include <algorithm>
#include <array>
#include <span>

#include "ops/rules.hpp"

namespace heddle::ops {

using Halide::Expr;

namespace {

const std::array<Dot, 2>& of_bytes() {
  static const std::array<Dot, 2> all = {
      Dot{"pairs", 2, Halide::Int(16), Halide::Int(16), Halide::Int(32)},
      Dot{"fours", 4, Halide::UInt(8), Halide::Int(8), Halide::Int(32)},
  };
  return all;
}

const std::array<Dot, 2>& of_halves() {
  static const std::array<Dot, 2> all = {
      Dot{"singles", 1, Halide::Float(32), Halide::Float(32), Halide::Float(32)},
      Dot{"pairs", 2, Halide::BFloat(16), Halide::BFloat(16), Halide::Float(32)},
  };
  return all;
}

/// Weights may have been widened.
std::span<const Dot> table(DType data, DType weights) {
  const std::span bytes(of_bytes()), halves(of_halves());
  if (is_byte(data)) {
    if (weights == DType::i8) return bytes;
    if (weights == DType::u8 || weights == DType::i16) return bytes.first(1);
  }
  if (data == DType::bf16 && weights == DType::bf16) return halves;
  if ((data == DType::bf16 || data == DType::f16) && (weights == data || weights == DType::f32)) return halves.first(1);
  return {};
}

}  // namespace

std::vector<Dot> dots(DType data, DType weights) {
  const auto known = table(data, weights);
  return {known.begin(), known.end()};
}

bool multiplies_several(std::string_view variant) {
  const auto is_it = [&](const Dot& dot) { return dot.name == variant && dot.factor > 1; };
  return std::ranges::any_of(of_bytes(), is_it) || std::ranges::any_of(of_halves(), is_it);
}

const Dot* dot_of(std::string_view variant, DType data, DType weights) {
  for (const Dot& dot : table(data, weights))
    if (dot.name == variant) return &dot;
  return nullptr;
}

Expr dot_data(const Dot& dot, const Expr& value) {
  const bool is_signed_byte = value.type().is_int() && value.type().bits() == 8;
  if (!is_signed_byte || dot.data.bits() > 8) return Halide::cast(dot.data, value);
  return Halide::reinterpret(dot.data, value) ^ Halide::cast(dot.data, 128);
}

bool is_offset(const Dot& dot, DType data) { return dot.data == Halide::UInt(8) && data == DType::i8; }

std::string widened_form(DType weights) { return is_float(weights) ? "f32" : "i16"; }

OperandForm widened_operand(const OperandInfo& operand, DType weights) {
  return {widened_form(weights), operand.dimensions, operand.packing_order,
          [](const std::vector<Extent>& shape) { return shape; },
          [type = is_float(weights) ? DType::f32 : DType::i16](const Array& plain) { return plain.cast(type); }};
}

bool is_blocked(const Operand& operand, std::size_t dimension) {
  return !operand.readable[dimension].same_as(operand.extents[dimension]);
}

Expr dot_weight(const Operand& weights, std::vector<Expr> index, std::size_t reduced, std::size_t vectors, int factor) {
  const auto keep_inside = [&](std::size_t d) { index[d] = Halide::min(index[d], weights.readable[d] - 1); };
  if (!is_blocked(weights, vectors)) keep_inside(vectors);
  const Extent& depth = weights.type.shape[reduced];
  const Extent read = ceil_div(depth, factor) * Extent(factor);
  const bool is_padded = is_blocked(weights, reduced) && read.is_constant() &&
                         Halide::Internal::can_prove(weights.readable[reduced] >= static_cast<int>(read.value()));
  if (!(read == depth || is_padded)) keep_inside(reduced);
  return weights.at(index);
}

Expr dot_element(const Dot& dot, const Expr& c, const Extent& extent, const Expr& count,
                 const std::function<Expr(const Expr&)>& read) {
  if (mod(extent, dot.factor) == Extent(0)) return dot_data(dot, read(c));
  return Halide::select(c < count, dot_data(dot, read(Halide::min(c, count - 1))), Halide::cast(dot.data, 0));
}

Case over_all_bytes(Case test) {
  test.domains.clear();
  for (const TensorType& type : test.inputs) {
    if (size_of(type.dtype) == 1) {
      const auto [least, most] = integer_range(type.dtype);
      const auto low = static_cast<double>(least), high = static_cast<double>(most);
      test.domains.push_back({low, high, {low, high}});
    } else {
      test.domains.emplace_back();
    }
  }
  return test;
}

}  // namespace heddle::ops
