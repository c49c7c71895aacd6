#include <spdlog/spdlog.h>

#include <fmt/format.h>

#include "base/error.hpp"
#include "graph/compile.hpp"
#include "graph/onnx/importer.hpp"

namespace heddle::graph {

Graph read_onnx(const std::filesystem::path& path, const Operators& operators, const ReadOptions& options) {
  const onnx_import::Model model(path);
  // Which multiples of its sizes a model needs is found by trying: powers of two up to the deepest halving that occurs.
  constexpr std::int64_t largest_multiple = 64;
  SymbolValues multiples;
  for (;;) {
    try {
      Graph graph = onnx_import::Importer(model, operators, options, multiples).run();
      for (const auto& [symbol, multiple] : multiples)
        spdlog::info("{}: dimension {} must be a multiple of {}", path.string(), symbol, multiple);
      return graph;
    } catch (const onnx_import::UnknownEquality& unknown) {
      for (const std::string& symbol : unknown.symbols) {
        std::int64_t& multiple = multiples.try_emplace(symbol, 1).first->second;
        multiple *= 2;
        if (multiple > largest_multiple)
          throw Error(
              ErrorCode::unsupported,
              fmt::format("{}\nThe shapes may be equal for some sizes of the symbolic dimensions ({}): fix one of "
                          "them (--dim {}=SIZE) or say what it is a multiple of (--dim {}=MIN:MAX:STEP).",
                          unknown.error.what(), fmt::join(unknown.symbols, ", "), symbol, symbol))
              .within(fmt::format("model '{}'", path.string()));
      }
    } catch (const Error& e) {
      throw e.within(fmt::format("model '{}'", path.string()));
    }
  }
}

}  // namespace heddle::graph
