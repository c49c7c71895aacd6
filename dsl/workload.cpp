#include "dsl/workload.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/format.h>

namespace heddle {
namespace {

double largest_magnitude(const Array& array) {
  double largest = 0;
  for (std::int64_t i = 0; i < array.size(); ++i)
    if (const double value = array.at(i); std::isfinite(value)) largest = std::max(largest, std::abs(value));
  return largest;
}

/// The value that the operands' errors in a result are relative to, from what theirs are relative to: 0 where the
/// result's own values are.
double carried_magnitude(OperandErrors errors, const std::vector<int>& operands, const std::vector<Array>& values,
                         const std::vector<double>& largest) {
  double carried = 0;
  if (errors == OperandErrors::with_values) return carried;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    double magnitude = largest.at(static_cast<std::size_t>(operands[i]));
    for (std::size_t j = 0; errors == OperandErrors::scaled && magnitude > 0 && j < operands.size(); ++j)
      if (j != i) magnitude *= largest_magnitude(values.at(static_cast<std::size_t>(operands[j])));
    carried = std::max(carried, magnitude);
  }
  return carried;
}

const Packing* packing_of(const std::vector<Packing>& packings, const std::string& role) {
  for (const auto& packing : packings)
    if (packing.operand == role) return &packing;
  return nullptr;
}

BufferView view_of(const std::string& role, const TensorType& type) {
  BufferView view{role, type.dtype, {}, 0, type.allocated_elements()};
  const auto strides = type.strides();
  for (int d = type.rank() - 1; d >= 0; --d) {
    const auto i = static_cast<std::size_t>(d);
    const Border border = type.border(d);
    view.dimensions.push_back({-border.before, type.shape[i] + Extent(border.before + border.after), strides[i]});
  }
  return view;
}

BufferView packed_view(const OperandInfo& operand, const TensorType& type, const Packing& packing) {
  const TensorType stored = stored_type(operand, type, packing);
  BufferView view{operand.role, stored.dtype, {}, 0, 1};
  for (const auto& d : packed_dimensions(operand, packing)) {
    const Extent extent = packed_extent(d, stored.shape);
    view.dimensions.push_back({0, extent, view.elements});
    view.elements = view.elements * extent;
  }
  return view;
}

/// The output's buffer holds the interior only: the border is not the kernel's to write.
BufferView interior_view(const std::string& role, const TensorType& type) {
  BufferView view{role, type.dtype, {}, type.origin(), type.allocated_elements()};
  const auto strides = type.strides();
  for (int d = type.rank() - 1; d >= 0; --d) {
    const auto i = static_cast<std::size_t>(d);
    view.dimensions.push_back({0, type.shape[i], strides[i]});
  }
  return view;
}

bool is_narrow_float(const Halide::Type& type) { return (type.is_float() || type.is_bfloat()) && type.bits() == 16; }

/// What an operator computes before it rounds to a narrow type: a value that a kernel keeps in registers is rounded by
/// nobody.
Halide::Func unrounded(const Halide::Func& func) {
  if (func.has_update_definition() || !is_narrow_float(func.type())) return func;
  const auto* cast = func.value().as<Halide::Internal::Cast>();
  if (cast == nullptr || cast->value.type() != Halide::Float(32)) return func;
  Halide::Func wide(func.name() + "_wide");
  wide(func.args()) = cast->value;
  return wide;
}

/// A result as it is stored: operators whose operands are not rounded may not round either.
Halide::Func as_stored(const Halide::Func& func, const Halide::Type& type) {
  if (func.type() == type) return func;
  Halide::Func rounded(func.name() + "_stored");
  const std::vector<Halide::Var> arguments = func.args();
  rounded(arguments) = Halide::cast(type, func(arguments));
  return rounded;
}

/// What the operators beside the anchor say of the inputs that can be packed: a convolution's weights are packed alike
/// whether what follows it is in the kernel or not.
std::map<int, OperandInfo> weights_of_others(const Composition& c, const std::vector<TensorType>& types) {
  std::map<int, OperandInfo> weights;
  for (const auto& node : c.nodes) {
    if (&node == &c.nodes.at(static_cast<std::size_t>(c.anchor))) continue;
    std::vector<TensorType> in;
    for (const int operand : node.operands) in.push_back(types.at(static_cast<std::size_t>(operand)));
    const auto declared = node.op->operands(node.attributes, in);
    for (std::size_t i = 0; i < std::min(declared.size(), node.operands.size()); ++i)
      if (!declared[i].packing_order.empty()) weights.emplace(node.operands[i], declared[i]);
  }
  return weights;
}

template <class Buffer>
void constrain(Buffer&& buffer, const BufferView& view, const std::vector<Halide::Param<int>>& symbols) {
  for (std::size_t i = 0; i < view.dimensions.size(); ++i) {
    const auto& d = view.dimensions[i];
    buffer.dim(static_cast<int>(i))
        .set_bounds(to_expr(d.min, symbols), to_expr(d.extent, symbols))
        .set_stride(to_expr(d.stride, symbols));
  }
}

}  // namespace

