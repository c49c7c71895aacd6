#include <algorithm>
#include <limits>
#include <numeric>

#include "base/error.hpp"
#include "runtime/plan.hpp"

namespace heddle::plan {

Placement place(const std::vector<Lifetime>& values, std::uint64_t alignment) {
  Placement placement;
  placement.offsets.assign(values.size(), 0);
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return values[a].bytes > values[b].bytes; });

  std::vector<std::size_t> placed;  // by offset
  for (const std::size_t v : order) {
    const Lifetime& value = values[v];
    if (value.bytes == 0) continue;
    std::uint64_t offset = 0;
    for (const std::size_t p : placed) {
      const Lifetime& other = values[p];
      if (other.last < value.first || value.last < other.first || other.first > other.last) continue;
      if (offset + value.bytes <= placement.offsets[p]) break;
      const std::uint64_t end = placement.offsets[p] + other.bytes;
      offset = std::max(offset, (end + alignment - 1) / alignment * alignment);
    }
    placement.offsets[v] = offset;
    placement.arena_bytes = std::max(placement.arena_bytes, offset + value.bytes);
    placed.insert(
        std::upper_bound(placed.begin(), placed.end(), v,
                         [&](std::size_t a, std::size_t b) { return placement.offsets[a] < placement.offsets[b]; }),
        v);
  }
  return placement;
}

std::vector<Lifetime> lifetimes(const Function& function, const SymbolValues& symbols) {
  constexpr int never = std::numeric_limits<int>::max();
  std::vector<Lifetime> result(function.values.size());
  for (std::size_t v = 0; v < result.size(); ++v) {
    const Value& value = function.values[v];
    result[v] = {.bytes = 0, .first = never, .last = -1};
    if (value.storage == Storage::arena)
      result[v].bytes = static_cast<std::uint64_t>(value.elements.evaluate(symbols)) * size_of(value.dtype);
  }
  const auto touch = [&](int v, int step) {
    for (std::size_t hops = 0; v >= 0; ++hops) {
      const auto index = static_cast<std::size_t>(v);
      if (index >= function.values.size() || hops > function.values.size())
        throw Error(ErrorCode::corrupt, "a step of function '" + function.name + "' names a value that does not exist");
      if (function.values[index].storage != Storage::alias) {
        result[index].first = std::min(result[index].first, step);
        result[index].last = std::max(result[index].last, step);
        return;
      }
      v = function.values[index].of;
    }
  };
  const int steps = static_cast<int>(function.steps.size());
  for (int s = 0; s < steps; ++s) {
    for (const Argument& argument : function.steps[static_cast<std::size_t>(s)].inputs) touch(argument.value, s);
    for (const Argument& argument : function.steps[static_cast<std::size_t>(s)].outputs) touch(argument.value, s);
  }
  for (const int output : function.outputs) touch(output, steps);
  return result;
}

}  // namespace heddle::plan
