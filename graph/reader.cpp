#include <fmt/format.h>

#include "base/error.hpp"
#include "graph/compile.hpp"

namespace heddle::graph {

Graph read_model(const std::filesystem::path& path, const Operators& operators, const ReadOptions& options) {
  // ONNX is the one format so far, and has no magic number to tell it by: its reader says what the file is not.
  return read_onnx(path, operators, options);
}

}  // namespace heddle::graph