Workload::Workload(Composition composition) : composition_(std::move(composition)) {
  if (composition_.nodes.empty()) throw Error(ErrorCode::invalid_argument, "a workload needs at least one operator");
  for (const auto& input : composition_.inputs) types_.push_back(input.type);
  std::vector<std::size_t> first_output;
  for (const auto& node : composition_.nodes) {
    std::vector<TensorType> in;
    for (const int operand : node.operands) in.push_back(types_.at(static_cast<std::size_t>(operand)));
    first_output.push_back(types_.size());
    for (auto& type : node.op->infer(node.attributes, in)) {
      type.layout = {};
      types_.push_back(std::move(type));
    }
  }
  composition_.output_layouts.resize(composition_.outputs.size());

  const auto anchor_in = anchor_inputs();
  const auto declared = anchor().op->operands(anchor().attributes, anchor_in);
  inputs_.resize(composition_.inputs.size());
  for (std::size_t i = 0; i < anchor().operands.size(); ++i) {
    const int value = anchor().operands[i];
    if (value >= static_cast<int>(inputs_.size()) || i >= declared.size()) continue;
    OperandInfo& info = inputs_[static_cast<std::size_t>(value)];
    if (!info.role.empty()) continue;  // the same value twice: the first role names it
    info = declared[i];
    if (info.dimensions.empty()) info.dimensions = default_dimensions(anchor_in[i].rank());
  }
  const auto others = weights_of_others(composition_, types_);
  int extra = 0;
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    if (!inputs_[i].role.empty()) continue;
    const auto known = others.find(static_cast<int>(i));
    inputs_[i] =
        known != others.end() ? known->second : OperandInfo{"", default_dimensions(types_[i].rank()), {}, false};
    inputs_[i].role = fmt::format("e{}", extra++);
  }

  dimensions_ = anchor().op->dimensions(anchor().attributes, anchor_in);
  const std::size_t out_rank = types_.at(static_cast<std::size_t>(composition_.outputs.at(0))).shape.size();
  if (dimensions_.size() != out_rank)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("the output of a group has rank {} but its anchor {} has {}; an epilogue keeps the rank",
                            out_rank, anchor().op->name(), dimensions_.size()));

  std::vector<std::string> parts;
  for (std::size_t i = 0; i < inputs_.size(); ++i)
    parts.push_back(fmt::format("%{}:{}{}", i, composition_.inputs[i].constant ? "const " : "", types_[i].str()));
  for (std::size_t n = 0; n < composition_.nodes.size(); ++n) {
    const auto& node = composition_.nodes[n];
    parts.push_back(fmt::format("%{}{}={}{}({})", first_output[n],
                                static_cast<int>(n) == composition_.anchor ? "*" : "", node.op->name(),
                                node.attributes.empty() ? "" : node.attributes.dump(), fmt::join(node.operands, ",")));
  }
  for (std::size_t i = 0; i < composition_.outputs.size(); ++i)
    parts.push_back(fmt::format("->%{}:{}", composition_.outputs[i], output_types()[i].str()));
  for (const auto& name : symbols()) {
    const auto range = composition_.symbols.find(name);
    if (range == composition_.symbols.end())
      throw Error(ErrorCode::invalid_argument, fmt::format("symbolic extent '{}' has no range", name));
    parts.push_back(fmt::format("{}={}:{}", name, range->second.min, range->second.max));
  }
  parts.push_back(fmt::format("threads={}", composition_.threads));
  if (composition_.exact) parts.emplace_back("exact");
  text_ = fmt::format("{}", fmt::join(parts, "; "));
}

