#include "graph/onnx/importer.hpp"

#include <algorithm>
#include <cctype>
#include <iterator>

#include <fmt/format.h>

#include "base/error.hpp"
#include "graph/onnx/conversions.hpp"
#include "graph/onnx/tensors.hpp"

namespace heddle::graph::onnx_import {
namespace {

/// Small constants are folded while reading, because operands that decide shapes are often computed from them. Large
/// ones are left to the folding pass.
constexpr std::int64_t most_folded_elements = 4096;

std::string normal_domain(const std::string& domain) { return domain == "ai.onnx" ? "" : domain; }

/// A name that Extent takes: "p2o.DynamicDimension.0" -> "p2o_DynamicDimension_0".
std::string identifier(std::string_view name) {
  std::string text;
  for (const char c : name) text += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  if (text.empty() || std::isdigit(static_cast<unsigned char>(text[0])) != 0) text.insert(text.begin(), '_');
  return text;
}

/// A user's operator for an ONNX one: the same name, or in snake case (MyBlur -> my_blur).
const Operator* find_custom(const Operators& operators, const std::string& op_type) {
  if (const Operator* op = operators.find(op_type)) return op;
  std::string snake;
  for (const char c : op_type) {
    const bool upper = std::isupper(static_cast<unsigned char>(c)) != 0;
    if (upper && !snake.empty() && snake.back() != '_') snake += '_';
    snake += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return operators.find(snake);
}

std::string describe(const OnnxNode& node) {
  const std::string domain = normal_domain(node.proto().domain());
  return fmt::format("node '{}': operator {} of {}, version {}", node.label(), node.op_type(),
                     domain.empty() ? "ONNX" : fmt::format("domain '{}'", domain), node.version());
}

/// The symbols that decide whether two extents are equal: those of one side alone if there are such (a factor N on both
/// sides decides nothing).
std::set<std::string> undecided(const Extent& a, const Extent& b) {
  const std::set<std::string> left = a.symbols(), right = b.symbols();
  std::set<std::string> one_side;
  std::set_symmetric_difference(left.begin(), left.end(), right.begin(), right.end(),
                                std::inserter(one_side, one_side.end()));
  return one_side.empty() ? (a - b).symbols() : one_side;
}

}  // namespace

Importer::Importer(const Model& model, const Operators& operators, const ReadOptions& options, SymbolValues multiples)
    : model_(model), operators_(operators), options_(options), multiples_(std::move(multiples)) {}

Graph Importer::run() {
  const ::onnx::GraphProto& proto = model_.proto().graph();
  graph_.name = model_.name();
  Scope scope;
  for (const auto& import : model_.proto().opset_import())
    scope.versions[normal_domain(import.domain())] = static_cast<int>(import.version());
  add_initializers(proto, scope);
  read_inputs(proto, scope);
  read_body(proto.node(), scope);
  read_outputs(proto, scope);
  Graph result = compact(graph_);
  result.check();
  return result;
}

void Importer::add_initializers(const ::onnx::GraphProto& proto, Scope& scope) {
  if (proto.sparse_initializer_size() > 0)
    throw Error(ErrorCode::unsupported,
                fmt::format("sparse initializer '{}' is not supported", proto.sparse_initializer(0).values().name()));
  for (const auto& tensor : proto.initializer()) {
    const int value = graph_.add_constant(scope.prefix + tensor.name(), model_.array(tensor));
    if (has_four_bits(tensor.data_type())) four_bits_.insert(value);
    bind(scope, tensor.name(), value);
  }
}

/// What computes with 4-bit integers, or makes some, would have to know that they are.
void Importer::require_whole_bytes(OnnxNode& node) const {
  if (node.op_type() == "DequantizeLinear") return;
  for (int i = 0; i < node.input_count(); ++i)
    if (node.has_input(i) && four_bits_.contains(node.scope().find(node.proto().input(i)).value_or(-1)))
      node.fail(fmt::format("'{}' holds 4-bit integers, which DequantizeLinear alone takes", node.proto().input(i)));
}

void Importer::read_inputs(const ::onnx::GraphProto& proto, Scope& scope) {
  std::vector<std::string> known_keys;
  for (const auto& input : proto.input()) {
    if (scope.values.contains(input.name())) continue;  // an initializer listed as input too: old models list all
    if (!input.type().has_tensor_type())
      throw Error(ErrorCode::unsupported, fmt::format("input '{}' is not a tensor", input.name()));
    const auto& type = input.type().tensor_type();
    Value v;
    v.name = input.name();
    v.origin = input.name();
    v.type.dtype = dtype_of(type.elem_type());
    if (v.type.dtype == DType::string)
      throw Error(ErrorCode::unsupported, fmt::format("input '{}' holds strings", input.name()));
    if (!type.has_shape())
      throw Error(ErrorCode::unsupported,
                  fmt::format("input '{}' has no rank; run ONNX's shape inference on the model", input.name()));
    for (int axis = 0; axis < type.shape().dim_size(); ++axis) {
      known_keys.push_back(fmt::format("{}:{}", input.name(), axis));
      if (const std::string& param = type.shape().dim(axis).dim_param(); !param.empty()) {
        known_keys.push_back(param);
        known_keys.push_back(identifier(param));
      }
      known_keys.push_back(identifier(fmt::format("{}_{}", input.name(), axis)));
      v.type.shape.push_back(input_extent(input.name(), axis, type.shape().dim(axis)));
    }
    const int id = graph_.add_value(std::move(v));
    graph_.inputs.push_back(id);
    bound_.insert(id);
    scope.values[input.name()] = id;
  }
  const auto check_used = [&](const std::string& key) {
    if (!used_keys_.contains(key))
      throw Error(
          ErrorCode::invalid_argument,
          fmt::format(
              "the model has no symbolic dimension '{}'{}; it is named by the model's name for it or as INPUT:AXIS",
              key, did_you_mean(key, known_keys)));
  };
  for (const auto& [key, range] : options_.dimensions) check_used(key);
  for (const auto& [key, multiple] : options_.multiples) check_used(key);
}

Extent Importer::input_extent(const std::string& input, int axis,
                              const ::onnx::TensorShapeProto::Dimension& dimension) {
  const std::string position = fmt::format("{}:{}", input, axis);
  if (dimension.has_dim_value() && dimension.dim_value() > 0) {
    const auto given = options_.dimensions.find(position);
    if (given != options_.dimensions.end()) {
      if (given->second != Range{dimension.dim_value(), dimension.dim_value()})
        throw Error(ErrorCode::invalid_argument,
                    fmt::format("dimension {} is fixed at {} by the model", position, dimension.dim_value()));
      used_keys_.insert(position);
    }
    return dimension.dim_value();
  }
  const std::string& param = dimension.dim_param();
  const bool named = std::any_of(param.begin(), param.end(), [](unsigned char c) { return std::isalnum(c) != 0; });
  const std::string own = fmt::format("{}_{}", input, axis);
  if (!named) return symbol(own, {position, identifier(own)});
  return symbol(param, {position, param, identifier(param)});
}

Extent Importer::symbol(const std::string& model_name, const std::vector<std::string>& keys) {
  if (const auto known = symbols_.find(model_name); known != symbols_.end()) {
    // A second place of the same dimension: its keys are good as well.
    for (const std::string& key : keys)
      if (options_.dimensions.contains(key) || options_.multiples.contains(key)) used_keys_.insert(key);
    return known->second;
  }
  constexpr std::int64_t default_max = 4096;
  Range range{1, default_max};
  std::int64_t multiple = 1;
  for (const std::string& key : keys) {
    if (const auto given = options_.dimensions.find(key); given != options_.dimensions.end()) {
      range = given->second;
      used_keys_.insert(key);
    }
    if (const auto given = options_.multiples.find(key); given != options_.multiples.end()) {
      multiple = given->second;
      used_keys_.insert(key);
    }
  }
  if (range.min < 1 || range.max < range.min || multiple < 1)
    throw Error(ErrorCode::invalid_argument, fmt::format("dimension '{}' cannot be {} to {} in steps of {}", model_name,
                                                         range.min, range.max, multiple));
  std::string name = identifier(model_name);
  while (graph_.symbols.contains(name) || base_.contains(name)) name += "_";
  if (const auto found = multiples_.find(name); found != multiples_.end()) multiple = std::max(multiple, found->second);
  Extent extent = range.min;
  if (range.min != range.max) {
    const std::string part = multiple == 1 ? name : fmt::format("{}_{}", name, multiple);
    const Range parts{(range.min + multiple - 1) / multiple, range.max / multiple};
    if (parts.max < parts.min)
      throw Error(ErrorCode::invalid_argument, fmt::format("dimension '{}' has no multiple of {} between {} and {}",
                                                           model_name, multiple, range.min, range.max));
    base_[part] = name;
    if (parts.min == parts.max) {
      extent = parts.min * multiple;
    } else {
      graph_.symbols[part] = parts;
      extent = Extent(multiple) * Extent::symbol(part);
    }
  }
  symbols_[model_name] = extent;
  return extent;
}

void Importer::read_outputs(const ::onnx::GraphProto& proto, const Scope& scope) {
  std::set<int> taken(graph_.inputs.begin(), graph_.inputs.end());
  for (const auto& output : proto.output()) {
    const auto found = scope.find(output.name());
    if (!found) throw Error(ErrorCode::corrupt, fmt::format("output '{}' is written by no node", output.name()));
    int id = *found;
    if (shape_data(id) != nullptr)
      throw Error(
          ErrorCode::unsupported,
          fmt::format("output '{}' is computed from symbolic dimensions; fix them (--dim NAME=SIZE)", output.name()));
    // An input or constant that is handed through, or one tensor under two names, needs bytes of its own.
    if (taken.contains(id) || graph_.value(id).constant || graph_.value(id).name != output.name()) {
      const bool free = !taken.contains(id) && !graph_.value(id).constant;
      const bool unique = std::none_of(graph_.values.begin(), graph_.values.end(),
                                       [&](const Value& v) { return v.name == output.name(); });
      if (free && unique) graph_.value(id).name = output.name();
      else
        id = graph_.add_node(output.name() + "~copy", operators_.get("copy"), Json::object(), {id}, {output.name()})
                 .at(0);
      if (graph_.value(id).origin.empty()) graph_.value(id).origin = output.name();
    }
    taken.insert(id);
    graph_.outputs.push_back(id);
  }
}

void Importer::read_body(const google::protobuf::RepeatedPtrField<::onnx::NodeProto>& nodes, Scope& scope) {
  for (const auto& proto : nodes) read_node(proto, scope);
}

void Importer::read_node(const ::onnx::NodeProto& proto, Scope& scope) {
  OnnxNode node(*this, scope, proto);
  try {
    const std::string domain = normal_domain(proto.domain());
    require_whole_bytes(node);
    if (const auto* function = model_.function(proto.domain(), proto.op_type())) return call_function(node, *function);
    if (!domain.empty())
      if (const Operator* op = find_custom(operators_, proto.op_type())) return call_custom(node, *op);
    const Conversion* conversion = find_conversion(domain, proto.op_type());
    if (conversion == nullptr)
      node.fail(domain.empty() ? "Heddle does not have this operator"
                               : "no operator of this name is loaded; load a module that has one (--ops MODULE.so)");
    if (!scope.versions.contains(domain))
      throw Error(ErrorCode::corrupt, fmt::format("the model imports no version of {} operator set",
                                                  domain.empty() ? "ONNX's" : domain + "'s"));
    if (node.version() < conversion->first || node.version() > conversion->last)
      node.fail(
          fmt::format("this operator is handled in versions {} to {}; convert the model with onnx.version_converter",
                      conversion->first, conversion->last));
    if (evaluate_shape_arithmetic(node)) return;
    conversion->convert(node);
  } catch (const Error& e) {
    throw e.within(describe(node));
  } catch (UnknownEquality& unknown) {
    unknown.error = unknown.error.within(describe(node));
    throw;
  }
}

void Importer::call_function(OnnxNode& node, const ::onnx::FunctionProto& function) {
  Scope inner;
  inner.prefix = node.label() + "/";
  for (const auto& import : function.opset_import())
    inner.versions[normal_domain(import.domain())] = static_cast<int>(import.version());
  for (const auto& attribute : function.attribute_proto()) inner.attributes[attribute.name()] = &attribute;
  for (const auto& attribute : node.proto().attribute())
    if (const auto* given = node.attribute(attribute.name())) inner.attributes[attribute.name()] = given;
  for (int i = 0; i < function.input_size() && i < node.input_count(); ++i) {
    if (!node.has_input(i)) continue;
    const auto value = node.scope().find(node.proto().input(i));
    if (!value)
      throw Error(ErrorCode::corrupt,
                  fmt::format("input '{}' is written by no node before this one", node.proto().input(i)));
    inner.values[function.input(i)] = *value;
  }
  read_body(function.node(), inner);
  for (int i = 0; i < function.output_size() && i < node.proto().output_size(); ++i) {
    const auto value = inner.find(function.output(i));
    if (!value)
      throw Error(ErrorCode::corrupt,
                  fmt::format("function {} does not write its output '{}'", function.name(), function.output(i)));
    if (!node.proto().output(i).empty()) bind(node.scope(), node.proto().output(i), *value);
  }
}

void Importer::call_custom(OnnxNode& node, const Operator& op) {
  Json attributes = Json::object();
  for (const auto& attribute : node.proto().attribute()) {
    const auto* given = node.attribute(attribute.name());
    if (given == nullptr) continue;
    using Type = ::onnx::AttributeProto;
    Json& value = attributes[attribute.name()];
    switch (given->type()) {
      case Type::INT: value = given->i(); break;
      case Type::FLOAT: value = static_cast<double>(given->f()); break;
      case Type::STRING: value = given->s(); break;
      case Type::INTS: value = std::vector<std::int64_t>(given->ints().begin(), given->ints().end()); break;
      case Type::FLOATS: value = std::vector<double>(given->floats().begin(), given->floats().end()); break;
      case Type::STRINGS: value = std::vector<std::string>(given->strings().begin(), given->strings().end()); break;
      default: node.fail(fmt::format("attribute '{}' is neither a number nor a text", attribute.name()));
    }
  }
  // ONNX has no booleans among its attributes: a flag is written as 0 or 1.
  for (const auto& member : op.attributes())
    if (member.type == "flag" && attributes.contains(member.name) && attributes[member.name].is_number_integer())
      attributes[member.name] = attributes[member.name].get<std::int64_t>() != 0;
  std::vector<int> inputs;
  for (int i = 0; i < node.input_count(); ++i)
    if (node.has_input(i)) inputs.push_back(node.input(i));
  const std::vector<int> outputs = add_nodes(node, op.name(), attributes, inputs);
  for (std::size_t i = 0; i < outputs.size(); ++i) node.set_result(static_cast<int>(i), outputs[i]);
}

bool Importer::evaluate_shape_arithmetic(OnnxNode& node) {
  if (!is_shape_operator(node.op_type())) return false;
  bool symbolic = false;
  for (int i = 0; i < node.input_count(); ++i) symbolic = symbolic || (node.has_input(i) && node.is_shape_data(i));
  if (!symbolic) return false;
  // Reshape and Expand with a computed shape but a real tensor: their conversion takes the shape as an attribute.
  for (int i = 0; i < node.input_count(); ++i)
    if (node.has_input(i) && !node.is_shape_data(i)) {
      const auto array = node.constant(i);
      if (!array || !ShapeData::of(*array)) return false;
    }
  ShapeCall call;
  call.op_type = node.op_type();
  call.symbols = graph_.symbols;
  for (int i = 0; i < node.input_count(); ++i)
    call.operands.push_back(node.has_input(i) ? std::optional(node.shape_data(i, "an operand")) : std::nullopt);
  const std::string& type = node.op_type();
  // Constant data of a shape that is symbolic (Expand of 1 to [N]) is data.
  if (type == "Expand" || type == "Reshape")
    for (const Fraction& f : call.operands.at(1)->elements)
      if (!f.constant()) return false;
  if (type == "Cast") call.to = dtype_of(static_cast<int>(node.integer("to", 0)));
  if (type == "Squeeze" || type == "Unsqueeze") call.axes = node.axes(1).value_or(std::vector<std::int64_t>{});
  if (type == "ReduceProd" || type == "ReduceSum" || type == "ReduceMin" || type == "ReduceMax")
    call.keep_dims = node.integer("keepdims", 1) != 0;
  if (type == "Slice") {
    const bool old = node.has("starts");
    call.starts = old ? node.integers("starts") : node.constant_integers(1, "the start of a slice of a shape");
    call.ends = old ? node.integers("ends") : node.constant_integers(2, "the end of a slice of a shape");
    if (!old && node.has_input(4)) call.steps = node.constant_integers(4, "the step of a slice of a shape");
    if (call.starts.size() != 1 || call.ends.size() != 1) node.fail("a computed shape is sliced along several axes");
  }
  if (type == "Split") {
    const auto count = static_cast<std::int64_t>(call.operands.at(0)->elements.size());
    if (node.has("split")) call.sizes = node.integers("split");
    else if (node.has_input(1)) call.sizes = node.constant_integers(1, "the sizes of a split");
    const std::int64_t parts = node.proto().output_size();
    const std::int64_t each = (count + parts - 1) / parts;
    for (std::int64_t at = 0; call.sizes.size() < static_cast<std::size_t>(parts); at += each)
      call.sizes.push_back(std::min(each, count - at));
  }
  std::vector<ShapeData> results = evaluate_shape(call);
  for (std::size_t i = 0; i < results.size(); ++i) node.set_shape_result(static_cast<int>(i), std::move(results[i]));
  return true;
}

std::optional<std::vector<Array>> Importer::fold(const Operator& op, const Json& attributes,
                                                 const std::vector<int>& inputs) const {
  // Quantised weights are worth more than the floats that they stand for; the passes see to those that are not.
  if (op.name() == "dequantize") return std::nullopt;
  std::vector<Array> arrays;
  std::vector<TensorType> types;
  for (const int id : inputs) {
    const auto& constant = graph_.value(id).constant;
    if (!constant || constant->size() > most_folded_elements) return std::nullopt;
    arrays.push_back(*constant);
    types.push_back(graph_.value(id).type);
  }
  for (const TensorType& type : op.infer(attributes, types)) {
    const auto count = type.element_count().constant();
    if (!count || *count > most_folded_elements) return std::nullopt;
  }
  return op.evaluate(attributes, arrays);
}

std::vector<int> Importer::add_nodes(const OnnxNode& at, std::string_view op_name, const Json& attributes,
                                     std::vector<int> inputs) {
  const Operator& op = operators_.get(op_name);
  const std::string name = fmt::format("{}~{}", at.label(), op_name);
  try {
    const Json canonical = op.canonical(attributes);
    if (const auto folded = fold(op, canonical, inputs)) {
      std::vector<int> ids;
      for (const Array& array : *folded) ids.push_back(graph_.add_constant(name, array));
      return ids;
    }
    const std::vector<int> outputs = graph_.add_node(at.label(), op, canonical, inputs, {});
    return outputs;
  } catch (const Error& e) {
    explain(e, inputs);
  }
}

void Importer::explain(const Error& error, const std::vector<int>& inputs) const {
  std::set<std::string> unknown;
  const auto collect = [&](const Extent& x, const Extent& y) {
    for (const std::string& symbol : undecided(x, y)) unknown.insert(base_.at(symbol));
  };
  for (std::size_t i = 0; i < inputs.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) {
      const auto& a = graph_.value(inputs[i]).type.shape;
      const auto& b = graph_.value(inputs[j]).type.shape;
      for (std::size_t d = 1; d <= std::min(a.size(), b.size()); ++d) {
        const Extent& x = a[a.size() - d];
        const Extent& y = b[b.size() - d];
        if (x == y || x == Extent(1) || y == Extent(1)) continue;
        collect(x, y);
      }
    }
  if (error.code() == ErrorCode::invalid_argument && !unknown.empty()) throw UnknownEquality{unknown, error};
  throw error;
}

void Importer::require_equal(const Extent& a, const Extent& b, std::string_view what) const {
  if (a == b) return;
  const Error error(ErrorCode::invalid_argument,
                    fmt::format("{}: {} and {} differ, or may differ", what, a.str(), b.str()));
  std::set<std::string> unknown;
  for (const std::string& symbol : undecided(a, b)) unknown.insert(base_.at(symbol));
  if (unknown.empty()) throw error;
  throw UnknownEquality{unknown, error};
}

void Importer::bind(Scope& scope, const std::string& onnx_name, int value) {
  scope.values[onnx_name] = value;
  if (!bound_.insert(value).second) return;
  const std::string name = scope.prefix + onnx_name;
  Value& v = graph_.value(value);
  if (v.name != name) {
    const auto holder = std::find_if(graph_.values.begin(), graph_.values.end(),
                                     [&](const Value& other) { return other.name == name; });
    if (holder == graph_.values.end()) v.name = name;
    // A step on the way to the result of a node without a name of its own is called after the result.
    else if (!bound_.contains(static_cast<int>(holder - graph_.values.begin()))) std::swap(v.name, holder->name);
  }
  // Names inside functions are not names that the model's user or another runtime could ask for.
  if (scope.prefix.empty() && v.origin.empty()) v.origin = onnx_name;
}

const ShapeData* Importer::shape_data(int value) const {
  const auto found = shapes_.find(value);
  return found == shapes_.end() ? nullptr : &found->second;
}

int Importer::add_shape_data(std::string name, ShapeData data) {
  if (auto array = data.constant()) return graph_.add_constant(std::move(name), std::move(*array));
  Value v;
  v.name = std::move(name);
  v.type.dtype = data.dtype;
  for (const std::int64_t extent : data.shape) v.type.shape.emplace_back(extent);
  if (is_integer(data.dtype)) v.extents = data.extents();
  const int id = graph_.add_value(std::move(v));
  shapes_.emplace(id, std::move(data));
  return id;
}

}  // namespace heddle::graph::onnx_import
