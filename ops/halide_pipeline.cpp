#include "ops/halide_pipeline.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <sstream>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/file.hpp"
#include "dsl/halide_error.hpp"
#include "ops/halide_rebuild.hpp"
#include "ops/rules.hpp"

namespace heddle::ops {
namespace {

using Halide::Expr;
namespace hi = Halide::Internal;
using Bytes = std::vector<std::uint8_t>;

constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::size_t digest_digits = 16;

/// Digits of the bytes' hash, a colon, and the bytes in base 64: Halide trusts what it reads.
std::string to_text(const Bytes& bytes) {
  std::string text = sha256({reinterpret_cast<const char*>(bytes.data()), bytes.size()}).substr(0, digest_digits) + ":";
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t j = 0; j < 3; ++j) group = group << 8U | (i + j < bytes.size() ? bytes[i + j] : 0U);
    for (std::size_t j = 0; j < 4; ++j) text += i + j > bytes.size() ? '=' : alphabet[group >> (18 - 6 * j) & 63U];
  }
  return text;
}

Bytes to_bytes(const std::string& text) {
  const auto fail = [] {
    throw Error(ErrorCode::corrupt, "the attribute 'pipeline' is damaged; import the pipeline again");
  };
  const std::size_t colon = text.find(':');
  if (colon != digest_digits) fail();
  Bytes bytes;
  std::uint32_t group = 0;
  int bits = 0;
  for (const char c : std::string_view(text).substr(colon + 1)) {
    if (c == '=') break;
    const std::size_t value = alphabet.find(c);
    if (value == std::string_view::npos) fail();
    group = (group << 6U | static_cast<std::uint32_t>(value)) & 0xFFFFFFU;
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push_back(static_cast<std::uint8_t>(group >> bits & 0xFFU));
  }
  if (sha256({reinterpret_cast<const char*>(bytes.data()), bytes.size()}).substr(0, digest_digits) !=
      text.substr(0, digest_digits))
    fail();
  return bytes;
}

DType dtype_of(const Halide::Type& type, const std::string& what) {
  for (const DType dtype : enum_values(DType{}))
    if (dtype != DType::string && dtype != DType::boolean && halide_type(dtype) == type) return dtype;
  std::ostringstream name;
  name << type;
  throw Error(
      ErrorCode::unsupported,
      fmt::format("{} has elements of type {}, which tensors cannot have: cast them to another", what, name.str()));
}

/// `pipeline`: digits of a hash, a colon, base 64. `inputs`: "input:u8[1080,1920]" each, the kernel's arguments.
struct Attributes {
  BOOST_HANA_DEFINE_STRUCT(Attributes, (std::string, pipeline), (std::vector<std::string>, inputs));
};

std::optional<int> constant(const Expr& e) {
  if (!e.defined()) return std::nullopt;
  const auto value = hi::as_const_int(hi::simplify(e));
  return value ? std::optional<int>(static_cast<int>(*value)) : std::nullopt;
}

/// Where an image begins and how long it is along each dimension, Halide's order.
struct Region {
  std::vector<std::optional<int>> min, extent;
};

Region estimated_region(const Halide::Parameter& image) {
  Region region;
  for (int d = 0; d < image.dimensions(); ++d) {
    const auto min = constant(image.min_constraint(d)), extent = constant(image.extent_constraint(d));
    region.min.push_back(min ? min : constant(image.min_constraint_estimate(d)));
    region.extent.push_back(extent ? extent : constant(image.extent_constraint_estimate(d)));
  }
  return region;
}

