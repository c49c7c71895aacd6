#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "base/error.hpp"
#include "graph/arrays.hpp"
#include "graph/onnx/conversions.hpp"
#include "graph/onnx/importer.hpp"
#include "graph/onnx/tensors.hpp"

namespace heddle::graph::onnx_import {
namespace {

void convert_constant(OnnxNode& n) {
  if (n.has("value")) return n.set_result(n.add_constant(n.tensor("value")));
  const auto floats = [&](const std::vector<double>& values, Shape shape) {
    Array array(DType::f32, std::move(shape));
    for (std::size_t i = 0; i < values.size(); ++i) array.set(static_cast<std::int64_t>(i), values[i]);
    n.set_result(n.add_constant(std::move(array)));
  };
  if (n.has("value_int")) return n.set_result(n.add_constant(Array::of<std::int64_t>({}, {n.integer("value_int", 0)})));
  if (n.has("value_ints")) {
    const auto values = n.integers("value_ints");
    return n.set_result(n.add_constant(Array::of<std::int64_t>({static_cast<std::int64_t>(values.size())}, values)));
  }
  if (n.has("value_float")) return floats({n.real("value_float", 0)}, {});
  if (n.has("value_floats")) {
    const auto values = n.reals("value_floats");
    return floats(values, {static_cast<std::int64_t>(values.size())});
  }
  n.fail("it is neither a dense tensor nor numbers");
}

/// A tensor of one value: a constant where the shape is fixed, filled at run time where it is symbolic.
void convert_constant_of_shape(OnnxNode& n) {
  const std::vector<Extent> shape = n.extents(0, "the shape");
  const Array value = n.has("value") ? n.tensor("value") : Array(DType::f32, {1});
  if (value.size() != 1) throw Error(ErrorCode::corrupt, "its value is not one element");
  Shape fixed;
  for (const Extent& extent : shape)
    if (const auto constant = extent.constant()) fixed.push_back(*constant);
  if (fixed.size() != shape.size()) {
    return n.set_result(n.op("full",
                             {{"dtype", std::string(to_string(value.dtype()))},
                              {"shape", n.shape_attribute(shape)},
                              {"value", reflect::value_to_json(value.at(0))}},
                             {}));
  }
  n.set_result(n.add_constant(filled(value, fixed)));
}

void convert_shape(OnnxNode& n) {
  const auto& shape = n.type(0).shape;
  const auto rank = static_cast<std::int64_t>(shape.size());
  const auto clamp = [&](std::int64_t at) { return std::clamp<std::int64_t>(at < 0 ? at + rank : at, 0, rank); };
  ShapeData data{DType::i64, {}, {}};
  for (std::int64_t d = clamp(n.integer("start", 0)); d < clamp(n.integer("end", rank)); ++d)
    data.elements.push_back({shape[static_cast<std::size_t>(d)], 1});
  data.shape = {static_cast<std::int64_t>(data.elements.size())};
  n.set_shape_result(0, std::move(data));
}

void convert_size(OnnxNode& n) { n.set_shape_result(0, {DType::i64, {}, {{n.type(0).element_count(), 1}}}); }

void convert_range(OnnxNode& n) {
  const auto start = n.constant(0), delta = n.constant(2);
  if (!start || !delta || start->size() != 1 || delta->size() != 1)
    n.fail("its start and step must be numbers known at compile time");
  const double step = delta->at(0);
  if (step == 0) throw Error(ErrorCode::invalid_argument, "the step is 0");
  Extent count;
  if (const auto limit = n.constant(1)) {
    count = std::max<std::int64_t>(0, static_cast<std::int64_t>(std::ceil((limit->at(0) - start->at(0)) / step)));
  } else {
    const Extent end = n.extents(1, "the limit").at(0);
    if (step < 0 || step != std::floor(step) || start->at(0) != std::floor(start->at(0)))
      n.fail("up to a symbolic limit it counts in whole positive steps only");
    count = ceil_div(end - Extent(static_cast<std::int64_t>(start->at(0))), static_cast<std::int64_t>(step));
    if (count.bounds(n.symbols()).min < 0) count = max(count, 0);
  }
  n.set_result(n.op("iota",
                    {{"dtype", std::string(to_string(start->dtype()))},
                     {"extent", count.str()},
                     {"start", start->at(0)},
                     {"step", step}},
                    {}));
}

/// In inference these hand their operand on.
void convert_identity(OnnxNode& n) {
  if (n.op_type() == "Dropout" && n.version() >= 12 && n.has_input(2)) {
    const auto training = n.constant(2);
    if (!training || training->at(0) != 0) n.fail("training mode is not supported");
  }
  for (int i = 1; i < n.proto().output_size(); ++i)
    if (!n.proto().output(i).empty()) {
      // Dropout's mask: nothing is dropped.
      Array one(n.version() < 10 ? n.type(0).dtype : DType::boolean, {});
      one.set(0, 1);
      n.set_result(i,
                   n.op("expand", {{"shape", n.shape_attribute(n.type(0).shape)}}, {n.add_constant(std::move(one))}));
    }
  n.set_result(n.input(0));
}

void convert_cast(OnnxNode& n) {
  DType to;
  if (n.op_type() == "CastLike") {
    to = n.type(1).dtype;
  } else if (const auto* attribute = n.attribute("to");
             attribute != nullptr && attribute->type() == ::onnx::AttributeProto::STRING) {
    // Before version 6 the type is written as a text.
    ::onnx::TensorProto_DataType type;
    if (!::onnx::TensorProto_DataType_Parse(attribute->s(), &type))
      n.fail(fmt::format("element type '{}' is unknown", attribute->s()));
    to = dtype_of(type);
  } else {
    to = dtype_of(static_cast<int>(n.integer("to", 0)));
  }
  const int x = n.input(0);
  if (to == n.type(0).dtype) return n.set_result(x);
  n.set_result(n.op("cast", {{"to", std::string(to_string(to))}}, {x}));
}

/// The branch is chosen while reading, where its condition is known.
void convert_if(OnnxNode& n) {
  const auto condition = n.constant(0);
  if (!condition || condition->size() != 1) n.fail("its condition is not known at compile time");
  const std::string_view name = condition->at(0) != 0 ? "then_branch" : "else_branch";
  const auto* branch = n.attribute(name);
  if (branch == nullptr) throw Error(ErrorCode::corrupt, fmt::format("it has no {}", name));
  Scope inner;
  inner.versions = n.scope().versions;
  inner.attributes = n.scope().attributes;
  inner.prefix = n.label() + "/";
  inner.outer = &n.scope();
  n.importer().add_initializers(branch->g(), inner);
  n.importer().read_body(branch->g().node(), inner);
  for (int i = 0; i < branch->g().output_size(); ++i) {
    const auto value = inner.find(branch->g().output(i).name());
    if (!value)
      throw Error(ErrorCode::corrupt, fmt::format("its {} does not write '{}'", name, branch->g().output(i).name()));
    n.set_result(i, *value);
  }
}

constexpr std::array rows = {
    Conversion{"Cast", 1, newest_version, convert_cast},
    Conversion{"CastLike", 15, newest_version, convert_cast},
    Conversion{"Constant", 1, newest_version, convert_constant},
    Conversion{"ConstantOfShape", 9, newest_version, convert_constant_of_shape},
    Conversion{"Dropout", 1, newest_version, convert_identity},
    Conversion{"Identity", 1, newest_version, convert_identity},
    Conversion{"If", 1, newest_version, convert_if},
    Conversion{"Range", 11, newest_version, convert_range},
    Conversion{"Shape", 1, newest_version, convert_shape},
    Conversion{"Size", 1, newest_version, convert_size},
};

}  // namespace

std::span<const Conversion> constant_conversions() { return rows; }

}  // namespace heddle::graph::onnx_import
