#include "ops/reference.hpp"

namespace heddle::ops {

std::vector<double> to_doubles(const Array& array) {
  std::vector<double> values(static_cast<std::size_t>(array.size()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = array.at(static_cast<std::int64_t>(i));
  return values;
}

Spatial::Spatial(const Shape& shape) : n(shape.at(0)), c(shape.at(1)) {
  for (std::size_t d = 2; d < shape.size(); ++d) extents[d + 3 - shape.size()] = shape[d];
  values.resize(static_cast<std::size_t>(element_count(shape)));
}

Spatial::Spatial(const Array& array) : Spatial(array.shape()) { values = to_doubles(array); }

std::array<std::int64_t, 3> spatial(std::span<const std::int64_t> values, std::int64_t otherwise) {
  std::array<std::int64_t, 3> result = {otherwise, otherwise, otherwise};
  for (std::size_t d = 0; d < values.size(); ++d) result[d + 3 - values.size()] = values[d];
  return result;
}

std::int64_t flat(const Shape& shape, std::span<const std::int64_t> index) {
  std::int64_t position = 0;
  for (std::size_t d = 0; d < shape.size(); ++d) position = position * shape[d] + index[d];
  return position;
}

std::int64_t flat_broadcast(const Shape& shape, std::span<const std::int64_t> index) {
  std::int64_t position = 0;
  for (std::size_t d = 0; d < shape.size(); ++d)
    position = position * shape[d] + (shape[d] == 1 ? 0 : index[index.size() - shape.size() + d]);
  return position;
}

}  // namespace heddle::ops
