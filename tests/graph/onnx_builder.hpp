#pragma once
#include <filesystem>
#include <string>
#include <variant>
#include <vector>

#include "base/array.hpp"
#include "base/file.hpp"
#include "graph/compile.hpp"
#include "onnx-ml.pb.h"

namespace heddle::graph {

/// Writes small ONNX models for tests of the reader.
class OnnxBuilder {
 public:
  using Attribute =
      std::variant<std::int64_t, float, std::string, std::vector<std::int64_t>, std::vector<float>, Array>;
  using Attributes = std::vector<std::pair<std::string, Attribute>>;
  using Dimension = std::variant<int, std::string>;  ///< a size (-1: unknown) or a name ("" unnamed)

  explicit OnnxBuilder(int opset = 17);

  OnnxBuilder& input(const std::string& name, DType type, const std::vector<Dimension>& shape);
  OnnxBuilder& initializer(const std::string& name, const Array& array);
  OnnxBuilder& node(const std::string& op_type, const std::vector<std::string>& inputs,
                    const std::vector<std::string>& outputs, const Attributes& attributes = {},
                    const std::string& domain = "");
  OnnxBuilder& output(const std::string& name);

  std::filesystem::path write(const std::filesystem::path& directory) const;
  Graph read(const ReadOptions& options = {}) const;

  ::onnx::ModelProto model;

  static int element_type(DType type);
  static void set_tensor(::onnx::TensorProto& tensor, const Array& array);
  static void add_node(::onnx::NodeProto& proto, const std::string& op_type, const std::vector<std::string>& inputs,
                       const std::vector<std::string>& outputs, const Attributes& attributes,
                       const std::string& domain);
};

Array floats(Shape shape, std::vector<float> values);
Array ints(std::vector<std::int64_t> values);  ///< a vector of i64
Array counting(Shape shape);                   ///< 0, 1, 2, ... in f32

}  // namespace heddle::graph
