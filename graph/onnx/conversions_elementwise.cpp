#include <array>

#include <fmt/format.h>

#include "base/error.hpp"
#include "graph/onnx/conversions.hpp"

namespace heddle::graph::onnx_import {
namespace {

/// Operators of one operand without attributes have the same meaning under both names.
struct Name {
  std::string_view onnx, ours;
};

constexpr std::array unary = {
    Name{"Abs", "abs"},
    Name{"Acos", "acos"},
    Name{"Acosh", "acosh"},
    Name{"Asin", "asin"},
    Name{"Asinh", "asinh"},
    Name{"Atan", "atan"},
    Name{"Atanh", "atanh"},
    Name{"BitwiseNot", "bitwise_not"},
    Name{"Ceil", "ceil"},
    Name{"Cos", "cos"},
    Name{"Cosh", "cosh"},
    Name{"Erf", "erf"},
    Name{"Exp", "exp"},
    Name{"Floor", "floor"},
    Name{"HardSwish", "hard_swish"},
    Name{"IsNaN", "is_nan"},
    Name{"Log", "log"},
    Name{"Mish", "mish"},
    Name{"Neg", "neg"},
    Name{"Not", "not"},
    Name{"Reciprocal", "reciprocal"},
    Name{"Relu", "relu"},
    Name{"Round", "round"},
    Name{"Sigmoid", "sigmoid"},
    Name{"Sign", "sign"},
    Name{"Sin", "sin"},
    Name{"Sinh", "sinh"},
    Name{"Softplus", "softplus"},
    Name{"Softsign", "softsign"},
    Name{"Sqrt", "sqrt"},
    Name{"Tan", "tan"},
    Name{"Tanh", "tanh"},
};

constexpr std::array binary = {
    Name{"Add", "add"},
    Name{"Sub", "sub"},
    Name{"Mul", "mul"},
    Name{"Div", "div"},
    Name{"Pow", "pow"},
    Name{"And", "and"},
    Name{"Or", "or"},
    Name{"Xor", "xor"},
    Name{"Equal", "equal"},
    Name{"Less", "less"},
    Name{"LessOrEqual", "less_or_equal"},
    Name{"Greater", "greater"},
    Name{"GreaterOrEqual", "greater_or_equal"},
    Name{"BitwiseAnd", "bitwise_and"},
    Name{"BitwiseOr", "bitwise_or"},
    Name{"BitwiseXor", "bitwise_xor"},
    Name{"PRelu", "prelu"},
    Name{"Min", "min"},
    Name{"Max", "max"},
};

template <std::size_t Count>
std::string_view ours(const std::array<Name, Count>& names, std::string_view onnx) {
  for (const Name& name : names)
    if (name.onnx == onnx) return name.ours;
  throw Error(ErrorCode::internal, fmt::format("no name for {}", onnx));
}

void convert_unary(OnnxNode& n) { n.set_result(n.op(ours(unary, n.op_type()), Json::object(), {n.input(0)})); }

/// Before version 7, `broadcast` and `axis` said where the second operand's dimensions lie: it gets trailing 1s.
int second_operand(OnnxNode& n) {
  const int b = n.input(1);
  if (n.version() >= 7 || n.integer("broadcast", 0) == 0 || !n.has("axis")) return b;
  const int axis = n.normal_axis(n.integer("axis", 0), n.rank(0));
  std::vector<Extent> shape = n.type(1).shape;
  if (axis + n.rank(1) > n.rank(0))
    throw Error(ErrorCode::invalid_argument, "the second operand has too many dimensions");
  shape.resize(static_cast<std::size_t>(n.rank(0) - axis), 1);
  return n.op("reshape", {{"shape", n.shape_attribute(shape)}}, {b});
}

void convert_binary(OnnxNode& n) {
  const int a = n.input(0);
  int b = second_operand(n);
  // Pow alone mixes element types: the exponent takes the base's.
  if (n.op_type() == "Pow" && n.type_of(a).dtype != n.type_of(b).dtype)
    b = n.op("cast", {{"to", std::string(to_string(n.type_of(a).dtype))}}, {b});
  n.set_result(n.op(ours(binary, n.op_type()), Json::object(), {a, b}));
}

/// Min, Max, Sum: any number of operands, from the left.
void convert_variadic(OnnxNode& n) {
  const std::string_view op = n.op_type() == "Sum" || n.op_type() == "Mean" ? "add" : ours(binary, n.op_type());
  int total = n.input(0);
  for (int i = 1; i < n.input_count(); ++i) total = n.op(op, Json::object(), {total, n.input(i)});
  if (n.op_type() == "Mean")
    total = n.op("mul", Json::object(), {total, n.add_scalar(n.type_of(total).dtype, 1.0 / n.input_count())});
  n.set_result(total);
}

/// Operators of one operand whose attributes are floats of the same name.
struct Parametric {
  std::string_view onnx, ours;
  std::array<std::pair<std::string_view, double>, 2> attributes;  ///< name and ONNX's default; "" is none
};

constexpr std::array parametric = {
    Parametric{"Celu", "celu", {{{"alpha", 1.0}, {"", 0}}}},
    Parametric{"Elu", "elu", {{{"alpha", 1.0}, {"", 0}}}},
    Parametric{"HardSigmoid", "hard_sigmoid", {{{"alpha", 0.2F}, {"beta", 0.5}}}},
    Parametric{"LeakyRelu", "leaky_relu", {{{"alpha", 0.01F}, {"", 0}}}},
    Parametric{"Selu", "selu", {{{"alpha", 1.67326319217681884765625}, {"gamma", 1.05070102214813232421875}}}},
    Parametric{"Shrink", "shrink", {{{"bias", 0.0}, {"lambd", 0.5}}}},
    Parametric{"Swish", "swish", {{{"alpha", 1.0}, {"", 0}}}},
    Parametric{"ThresholdedRelu", "thresholded_relu", {{{"alpha", 1.0}, {"", 0}}}},
};

void convert_parametric(OnnxNode& n) {
  for (const Parametric& row : parametric) {
    if (row.onnx != n.op_type()) continue;
    Json attributes = Json::object();
    for (const auto& [name, initial] : row.attributes)
      if (!name.empty()) attributes[std::string(name)] = n.real(name, initial);
    n.set_result(n.op(row.ours, attributes, {n.input(0)}));
  }
}

void convert_mod(OnnxNode& n) {
  n.set_result(n.op("mod", {{"fmod", n.integer("fmod", 0) != 0 ? 1.0 : 0.0}}, {n.input(0), n.input(1)}));
}

void convert_gelu(OnnxNode& n) {
  n.set_result(n.op("gelu", {{"approximate", n.text("approximate", "none")}}, {n.input(0)}));
}

void convert_is_inf(OnnxNode& n) {
  n.set_result(n.op("is_inf",
                    {{"detect_negative", n.integer("detect_negative", 1) != 0 ? 1.0 : 0.0},
                     {"detect_positive", n.integer("detect_positive", 1) != 0 ? 1.0 : 0.0}},
                    {n.input(0)}));
}

/// Bounds are attributes until version 6 and operands since 11. The catalog's clip takes them as numbers.
void convert_clip(OnnxNode& n) {
  const int x = n.input(0);
  const DType dtype = n.type(0).dtype;
  const bool old = n.version() < 11;
  const auto bound = [&](int i, std::string_view name) -> std::optional<double> {
    if (old) return n.has(name) ? std::optional(n.real(name, 0)) : std::nullopt;
    if (!n.has_input(i)) return std::nullopt;
    const auto array = n.constant(i);
    return array && array->size() == 1 ? std::optional(array->at(0)) : std::nullopt;
  };
  const auto low = bound(1, "min"), high = bound(2, "max");
  const bool dynamic = !old && ((n.has_input(1) && !low) || (n.has_input(2) && !high));
  if (!dynamic && is_float(dtype)) {
    Json attributes = Json::object();
    if (low) attributes["min"] = reflect::value_to_json(*low);
    if (high) attributes["max"] = reflect::value_to_json(*high);
    return n.set_result(n.op("clip", attributes, {x}));
  }
  int result = x;
  if (!old && n.has_input(1)) result = n.op("max", Json::object(), {result, n.input(1)});
  if (!old && n.has_input(2)) result = n.op("min", Json::object(), {result, n.input(2)});
  n.set_result(result);
}

void convert_where(OnnxNode& n) { n.set_result(n.op("where", Json::object(), {n.input(0), n.input(1), n.input(2)})); }

void convert_shift(OnnxNode& n) {
  n.set_result(n.op("bit_shift", {{"direction", n.text("direction", "LEFT")}}, {n.input(0), n.input(1)}));
}

constexpr std::array special = {
    Conversion{"BitShift", 11, newest_version, convert_shift},
    Conversion{"Celu", 12, newest_version, convert_parametric},
    Conversion{"Clip", 1, newest_version, convert_clip},
    Conversion{"Elu", 1, newest_version, convert_parametric},
    Conversion{"Gelu", 20, newest_version, convert_gelu},
    Conversion{"HardSigmoid", 1, newest_version, convert_parametric},
    Conversion{"IsInf", 10, newest_version, convert_is_inf},
    Conversion{"LeakyRelu", 1, newest_version, convert_parametric},
    Conversion{"Max", 1, newest_version, convert_variadic},
    Conversion{"Mean", 1, newest_version, convert_variadic},
    Conversion{"Min", 1, newest_version, convert_variadic},
    Conversion{"Mod", 10, newest_version, convert_mod},
    Conversion{"Selu", 1, newest_version, convert_parametric},
    Conversion{"Sum", 1, newest_version, convert_variadic},
    Conversion{"Shrink", 9, newest_version, convert_parametric},
    Conversion{"Swish", 24, newest_version, convert_parametric},
    Conversion{"ThresholdedRelu", 10, newest_version, convert_parametric},
    Conversion{"Where", 9, newest_version, convert_where},
};

}  // namespace

std::span<const Conversion> elementwise_conversions() {
  static const std::vector<Conversion> rows = [] {
    std::vector<Conversion> all(special.begin(), special.end());
    for (const Name& name : unary) all.push_back({name.onnx, 1, newest_version, convert_unary});
    for (const Name& name : binary) all.push_back({name.onnx, 1, newest_version, convert_binary});
    return all;
  }();
  return rows;
}

}  // namespace heddle::graph::onnx_import
