#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <Halide.h>

#include "dsl/operator.hpp"

// Sums of products of narrow numbers as processors add them up, several at a time: variants of operators under the type
// rule and the reference of the plain sums. `k`, the innermost reduction, counts the products of one instruction.
//
//   fours    four products of u8 and i8 into i32: vpdpbusd. Where the data are i8 they are taken as u8 = i8 + 128, and
//            128 times the sum of the weights is subtracted again.
//   pairs    two products of 16-bit integers into i32: pmaddwd, vpdpwssd. Bytes are widened. Of bfloat16 two products
//            into f32: vdpbf16ps.
//   singles  products of f32, which f16 and bfloat16 are widened to.
namespace heddle::ops {

struct Dot {
  std::string name;
  int factor;                  ///< products summed at a time
  Halide::Type data, weights;  ///< what the operands are multiplied as
  Halide::Type sum;

  bool is_integer() const { return sum.is_int(); }
};

/// Those that products of these types can be summed by.
std::vector<Dot> dots(DType data, DType weights);

/// The one of that name, or null.
const Dot* dot_of(std::string_view variant, DType data, DType weights);

/// Whether an instruction of that variant does several products for every lane of its result.
bool multiplies_several(std::string_view variant);

/// The data as `dot` wants them.
Halide::Expr dot_data(const Dot& dot, const Halide::Expr& value);

/// Whether `dot_data` is 128 more than the value.
bool is_offset(const Dot& dot, DType data);

/// The form of weights in which nothing is left to convert when they are loaded: i16 for bytes, f32 for f16 and
/// bfloat16. Its name is the type's.
std::string widened_form(DType weights);
OperandForm widened_operand(const OperandInfo& operand, DType weights);

/// Whether packing blocks the operand along a dimension, so that schedules may read it up to the end of the last block.
bool is_blocked(const Operand& operand, std::size_t dimension);

/// An element of weights whose `reduced` dimension runs on to a multiple of the factor, and `vectors` to the end of a
/// vector; beyond the ends some element, which does not matter: the data are zero there, or the result is not asked
/// for.
Halide::Expr dot_weight(const Operand& weights, std::vector<Halide::Expr> index, std::size_t reduced,
                        std::size_t vectors, int factor);

/// The data's element `c` of `extent`, zero beyond the end; `read` is not asked for elements there.
Halide::Expr dot_element(const Dot& dot, const Halide::Expr& c, const Extent& extent, const Halide::Expr& count,
                         const std::function<Halide::Expr(const Halide::Expr&)>& read);

/// A test whose 8-bit operands are drawn from all values that they can have, the first and the last ones often.
Case over_all_bytes(Case test);

}  // namespace heddle::ops