/// The value that a parameter has while the pipeline is tuned.
Expr estimated_value(const HalideParts& parts, const std::vector<Region>& regions, const ParameterValues& given,
                     const hi::Variable& variable) {
  const Halide::Parameter& parameter = variable.param;
  if (!parameter.is_buffer()) {
    if (const auto value = given.find(parameter.name()); value != given.end())
      return hi::simplify(Halide::cast(parameter.type(), Expr(value->second)));
    if (parameter.estimate().defined()) return hi::simplify(Halide::cast(parameter.type(), parameter.estimate()));
    if (parameter.has_scalar_value()) return parameter.scalar_expr();
    // Halide leaves estimates of parameters out of what it serialises.
    throw Error(ErrorCode::invalid_argument,
                fmt::format("the parameter '{0}' has no value to measure with; give it an estimate, "
                            "{1}.set_estimate(VALUE), or for a file --attribute {0}=VALUE",
                            parameter.name(), readable_name(parameter.name())));
  }
  // "input.extent.0"
  const std::size_t last = variable.name.rfind('.'), before = variable.name.rfind('.', last - 1);
  const std::string what = variable.name.substr(before + 1, last - before - 1);
  const auto d = static_cast<std::size_t>(std::stoi(variable.name.substr(last + 1)));
  for (std::size_t o = 0; o < parts.operands.size(); ++o) {
    if (parts.operands[o].parameter.name() != parameter.name()) continue;
    if (what == "min" && regions[o].min.at(d)) return *regions[o].min[d];
    if (what == "extent" && regions[o].extent.at(d)) return *regions[o].extent[d];
    if (what == "max" && regions[o].min.at(d) && regions[o].extent.at(d))
      return *regions[o].min[d] + *regions[o].extent[d] - 1;
  }
  throw Error(ErrorCode::invalid_argument,
              fmt::format("the pipeline asks for {}, which is not known; give '{}' estimates: set_estimates(...)",
                          variable.name, parameter.name()));
}

/// The result's place, from its bounds or estimates.
Region output_region(const HalideStage& out) {
  Region region;
  const auto& schedule = out.function.schedule();
  for (const auto& argument : out.function.args()) {
    std::optional<int> min, extent;
    for (const auto* list : {&schedule.estimates(), &schedule.bounds()})
      for (const auto& bound : *list)
        if (bound.var == argument && !extent) {
          min = constant(bound.min);
          extent = constant(bound.extent);
        }
    if (!extent || *extent < 1)
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("the result '{}' has no estimate for its dimension '{}', so there is nothing to measure; "
                              "give it some: {}.set_estimates({{{{0, 1920}}, ...}})",
                              out.function.name(), argument, readable_name(out.function.name())));
    region.min.push_back(min.value_or(0));
    region.extent.push_back(extent);
  }
  return region;
}

std::vector<int> values(const std::vector<std::optional<int>>& list) {
  std::vector<int> result;
  for (const auto& value : list) result.push_back(value.value_or(0));
  return result;
}

std::string unique_func_name(const std::string& role) { return hi::unique_name(role); }

/// What the result asks for of each image, by Halide's own inference.
std::vector<Region> required_regions(const HalideParts& parts, const std::vector<Region>& estimates,
                                     const ParameterValues& given, const Region& out) {
  std::vector<Halide::ImageParam> images;
  for (const auto& operand : parts.operands)
    images.emplace_back(operand.parameter.type(), operand.parameter.dimensions(), operand.role);
  Rebuild how;
  how.read = [&](std::size_t o, const std::vector<Expr>& index) {
    return hi::Call::make(images[o].parameter(), index);
  };
  how.parameter = [&](const hi::Variable& v) { return estimated_value(parts, estimates, given, v); };
  how.name = unique_func_name;
  for (const auto& min : out.min) how.output_min.emplace_back(*min);
  auto funcs = rebuild(parts, how);
  // Inlined, a chain of stencils would be a tree of all their readings.
  for (auto& func : funcs) func.compute_root();
  Halide::Pipeline(funcs.back()).infer_input_bounds(values(out.extent));
  std::vector<Region> required;
  for (auto& image : images) {
    Region region;
    const Halide::Buffer<> buffer = image.get();
    for (int d = 0; d < image.dimensions(); ++d) {
      region.min.emplace_back(buffer.dim(d).min());
      region.extent.emplace_back(buffer.dim(d).extent());
    }
    required.push_back(std::move(region));
  }
  return required;
}

/// The estimates, with what is required where there are none.
std::vector<Region> input_regions(const HalideParts& parts, const ParameterValues& given, const Region& out) {
  std::vector<Region> regions;
  for (const auto& operand : parts.operands) regions.push_back(estimated_region(operand.parameter));
  const std::vector<Region> required = required_regions(parts, regions, given, out);
  for (std::size_t o = 0; o < regions.size(); ++o)
    for (std::size_t d = 0; d < regions[o].extent.size(); ++d) {
      const int low = *required[o].min[d], extent = *required[o].extent[d];
      auto& min = regions[o].min[d];
      auto& size = regions[o].extent[d];
      if (!size) {
        min = low;
        size = std::max(extent, 1);
      }
      if (!min) min = 0;
      if (low < *min || low + extent > *min + *size)
        throw Error(
            ErrorCode::invalid_argument,
            fmt::format("input '{}' is estimated to cover [{}, {}) along dimension {}, but [{}, {}) is read for "
                        "the estimated result; correct its estimates, or clamp what is read",
                        parts.operands[o].parameter.name(), *min, *min + *size, d, low, low + extent));
    }
  return regions;
}

