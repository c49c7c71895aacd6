#pragma once
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph/compile.hpp"
#include "graph/graph.hpp"
#include "graph/onnx/node.hpp"
#include "graph/onnx/shape_data.hpp"
#include "onnx-ml.pb.h"

namespace heddle::graph::onnx_import {

/// A model in memory with its tensors turned into Arrays (each once, however often the graph is built from it).
class Model {
 public:
  /// Parses a file; throws Error{corrupt} if it is not a whole ONNX model.
  explicit Model(const std::filesystem::path& path);

  const ::onnx::ModelProto& proto() const { return proto_; }
  const ::onnx::FunctionProto* function(std::string_view domain, std::string_view name) const;
  const Array& array(const ::onnx::TensorProto& tensor) const;
  std::string name() const;

 private:
  std::filesystem::path path_;
  ::onnx::ModelProto proto_;
  // Filled as tensors are asked for; the protobuf's own bytes are given back then.
  mutable std::unordered_map<const ::onnx::TensorProto*, Array> arrays_;
};

/// The type rules could not show that two symbolic extents are equal. They may be if these symbols are multiples of
/// something: a detector that halves and doubles its image needs sizes divisible by 32.
struct UnknownEquality {
  std::set<std::string> symbols;  ///< of the model's inputs
  Error error;
};

/// Builds the Graph of one model. `multiples`: symbols that are known to be multiples of a number.
class Importer {
 public:
  Importer(const Model& model, const Operators& operators, const ReadOptions& options, SymbolValues multiples);
  Graph run();

  // For conversions.
  const Model& model() const { return model_; }
  const Operators& operators() const { return operators_; }
  Graph& graph() { return graph_; }
  void read_body(const google::protobuf::RepeatedPtrField<::onnx::NodeProto>& nodes, Scope& scope);
  void add_initializers(const ::onnx::GraphProto& proto, Scope& scope);
  std::vector<int> add_nodes(const OnnxNode& at, std::string_view op, const Json& attributes, std::vector<int> inputs);
  void bind(Scope& scope, const std::string& onnx_name, int value);
  void require_equal(const Extent& a, const Extent& b, std::string_view what) const;
  const ShapeData* shape_data(int value) const;
  int add_shape_data(std::string name, ShapeData data);

 private:
  void read_inputs(const ::onnx::GraphProto& proto, Scope& scope);
  Extent input_extent(const std::string& input, int axis, const ::onnx::TensorShapeProto::Dimension& dimension);
  Extent symbol(const std::string& model_name, const std::vector<std::string>& keys);
  void read_outputs(const ::onnx::GraphProto& proto, const Scope& scope);
  void read_node(const ::onnx::NodeProto& proto, Scope& scope);
  void call_function(OnnxNode& node, const ::onnx::FunctionProto& function);
  void call_custom(OnnxNode& node, const Operator& op);
  void require_whole_bytes(OnnxNode& node) const;
  bool evaluate_shape_arithmetic(OnnxNode& node);
  std::optional<std::vector<Array>> fold(const Operator& op, const Json& attributes,
                                         const std::vector<int>& inputs) const;
  [[noreturn]] void explain(const Error& error, const std::vector<int>& inputs) const;

  const Model& model_;
  const Operators& operators_;
  const ReadOptions& options_;
  SymbolValues multiples_;
  Graph graph_;
  std::unordered_map<int, ShapeData> shapes_;  ///< of values computed from symbolic extents
  std::map<std::string, Extent> symbols_;      ///< by the model's name
  std::map<std::string, std::string> base_;    ///< of a symbol that stands for a part of another: H_32 -> H
  std::set<std::string> used_keys_;            ///< of options_.dimensions and multiples
  std::set<int> bound_;                        ///< values that carry their ONNX name
  std::set<int> four_bits_;                    ///< constants that are bytes here
};

}  // namespace heddle::graph::onnx_import
