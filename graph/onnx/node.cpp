#include "graph/onnx/node.hpp"

#include <fmt/format.h>

#include "base/error.hpp"
#include "graph/onnx/importer.hpp"
#include "graph/onnx/tensors.hpp"

namespace heddle::graph::onnx_import {

std::optional<int> Scope::find(std::string_view name) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->outer)
    if (const auto found = scope->values.find(name); found != scope->values.end()) return found->second;
  return std::nullopt;
}

OnnxNode::OnnxNode(Importer& importer, Scope& scope, const ::onnx::NodeProto& proto)
    : importer_(importer), scope_(scope), proto_(proto) {
  const std::string domain = proto.domain() == "ai.onnx" ? "" : proto.domain();
  if (const auto found = scope.versions.find(domain); found != scope.versions.end()) version_ = found->second;
}

std::string OnnxNode::label() const {
  std::string name = proto_.name();
  for (int i = 0; name.empty() && i < proto_.output_size(); ++i) name = proto_.output(i);
  return scope_.prefix + (name.empty() ? proto_.op_type() : name);
}

void OnnxNode::fail(const std::string& reason) const { throw Error(ErrorCode::unsupported, reason); }

const ::onnx::AttributeProto* OnnxNode::attribute(std::string_view name) const {
  for (const auto& attribute : proto_.attribute()) {
    if (attribute.name() != name) continue;
    if (attribute.ref_attr_name().empty()) return &attribute;
    const auto given = scope_.attributes.find(attribute.ref_attr_name());
    return given == scope_.attributes.end() ? nullptr : given->second;
  }
  return nullptr;
}

namespace {

void require(const ::onnx::AttributeProto& attribute, ::onnx::AttributeProto::AttributeType type) {
  if (attribute.type() != type)
    throw Error(ErrorCode::corrupt, fmt::format("attribute '{}' is of type {} instead of {}", attribute.name(),
                                                ::onnx::AttributeProto_AttributeType_Name(attribute.type()),
                                                ::onnx::AttributeProto_AttributeType_Name(type)));
}

}  // namespace

std::int64_t OnnxNode::integer(std::string_view name, std::int64_t otherwise) const {
  const auto* found = attribute(name);
  if (found == nullptr) return otherwise;
  require(*found, ::onnx::AttributeProto::INT);
  return found->i();
}

double OnnxNode::real(std::string_view name, double otherwise) const {
  const auto* found = attribute(name);
  if (found == nullptr) return otherwise;
  require(*found, ::onnx::AttributeProto::FLOAT);
  return found->f();
}

std::string OnnxNode::text(std::string_view name, std::string otherwise) const {
  const auto* found = attribute(name);
  if (found == nullptr) return otherwise;
  require(*found, ::onnx::AttributeProto::STRING);
  return found->s();
}

std::vector<std::int64_t> OnnxNode::integers(std::string_view name, std::vector<std::int64_t> otherwise) const {
  const auto* found = attribute(name);
  if (found == nullptr) return otherwise;
  require(*found, ::onnx::AttributeProto::INTS);
  return {found->ints().begin(), found->ints().end()};
}

std::vector<double> OnnxNode::reals(std::string_view name) const {
  const auto* found = attribute(name);
  if (found == nullptr) return {};
  require(*found, ::onnx::AttributeProto::FLOATS);
  return {found->floats().begin(), found->floats().end()};
}

Array OnnxNode::tensor(std::string_view name) const {
  const auto* found = attribute(name);
  if (found == nullptr) throw Error(ErrorCode::corrupt, fmt::format("attribute '{}' is missing", name));
  require(*found, ::onnx::AttributeProto::TENSOR);
  if (has_four_bits(found->t().data_type())) dtype_of(found->t().data_type());  // says that there is no such type
  return importer_.model().array(found->t());
}

int OnnxNode::id(int i) const {
  if (!has_input(i)) throw Error(ErrorCode::corrupt, fmt::format("input {} is missing", i));
  if (const auto found = scope_.find(proto_.input(i))) return *found;
  throw Error(ErrorCode::corrupt, fmt::format("input '{}' is written by no node before this one", proto_.input(i)));
}