/// The pipeline with all that it depends on made part of it, under names that do not depend on the process: equal
/// algorithms are equal texts.
Bytes canonical_bytes(const HalideParts& parts, const std::vector<Region>& regions, const ParameterValues& given,
                      const Region& out) {
  std::vector<Halide::Parameter> images;
  for (const auto& operand : parts.operands)
    images.emplace_back(operand.parameter.type(), true, operand.parameter.dimensions(), operand.role);
  Rebuild how;
  how.read = [&](std::size_t o, std::vector<Expr> index) {
    for (std::size_t d = 0; d < index.size(); ++d) index[d] = hi::simplify(index[d] - *regions[o].min[d]);
    return hi::Call::make(images[o], index);
  };
  how.parameter = [&](const hi::Variable& v) { return estimated_value(parts, regions, given, v); };
  how.name = [](const std::string& role) { return role; };
  for (const auto& min : out.min) how.output_min.emplace_back(*min);
  auto funcs = rebuild(parts, how);
  number_lets(funcs);
  Halide::Func result = funcs.back();
  const auto arguments = result.args();
  for (std::size_t d = 0; d < arguments.size(); ++d) result.set_estimate(arguments[d], 0, *out.extent[d]);
  Bytes bytes;
  Halide::serialize_pipeline(Halide::Pipeline(result), bytes);
  return bytes;
}

/// What the operator's functions ask of its attribute, found out once.
struct Known {
  std::vector<OperandInfo> operands;
  std::vector<TensorType> inputs;
  TensorType output;
  std::vector<std::string> dimensions;  ///< logical order
  HalideCharacter character;
  std::int64_t operations = 0;
};

/// The parts of the attribute's pipeline, operands in the order of the attribute `inputs`.
HalideParts parts_of(const Attributes& attributes) {
  HalideParts parts(Halide::deserialize_pipeline(to_bytes(attributes.pipeline), {}));
  std::vector<HalideOperand> ordered;
  for (const auto& entry : attributes.inputs) {
    const std::string role = entry.substr(0, entry.find(':'));
    for (const auto& operand : parts.operands)
      if (operand.role == role) ordered.push_back(operand);
  }
  if (ordered.size() != parts.operands.size() || ordered.size() != attributes.inputs.size())
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'inputs' of halide_pipeline names {}, but the pipeline reads {} images",
                            fmt::join(attributes.inputs, ", "), parts.operands.size()));
  parts.operands = std::move(ordered);
  return parts;
}

std::vector<Extent> shape_of(const Region& region) {
  std::vector<Extent> shape;
  for (auto extent = region.extent.rbegin(); extent != region.extent.rend(); ++extent) shape.emplace_back(**extent);
  return shape;
}

Rebuild instantiation(const HalideParts& parts, std::vector<Operand> operands) {
  Rebuild how;
  how.read = [operands = std::move(operands)](std::size_t o, const std::vector<Expr>& index) -> Expr {
    return operands[o].func(index);
  };
  how.parameter = [&parts](const hi::Variable& v) { return estimated_value(parts, {}, {}, v); };
  how.name = unique_func_name;
  return how;
}

Known find_out(const Attributes& attributes) {
  const HalideParts parts = parts_of(attributes);
  Known known;
  for (std::size_t o = 0; o < parts.operands.size(); ++o) {
    const HalideOperand& operand = parts.operands[o];
    const std::string& entry = attributes.inputs[o];
    const TensorType type = TensorType::parse(entry.substr(entry.find(':') + 1));
    if (halide_type(type.dtype) != operand.parameter.type() || type.rank() != operand.parameter.dimensions())
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("'inputs' of halide_pipeline says {}, which the pipeline reads otherwise", entry));
    known.operands.push_back({operand.role, {}, {}, false});
    known.inputs.push_back(type);
  }
  const Region out = output_region(parts.out());
  known.output = tensor(dtype_of(parts.out().function.output_types()[0], "the result"), shape_of(out));
  known.dimensions.assign(parts.out().dimensions.rbegin(), parts.out().dimensions.rend());
  known.character = character_of(parts);
  std::vector<Halide::Func> funcs;
  for (const auto& stage : parts.stages) funcs.emplace_back(stage.function);
  known.operations = std::llround(operations_of(funcs, values(out.extent)));
  return known;
}

