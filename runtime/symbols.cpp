#include "runtime/symbols.hpp"

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::runtime {

std::string to_string(const std::vector<Extent>& shape) {
  std::string text = "[";
  for (std::size_t d = 0; d < shape.size(); ++d) text += (d > 0 ? ", " : "") + shape[d].str();
  return text + "]";
}

SymbolValues solve_symbols(const plan::Package& package, const plan::Function& main, const std::vector<Shape>& shapes) {
  SymbolValues symbols;
  for (const plan::Symbol& symbol : package.symbols)
    if (symbol.min == symbol.max) symbols[symbol.name] = symbol.min;
  const auto value = [&](std::size_t i) -> const plan::Value& {
    return main.values[static_cast<std::size_t>(main.inputs[i])];
  };

  for (std::size_t i = 0; i < main.inputs.size(); ++i) {
    const std::vector<Extent>& expected = value(i).shape;
    const Shape& given = shapes[i];
    if (given.size() != expected.size())
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("input '{}' has {} dimensions ({}) instead of {}: {}", value(i).name, given.size(),
                              heddle::to_string(given), expected.size(), to_string(expected)));
    for (std::size_t d = 0; d < expected.size(); ++d) {
      const auto names = expected[d].symbols();
      if (names.size() == 1 && expected[d] == Extent::symbol(*names.begin()))
        symbols.try_emplace(*names.begin(), given[d]);
    }
  }

  // Linear in one symbol tells it too: 32*w, where the width is a multiple of 32.
  for (std::size_t i = 0; i < main.inputs.size(); ++i) {
    const std::vector<Extent>& expected = value(i).shape;
    for (std::size_t d = 0; d < expected.size(); ++d) {
      const auto names = expected[d].symbols();
      if (names.size() != 1 || symbols.contains(*names.begin())) continue;
      const std::string& name = *names.begin();
      const std::int64_t given = shapes[i][d];
      const std::int64_t start = expected[d].evaluate({{name, 0}});
      const std::int64_t step = expected[d].evaluate({{name, 1}}) - start;
      if (step == 0 || !(expected[d] == Extent(step) * Extent::symbol(name) + Extent(start))) continue;
      if ((given - start) % step != 0)
        throw Error(ErrorCode::invalid_argument,
                    fmt::format("input '{}': dimension {} is {}, but must be {}a multiple of {}", value(i).name, d,
                                given, start == 0 ? "" : fmt::format("{} more than ", start), step));
      symbols.try_emplace(name, (given - start) / step);
    }
  }

  for (std::size_t i = 0; i < main.inputs.size(); ++i) {
    const std::vector<Extent>& expected = value(i).shape;
    for (std::size_t d = 0; d < expected.size(); ++d) {
      std::string known;
      for (const std::string& name : expected[d].symbols()) {
        const auto found = symbols.find(name);
        if (found == symbols.end())
          throw Error(
              ErrorCode::unsupported,
              fmt::format("input '{}': dimension {} is {}, which does not tell '{}': no input has it as a dimension "
                          "of its own; compile the model with a fixed --dim {}=",
                          value(i).name, d, expected[d].str(), name, name));
        known += fmt::format("{}{} = {}", known.empty() ? "" : ", ", name, found->second);
      }
      const std::int64_t wanted = expected[d].evaluate(symbols);
      if (shapes[i][d] == wanted) continue;
      throw Error(
          ErrorCode::invalid_argument,
          fmt::format("input '{}': dimension {} is {}, expected {}; the input's shape is {}", value(i).name, d,
                      shapes[i][d],
                      known.empty() ? expected[d].str() : fmt::format("{} = {} ({})", expected[d].str(), wanted, known),
                      to_string(expected)));
    }
  }

  // Ranges last, but with the place where the value came from.
  for (std::size_t i = 0; i < main.inputs.size(); ++i)
    for (std::size_t d = 0; d < value(i).shape.size(); ++d)
      for (const plan::Symbol& symbol : package.symbols) {
        const std::int64_t given = shapes[i][d];
        if (value(i).shape[d] == Extent::symbol(symbol.name) && (given < symbol.min || given > symbol.max))
          throw Error(
              ErrorCode::invalid_argument,
              fmt::format("input '{}': dimension {} ({}) is {}, outside {} to {}, for which the model was compiled",
                          value(i).name, d, symbol.name, given, symbol.min, symbol.max));
      }
  check_ranges(package, symbols);
  return symbols;
}

void check_ranges(const plan::Package& package, const SymbolValues& symbols) {
  for (const plan::Symbol& symbol : package.symbols) {
    const auto found = symbols.find(symbol.name);
    if (found == symbols.end())
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("symbolic extent '{}' has no value: no input has it as a dimension", symbol.name));
    if (found->second < symbol.min || found->second > symbol.max)
      throw Error(ErrorCode::invalid_argument, fmt::format("symbolic extent '{}' is {}, outside {} to {}", symbol.name,
                                                           found->second, symbol.min, symbol.max));
  }
}

}  // namespace heddle::runtime