int OnnxNode::input(int i) const {
  const int value = id(i);
  if (is_shape_data(i))
    fail(
        fmt::format("'{}' is computed from symbolic dimensions and used as data, which needs a number; fix those "
                    "dimensions (--dim NAME=SIZE)",
                    proto_.input(i)));
  return value;
}

const TensorType& OnnxNode::type(int i) const { return type_of(id(i)); }
const TensorType& OnnxNode::type_of(int value) const { return importer_.graph().value(value).type; }

std::optional<Array> OnnxNode::constant(int i) const { return importer_.graph().value(id(i)).constant; }

const SymbolRanges& OnnxNode::symbols() const { return importer_.graph().symbols; }

bool OnnxNode::is_shape_data(int i) const { return importer_.shape_data(id(i)) != nullptr; }

ShapeData OnnxNode::shape_data(int i, std::string_view what) const {
  if (const ShapeData* known = importer_.shape_data(id(i))) return *known;
  if (const auto array = constant(i))
    if (auto data = ShapeData::of(*array)) return *data;
  fail(fmt::format("{} ('{}') depends on the data, so the sizes are not known before the model runs", what,
                   proto_.input(i)));
}

std::vector<Extent> OnnxNode::extents(int i, std::string_view what) const {
  if (auto list = shape_data(i, what).extents()) return *list;
  fail(fmt::format("{} ('{}') is not a whole number for every size", what, proto_.input(i)));
}

std::vector<std::int64_t> OnnxNode::constant_integers(int i, std::string_view what) const {
  std::vector<std::int64_t> values;
  for (const Extent& extent : extents(i, what)) {
    if (const auto fixed = extent.constant()) values.push_back(*fixed);
    else
      fail(fmt::format("{} ('{}') depends on a symbolic dimension; fix it (--dim NAME=SIZE)", what, proto_.input(i)));
  }
  return values;
}

double OnnxNode::constant_scalar(int i, std::string_view what) const {
  const auto array = constant(i);
  if (!array || array->size() != 1)
    fail(fmt::format("{} ('{}') must be one number known at compile time", what, proto_.input(i)));
  return array->at(0);
}

std::optional<std::vector<std::int64_t>> OnnxNode::axes(int i) const {
  if (has("axes")) return integers("axes");
  if (has_input(i)) return constant_integers(i, "the axes");
  return std::nullopt;
}

int OnnxNode::normal_axis(std::int64_t axis, int rank) const {
  if (axis < -rank || axis >= rank)
    throw Error(ErrorCode::invalid_argument, fmt::format("axis {} is outside of rank {}", axis, rank));
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

int OnnxNode::op(std::string_view name, const Json& attributes, std::vector<int> inputs) {
  return ops(name, attributes, std::move(inputs)).at(0);
}

std::vector<int> OnnxNode::ops(std::string_view name, const Json& attributes, std::vector<int> inputs) {
  return importer_.add_nodes(*this, name, attributes, std::move(inputs));
}

void OnnxNode::require_equal(const Extent& a, const Extent& b, std::string_view what) const {
  importer_.require_equal(a, b, what);
}

Json OnnxNode::shape_attribute(const std::vector<Extent>& extents) {
  Json list = Json::array();
  for (const Extent& extent : extents) list.push_back(extent.str());
  return list;
}

int OnnxNode::add_constant(Array array) {
  return importer_.graph().add_constant(label() + "~constant", std::move(array));
}

int OnnxNode::add_scalar(DType type, double value) {
  Array array(type, {});
  array.set(0, value);
  return add_constant(std::move(array));
}

void OnnxNode::set_result(int i, int value) {
  if (i < proto_.output_size() && !proto_.output(i).empty()) importer_.bind(scope_, proto_.output(i), value);
}

void OnnxNode::set_shape_result(int i, ShapeData data) {
  if (i >= proto_.output_size() || proto_.output(i).empty()) return;
  importer_.bind(scope_, proto_.output(i), importer_.add_shape_data(label() + "~shape", std::move(data)));
}

}  // namespace heddle::graph::onnx_import