Attributes parsed(const Json& json) {
  auto attributes = reflect::from_json<Attributes>(json, "attributes of halide_pipeline");
  if (attributes.pipeline.empty())
    throw Error(ErrorCode::invalid_argument,
                "halide_pipeline is made from a file that Halide::serialize_pipeline wrote: name that file, as in "
                "`heddle tune FILE.hlpipe`");
  return attributes;
}

/// Asked for many times in a search; there are few pipelines in a process.
const Known& known(const Json& json) {
  static std::mutex mutex;
  static std::map<std::pair<std::string, std::vector<std::string>>, Known> all;
  const Attributes attributes = parsed(json);
  const std::lock_guard lock(mutex);
  const auto key = std::pair(attributes.pipeline, attributes.inputs);
  auto found = all.find(key);
  if (found == all.end())
    found = all.emplace(key, translate_halide_errors("halide_pipeline", [&] { return find_out(attributes); })).first;
  return found->second;
}

/// Every stage at its place, in the order of the algorithm, by Halide's own compiler for this machine.
void realise(const HalideParts& parts, bool in_double, std::span<const Array> in, Array& out) {
  std::vector<Halide::Buffer<>> buffers;
  for (std::size_t i = 0; i < in.size(); ++i) {
    std::vector<int> sizes;
    for (auto extent = in[i].shape().rbegin(); extent != in[i].shape().rend(); ++extent)
      sizes.push_back(static_cast<int>(*extent));
    // It is read alone, and Halide has no buffer of constants.
    buffers.emplace_back(halide_type(in[i].dtype()), const_cast<void*>(in[i].data()), sizes);
  }
  std::vector<Halide::ImageParam> images;
  for (std::size_t i = 0; i < in.size(); ++i) {
    images.emplace_back(buffers[i].type(), buffers[i].dimensions());
    images.back().set(buffers[i]);
  }
  Rebuild how;
  how.read = [&](std::size_t o, const std::vector<Expr>& index) {
    return hi::Call::make(images[o].parameter(), index);
  };
  how.parameter = [&](const hi::Variable& v) { return estimated_value(parts, {}, {}, v); };
  how.name = unique_func_name;
  how.in_double = in_double;
  auto funcs = rebuild(parts, how);
  for (auto& func : funcs) func.compute_root();
  const bool widened = in_double && is_float(out.dtype());
  Array wide = widened ? Array(DType::f64, out.shape()) : Array();
  std::vector<int> sizes;
  for (auto extent = out.shape().rbegin(); extent != out.shape().rend(); ++extent)
    sizes.push_back(static_cast<int>(*extent));
  Array& target = widened ? wide : out;
  Halide::Buffer<> result(halide_type(target.dtype()), target.mutable_data(), sizes);
  Halide::Pipeline(funcs.back()).realize(result);
  if (widened)
    for (std::int64_t i = 0; i < out.size(); ++i) out.set(i, wide.at(i));
}

class HalidePipeline final : public Operator {
 public:
  std::string_view name() const override { return "halide_pipeline"; }
  std::string_view summary() const override { return "a pipeline of Halide's, serialised: heddle tune FILE.hlpipe"; }
  /// Nothing that fuses with what is around it or takes another order, and no family's but the one for everything.
  OperatorKind kind() const override { return OperatorKind::contraction; }
  LayoutPreference layout() const override { return LayoutPreference::row_major; }

  std::vector<reflect::MemberInfo> attributes() const override { return reflect::describe<Attributes>(); }
  Json canonical(const Json& attributes) const override {
    known(attributes);
    return reflect::to_json(parsed(attributes));
  }
  std::vector<OperandInfo> operands(const Json& attributes, std::span<const TensorType>) const override {
    return known(attributes).operands;
  }
  std::vector<std::string> dimensions(const Json& attributes, std::span<const TensorType>) const override {
    return known(attributes).dimensions;
  }
  std::vector<std::string> variants(const Json&, std::span<const TensorType>) const override { return {"direct"}; }

