#pragma once
#include <cstdint>
#include <random>
#include <vector>

#include "dsl/check.hpp"

// Random inputs for tests, by seed: the same seed draws the same bytes on every machine.
namespace heddle::testing {

/// HEDDLE_SEED, or 1.
std::uint64_t seed();

using heddle::draw;
using heddle::Extremes;
using heddle::generator_for;
using heddle::shape_of;

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
