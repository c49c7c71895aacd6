#include "tests/graph/onnx_builder.hpp"

#include <fstream>

namespace heddle::graph {

Array floats(Shape shape, std::vector<float> values) { return Array::of<float>(std::move(shape), std::move(values)); }

Array ints(std::vector<std::int64_t> values) {
  const auto count = static_cast<std::int64_t>(values.size());
  return Array::of<std::int64_t>({count}, std::move(values));
}

Array counting(Shape shape) {
  Array array(DType::f32, std::move(shape));
  for (std::int64_t i = 0; i < array.size(); ++i) array.set(i, static_cast<double>(i));
  return array;
}

OnnxBuilder::OnnxBuilder(int opset) {
  model.set_ir_version(8);
  model.add_opset_import()->set_version(opset);
  model.mutable_graph()->set_name("test");
}

int OnnxBuilder::element_type(DType type) {
  switch (type) {
    case DType::f32: return ::onnx::TensorProto::FLOAT;
    case DType::f64: return ::onnx::TensorProto::DOUBLE;
    case DType::i64: return ::onnx::TensorProto::INT64;
    case DType::i32: return ::onnx::TensorProto::INT32;
    case DType::i8: return ::onnx::TensorProto::INT8;
    case DType::u8: return ::onnx::TensorProto::UINT8;
    case DType::boolean: return ::onnx::TensorProto::BOOL;
    default: throw Error(ErrorCode::unsupported, "no such type in these tests");
  }
}

void OnnxBuilder::set_tensor(::onnx::TensorProto& tensor, const Array& array) {
  tensor.set_data_type(element_type(array.dtype()));
  for (const std::int64_t extent : array.shape()) tensor.add_dims(extent);
  tensor.set_raw_data(array.data(), array.bytes());
}

OnnxBuilder& OnnxBuilder::input(const std::string& name, DType type, const std::vector<Dimension>& shape) {
  auto* value = model.mutable_graph()->add_input();
  value->set_name(name);
  auto* tensor = value->mutable_type()->mutable_tensor_type();
  tensor->set_elem_type(element_type(type));
  tensor->mutable_shape();
  for (const Dimension& dimension : shape) {
    auto* dim = tensor->mutable_shape()->add_dim();
    if (const int* fixed = std::get_if<int>(&dimension)) dim->set_dim_value(*fixed);
    else dim->set_dim_param(std::get<std::string>(dimension));
  }
  return *this;
}

OnnxBuilder& OnnxBuilder::initializer(const std::string& name, const Array& array) {
  auto* tensor = model.mutable_graph()->add_initializer();
  tensor->set_name(name);
  set_tensor(*tensor, array);
  return *this;
}

void OnnxBuilder::add_node(::onnx::NodeProto& proto, const std::string& op_type, const std::vector<std::string>& inputs,
                           const std::vector<std::string>& outputs, const Attributes& attributes,
                           const std::string& domain) {
  proto.set_op_type(op_type);
  proto.set_domain(domain);
  proto.set_name(op_type + "_" + (outputs.empty() ? "" : outputs[0]));
  for (const auto& name : inputs) proto.add_input(name);
  for (const auto& name : outputs) proto.add_output(name);
  for (const auto& [name, value] : attributes) {
    auto* attribute = proto.add_attribute();
    attribute->set_name(name);
    if (const auto* i = std::get_if<std::int64_t>(&value)) {
      attribute->set_type(::onnx::AttributeProto::INT);
      attribute->set_i(*i);
    } else if (const auto* f = std::get_if<float>(&value)) {
      attribute->set_type(::onnx::AttributeProto::FLOAT);
      attribute->set_f(*f);
    } else if (const auto* s = std::get_if<std::string>(&value)) {
      attribute->set_type(::onnx::AttributeProto::STRING);
      attribute->set_s(*s);
    } else if (const auto* list = std::get_if<std::vector<std::int64_t>>(&value)) {
      attribute->set_type(::onnx::AttributeProto::INTS);
      for (const std::int64_t element : *list) attribute->add_ints(element);
    } else if (const auto* reals = std::get_if<std::vector<float>>(&value)) {
      attribute->set_type(::onnx::AttributeProto::FLOATS);
      for (const float element : *reals) attribute->add_floats(element);
    } else {
      attribute->set_type(::onnx::AttributeProto::TENSOR);
      set_tensor(*attribute->mutable_t(), std::get<Array>(value));
    }
  }
}

OnnxBuilder& OnnxBuilder::node(const std::string& op_type, const std::vector<std::string>& inputs,
                               const std::vector<std::string>& outputs, const Attributes& attributes,
                               const std::string& domain) {
  add_node(*model.mutable_graph()->add_node(), op_type, inputs, outputs, attributes, domain);
  return *this;
}

OnnxBuilder& OnnxBuilder::output(const std::string& name) {
  model.mutable_graph()->add_output()->set_name(name);
  return *this;
}

std::filesystem::path OnnxBuilder::write(const std::filesystem::path& directory) const {
  const auto path = directory / "model.onnx";
  std::ofstream file(path, std::ios::binary);
  model.SerializeToOstream(&file);
  return path;
}

Graph OnnxBuilder::read(const ReadOptions& options) const {
  const TemporaryDirectory directory;
  const Operators operators;
  return read_onnx(write(directory.path()), operators, options);
}

}  // namespace heddle::graph
