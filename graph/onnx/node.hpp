#pragma once
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/array.hpp"
#include "dsl/operator.hpp"
#include "graph/graph.hpp"
#include "graph/onnx/shape_data.hpp"
#include "onnx-ml.pb.h"

namespace heddle::graph::onnx_import {

class Importer;

/// A graph's or function's body while it is read: what its names stand for.
struct Scope {
  std::map<std::string, int, std::less<>> values;    ///< ONNX name -> value of the Graph
  std::map<std::string, int, std::less<>> versions;  ///< operator set version by domain; "" is ONNX's own
  /// A function's attributes, given by its caller; its nodes refer to them by name.
  std::map<std::string, const ::onnx::AttributeProto*, std::less<>> attributes;
  std::string prefix;            ///< before every name that is made up inside; empty at the top
  const Scope* outer = nullptr;  ///< of a subgraph: its names are visible

  std::optional<int> find(std::string_view name) const;
};

/// One ONNX node while it is converted: its attributes and operands on one side, the nodes that it becomes on the
/// other.
class OnnxNode {
 public:
  OnnxNode(Importer& importer, Scope& scope, const ::onnx::NodeProto& proto);

  const std::string& op_type() const { return proto_.op_type(); }
  const ::onnx::NodeProto& proto() const { return proto_; }
  Scope& scope() { return scope_; }
  Importer& importer() { return importer_; }
  int version() const { return version_; }                  ///< of the operator set that the node was written against
  std::string label() const;                                ///< the node's name, or its first output's
  [[noreturn]] void fail(const std::string& reason) const;  ///< Error{unsupported}; the caller adds the node's name

  // Attributes. A default is returned where the node has none.
  bool has(std::string_view name) const { return attribute(name) != nullptr; }
  const ::onnx::AttributeProto* attribute(std::string_view name) const;
  std::int64_t integer(std::string_view name, std::int64_t otherwise) const;
  double real(std::string_view name, double otherwise) const;
  std::string text(std::string_view name, std::string otherwise) const;
  std::vector<std::int64_t> integers(std::string_view name, std::vector<std::int64_t> otherwise = {}) const;
  std::vector<double> reals(std::string_view name) const;
  Array tensor(std::string_view name) const;  ///< throws Error{corrupt} if there is none

  // Operands.
  int input_count() const { return proto_.input_size(); }
  bool has_input(int i) const { return i < proto_.input_size() && !proto_.input(i).empty(); }
  int input(int i) const;  ///< as data; throws Error{unsupported} if it is a computed shape
  const TensorType& type(int i) const;
  const TensorType& type_of(int value) const;
  int rank(int i) const { return type(i).rank(); }
  std::optional<Array> constant(int i) const;
  /// Operand i, whose values decide shapes (`what`, for messages: "the new shape"): throws Error{unsupported} if they
  /// depend on data.
  ShapeData shape_data(int i, std::string_view what) const;
  bool is_shape_data(int i) const;  ///< computed from symbolic extents, so without numbers
  std::vector<Extent> extents(int i, std::string_view what) const;
  std::vector<std::int64_t> constant_integers(int i, std::string_view what) const;
  double constant_scalar(int i, std::string_view what) const;
  /// Axes that are an attribute in old operator sets and operand `i` in new ones.
  std::optional<std::vector<std::int64_t>> axes(int i) const;
  /// 0 <= axis < rank; throws Error{invalid_argument}.
  int normal_axis(std::int64_t axis, int rank) const;

  const SymbolRanges& symbols() const;

  // Results.
  /// Appends a node of the catalog; folded at once where every operand is a small constant. Returns its output.
  int op(std::string_view name, const Json& attributes, std::vector<int> inputs);
  std::vector<int> ops(std::string_view name, const Json& attributes, std::vector<int> inputs);
  /// Throws unless a and b are equal for every size (naming the symbols that a multiple might make so).
  void require_equal(const Extent& a, const Extent& b, std::string_view what) const;
  /// Extents as an attribute.
  static Json shape_attribute(const std::vector<Extent>& extents);
  int add_constant(Array array);
  int add_scalar(DType type, double value);
  void set_result(int i, int value);
  void set_result(int value) { set_result(0, value); }
  void set_shape_result(int i, ShapeData data);

 private:
  int id(int i) const;

  Importer& importer_;
  Scope& scope_;
  const ::onnx::NodeProto& proto_;
  int version_ = 0;
};

}  // namespace heddle::graph::onnx_import
