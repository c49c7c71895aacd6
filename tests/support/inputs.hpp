#pragma once
#include <cstdint>
#include <random>
#include <string_view>
#include <vector>

#include "dsl/workload.hpp"

// Random inputs for tests, by seed: the same seed draws the same bytes on every machine.
namespace heddle::testing {

/// HEDDLE_SEED, or 1.
std::uint64_t seed();

/// A generator for one thing under test: its draws do not change when other tests come or go.
std::mt19937_64 generator_for(std::uint64_t seed, std::string_view what, std::uint64_t index = 0);

enum class Extremes {
  none,    ///< elements inside [low, high] alone
  finite,  ///< the domain's extremes of moderate size too
  all,
};

/// Elements of a domain; where extremes are asked for, about every fourth element is one.
Array draw(DType type, const Shape& shape, const ValueDomain& domain, Extremes extremes, std::mt19937_64& random);

/// A type's shape for given symbols; throws Error{not_found} for a symbol without a value.
Shape shape_of(const TensorType& type, const SymbolValues& symbols);

/// Inputs of a case for one binding of its symbols.
std::vector<Array> draw_inputs(const Case& test, const SymbolValues& symbols, Extremes extremes,
                               std::mt19937_64& random);

/// The range of each symbol over a case's bindings.
SymbolRanges ranges_of(const Case& test);

/// The case with its symbols replaced by a binding's values: a static workload.
Case bind(const Case& test, const Operator& op, const SymbolValues& symbols);

/// A static case as models lay it out: data and result channels last, a convolution's input with the border that its
/// padding needs.
Workload channels_last_form(const Operator& op, const Case& test, int threads = 2);

/// Another order of dimensions and borders, for a value of that rank.
Layout random_layout(int rank, std::mt19937_64& random);

}  // namespace heddle::testing