  std::vector<TensorType> infer(const Json& attributes, std::span<const TensorType> in) const override {
    const Known& k = known(attributes);
    if (in.size() != k.inputs.size())
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("the pipeline has {} inputs, not {}", k.inputs.size(), in.size()));
    for (std::size_t i = 0; i < in.size(); ++i)
      if (in[i].dtype != k.inputs[i].dtype || in[i].shape != k.inputs[i].shape)
        throw Error(ErrorCode::invalid_argument, fmt::format("{} is {}, but the pipeline's estimates make it {}",
                                                             k.operands[i].role, in[i].str(), k.inputs[i].str()));
    return {k.output};
  }

  std::vector<DefinedStage> define(const Json& attributes, Algorithm& algorithm) const override {
    return translate_halide_errors("halide_pipeline", [&] {
      const HalideParts parts = parts_of(parsed(attributes));
      auto funcs = rebuild(parts, instantiation(parts, algorithm.in));
      std::vector<DefinedStage> stages;
      for (std::size_t i = 0; i < funcs.size(); ++i) {
        stages.push_back({parts.stages[i].role, funcs[i]});
        for (const auto& entry : parts.stages[i].reductions) algorithm.reduction_names[entry.second] = entry.second;
      }
      return stages;
    });
  }

  /// In double where the result is a continuous function of its floats. Elsewhere a rounding error would decide
  /// otherwise than f32 does, and be taken for a mistake: then it is the unscheduled form in its own types.
  void reference(const Json& attributes, std::span<const Array> in, std::span<Array> out) const override {
    const HalideCharacter& character = known(attributes).character;
    translate_halide_errors("the reference of halide_pipeline", [&] {
      realise(parts_of(parsed(attributes)), character.has_floats && !character.has_jumps, in, out[0]);
    });
  }

  Tolerance tolerance(const Json& attributes, std::span<const TensorType>) const override {
    const Known& k = known(attributes);
    const HalideCharacter& c = k.character;
    if (!c.has_floats) return {.reason = "integers are exact"};
    if (is_integer(k.output.dtype)) {
      if (!c.rounds_to_integers) return {.special_values = SpecialValues::ignored, .reason = "integers are exact"};
      // One step, where the largest is at least half of the type's range or a thousand.
      const double step = size_of(k.output.dtype) == 1 ? 0x1p-6 : 0x1p-9;
      return {.of_largest = step,
              .special_values = SpecialValues::ignored,
              .reason = "floats near the middle of two integers are rounded to either"};
    }
    constexpr double unlucky = 16;  // intermediates larger than the result, functions that are steep
    return {.of_largest = unlucky * std::ldexp(1.0, -c.least_mantissa) * std::max(1.0, c.rounding_steps),
            .special_values = SpecialValues::ignored,
            .reason = "each stage's roundings add up like the root of their number"};
  }

  Extent flops(const Json& attributes, std::span<const TensorType>, std::span<const TensorType>) const override {
    return known(attributes).operations;
  }

  std::vector<Case> cases() const override;
};

/// Two stages and a reduction in one type; which domain a type's values are drawn from is stated by these cases.
Case example(DType type, const ValueDomain& domain) {
  constexpr int operands = 4;
  const Halide::Type element = halide_type(type);
  Halide::Var x("x"), y("y");
  Halide::RDom r(-1, 3, "r");
  Halide::Func blurred("blurred"), sum("sum"), out("result");
  std::vector<Halide::ImageParam> images;
  for (int i = 0; i < operands; ++i) {
    images.emplace_back(element, 2, fmt::format("x{}", i));
    images.back().set_estimates({{-1, 15}, {0, 7}});
  }
  blurred(x, y) = images[0](x - 1, y) + images[1](x, y) + images[2](x + 1, y);
  sum(x, y) = Halide::cast(element, 0);
  sum(x, y) += blurred(Halide::clamp(x + r, 0, 12), y) - images[3](x, y);
  out(x, y) = Halide::max(sum(x, y), Halide::cast(element, 1));
  out.set_estimates({{0, 13}, {0, 7}});
  const ImportedPipeline imported = import_pipeline(Halide::Pipeline(out));
  Case result{imported.attributes, imported.inputs, {}};
  result.domains.assign(operands, domain);
  return result;
}

