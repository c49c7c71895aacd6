#include <cerrno>
#include <cstring>
#include <fstream>

#include <fmt/format.h>

#include "base/error.hpp"
#include "graph/onnx/importer.hpp"
#include "graph/onnx/tensors.hpp"

namespace heddle::graph::onnx_import {

Model::Model(const std::filesystem::path& path) : path_(path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error))
    throw Error(ErrorCode::invalid_argument, fmt::format("'{}' is a directory, not an ONNX model", path.string()));
  std::ifstream file(path, std::ios::binary);
  if (!file)
    throw Error(errno == ENOENT ? ErrorCode::not_found : ErrorCode::io,
                fmt::format("'{}' cannot be opened: {}", path.string(), std::strerror(errno)));
  const auto corrupt = [&](const std::string& why) {
    throw Error(ErrorCode::corrupt, fmt::format("'{}' is not a whole ONNX model: {}", path.string(), why));
  };
  if (!proto_.ParseFromIstream(&file)) corrupt("its bytes do not decode; it was cut short or is another format");
  if (!proto_.has_graph()) corrupt("it holds no graph");
  if (proto_.opset_import().empty()) corrupt("it names no operator set; it was cut short or is another format");
  if (proto_.graph().output().empty()) corrupt("its graph has no outputs");
}

std::string Model::name() const { return proto_.graph().name().empty() ? path_.stem().string() : proto_.graph().name(); }

const ::onnx::FunctionProto* Model::function(std::string_view domain, std::string_view name) const {
  for (const auto& function : proto_.functions())
    if (function.domain() == domain && function.name() == name) return &function;
  return nullptr;
}

const Array& Model::array(const ::onnx::TensorProto& tensor) const {
  auto found = arrays_.find(&tensor);
  if (found == arrays_.end()) {
    // The tensor is a part of proto_, which only this class hands out, and only as const.
    auto& own = const_cast<::onnx::TensorProto&>(tensor);  // NOLINT(cppcoreguidelines-pro-type-const-cast)
    found = arrays_.emplace(&tensor, take_array(own, path_.parent_path())).first;
  }
  return found->second;
}

}  // namespace heddle::graph::onnx_import