Workload Workload::of(const Operator& op, const Json& attributes, std::vector<TensorType> inputs, SymbolRanges symbols,
                      int threads) {
  Composition c;
  const Json canonical = op.canonical(attributes);
  const auto outputs = op.infer(canonical, inputs);  // first: the rest may rely on operands that fit
  const auto infos = op.operands(canonical, inputs);
  Composition::Node node{&op, canonical, {}};
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    c.inputs.push_back({inputs[i], i < infos.size() && infos[i].constant});
    node.operands.push_back(static_cast<int>(i));
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) c.outputs.push_back(static_cast<int>(inputs.size() + i));
  c.nodes.push_back(std::move(node));
  c.symbols = std::move(symbols);
  c.threads = threads;
  return Workload(std::move(c));
}

std::vector<TensorType> Workload::anchor_inputs() const {
  std::vector<TensorType> in;
  for (const int operand : anchor().operands) in.push_back(types_.at(static_cast<std::size_t>(operand)));
  return in;
}

TensorType Workload::anchor_output() const { return anchor().op->infer(anchor().attributes, anchor_inputs())[0]; }

const TensorType& Workload::input_type(std::string_view role) const {
  for (std::size_t i = 0; i < inputs_.size(); ++i)
    if (inputs_[i].role == role) return types_[i];
  throw Error(ErrorCode::not_found, fmt::format("workload {} has no operand '{}'", name(), role));
}

bool Workload::has_input(std::string_view role) const {
  return std::any_of(inputs_.begin(), inputs_.end(), [&](const OperandInfo& info) { return info.role == role; });
}

std::vector<TensorType> Workload::output_types() const {
  std::vector<TensorType> out;
  for (std::size_t i = 0; i < composition_.outputs.size(); ++i) {
    out.push_back(types_.at(static_cast<std::size_t>(composition_.outputs[i])));
    out.back().layout = composition_.output_layouts[i];
  }
  return out;
}

std::vector<std::string> Workload::symbols() const {
  std::set<std::string> names;
  for (const auto& type : types_)
    for (const auto& extent : type.shape) names.merge(extent.symbols());
  return {names.begin(), names.end()};
}

std::string Workload::name() const {
  std::vector<std::string> names;
  for (const auto& node : composition_.nodes) names.emplace_back(node.op->name());
  return fmt::format("{}", fmt::join(names, "+"));
}

