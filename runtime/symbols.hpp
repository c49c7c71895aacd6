#pragma once
#include <string>
#include <vector>

#include "runtime/plan.hpp"

namespace heddle::runtime {

/// "[N, 3, H, W]"
std::string to_string(const std::vector<Extent>& shape);

/// The symbols' values for inputs of these shapes (parallel to main.inputs). A dimension that is a bare symbol gives it
/// its value; all others are checked, and so are the symbols' ranges. Throws Error{invalid_argument} naming input,
/// dimension, what was expected and what was given.
SymbolValues solve_symbols(const plan::Package& package, const plan::Function& main, const std::vector<Shape>& shapes);

/// Throws Error{invalid_argument} for a symbol without a value or outside its range.
void check_ranges(const plan::Package& package, const SymbolValues& symbols);

}  // namespace heddle::runtime
