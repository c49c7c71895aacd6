#include <algorithm>
#include <numeric>

#include "graph/layout.hpp"

namespace heddle::graph {
namespace {

bool is_one(const Extent& extent) { return extent == Extent(1); }

/// Dimensions of two shapes that hold the same elements: `from` dimensions on one side, `to` dimensions on the other.
struct Correspondence {
  std::vector<int> from, to;
};

std::vector<int> significant(const std::vector<Extent>& shape) {
  std::vector<int> dims;
  for (std::size_t d = 0; d < shape.size(); ++d)
    if (!is_one(shape[d])) dims.push_back(static_cast<int>(d));
  return dims;
}

/// Splits a reshape into its smallest independent parts. Symbolic extents that cannot be compared end up in one part.
std::vector<Correspondence> correspondences(const std::vector<Extent>& from, const std::vector<Extent>& to) {
  const auto a = significant(from), b = significant(to);
  std::vector<Correspondence> parts;
  std::size_t i = 0, j = 0;
  while (i < a.size() || j < b.size()) {
    std::size_t most_i = a.size(), most_j = b.size();
    bool found = false;
    for (std::size_t total = 2; !found && total <= (a.size() - i) + (b.size() - j); ++total)
      for (std::size_t count = 1; !found && count < total; ++count) {
        if (i + count > a.size() || j + (total - count) > b.size()) continue;
        Extent left = 1, right = 1;
        for (std::size_t k = i; k < i + count; ++k) left = left * from[static_cast<std::size_t>(a[k])];
        for (std::size_t k = j; k < j + total - count; ++k) right = right * to[static_cast<std::size_t>(b[k])];
        if (!(left == right)) continue;
        most_i = i + count;
        most_j = j + total - count;
        found = true;
      }
    Correspondence part;
    for (; i < most_i; ++i) part.from.push_back(a[i]);
    for (; j < most_j; ++j) part.to.push_back(b[j]);
    parts.push_back(std::move(part));
  }
  return parts;
}

}  // namespace

std::vector<int> significant_order(const TensorType& type) {
  std::vector<int> order;
  for (const int d : type.order())
    if (!is_one(type.shape[static_cast<std::size_t>(d)]) || type.border(d) != Border{}) order.push_back(d);
  return order;
}

bool same_memory(const TensorType& a, const TensorType& b) {
  if (a.shape != b.shape || a.dtype != b.dtype) return false;
  for (int d = 0; d < a.rank(); ++d)
    if (a.border(d) != b.border(d)) return false;
  if (a.has_border() && a.layout.border_value != b.layout.border_value) return false;
  return significant_order(a) == significant_order(b);
}

bool is_row_major(const TensorType& type) {
  const auto order = significant_order(type);
  return !type.has_border() && std::is_sorted(order.begin(), order.end());
}

Layout canonical_layout(const TensorType& type, bool channels_last_first) {
  const auto order = significant_order(type);
  Layout layout = type.layout;
  if (!type.has_border()) layout.border.clear(), layout.border_value = 0;
  const auto is = [&](std::vector<int> wanted) {
    TensorType other = type;
    other.layout.order = std::move(wanted);
    return significant_order(other) == order;
  };
  const bool last = type.rank() >= 3 && is(channels_last(type.rank()));
  if (last && (channels_last_first || !std::is_sorted(order.begin(), order.end()))) {
    layout.order = channels_last(type.rank());
  } else if (std::is_sorted(order.begin(), order.end())) {
    layout.order.clear();
  } else {
    layout.order.clear();
    for (int d = 0; d < type.rank(); ++d)
      if (std::find(order.begin(), order.end(), d) == order.end()) layout.order.push_back(d);
    layout.order.insert(layout.order.end(), order.begin(), order.end());
  }
  return layout;
}

std::optional<std::vector<int>> reshaped_order(const std::vector<Extent>& from, const std::vector<int>& order,
                                               const std::vector<Extent>& to) {
  const auto parts = correspondences(from, to);
  std::vector<int> result;
  for (const int d : significant(to)) result.push_back(d);
  std::vector<int> units;
  for (std::size_t d = 0; d < to.size(); ++d)
    if (is_one(to[d])) units.push_back(static_cast<int>(d));

  std::vector<int> memory;
  for (const int d : order)
    if (!is_one(from[static_cast<std::size_t>(d)])) memory.push_back(d);
  result = units;
  for (std::size_t at = 0; at < memory.size();) {
    const auto part = std::find_if(parts.begin(), parts.end(), [&](const Correspondence& p) {
      return !p.from.empty() && p.from.front() == memory[at];
    });
    // The part's dimensions have to lie together and in their logical order.
    if (part == parts.end() || at + part->from.size() > memory.size()) return std::nullopt;
    if (!std::equal(part->from.begin(), part->from.end(), memory.begin() + static_cast<std::ptrdiff_t>(at)))
      return std::nullopt;
    result.insert(result.end(), part->to.begin(), part->to.end());
    at += part->from.size();
  }
  // What has no elements to match (an extent that is 1 in disguise) can only be said in row-major order.
  if (result.size() != to.size()) return std::nullopt;
  return result;
}

std::vector<int> transposed_order(const std::vector<int>& order, const std::vector<int>& permutation) {
  std::vector<int> inverse(permutation.size());
  for (std::size_t i = 0; i < permutation.size(); ++i)
    inverse[static_cast<std::size_t>(permutation[i])] = static_cast<int>(i);
  std::vector<int> result;
  for (const int d : order) result.push_back(inverse[static_cast<std::size_t>(d)]);
  return result;
}

std::vector<int> untransposed_order(const std::vector<int>& order, const std::vector<int>& permutation) {
  std::vector<int> result;
  for (const int d : order) result.push_back(permutation[static_cast<std::size_t>(d)]);
  return result;
}

}  // namespace heddle::graph