Pipeline Workload::instantiate(const std::string& variant, const std::vector<Packing>& packings) const {
  const auto known = anchor().op->variants(anchor().attributes, anchor_inputs());
  if (std::find(known.begin(), known.end(), variant) == known.end())
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} has no variant '{}'{}; it has {}", anchor().op->name(), variant,
                            did_you_mean(variant, known), fmt::join(known, ", ")));
  for (const auto& packing : packings)
    if (!has_input(packing.operand)) {
      std::vector<std::string> roles;
      for (const auto& info : inputs_) roles.push_back(info.role);
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("pack names the operand '{}', which does not exist{}; there are {}", packing.operand,
                              did_you_mean(packing.operand, roles), fmt::join(roles, ", ")));
    }

  Pipeline pipeline;
  for (const auto& symbol : symbols()) {
    Halide::Param<int> param(symbol);
    const Range& range = composition_.symbols.at(symbol);
    param.set_range(static_cast<int>(range.min), static_cast<int>(range.max));
    pipeline.symbols.push_back(param);
  }

  const auto views = input_views(packings);
  std::vector<Operand> values(types_.size());
  std::vector<TensorType> stored = types_;
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    const Packing* own = packing_of(packings, inputs_[i].role);
    const OperandInfo info = own == nullptr ? inputs_[i] : stored_operand(inputs_[i], *own);
    if (own != nullptr) stored[i] = stored_type(inputs_[i], types_[i], *own);
    Halide::ImageParam param(halide_type(views[i].dtype), static_cast<int>(views[i].dimensions.size()), info.role);
    constrain(param, views[i], pipeline.symbols);
    Halide::Func func = param;
    if (own != nullptr) {
      std::vector<Halide::Var> logical;
      for (const auto& dimension : info.dimensions) logical.emplace_back(dimension);
      std::vector<Halide::Expr> index;
      for (const auto& d : packed_dimensions(inputs_[i], *own)) {
        const Halide::Expr v = logical[static_cast<std::size_t>(d.logical)];
        const int block = static_cast<int>(d.block);
        index.push_back(d.part == PackedDimension::Part::whole       ? v
                        : d.part == PackedDimension::Part::remainder ? v % block
                                                                     : v / block);
      }
      Halide::Func unpacked(info.role + "_unpacked");
      unpacked(std::vector<Halide::Var>(logical.rbegin(), logical.rend())) = param(index);
      func = unpacked;
    }
    values[i].func = func;
    pipeline.inputs.push_back(param);
    pipeline.operands.emplace(info.role, param);
    // Halide's order: the last logical dimension first. A packed operand's dimensions are blocks, which have no names.
    if (own == nullptr) pipeline.operand_dimensions[info.role] = {info.dimensions.rbegin(), info.dimensions.rend()};
  }
  for (std::size_t i = 0; i < types_.size(); ++i) {
    values[i].type = stored[i];
    for (const auto& extent : stored[i].shape) values[i].extents.push_back(to_expr(extent, pipeline.symbols));
    values[i].readable = values[i].extents;
  }
  for (std::size_t i = 0; i < inputs_.size(); ++i)
    if (const Packing* packing = packing_of(packings, inputs_[i].role))
      for (const auto& d : packed_dimensions(inputs_[i], *packing))
        if (d.part == PackedDimension::Part::quotient) {
          const auto logical = static_cast<std::size_t>(d.logical);
          values[i].readable[logical] =
              to_expr(ceil_div(stored[i].shape[logical], d.block) * Extent(d.block), pipeline.symbols);
        }

  const std::set<int> results(composition_.outputs.begin(), composition_.outputs.end());
  std::size_t next = inputs_.size();
  for (std::size_t n = 0; n < composition_.nodes.size(); ++n) {
    const auto& node = composition_.nodes[n];
    const bool is_anchor = static_cast<int>(n) == composition_.anchor;
    Algorithm algorithm;
    std::vector<TensorType> in;
    for (const int operand : node.operands) {
      algorithm.in.push_back(values[static_cast<std::size_t>(operand)]);
      in.push_back(types_[static_cast<std::size_t>(operand)]);
    }
    algorithm.out = node.op->infer(node.attributes, in);
    if (is_anchor) algorithm.variant = variant;
    const auto own = node.op->dimensions(node.attributes, in);
    // After the anchor, the loops are the anchor's, so that one schedule serves every epilogue.
    const bool epilogue = static_cast<int>(n) > composition_.anchor && own.size() == dimensions_.size();
    for (const auto& dimension : epilogue ? dimensions_ : own) algorithm.loops.emplace_back(dimension);
    algorithm.symbols = pipeline.symbols;
    auto stages = node.op->define(node.attributes, algorithm);
    if (stages.empty() || stages.back().role != "out")
      throw Error(ErrorCode::internal, fmt::format("operator {} must define its stage 'out' last", node.op->name()));
    const bool is_result = results.count(static_cast<int>(next)) > 0;
    // A cast is asked to round.
    const bool rounds_narrow = !in.empty() && in[0].dtype == algorithm.out[0].dtype;
    if (is_result) stages.back().func = as_stored(stages.back().func, halide_type(algorithm.out[0].dtype));
    values[next].func = !is_result && rounds_narrow ? unrounded(stages.back().func) : stages.back().func;
    for (auto& stage : stages) {
      const bool last = &stage == &stages.back();
      if (last && !is_result) continue;  // composed into what follows
      std::string role =
          is_anchor || (last && is_result) ? stage.role : fmt::format("{}{}.{}", node.op->name(), n, stage.role);
      pipeline.stages.push_back({std::move(role), stage.func, algorithm.reduction_names});
    }
    next += algorithm.out.size();
  }

  const auto outs = output_views();
  for (std::size_t i = 0; i < composition_.outputs.size(); ++i) {
    Halide::Func func = values[static_cast<std::size_t>(composition_.outputs[i])].func;
    constrain(func.output_buffer(), outs[i], pipeline.symbols);
    const auto arguments = func.args();
    for (std::size_t d = 0; d < arguments.size(); ++d)
      func.bound(arguments[d], 0, to_expr(outs[i].dimensions[d].extent, pipeline.symbols));
    pipeline.outputs.push_back(func);
  }
  // `out` comes last, further outputs before it, as Pipeline documents.
  const auto out = std::find_if(pipeline.stages.begin(), pipeline.stages.end(),
                                [&](const PipelineStage& s) { return s.func.name() == pipeline.outputs[0].name(); });
  if (out != pipeline.stages.end()) std::rotate(out, out + 1, pipeline.stages.end());
  return pipeline;
}

