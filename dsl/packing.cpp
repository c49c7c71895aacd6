#include "dsl/packing.hpp"

#include <algorithm>
#include <cstring>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace heddle {
namespace {

const OperandForm* form_of(const OperandInfo& operand, const Packing& packing) {
  if (packing.form.empty()) return nullptr;
  std::vector<std::string> known;
  for (const OperandForm& form : operand.forms) {
    if (form.name == packing.form) return &form;
    known.push_back(form.name);
  }
  throw Error(ErrorCode::invalid_argument,
              fmt::format("pack {} {}: the operand has no such form{}{}", operand.role, packing.form,
                          did_you_mean(packing.form, known),
                          known.empty() ? "" : fmt::format("; it has {}", fmt::join(known, ", "))));
}

template <class T>
void copy_strided(const std::byte* from, std::byte* to, std::int64_t count, std::int64_t stride) {
  for (std::int64_t i = 0; i < count; ++i)
    std::memcpy(to + static_cast<std::size_t>(i) * sizeof(T), from + static_cast<std::size_t>(i * stride) * sizeof(T),
                sizeof(T));
}

/// `count` elements that lie `stride` elements apart, put next to one another.
void copy_row(const std::byte* from, std::byte* to, std::int64_t count, std::int64_t stride, std::size_t element) {
  if (stride == 1) {
    if (count > 0) std::memcpy(to, from, static_cast<std::size_t>(count) * element);
    return;
  }
  switch (element) {
    case 1: return copy_strided<std::uint8_t>(from, to, count, stride);
    case 2: return copy_strided<std::uint16_t>(from, to, count, stride);
    case 4: return copy_strided<std::uint32_t>(from, to, count, stride);
    default: return copy_strided<std::uint64_t>(from, to, count, stride);
  }
}

}  // namespace

OperandInfo stored_operand(const OperandInfo& operand, const Packing& packing) {
  const OperandForm* form = form_of(operand, packing);
  return form == nullptr ? operand : OperandInfo{operand.role, form->dimensions, form->packing_order, operand.constant};
}

TensorType stored_type(const OperandInfo& operand, const TensorType& type, const Packing& packing) {
  const OperandForm* form = form_of(operand, packing);
  if (form == nullptr) return type;
  // A form's elements are what its computation makes of the operand's: an empty one tells.
  const Array nothing(type.dtype, Shape(type.shape.size(), 0));
  return {form->compute(nothing).dtype(), form->shape(type.shape), {}};
}

std::vector<PackedDimension> packed_dimensions(const OperandInfo& plain, const Packing& packing) {
  const OperandInfo operand = stored_operand(plain, packing);
  if (operand.packing_order.empty())
    throw Error(ErrorCode::invalid_argument, fmt::format("operand '{}' cannot be packed", operand.role));
  const auto logical = [&](const std::string& name) {
    const auto at = std::find(operand.dimensions.begin(), operand.dimensions.end(), name);
    if (at == operand.dimensions.end())
      throw Error(ErrorCode::invalid_argument, fmt::format("operand '{}' has no dimension '{}'{}", operand.role, name,
                                                           did_you_mean(name, operand.dimensions)));
    return static_cast<int>(at - operand.dimensions.begin());
  };
  std::vector<PackedDimension> dimensions;
  std::map<int, std::int64_t> blocks;
  for (const auto& block : packing.blocks) {
    if (block.size < 1)
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("pack {} {}:{}: a block holds at least 1", operand.role, block.dimension, block.size));
    const int d = logical(block.dimension);
    if (!blocks.emplace(d, block.size).second)
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("pack {}: '{}' is blocked twice", operand.role, block.dimension));
    dimensions.push_back({d, block.size, PackedDimension::Part::remainder});
  }
  for (const auto& name : operand.packing_order) {
    const int d = logical(name);
    const auto block = blocks.find(d);
    if (block == blocks.end()) dimensions.push_back({d, 1, PackedDimension::Part::whole});
    else dimensions.push_back({d, block->second, PackedDimension::Part::quotient});
  }
  return dimensions;
}

Extent packed_extent(const PackedDimension& d, const std::vector<Extent>& shape) {
  const Extent& logical = shape[static_cast<std::size_t>(d.logical)];
  switch (d.part) {
    case PackedDimension::Part::remainder: return d.block;
    case PackedDimension::Part::quotient: return ceil_div(logical, d.block);
    case PackedDimension::Part::whole: break;
  }
  return logical;
}

Array pack(const Array& logical, const OperandInfo& operand, const Packing& packing) {
  if (const OperandForm* form = form_of(operand, packing)) {
    const OperandInfo stored = stored_operand(operand, packing);
    return pack(form->compute(logical), stored, {packing.operand, packing.blocks});
  }
  const auto dimensions = packed_dimensions(operand, packing);
  std::vector<Extent> shape;
  for (const std::int64_t extent : logical.shape()) shape.emplace_back(extent);
  if (shape.size() != operand.dimensions.size())
    throw Error(ErrorCode::invalid_argument,
                fmt::format("operand '{}' has rank {}, not {}", operand.role, operand.dimensions.size(), shape.size()));

  Shape packed_shape;
  for (auto d = dimensions.rbegin(); d != dimensions.rend(); ++d)
    packed_shape.push_back(packed_extent(*d, shape).value());
  Array packed(logical.dtype(), packed_shape);

  std::vector<std::int64_t> logical_strides(shape.size(), 1);
  for (std::size_t d = shape.size(); d-- > 1;) logical_strides[d - 1] = logical_strides[d] * shape[d].value();

  const std::size_t rank = dimensions.size();
  const std::size_t element = size_of(logical.dtype());
  const auto* from = static_cast<const std::byte*>(logical.data());
  auto* to = static_cast<std::byte*>(packed.mutable_data());
  if (packed.size() == 0) return packed;
  // Row by row of the packed buffer: models have hundreds of megabytes of weights.
  const PackedDimension inner = dimensions.at(0);
  const auto along = static_cast<std::size_t>(inner.logical);
  const std::int64_t row = packed_shape.back();
  const std::int64_t step = inner.part == PackedDimension::Part::quotient ? inner.block : 1;
  const std::int64_t stride = step * logical_strides[along];
  std::vector<std::int64_t> index(rank, 0);  // innermost first
  std::vector<std::int64_t> at(shape.size());
  const std::int64_t rows = packed.size() / row;
  for (std::int64_t r = 0; r < rows; ++r) {
    std::fill(at.begin(), at.end(), 0);
    for (std::size_t d = 1; d < rank; ++d) {
      const auto& p = dimensions[d];
      at[static_cast<std::size_t>(p.logical)] +=
          p.part == PackedDimension::Part::quotient ? index[d] * p.block : index[d];
    }
    bool inside = true;
    std::int64_t offset = 0;
    for (std::size_t d = 0; d < at.size(); ++d) {
      inside = inside && at[d] < logical.shape()[d];
      offset += at[d] * logical_strides[d];
    }
    const std::int64_t filled = inside ? std::min(row, (logical.shape()[along] - at[along] + step - 1) / step) : 0;
    copy_row(from + static_cast<std::size_t>(offset) * element, to + static_cast<std::size_t>(r * row) * element,
             filled, stride, element);
    for (std::size_t d = 1; d < rank; ++d) {
      if (++index[d] < packed_shape[rank - 1 - d]) break;
      index[d] = 0;
    }
  }
  return packed;
}

}  // namespace heddle
