#include <algorithm>
#include <cmath>
#include <limits>

#include "graph/arrays.hpp"
#include "graph/passes/passes.hpp"
#include "graph/passes/rewrite.hpp"
#include "ops/rules.hpp"

// Quantised models come as floats between dequantize and quantize. Here the integers move inside.
namespace heddle::graph {
namespace {

/// A value that is a constant, or what quantised models compute of constants.
std::optional<Array> known(const Rewriter& r, int id) {
  if (r.constant(id)) return *r.constant(id);
  const Node* node = r.producer(id);
  if (node == nullptr || (node->op->name() != "dequantize" && node->op->name() != "cast" && node->op->name() != "sub"))
    return std::nullopt;
  std::vector<Array> operands;
  for (const int v : node->inputs) {
    auto operand = known(r, v);
    if (!operand) return std::nullopt;
    operands.push_back(std::move(*operand));
  }
  return node->op->evaluate(node->attributes, operands).at(0);
}

/// How the integers x (a value) stand for reals, all numbers known. A zero point that is absent is 0.
struct Integers {
  int x;
  Array scale, zero;

  bool uniform() const { return scale.size() == 1 && zero.size() == 1; }
  bool same_parameters(const Integers& other) const {
    return scale.dtype() == other.scale.dtype() && to_doubles(scale) == to_doubles(other.scale) &&
           scale.shape() == other.scale.shape() && to_doubles(zero) == to_doubles(other.zero);
  }
};

std::optional<Integers> parameters(const Rewriter& r, const Node& node, DType integers) {
  const auto& scale = r.constant(node.inputs[1]);
  if (!scale) return std::nullopt;
  Array zero(integers, {});
  if (node.inputs.size() > 2) {
    if (!r.constant(node.inputs[2])) return std::nullopt;
    zero = *r.constant(node.inputs[2]);
  }
  return Integers{node.inputs[0], *scale, zero};
}

std::optional<Integers> dequantized(const Rewriter& r, int id) {
  const Node* node = r.producer(id, "dequantize");
  return node == nullptr ? std::nullopt : parameters(r, *node, r.type(node->inputs[0]).dtype);
}

int dequantize(const Site& s, int x, const Integers& like) {
  std::vector<int> inputs = {x, s.constant(like.scale, "~scale")};
  if (like.zero.size() != 1 || like.zero.at(0) != 0) inputs.push_back(s.constant(like.zero, "~zero"));
  return s.add("dequantize", Json::object(), inputs);
}

/// The weights of a convolution or product as bytes whose zero point is 0, and what one of each is worth by channel of
/// the result; channels lie along one dimension.
struct Weights {
  Array bytes;
  std::vector<double> scale;
  std::vector<double> sums;  ///< of the bytes, by channel
};

/// A value for each index along `dim` of `shape`; nothing where it varies along another.
std::optional<std::vector<double>> along(const Array& array, const Shape& shape, std::size_t dim) {
  const std::size_t missing = shape.size() - array.shape().size();
  for (std::size_t d = 0; d < array.shape().size(); ++d)
    if (array.shape()[d] != 1 && d + missing != dim) return std::nullopt;
  std::vector<double> values = to_doubles(array);
  if (values.size() == 1) values.assign(static_cast<std::size_t>(shape[dim]), values[0]);
  return values;
}

/// Of plain numbers, less the zero points of their channels.
std::optional<Weights> weights(const Array& plain, const std::vector<double>& zero, std::vector<double> scale,
                               std::size_t channel_dim) {
  const std::int64_t inner =
      element_count(Shape(plain.shape().begin() + static_cast<std::ptrdiff_t>(channel_dim) + 1, plain.shape().end()));
  const std::int64_t channels = plain.shape()[channel_dim];
  std::vector<double> values = to_doubles(plain);
  std::vector<double> sums(static_cast<std::size_t>(channels), 0);
  double least = 0, most = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto c = static_cast<std::size_t>(static_cast<std::int64_t>(i) / inner % channels);
    values[i] -= zero[c];
    sums[c] += values[i];
    least = std::min(least, values[i]);
    most = std::max(most, values[i]);
  }
  // Signed bytes wherever they fit: that is what processors multiply unsigned activations with.
  if (least >= -128 && most <= 127)
    return Weights{from_doubles(DType::i8, plain.shape(), values), std::move(scale), std::move(sums)};
  if (least >= 0 && most <= 255)
    return Weights{from_doubles(DType::u8, plain.shape(), values), std::move(scale), std::move(sums)};
  return std::nullopt;
}

std::optional<Weights> weights(const Rewriter& r, int id, std::size_t channel_dim) {
  const auto w = dequantized(r, id);
  if (!w || !r.constant(w->x) || !ops::is_byte(r.type(w->x).dtype)) return std::nullopt;
  const Array& plain = *r.constant(w->x);
  const auto scale = along(w->scale, plain.shape(), channel_dim), zero = along(w->zero, plain.shape(), channel_dim);
  return scale && zero ? weights(plain, *zero, *scale, channel_dim) : std::nullopt;
}

/// So many products of bytes fit into the 32 bits that they are summed in.
bool sums_fit(std::int64_t products) { return products < std::numeric_limits<std::int32_t>::max() / (256 * 256); }

/// -zero sum(w) + bias / scale by channel; the second part only where the bias is made of whole steps of this scale.
struct Bias {
  std::vector<double> steps;
  bool rest = false;  ///< the bias is to be added afterwards
};

Bias integer_bias(const Rewriter& r, const Weights& w, double zero, const std::vector<double>& scale, Result bias) {
  Bias result;
  for (const double sum : w.sums) result.steps.push_back(-zero * sum);
  if (!bias) return result;
  const auto b = dequantized(r, *bias);
  const auto& integers = b ? r.constant(b->x) : std::optional<Array>();
  result.rest = true;
  if (!integers || integers->dtype() != DType::i32 || integers->size() != static_cast<std::int64_t>(scale.size()))
    return result;
  const auto own = along(b->scale, integers->shape(), 0), shift = along(b->zero, integers->shape(), 0);
  if (!own || !shift) return result;
  std::vector<double> sums = result.steps;
  for (std::size_t c = 0; c < scale.size(); ++c) {
    const double steps = integers->at(static_cast<std::int64_t>(c)) - (*shift)[c];
    // Scales are products that others rounded to f32.
    if (std::abs((*own)[c] - scale[c]) > 1e-6 * std::abs(scale[c]) && steps != 0) return result;
    sums[c] += steps;
    if (std::abs(sums[c]) > 0x1p30) return result;
  }
  return {std::move(sums), false};
}

/// The sums as floats, a factor a channel; `trailing` dimensions come after the channel's in the result.
int scaled(const Site& s, int sums, const std::vector<double>& factors, std::size_t trailing) {
  const bool uniform = std::all_of(factors.begin(), factors.end(), [&](double f) { return f == factors[0]; });
  Shape shape(trailing + 1, 1);
  shape[0] = static_cast<std::int64_t>(factors.size());
  const Array array = uniform ? from_doubles(DType::f32, {}, {factors[0]}) : from_doubles(DType::f32, shape, factors);
  return s.add("dequantize", Json::object(), {sums, s.constant(array, "~scale")});
}

/// {x, w} and the bias, unless there is nothing to add.
std::vector<int> integer_operands(const Site& s, int x, const Array& w, const Bias& bias) {
  std::vector<int> operands = {x, s.constant(w, "~weights")};
  if (std::any_of(bias.steps.begin(), bias.steps.end(), [](double v) { return v != 0; }))
    operands.push_back(
        s.constant(from_doubles(DType::i32, {static_cast<std::int64_t>(bias.steps.size())}, bias.steps), "~bias"));
  return operands;
}

std::vector<double> products(double factor, std::vector<double> values) {
  for (double& v : values) v *= factor;
  return values;
}

/// conv(dequantize(x), dequantize(w), b) -> dequantize(conv(x, w, i32 bias)), a scale a channel, + b if that is not
/// made of whole steps
Result integer_conv(const Site& s) {
  if (s.op() != "conv" || s.r.type(s.node.outputs[0]).dtype != DType::f32) return std::nullopt;
  const auto x = dequantized(s.r, s.in[0]);
  if (!x || !x->uniform() || !ops::is_byte(s.r.type(x->x).dtype)) return std::nullopt;
  const auto w = weights(s.r, s.in[1], 0);
  if (!w || !sums_fit(w->bytes.size() / w->bytes.shape()[0])) return std::nullopt;
  const Result b = s.in.size() > 2 ? Result(s.in[2]) : std::nullopt;
  const std::vector<double> scale = products(x->scale.at(0), w->scale);
  const Bias bias = integer_bias(s.r, *w, x->zero.at(0), scale, b);
  Json attributes = s.node.attributes;
  attributes["pad_value"] = static_cast<std::int64_t>(x->zero.at(0));
  const auto spatial = static_cast<std::size_t>(s.r.type(s.in[0]).rank() - 2);
  const int sums = s.add("conv", attributes, integer_operands(s, x->x, w->bytes, bias));
  const int result = scaled(s, sums, scale, spatial);
  if (!bias.rest) return result;
  Json shape = {s.r.type(*b).shape[0].str()};
  Shape fixed = {static_cast<std::int64_t>(scale.size())};
  for (std::size_t d = 0; d < spatial; ++d) shape.push_back("1"), fixed.push_back(1);
  const auto constant = known(s.r, *b);
  const int added =
      constant ? s.constant(constant->reshaped(fixed), "~bias") : s.add("reshape", {{"shape", shape}}, {*b});
  return s.add("add", Json::object(), {result, added});
}

/// matmul(dequantize(a), dequantize(b)) -> dequantize(matmul(a, b, i32 c)), a scale a column
Result integer_matmul(const Site& s) {
  if (s.op() != "matmul" || s.in.size() != 2 || s.r.type(s.node.outputs[0]).dtype != DType::f32) return std::nullopt;
  const auto a = dequantized(s.r, s.in[0]);
  if (!a || !a->uniform() || !ops::is_byte(s.r.type(a->x).dtype)) return std::nullopt;
  const bool transposed_b = s.node.attributes.at("transpose_b").get<bool>();
  const auto& shape = s.r.type(s.in[0]).shape;
  const auto depth = shape[shape.size() - (s.node.attributes.at("transpose_a").get<bool>() ? 2 : 1)].constant();
  if (!depth || !sums_fit(*depth)) return std::nullopt;
  if (const auto b = dequantized(s.r, s.in[1]); b && !s.r.constant(b->x)) {
    // Zero points other than 0 would need the sums of rows and columns.
    if (!b->uniform() || !ops::is_byte(s.r.type(b->x).dtype) || a->zero.at(0) != 0 || b->zero.at(0) != 0)
      return std::nullopt;
    return scaled(s, s.add("matmul", s.node.attributes, {a->x, b->x}), {a->scale.at(0) * b->scale.at(0)}, 0);
  }
  if (s.r.type(s.in[1]).rank() != 2) return std::nullopt;
  const auto w = weights(s.r, s.in[1], transposed_b ? 0 : 1);
  if (!w) return std::nullopt;
  const std::vector<double> scale = products(a->scale.at(0), w->scale);
  const Bias bias = integer_bias(s.r, *w, a->zero.at(0), scale, std::nullopt);
  Json attributes = s.node.attributes;
  attributes["transpose_b"] = false;
  const Array columns = transposed_b ? transposed(w->bytes, {1, 0}) : w->bytes;
  return scaled(s, s.add("matmul", attributes, integer_operands(s, a->x, columns, bias)), scale, 0);
}

/// Bytes as wider numbers, less a zero point (a value of one element).
struct Shifted {
  int x;
  std::optional<int> zero;
};

std::optional<Shifted> shifted(const Rewriter& r, int id) {
  Shifted result{id, std::nullopt};
  if (const Node* sub = r.producer(id, "sub")) {
    if (r.type(sub->inputs[1]).element_count() != Extent(1)) return std::nullopt;
    result = {sub->inputs[0], sub->inputs[1]};
  }
  const Node* cast = r.producer(result.x, "cast");
  if (cast == nullptr || !ops::is_byte(r.type(cast->inputs[0]).dtype)) return std::nullopt;
  result.x = cast->inputs[0];
  return result;
}

std::optional<Weights> plain_weights(const Rewriter& r, int id, std::size_t channel_dim) {
  const auto w = known(r, id);
  if (!w || w->shape().size() <= channel_dim) return std::nullopt;
  const std::vector<double> zeros(static_cast<std::size_t>(w->shape()[channel_dim]), 0);
  return weights(*w, zeros, {}, channel_dim);
}

/// matmul(cast(a) - zero, w) of 32-bit integers -> matmul(a, w) - zero sum(w), which MatMulInteger says.
Result plain_matmul(const Site& s) {
  if (s.op() != "matmul" || s.in.size() != 2 || s.r.type(s.node.outputs[0]).dtype != DType::i32) return std::nullopt;
  const auto a = shifted(s.r, s.in[0]);
  if (!a || s.r.type(s.in[1]).rank() != 2 || s.node.attributes.at("transpose_b").get<bool>()) return std::nullopt;
  const auto w = plain_weights(s.r, s.in[1], 1);
  if (!w) return std::nullopt;
  const int product = s.add("matmul", s.node.attributes, {a->x, s.constant(w->bytes, "~weights")});
  if (!a->zero) return product;
  const int sums = s.constant(from_doubles(DType::i32, {w->bytes.shape()[1]}, w->sums), "~sums");
  return s.add("sub", Json::object(), {product, s.add("mul", Json::object(), {sums, *a->zero})});
}

/// cast(conv(cast(x) - zero, w)), in f64 so that it is exact -> conv(x, w, -zero sum(w)), which ConvInteger says.
Result plain_conv(const Site& s) {
  if (s.op() != "cast" || s.r.type(s.node.outputs[0]).dtype != DType::i32) return std::nullopt;
  const Node* conv = s.r.producer(s.in[0], "conv");
  if (conv == nullptr || s.r.type(s.in[0]).dtype != DType::f64 || conv->inputs.size() != 2) return std::nullopt;
  const auto x = shifted(s.r, conv->inputs[0]);
  const auto zero = x && x->zero ? known(s.r, *x->zero) : std::nullopt;
  if (!x || (x->zero && !zero)) return std::nullopt;
  const auto w = plain_weights(s.r, conv->inputs[1], 0);
  if (!w || !sums_fit(w->bytes.size() / w->bytes.shape()[0])) return std::nullopt;
  Json attributes = conv->attributes;
  attributes["pad_value"] = zero ? static_cast<std::int64_t>(zero->at(0)) : 0;
  Bias bias;
  for (const double sum : w->sums) bias.steps.push_back(zero ? -zero->at(0) * sum : 0);
  return s.add("conv", attributes, integer_operands(s, x->x, w->bytes, bias));
}

/// quantize(dequantize(x)) with the same parameters -> x. Products of f32 are near enough to their integers.
Result cancel(const Site& s, const Integers& own) {
  const auto inner = dequantized(s.r, s.in[0]);
  if (!inner || s.r.type(inner->x).dtype != s.r.type(s.node.outputs[0]).dtype) return std::nullopt;
  if (own.scale.dtype() != DType::f32 || !own.same_parameters(*inner)) return std::nullopt;
  for (std::int64_t i = 0; i < own.scale.size(); ++i)
    if (!std::isnormal(own.scale.at(i))) return std::nullopt;
  return inner->x;
}

double bound(const Node& node, const char* name) {
  const Json& value = node.attributes.at(name);
  if (value.is_number()) return value.get<double>();
  return value == "inf" ? std::numeric_limits<double>::infinity() : -std::numeric_limits<double>::infinity();
}

/// Whether the integers end where relu or clip would: quantize(relu(x)) -> quantize(x).
bool saturates_alike(const Node& clamp, const Integers& q, DType type) {
  const bool relu = clamp.op->name() == "relu";
  if (!relu && clamp.op->name() != "clip") return false;
  const auto [least, most] = ops::integer_range(type);
  const double low = relu ? 0 : bound(clamp, "min");
  const double high = relu ? std::numeric_limits<double>::infinity() : bound(clamp, "max");
  for (std::int64_t i = 0; i < q.scale.size(); ++i)
    for (std::int64_t j = 0; j < q.zero.size(); ++j) {
      const double scale = q.scale.at(i), zero = q.zero.at(j);
      // Half a step inside, both would still round to the end.
      if (!(scale > 0) || low / scale + zero > static_cast<double>(least) ||
          high / scale + zero < static_cast<double>(most))
        return false;
    }
  return true;
}

/// What a float was computed by rounds anyway, so that it may be multiplied by the inverse of the scale: a division
/// costs as much as dozens of products. quantize(dequantize(sums, f), s) -> quantize(sums, f / s).
Result multiply(const Site& s, int x, const Integers& own) {
  if (s.r.type(x).dtype != DType::f32 || own.scale.dtype() != DType::f32) return std::nullopt;
  const Node* producer = s.r.producer(x);
  if (producer == nullptr || producer->op->kind() == OperatorKind::movement) return std::nullopt;
  std::vector<double> factors = to_doubles(own.scale);
  for (double& f : factors) {
    if (!std::isnormal(f)) return std::nullopt;
    f = 1 / f;
  }
  Array factor = from_doubles(DType::f32, own.scale.shape(), factors);
  const auto sums = dequantized(s.r, x);
  if (sums && factors.size() == 1 && s.r.type(sums->x).dtype == DType::i32 && s.r.used_once(x) &&
      sums->zero.size() == 1 && sums->zero.at(0) == 0) {
    factor = from_doubles(DType::f32, sums->scale.shape(), products(factors[0], to_doubles(sums->scale)));
    x = s.add("cast", {{"to", "f32"}}, {sums->x});
  }
  std::vector<int> inputs = {x, s.constant(factor, "~inverse")};
  if (s.node.inputs.size() > 2) inputs.push_back(s.in[2]);
  Json attributes = s.node.attributes;
  attributes["inverse"] = true;
  return s.add("quantize", attributes, inputs);
}

Result quantize(const Site& s) {
  if (s.op() != "quantize" || s.node.attributes.at("inverse").get<bool>()) return std::nullopt;
  const DType type = s.r.type(s.node.outputs[0]).dtype;
  Node now = s.node;
  now.inputs = s.in;
  const auto own = parameters(s.r, now, type);
  if (!own) return std::nullopt;
  if (const auto x = cancel(s, *own)) return x;
  int x = s.in[0];
  for (const Node* clamp = s.r.producer(x); clamp != nullptr && s.r.used_once(x) && saturates_alike(*clamp, *own, type);
       clamp = s.r.producer(x))
    x = clamp->inputs[0];
  if (const auto product = multiply(s, x, *own)) return product;
  if (x == s.in[0]) return std::nullopt;
  std::vector<int> inputs = s.in;
  inputs[0] = x;
  return s.add("quantize", s.node.attributes, inputs);
}

/// max_pool(dequantize(x)) -> dequantize(max_pool(x)), and so for what else moves elements or picks some of them.
Result move_bytes(const Site& s) {
  const auto x = s.in.empty() ? std::nullopt : dequantized(s.r, s.in[0]);
  if (!x || !x->uniform()) return std::nullopt;
  std::vector<int> inputs = s.in;
  inputs[0] = x->x;
  Json attributes = s.node.attributes;
  if (s.op() == "concat") {
    for (std::size_t i = 1; i < inputs.size(); ++i) {
      const auto other = dequantized(s.r, s.in[i]);
      if (!other || s.r.type(other->x).dtype != s.r.type(x->x).dtype || !other->same_parameters(*x))
        return std::nullopt;
      inputs[i] = other->x;
    }
  } else if (s.op() == "pad") {
    if (attributes.at("mode") == "constant") {
      if (attributes.at("value") != 0.0) return std::nullopt;
      attributes["value"] = x->zero.at(0);
    }
  } else if (s.op() == "max_pool") {
    if (!(x->scale.at(0) > 0)) return std::nullopt;
  } else if (s.op() != "reshape" && s.op() != "transpose" && s.op() != "slice") {
    return std::nullopt;
  }
  return dequantize(s, s.add(s.op(), attributes, inputs), *x);
}

/// relu(dequantize(x)) -> dequantize(x) where no integer is below the zero point.
Result nothing_below_zero(const Site& s) {
  if (s.op() != "relu") return std::nullopt;
  const auto x = dequantized(s.r, s.in[0]);
  if (!x || x->zero.size() != 1 || x->zero.at(0) != static_cast<double>(ops::integer_range(s.r.type(x->x).dtype).least))
    return std::nullopt;
  for (const double scale : to_doubles(x->scale))
    if (!(scale > 0)) return std::nullopt;
  return s.r.type(x->x).dtype == DType::i32 ? std::nullopt : Result(s.in[0]);
}

/// x of a value dequantize(quantize(x)), with both steps' parameters.
struct ThroughIntegers {
  int x;
  const Node* quantize;
  Array scale;  ///< of the dequantize
};

/// Nothing where `value` is no such thing or somebody else needs the integers.
std::optional<ThroughIntegers> through_integers(const Site& s, int value) {
  const auto outer = dequantized(s.r, value);
  if (!outer || !s.r.used_once(value) || !s.r.used_once(outer->x)) return std::nullopt;
  const Node* inner = s.r.producer(outer->x, "quantize");
  if (inner == nullptr || !inner->attributes.at("inverse").get<bool>() || s.r.type(value).dtype != DType::f32)
    return std::nullopt;
  const auto own = parameters(s.r, *inner, s.r.type(outer->x).dtype);
  if (!own || own->scale.dtype() != DType::f32 || s.r.type(own->x).dtype != DType::f32) return std::nullopt;
  if (to_doubles(own->zero) != to_doubles(outer->zero) || own->zero.shape() != outer->zero.shape()) return std::nullopt;
  return ThroughIntegers{own->x, inner, outer->scale};
}

/// add(dequantize(quantize(x)), y) -> add(fake_quantize(x), y): the sum is of floats, so nothing needs the integers. A
/// convolution or product behind it would. Where both operands are such, groups grow from the one that comes first in
/// the graph; the other goes through memory on its way to that kernel, and stays integers of a quarter of the bytes.
Result add_without_integers(const Site& s) {
  if (s.op() != "add") return std::nullopt;
  const auto first = through_integers(s, s.in[0]), second = through_integers(s, s.in[1]);
  if (!first && !second) return std::nullopt;
  const bool is_first = !second || (first && first->x < second->x);
  const ThroughIntegers& value = is_first ? *first : *second;
  const std::vector<int>& quantized = value.quantize->inputs;
  std::vector<int> operands = {value.x, quantized[1], s.constant(value.scale, "~scale")};
  if (quantized.size() > 2) operands.push_back(quantized[2]);
  std::vector<int> inputs = s.in;
  inputs[is_first ? 0 : 1] = s.add("fake_quantize", {{"to", value.quantize->attributes.at("to")}}, operands);
  return s.add("add", s.node.attributes, inputs);
}

}  // namespace

/// Before: operators on floats between dequantize and quantize. After:
///   conv and matmul of dequantized bytes       -> the same on the bytes, then a scale a channel
///   the same on wider integers that are bytes  -> on the bytes
///   quantize of what they give                 -> one product, the nearest integer
///   quantize of relu and clip                  -> quantize, as far as that saturates alike
///   max_pool, concat, ... of dequantize        -> dequantize of max_pool, concat, ... of the integers
///   quantize(dequantize(x)), parameters equal  -> x
///   a sum with dequantize(quantize(x))         -> with fake_quantize(x)
/// Weights whose zero point is not 0 are shifted to it where they stay bytes; what does not fit stays in floats.
Graph fold_quantization(const Graph& graph) {
  const Operators operators;
  return rewrite_nodes(graph, [&](Rewriter& r, const Node& node) -> Result {
    const Site s{r, operators, node, r.operands(node)};
    for (const auto rule : {integer_conv, integer_matmul, plain_conv, plain_matmul, quantize, move_bytes,
                            nothing_below_zero, add_without_integers})
      if (const auto replacement = rule(s)) return replacement;
    return std::nullopt;
  });
}

}  // namespace heddle::graph
