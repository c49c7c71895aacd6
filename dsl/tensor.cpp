#include "dsl/tensor.hpp"

#include <algorithm>
#include <charconv>
#include <numeric>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle {
namespace {

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  int depth = 0;
  std::string part;
  for (const char c : text) {
    depth += c == '(' ? 1 : c == ')' ? -1 : 0;
    if (c == separator && depth == 0) {
      parts.push_back(part);
      part.clear();
    } else if (c != ' ' || !part.empty()) {
      part += c;
    }
  }
  if (!part.empty() || !parts.empty()) parts.push_back(part);
  return parts;
}

}  // namespace

Extent TensorType::element_count() const {
  Extent count = 1;
  for (const auto& extent : shape) count = count * extent;
  return count;
}

bool TensorType::is_static() const {
  return std::all_of(shape.begin(), shape.end(), [](const Extent& e) { return e.is_constant(); });
}

std::vector<int> TensorType::order() const {
  if (!layout.order.empty()) return layout.order;
  std::vector<int> row_major(shape.size());
  std::iota(row_major.begin(), row_major.end(), 0);
  return row_major;
}

Border TensorType::border(int dim) const {
  return layout.border.empty() ? Border{} : layout.border.at(static_cast<std::size_t>(dim));
}

bool TensorType::has_border() const {
  return std::any_of(layout.border.begin(), layout.border.end(), [](const Border& b) { return b != Border{}; });
}

std::vector<Extent> TensorType::strides() const {
  std::vector<Extent> strides(shape.size());
  Extent stride = 1;
  const auto outermost_first = order();
  for (auto d = outermost_first.rbegin(); d != outermost_first.rend(); ++d) {
    strides[static_cast<std::size_t>(*d)] = stride;
    const Border b = border(*d);
    stride = stride * (shape[static_cast<std::size_t>(*d)] + Extent(b.before + b.after));
  }
  return strides;
}

Extent TensorType::allocated_elements() const {
  Extent count = 1;
  for (int d = 0; d < rank(); ++d)
    count = count * (shape[static_cast<std::size_t>(d)] + Extent(border(d).before + border(d).after));
  return count;
}

Extent TensorType::origin() const {
  Extent offset = 0;
  const auto all = strides();
  for (int d = 0; d < rank(); ++d) offset = offset + all[static_cast<std::size_t>(d)] * Extent(border(d).before);
  return offset;
}

int TensorType::innermost() const { return shape.empty() ? -1 : order().back(); }

std::string TensorType::str() const {
  std::vector<std::string> extents;
  for (const auto& extent : shape) extents.push_back(extent.str());
  std::string text = fmt::format("{}[{}]", to_string(dtype), fmt::join(extents, ","));
  const bool ordered = !layout.order.empty() && !std::is_sorted(layout.order.begin(), layout.order.end());
  if (!ordered && !has_border()) return text;
  text += "{";
  if (ordered) text += fmt::format("{}", fmt::join(layout.order, ","));
  if (has_border()) {
    std::vector<std::string> borders;
    for (int d = 0; d < rank(); ++d)
      if (border(d) != Border{}) borders.push_back(fmt::format("{}:{}+{}", d, border(d).before, border(d).after));
    text += fmt::format("|{}", fmt::join(borders, ","));
    if (layout.border_value != 0) text += fmt::format("={}", layout.border_value);
  }
  return text + "}";
}

TensorType TensorType::parse(std::string_view text) {
  const auto fail = [&](std::string_view why) {
    return Error(
        ErrorCode::invalid_argument,
        fmt::format("bad tensor type '{}': {}; write it like f32[1,64,56,56] or f32[1,64,H,W]{{0,2,3,1|2:1+1}}", text,
                    why));
  };
  const auto open = text.find('[');
  const auto close = text.find(']');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) throw fail("no [extents]");
  TensorType type;
  type.dtype = dtype_from_string(text.substr(0, open));
  for (const auto& part : split(text.substr(open + 1, close - open - 1), ','))
    type.shape.push_back(Extent::parse(part));
  std::string_view rest = text.substr(close + 1);
  if (rest.empty()) return type;
  if (rest.front() != '{' || rest.back() != '}') throw fail("expected {layout}");
  rest = rest.substr(1, rest.size() - 2);
  const auto bar = rest.find('|');
  const auto number = [&](std::string_view digits) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc{} || end != digits.data() + digits.size() || value < 0) throw fail("expected a number");
    return value;
  };
  for (const auto& part : split(rest.substr(0, bar), ',')) type.layout.order.push_back(static_cast<int>(number(part)));
  auto sorted = type.layout.order;
  std::sort(sorted.begin(), sorted.end());
  for (std::size_t i = 0; i < sorted.size(); ++i)
    if (sorted[i] != static_cast<int>(i) || sorted.size() != type.shape.size())
      throw fail("the order must name every dimension once");
  if (bar == std::string_view::npos) return type;
  std::string_view borders = rest.substr(bar + 1);
  const auto equals = borders.find('=');
  if (equals != std::string_view::npos) {
    type.layout.border_value = std::stod(std::string(borders.substr(equals + 1)));
    borders = borders.substr(0, equals);
  }
  type.layout.border.resize(type.shape.size());
  for (const auto& part : split(borders, ',')) {
    const auto colon = part.find(':');
    const auto plus = part.find('+');
    if (colon == std::string::npos || plus == std::string::npos || plus < colon)
      throw fail("a border is dim:before+after");
    const auto d = static_cast<std::size_t>(number(part.substr(0, colon)));
    if (d >= type.shape.size()) throw fail("a border names a dimension that does not exist");
    type.layout.border[d] = {number(part.substr(colon + 1, plus - colon - 1)), number(part.substr(plus + 1))};
  }
  return type;
}

TensorType TensorType::substitute(const std::map<std::string, Extent>& replacements) const {
  TensorType result = *this;
  for (auto& extent : result.shape) extent = extent.substitute(replacements);
  return result;
}

TensorType tensor(DType dtype, std::vector<Extent> shape) { return {dtype, std::move(shape), {}}; }

std::vector<int> channels_last(int rank) {
  std::vector<int> order = {0};
  for (int d = 2; d < rank; ++d) order.push_back(d);
  if (rank > 1) order.push_back(1);
  return order;
}

std::vector<std::string> default_dimensions(int rank) {
  static const std::vector<std::string> innermost_first = {"x", "y", "c", "n"};
  std::vector<std::string> names;
  for (int d = rank - 1; d >= 0; --d)
    names.push_back(d < 4 ? innermost_first[static_cast<std::size_t>(d)] : fmt::format("d{}", d));
  return names;
}

}  // namespace heddle