Pipeline Workload::instantiate(const Implementation& implementation, std::string_view file) const {
  Pipeline pipeline = instantiate(implementation.variant, implementation.packings);
  apply(implementation.schedule, pipeline, file);
  return pipeline;
}

std::vector<BufferView> Workload::input_views(const std::vector<Packing>& packings) const {
  std::vector<BufferView> views;
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    const Packing* packing = packing_of(packings, inputs_[i].role);
    views.push_back(packing != nullptr ? packed_view(inputs_[i], types_[i], *packing)
                                       : view_of(inputs_[i].role, types_[i]));
  }
  return views;
}

std::vector<BufferView> Workload::output_views() const {
  std::vector<BufferView> views;
  const auto types = output_types();
  for (std::size_t i = 0; i < types.size(); ++i)
    views.push_back(interior_view(i == 0 ? "out" : fmt::format("out{}", i), types[i]));
  return views;
}

Expectation Workload::expect(std::span<const Array> inputs, const SymbolValues& known) const {
  if (inputs.size() != inputs_.size())
    throw Error(ErrorCode::invalid_argument,
                fmt::format("workload {} takes {} inputs, not {}", name(), inputs_.size(), inputs.size()));
  std::vector<Shape> shapes;
  for (const auto& array : inputs) shapes.push_back(array.shape());
  const SymbolValues symbols = bind_symbols(std::span(types_).first(inputs_.size()), shapes, known);
  std::map<std::string, Extent> replacements;
  for (const auto& [symbol, value] : symbols) replacements[symbol] = value;

  std::vector<Array> values(inputs.begin(), inputs.end());
  std::vector<double> largest(inputs.size(), 0);  // what callers give has no error
  for (const auto& node : composition_.nodes) {
    std::vector<Array> in;
    for (const int operand : node.operands) in.push_back(values.at(static_cast<std::size_t>(operand)));
    const std::size_t first = values.size();
    std::vector<Array> out;
    const Json attributes = node.op->bind(node.attributes, replacements);
    const std::size_t count = node.op->infer(attributes, types_of(in)).size();
    for (std::size_t i = 0; i < count; ++i) {
      Shape shape;
      for (const auto& extent : types_.at(first + i).shape) shape.push_back(extent.substitute(replacements).value());
      out.emplace_back(types_.at(first + i).dtype, std::move(shape));
    }
    node.op->reference(attributes, in, out);
    const double carried =
        carried_magnitude(node.op->tolerance(attributes, types_of(in)).operand_errors, node.operands, values, largest);
    for (const Array& array : out) largest.push_back(std::max(carried, largest_magnitude(array)));
    values.insert(values.end(), out.begin(), out.end());
  }
  Expectation expected;
  for (const int output : composition_.outputs) {
    expected.outputs.push_back(values.at(static_cast<std::size_t>(output)));
    expected.largest.push_back(largest.at(static_cast<std::size_t>(output)));
  }
  return expected;
}

Tolerance Workload::tolerance(std::string_view variant) const {
  Tolerance sum;
  std::vector<std::string> reasons;
  for (const auto& node : composition_.nodes) {
    std::vector<TensorType> in;
    for (const int operand : node.operands) in.push_back(types_[static_cast<std::size_t>(operand)]);
    const Tolerance t = node.op->tolerance_of(&node == &anchor() ? variant : "direct", node.attributes, in);
    sum.relative += t.relative;
    sum.of_largest += t.of_largest;
    if (t.special_values == SpecialValues::ignored) sum.special_values = SpecialValues::ignored;
    if (!t.reason.empty()) reasons.push_back(fmt::format("{}: {}", node.op->name(), t.reason));
  }
  // What one operator rounds, the next may cancel: the error is then relative to the operands, not to the small result.
  if (composition_.nodes.size() > 1) sum.of_largest += sum.relative;
  sum.reason = fmt::format("{}", fmt::join(reasons, "; "));
  return sum;
}

