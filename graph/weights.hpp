#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/array.hpp"
#include "dsl/tensor.hpp"

namespace heddle::graph {

/// The bytes of a module's constants, each at a multiple of the alignment (64 or a multiple of it); equal contents are
/// stored once.
class Weights {
 public:
  explicit Weights(std::uint64_t alignment = 64) : alignment_(alignment) {}

  std::uint64_t add(std::string_view bytes);  ///< offset of the contents
  std::string take() { return std::move(blob_); }

 private:
  std::uint64_t alignment_;
  std::string blob_;
  std::multimap<std::uint64_t, std::pair<std::uint64_t, std::uint64_t>> known_;  ///< hash -> offset and size
};

/// The bytes of a logical row-major tensor as its type's layout has them, borders filled. The shapes must agree.
std::string lay_out(const Array& logical, const TensorType& type);

}  // namespace heddle::graph
