#include "graph/weights.hpp"

#include <cstring>
#include <vector>

#include <fmt/format.h>
#include <xxhash.h>

#include "base/error.hpp"
#include "graph/layout.hpp"

namespace heddle::graph {

std::uint64_t Weights::add(std::string_view bytes) {
  const std::uint64_t hash = XXH3_64bits(bytes.data(), bytes.size());
  const auto [first, last] = known_.equal_range(hash);
  for (auto entry = first; entry != last; ++entry) {
    const auto [offset, size] = entry->second;
    if (size == bytes.size() && std::memcmp(blob_.data() + offset, bytes.data(), bytes.size()) == 0) return offset;
  }
  blob_.resize((blob_.size() + alignment_ - 1) / alignment_ * alignment_, '\0');
  const std::uint64_t offset = blob_.size();
  blob_.append(bytes);
  known_.emplace(hash, std::pair{offset, bytes.size()});
  return offset;
}

std::string lay_out(const Array& logical, const TensorType& type) {
  const std::size_t element = size_of(type.dtype);
  const auto* from = static_cast<const char*>(logical.data());
  if (is_row_major(type)) return {from, logical.bytes()};
  const auto rank = static_cast<std::size_t>(type.rank());
  if (logical.shape().size() != rank || logical.dtype() != type.dtype)
    throw Error(ErrorCode::internal, fmt::format("a constant {} {} is laid out as {}", to_string(logical.dtype()),
                                                 to_string(logical.shape()), type.str()));

  Array border(type.dtype, {1});
  border.set(0, type.layout.border_value);
  const auto allocated = static_cast<std::size_t>(type.allocated_elements().value());
  std::string bytes(allocated * element, '\0');
  if (type.has_border() && type.layout.border_value != 0)
    for (std::size_t i = 0; i < allocated; ++i) std::memcpy(bytes.data() + i * element, border.data(), element);

  std::vector<std::int64_t> strides, index(rank, 0);
  for (const Extent& stride : type.strides()) strides.push_back(stride.value());
  std::int64_t to = type.origin().value();
  const std::int64_t count = logical.size();
  for (std::int64_t i = 0; i < count; ++i) {
    std::memcpy(bytes.data() + static_cast<std::size_t>(to) * element, from + static_cast<std::size_t>(i) * element,
                element);
    for (std::size_t d = rank; d-- > 0;) {
      to += strides[d];
      if (++index[d] < logical.shape()[d]) break;
      to -= strides[d] * logical.shape()[d];
      index[d] = 0;
    }
  }
  return bytes;
}

}  // namespace heddle::graph