Extent Workload::flops() const {
  Extent total = 0;
  for (const auto& node : composition_.nodes) {
    std::vector<TensorType> in;
    for (const int operand : node.operands) in.push_back(types_[static_cast<std::size_t>(operand)]);
    const auto out = node.op->infer(node.attributes, in);
    total = total + node.op->flops(node.attributes, in, out);
  }
  return total;
}

Extent Workload::bytes() const {
  Extent total = 0;
  const auto add = [&](const TensorType& type) {
    total = total + type.element_count() * Extent(static_cast<std::int64_t>(size_of(type.dtype)));
  };
  for (std::size_t i = 0; i < inputs_.size(); ++i) add(types_[i]);
  for (const auto& type : output_types()) add(type);
  return total;
}

SymbolValues bind_symbols(std::span<const TensorType> types, std::span<const Shape> shapes, SymbolValues symbols) {
  for (std::size_t i = 0; i < types.size(); ++i) {
    if (types[i].shape.size() != shapes[i].size())
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("operand {} has shape {}, expected {}", i, to_string(shapes[i]), types[i].str()));
    for (std::size_t d = 0; d < shapes[i].size(); ++d) {
      // A symbol, or a multiple of one: 32*h.
      const auto& terms = types[i].shape[d].terms();
      if (terms.size() != 1 || terms.begin()->first.size() != 1) continue;
      const auto& [monomial, factor] = *terms.begin();
      if (monomial[0]->kind != Extent::Atom::Kind::symbol || factor <= 0) continue;
      if (shapes[i][d] % factor != 0)
        throw Error(ErrorCode::invalid_argument,
                    fmt::format("operand {} has shape {}: dimension {} must be a multiple of {}", i,
                                to_string(shapes[i]), d, factor));
      symbols.emplace(monomial[0]->name, shapes[i][d] / factor);
    }
  }
  for (std::size_t i = 0; i < types.size(); ++i)
    for (std::size_t d = 0; d < shapes[i].size(); ++d)
      if (const std::int64_t want = types[i].shape[d].evaluate(symbols); want != shapes[i][d])
        throw Error(ErrorCode::invalid_argument, fmt::format("operand {} has shape {}: dimension {} must be {} = {}", i,
                                                             to_string(shapes[i]), d, types[i].shape[d].str(), want));
  return symbols;
}

std::string mismatch(const Array& got, const Array& want, const Tolerance& tolerance, double largest) {
  if (got.dtype() != want.dtype() || got.shape() != want.shape())
    return fmt::format("got {} {}, expected {} {}", to_string(got.dtype()), to_string(got.shape()),
                       to_string(want.dtype()), to_string(want.shape()));
  if (is_integer(got.dtype()) && tolerance.relative == 0 && tolerance.of_largest == 0 && got == want) return "";
  const std::int64_t count = want.size();
  largest = std::max(largest, largest_magnitude(want));
  // An integer that was rounded from an inexact number goes either way from half-way; a rounding before it within the
  // kernel counts for two of its steps at most, since scales within a kernel are alike.
  const double steps = is_integer(want.dtype()) && (tolerance.relative > 0 || tolerance.of_largest > 0) ? 3 : 0;
  std::int64_t wrong = 0, first = -1;
  double worst = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double g = got.at(i), w = want.at(i);
    if (!std::isfinite(w)) {
      if (tolerance.special_values == SpecialValues::ignored) continue;
      if (std::isnan(w) ? std::isnan(g) : g == w) continue;
    } else {
      const double error = std::abs(g - w);
      if (error <= tolerance.relative * std::abs(w) + tolerance.of_largest * largest + steps) continue;
      if (!std::isnan(error)) worst = std::max(worst, error);
    }
    if (wrong++ == 0) first = i;
  }
  if (wrong == 0) return "";
  std::vector<std::int64_t> index;
  std::int64_t rest = first;
  for (auto extent = want.shape().rbegin(); extent != want.shape().rend(); ++extent) {
    index.insert(index.begin(), rest % *extent);
    rest /= *extent;
  }
  return fmt::format(
      "{} of {} elements differ, first at [{}]: got {}, expected {}; largest error {:.3g} where the largest value is "
      "{:.3g} and {:.3g} relative + {:.3g} of the largest{} are allowed",
      wrong, count, fmt::join(index, ","), got.at(first), want.at(first), worst, largest, tolerance.relative,
      tolerance.of_largest, steps == 0 ? "" : fmt::format(" + {} steps", steps));
}

}  // namespace heddle
