#pragma once
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dsl/workload.hpp"

// What checks a kernel: random inputs by seed, the same bytes on every machine, and the comparison with the oracle.
namespace heddle {

/// A generator for one thing under test: its draws do not change when other tests come or go.
std::mt19937_64 generator_for(std::uint64_t seed, std::string_view what, std::uint64_t index = 0);

enum class Extremes {
  none,    ///< elements inside [low, high] alone
  finite,  ///< the domain's extremes of moderate size too
  all,
};

/// Elements of a domain; where extremes are asked for, about every fourth element is one. Booleans are 0 or 1, and
/// unsigned elements are not negative, whatever the domain says.
Array draw(DType type, const Shape& shape, ValueDomain domain, Extremes extremes, std::mt19937_64& random);

/// A type's shape for given symbols; throws Error{not_found} for a symbol without a value.
Shape shape_of(const TensorType& type, const SymbolValues& symbols);

/// A workload's inputs, each from the domain that the cases of the operator which reads it state for it.
std::vector<Array> draw_inputs(const Workload& workload, const SymbolValues& symbols, Extremes extremes,
                               std::mt19937_64& random);

/// Empty if every output agrees with the oracle's within the workload's tolerance for that variant; else which does
/// not, and where.
std::string difference(const Workload& workload, std::span<const Array> outputs, const Expectation& want,
                       std::string_view variant = "direct");

}  // namespace heddle
