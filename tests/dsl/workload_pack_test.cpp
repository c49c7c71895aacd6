#include <algorithm>

#include <catch2/catch.hpp>

#include "dsl/workload.hpp"

namespace heddle {
namespace {

/// Every element against Packing's definition: each block's remainder innermost, in the order given, then the operand's
/// order with quotients in the blocked dimensions' places.
void check_packed(const Shape& shape, const std::vector<std::string>& dimensions, const std::vector<std::string>& order,
                  const std::vector<Packing::Block>& blocks, DType type = DType::f32) {
  Array logical(type, shape);
  for (std::int64_t i = 0; i < logical.size(); ++i) logical.set(i, static_cast<double>(i % 100 + 1));
  const Array packed = pack(logical, {"w", dimensions, order, true}, {"w", blocks});

  struct Part {
    std::size_t logical;
    std::int64_t scale;  ///< of the packed index in the logical one
  };
  std::vector<Part> parts;  // innermost first
  const auto position = [&](const std::string& name) {
    return static_cast<std::size_t>(std::find(dimensions.begin(), dimensions.end(), name) - dimensions.begin());
  };
  for (const auto& block : blocks) parts.push_back({position(block.dimension), 1});
  for (const auto& name : order) {
    const auto block = std::find_if(blocks.begin(), blocks.end(), [&](const auto& b) { return b.dimension == name; });
    parts.push_back({position(name), block == blocks.end() ? 1 : block->size});
  }
  REQUIRE(packed.shape().size() == parts.size());
  int wrong = 0;
  for (std::int64_t i = 0; i < packed.size(); ++i) {
    std::vector<std::int64_t> at(shape.size(), 0);
    std::int64_t rest = i;
    for (std::size_t d = 0; d < parts.size(); ++d) {
      const std::int64_t extent = packed.shape()[parts.size() - 1 - d];
      at[parts[d].logical] += rest % extent * parts[d].scale;
      rest /= extent;
    }
    bool inside = true;
    std::int64_t offset = 0;
    for (std::size_t d = 0; d < shape.size(); ++d) {
      inside = inside && at[d] < shape[d];
      offset = offset * shape[d] + at[d];
    }
    wrong += packed.at(i) != (inside ? logical.at(offset) : 0);
  }
  CHECK(wrong == 0);
}

TEST_CASE("packed operands hold every element where the packing says, zeros in the rest") {
  const std::vector<std::string> conv = {"co", "ci", "ky", "kx"}, order = {"ci", "kx", "ky", "co"};
  check_packed({20, 5, 3, 3}, conv, order, {{"co", 16}});
  check_packed({16, 4, 1, 1}, conv, order, {{"co", 32}});
  check_packed({7, 9, 2, 3}, conv, order, {{"co", 4}, {"ci", 2}});
  check_packed({7, 9, 2, 3}, conv, order, {{"ci", 4}, {"co", 2}});
  check_packed({7, 9, 2, 3}, conv, order, {});
  check_packed({11, 50}, {"k", "n"}, {"k", "n"}, {{"n", 48}});
  check_packed({13}, {"co"}, {"co"}, {{"co", 8}});
  for (const DType type : {DType::i8, DType::f16, DType::f64})
    check_packed({5, 7}, {"k", "n"}, {"k", "n"}, {{"n", 4}}, type);
}

}  // namespace
}  // namespace heddle
