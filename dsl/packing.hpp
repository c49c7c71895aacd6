#pragma once
#include <vector>

#include "dsl/operator.hpp"
#include "dsl/schedule.hpp"

// How an operand lies in memory under a Packing.
namespace heddle {

/// One dimension of a packed operand's buffer: the whole logical dimension, or a block's remainder or quotient.
struct PackedDimension {
  int logical = 0;
  std::int64_t block = 1;
  enum class Part { whole, remainder, quotient } part = Part::whole;
};

/// The operand as it is stored: itself, or the form that the packing names. Throws Error{invalid_argument} where the
/// operand has no such form.
OperandInfo stored_operand(const OperandInfo& operand, const Packing& packing);
TensorType stored_type(const OperandInfo& operand, const TensorType& type, const Packing& packing);

/// Innermost first, in the order that Packing documents; of the operand as it is stored.
std::vector<PackedDimension> packed_dimensions(const OperandInfo& operand, const Packing& packing);

/// `shape`: of the operand as it is stored.
Extent packed_extent(const PackedDimension& dimension, const std::vector<Extent>& shape);

/// Rearranges a constant operand as its packing says, in the form that it names. `logical` is row-major; the result's
/// shape is the packed buffer's, outermost first.
Array pack(const Array& logical, const OperandInfo& operand, const Packing& packing);

}  // namespace heddle