std::vector<Case> HalidePipeline::cases() const {
  static const std::vector<Case> all = [] {
    std::vector<Case> made;
    const auto add = [&](DType type, double low, double high) {
      made.push_back(example(type, {low, high, {low, high}}));
    };
    // Whole ranges where they are what images hold; floats as images have them.
    add(DType::f32, 0, 1);
    add(DType::u8, 0, 255);
    add(DType::u16, 0, 65535);
    add(DType::i16, -32768, 32767);
    add(DType::i8, -128, 127);
    add(DType::i32, -1000, 1000);
    add(DType::f64, 0, 1);
    return made;
  }();
  return all;
}

}  // namespace

const Operator& halide_pipeline() {
  static const HalidePipeline op;
  return op;
}

ImportedPipeline import_pipeline(const Halide::Pipeline& pipeline, const ParameterValues& values) {
  return translate_halide_errors("the pipeline", [&] {
    const HalideParts parts(pipeline);
    const Region out = output_region(parts.out());
    dtype_of(parts.out().function.output_types()[0], "the result");
    const auto regions = input_regions(parts, values, out);
    ImportedPipeline imported;
    std::vector<std::string> inputs;
    for (std::size_t o = 0; o < parts.operands.size(); ++o) {
      const auto& operand = parts.operands[o];
      const DType dtype = dtype_of(operand.parameter.type(), fmt::format("input '{}'", operand.parameter.name()));
      imported.inputs.push_back(tensor(dtype, shape_of(regions[o])));
      inputs.push_back(fmt::format("{}:{}", operand.role, imported.inputs.back().str()));
    }
    imported.attributes = {{"pipeline", to_text(canonical_bytes(parts, regions, values, out))}, {"inputs", inputs}};
    return imported;
  });
}

ImportedPipeline import_pipeline(const std::filesystem::path& file, const ParameterValues& values) {
  const std::string content = read_file(file);
  const Bytes bytes(content.begin(), content.end());
  const auto fail = [&] {
    throw Error(ErrorCode::corrupt, fmt::format("{} is no pipeline that Halide {}'s serialize_pipeline wrote",
                                                file.string(), HALIDE_VERSION_MAJOR));
  };
  // Halide reads without looking, and so may run into the weeds: let another process try first.
  const ::pid_t child = ::fork();
  if (child == 0) {
    for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) ::signal(signal, SIG_DFL);
    const ::rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    if (const int null = ::open("/dev/null", O_WRONLY); null >= 0) ::dup2(null, STDERR_FILENO);
    try {
      ::_exit(Halide::deserialize_pipeline(bytes, {}).defined() ? 0 : 1);
    } catch (...) {
      ::_exit(1);
    }
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child)
    throw Error(ErrorCode::io, "cannot start a process to read the pipeline in");
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) fail();
  try {
    return import_pipeline(Halide::deserialize_pipeline(bytes, {}), values);
  } catch (const Error& error) {
    throw error.within(file.string());
  }
}

Pipeline own_stages(const Halide::Pipeline& pipeline) {
  return translate_halide_errors("the pipeline", [&] {
    const HalideParts parts(pipeline);
    Pipeline own;
    // A copy of an image is a copy of the Func through which Halide reads it.
    for (const auto& operand : parts.operands) {
      if (!operand.wrapper.get_contents().defined()) continue;
      PipelineStage stage{operand.role, Halide::Func(operand.wrapper), {}};
      const auto names = default_dimensions(operand.parameter.dimensions());
      for (std::size_t d = 0; d < names.size(); ++d)
        stage.reductions[operand.wrapper.args()[d]] = names[names.size() - 1 - d];
      own.stages.push_back(std::move(stage));
    }
    for (const auto& part : parts.stages) {
      PipelineStage stage{part.role, Halide::Func(part.function), part.reductions};
      for (std::size_t d = 0; d < part.dimensions.size(); ++d)
        if (part.function.args()[d] != part.dimensions[d])
          stage.reductions[part.function.args()[d]] = part.dimensions[d];
      own.stages.push_back(std::move(stage));
    }
    own.outputs = pipeline.outputs();
    return own;
  });
}

}  // namespace heddle::ops
