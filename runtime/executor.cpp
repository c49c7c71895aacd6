#include "runtime/executor.hpp"

#include <time.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.hpp"
#include "runtime/gpu/device_module.hpp"

namespace heddle::runtime {
namespace {

using plan::StepKind;
using plan::Storage;

constexpr std::uint64_t host_alignment = 64;

std::uint64_t align(std::uint64_t bytes, std::uint64_t alignment = host_alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

halide_type_t halide_type(DType type) {
  switch (type) {
    case DType::f32: return {halide_type_float, 32};
    case DType::f64: return {halide_type_float, 64};
    case DType::f16: return {halide_type_float, 16};
    case DType::bf16: return {halide_type_bfloat, 16};
    case DType::i8: return {halide_type_int, 8};
    case DType::i16: return {halide_type_int, 16};
    case DType::i32: return {halide_type_int, 32};
    case DType::i64: return {halide_type_int, 64};
    case DType::u8:
    case DType::boolean: return {halide_type_uint, 8};
    case DType::u16: return {halide_type_uint, 16};
    case DType::u32: return {halide_type_uint, 32};
    case DType::u64: return {halide_type_uint, 64};
    case DType::string: break;
  }
  throw Error(ErrorCode::internal, "strings have no kernel type");
}

std::int32_t to_int32(std::int64_t value, const char* what) {
  if (value < std::numeric_limits<std::int32_t>::min() || value > std::numeric_limits<std::int32_t>::max())
    throw Error(ErrorCode::unsupported, fmt::format("{} is {}: kernels count in 32 bits", what, value));
  return static_cast<std::int32_t>(value);
}

Shape evaluate(const std::vector<Extent>& extents, const SymbolValues& symbols) {
  Shape shape;
  for (const Extent& extent : extents) shape.push_back(extent.evaluate(symbols));
  return shape;
}

std::int64_t now_ns() {
  struct ::timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

void check_preconditions(const plan::Kernel& kernel, const SymbolValues& symbols) {
  for (const plan::Precondition& p : kernel.preconditions) {
    const std::int64_t left = p.left.evaluate(symbols);
    const std::int64_t right = p.right.evaluate(symbols);
    const bool at_least = p.kind == plan::Precondition::Kind::at_least;
    if (at_least ? left >= right : right != 0 && left % right == 0) continue;
    throw Error(ErrorCode::invalid_argument,
                fmt::format("these input shapes do not suit kernel '{}': {} is {} and must be {} {} ({})", kernel.name,
                            p.left.str(), left, at_least ? "at least" : "a multiple of", right, p.reason));
  }
}

}  // namespace

struct BoundFunction::Step {
  const plan::Step* plan = nullptr;
  std::int64_t flops = 0, bytes = 0;

  // Of kernels. `arguments` points into the others, which never change in size again.
  KernelEntry entry = nullptr;
  void* context = nullptr;
  std::vector<std::int32_t> scalars;
  std::vector<halide_dimension_t> dimensions;
  std::vector<halide_buffer_t> buffers;
  std::vector<std::int64_t> buffer_offsets;  ///< bytes from the allocation's start
  std::vector<void*> arguments;

  // Of all others: the values themselves, as far as there are any (an optional input may be left out).
  std::vector<TensorView> inputs, outputs;
  HostFunction host;
  CopyPlan copy;
  BorderPlan border;

  // Of branch, loop and call.
  std::vector<std::unique_ptr<BoundFunction>> functions;
  std::size_t carried = 0;
  Pages body_outputs;  ///< what a loop's body returns, before it becomes the next iteration's input
  std::vector<std::uint64_t> body_offsets, body_bytes;
  mutable std::int64_t iteration = 0;  ///< the body's first input
  mutable std::uint8_t condition = 1;  ///< the body's second input
};

BoundFunction::BoundFunction(const Model& model, const plan::Function& function, const SymbolValues& symbols,
                             std::uint64_t arena_offset)
    : model_(model), function_(function) {
  bind_values(symbols, arena_offset);
  const std::uint64_t own_end = arena_end_;
  for (std::size_t s = 0; s < function.steps.size(); ++s) {
    const plan::Step& step = function.steps[s];
    try {
      auto bound = std::make_unique<Step>();
      bound->plan = &step;
      bound->flops = step.flops.evaluate(symbols);
      bound->bytes = step.bytes.evaluate(symbols);
      if (step.kind == StepKind::kernel) {
        bind_kernel(*bound, symbols);
      } else {
        bind_views(*bound);
        if (step.kind == StepKind::host)
          bound->host = host_operator(step.name).bind(
              {.attributes = step.attributes, .symbols = symbols, .inputs = bound->inputs, .outputs = bound->outputs});
        if (step.kind == StepKind::copy) bound->copy = CopyPlan(bound->inputs[0], bound->outputs[0]);
        if (step.kind == StepKind::fill_border) {
          const auto v = static_cast<std::size_t>(step.outputs[0].value);
          bound->border = BorderPlan(bound->outputs[0], function.values[v].border_value);
        }
        if (!step.functions.empty()) bind_functions(*bound, symbols, own_end);
      }
      steps_.push_back(std::move(bound));
    } catch (const Error& error) {
      throw error.within(step_name(s));
    }
  }
}

BoundFunction::~BoundFunction() = default;

void BoundFunction::bind_values(const SymbolValues& symbols, std::uint64_t arena_offset) {
  const std::vector<plan::Lifetime> lives = plan::lifetimes(function_, symbols);
  // A value has the same offset on the device, whose buffers begin at multiples of its own.
  const std::uint64_t alignment =
      model_.device() == nullptr ? host_alignment : model_.device()->device().info().alignment;
  const plan::Placement placement = plan::place(lives, alignment);
  const std::uint64_t begin = align(arena_offset, alignment);
  arena_end_ = begin + align(placement.arena_bytes, alignment);
  values_.resize(function_.values.size());
  for (std::size_t v = 0; v < values_.size(); ++v) {
    const plan::Value& from = function_.values[v];
    Value& value = values_[v];
    try {
      const auto size = static_cast<std::int64_t>(size_of(from.dtype));
      value.view = {.dtype = from.dtype,
                    .shape = evaluate(from.shape, symbols),
                    .strides = evaluate(from.strides, symbols),
                    .border_before = from.border_before,
                    .border_after = from.border_after};
      const std::int64_t elements = from.elements.evaluate(symbols);
      if (elements < 0 || std::any_of(value.view.shape.begin(), value.view.shape.end(), [](auto n) { return n < 0; }))
        throw Error(ErrorCode::invalid_argument,
                    fmt::format("these input shapes give it the shape {}", heddle::to_string(value.view.shape)));
      value.bytes = static_cast<std::uint64_t>(elements * size);
      value.first = from.offset.evaluate(symbols) * size;
      value.root = v;
      while (function_.values[value.root].storage == Storage::alias)
        value.root = static_cast<std::size_t>(function_.values[value.root].of);
      value.arena_offset = begin + placement.offsets[v];
    } catch (const Error& error) {
      throw error.within(fmt::format("value '{}'", from.name));
    }
  }
  if (model_.device() != nullptr) place_on_device();
  // What a caller hands over is dense; a value of another layout would read beyond it.
  for (const auto* list : {&function_.inputs, &function_.outputs})
    for (const int v : *list) {
      const Value& value = values_[static_cast<std::size_t>(v)];
      const Storage storage = function_.values[static_cast<std::size_t>(v)].storage;
      const auto dense_bytes = static_cast<std::uint64_t>(value.view.size()) * size_of(value.view.dtype);
      const bool dense = value.view.row_major() && value.first == 0 && value.bytes == dense_bytes;
      if ((storage == Storage::input || storage == Storage::output) && !dense)
        throw Error(ErrorCode::corrupt,
                    fmt::format("the manifest contradicts itself: input or output '{}' is not row-major",
                                function_.values[static_cast<std::size_t>(v)].name));
    }
  for (std::size_t o = 0; o < function_.outputs.size(); ++o) {
    const auto v = static_cast<std::size_t>(function_.outputs[o]);
    const auto first = std::find(function_.outputs.begin(), function_.outputs.end(), function_.outputs[o]);
    const bool direct = function_.values[v].storage == Storage::output &&
                        first - function_.outputs.begin() == static_cast<std::ptrdiff_t>(o);
    if (direct) continue;
    TensorView dense = values_[v].view;
    dense.strides = row_major_strides(dense.shape);
    dense.border_before.clear();
    dense.border_after.clear();
    output_copies_.push_back({v, o, CopyPlan(values_[v].view, dense)});
  }
}

void BoundFunction::place_on_device() {
  for (std::size_t v = 0; v < values_.size(); ++v) {
    const plan::Value& value = function_.values[v];
    if (value.storage == Storage::arena) values_[v].device = {arena_memory, values_[v].arena_offset};
    if (value.storage != Storage::constant) continue;
    if (const gpu::Address* at = model_.device()->constant(value.file_offset))
      values_[v].device = {constant_memory() + at->memory, at->offset};
  }
  for (std::size_t i = 0; i < function_.inputs.size(); ++i)
    values_[static_cast<std::size_t>(function_.inputs[i])].device = {input_memory(i), 0};
  for (std::size_t o = function_.outputs.size(); o-- > 0;) {
    const auto v = static_cast<std::size_t>(function_.outputs[o]);
    if (function_.values[v].storage == Storage::output) values_[v].device = {output_memory(o), 0};
  }
  for (Value& value : values_) value.device = values_[value.root].device;
}

void BoundFunction::bind_kernel(Step& bound, const SymbolValues& symbols) {
  const plan::Step& step = *bound.plan;
  check_preconditions(model_.kernel(step.name), symbols);
  bound.entry = model_.entry(step.name);
  for (const std::string& name : step.symbols) bound.scalars.push_back(to_int32(symbols.at(name), name.c_str()));

  std::vector<const plan::Argument*> arguments;
  for (const auto* list : {&step.inputs, &step.outputs})
    for (const plan::Argument& argument : *list) arguments.push_back(&argument);
  std::size_t dimensions = 0;
  for (const plan::Argument* argument : arguments) dimensions += argument->dimensions.size();
  bound.dimensions.reserve(dimensions);
  bound.buffers.reserve(arguments.size());

  for (const plan::Argument* argument : arguments) {
    const auto v = static_cast<std::size_t>(argument->value);
    const auto size = static_cast<std::int64_t>(size_of(function_.values[v].dtype));
    const std::int64_t offset = argument->offset.evaluate(symbols);
    std::int64_t lowest = offset, highest = offset;
    bool empty = false;
    halide_dimension_t* first = bound.dimensions.data() + bound.dimensions.size();
    for (const auto& d : argument->dimensions) {
      const std::int64_t extent = d.extent.evaluate(symbols);
      const std::int64_t stride = d.stride.evaluate(symbols);
      empty = empty || extent <= 0;
      (stride < 0 ? lowest : highest) += stride * (extent - 1);
      bound.dimensions.emplace_back(to_int32(d.min.evaluate(symbols), "a minimum"), to_int32(extent, "an extent"),
                                    to_int32(stride, "a stride"));
    }
    const auto allocated = static_cast<std::int64_t>(values_[values_[v].root].bytes);
    if (!empty && (lowest < 0 || (highest + 1) * size > allocated))
      throw Error(ErrorCode::corrupt,
                  fmt::format("the manifest contradicts itself: elements {} to {} of value '{}' are used, which has {}",
                              lowest, highest, function_.values[v].name, allocated / size));
    halide_buffer_t buffer{};
    buffer.type = halide_type(function_.values[v].dtype);
    buffer.dimensions = static_cast<std::int32_t>(argument->dimensions.size());
    buffer.dim = first;
    if (step.on_device)
      buffer.device =
          gpu::Address{values_[v].device.memory, values_[v].device.offset + static_cast<std::uint64_t>(offset * size)}
              .encoded();
    bound.buffers.push_back(buffer);
    bound.buffer_offsets.push_back(offset * size);
  }

  bound.arguments.push_back(&bound.context);
  for (std::int32_t& scalar : bound.scalars) bound.arguments.push_back(&scalar);
  for (halide_buffer_t& buffer : bound.buffers) bound.arguments.push_back(&buffer);
}

void BoundFunction::bind_views(Step& bound) {
  const auto collect = [&](const std::vector<plan::Argument>& arguments, std::vector<TensorView>& views) {
    for (const plan::Argument& argument : arguments) {
      if (argument.value < 0) {
        views.emplace_back();
        continue;
      }
      const auto v = static_cast<std::size_t>(argument.value);
      const Value& value = values_[v];
      const auto size = static_cast<std::int64_t>(size_of(value.view.dtype));
      std::int64_t lowest = value.first / size, highest = lowest;
      bool empty = false;
      for (std::size_t d = 0; d < value.view.shape.size(); ++d) {
        const bool border = !value.view.border_before.empty() || !value.view.border_after.empty();
        const std::int64_t before = border && !value.view.border_before.empty() ? value.view.border_before[d] : 0;
        const std::int64_t after = border && !value.view.border_after.empty() ? value.view.border_after[d] : 0;
        const std::int64_t stride = value.view.strides[d];
        empty = empty || value.view.shape[d] == 0;
        const std::int64_t back = -before * stride;
        const std::int64_t forth = (value.view.shape[d] - 1 + after) * stride;
        lowest += std::min(back, forth);
        highest += std::max(back, forth);
      }
      if (!empty && (lowest < 0 || static_cast<std::uint64_t>((highest + 1) * size) > values_[value.root].bytes))
        throw Error(ErrorCode::corrupt, fmt::format("the manifest contradicts itself: value '{}' exceeds its memory",
                                                    function_.values[v].name));
      views.push_back(value.view);
    }
  };
  collect(bound.plan->inputs, bound.inputs);
  collect(bound.plan->outputs, bound.outputs);
}

void BoundFunction::bind_functions(Step& bound, const SymbolValues& symbols, std::uint64_t arena_offset) {
  const plan::Step& step = *bound.plan;
  for (const auto* views : {&bound.inputs, &bound.outputs})
    for (const TensorView& view : *views)
      if (!view.row_major())
        throw Error(ErrorCode::unsupported, "values passed to and from functions must be row-major");
  // One step runs at a time, so all called functions share the same part of the arena.
  for (const std::string& name : step.functions)
    bound.functions.push_back(std::make_unique<BoundFunction>(model_, model_.function(name), symbols, arena_offset));
  const auto agree = [&](const TensorView& given, const BoundFunction& function, int value) {
    const TensorView& expected = function.values_[static_cast<std::size_t>(value)].view;
    if (given.dtype != expected.dtype || given.shape != expected.shape)
      throw Error(ErrorCode::corrupt,
                  fmt::format("the manifest contradicts itself: {} {} is passed to or from function '{}' as {} {}",
                              to_string(given.dtype), to_string(given.shape), function.function_.name,
                              to_string(expected.dtype), to_string(expected.shape)));
  };
  const std::size_t own_inputs = step.kind == StepKind::branch ? 1 : step.kind == StepKind::loop ? 2 : 0;
  const std::size_t skipped = step.kind == StepKind::loop ? 2 : 0;
  for (const auto& function : bound.functions) {
    arena_end_ = std::max(arena_end_, function->arena_end());
    for (std::size_t i = own_inputs; i < bound.inputs.size(); ++i)
      agree(bound.inputs[i], *function, function->function_.inputs[i - own_inputs + skipped]);
    if (step.kind == StepKind::loop) continue;
    for (std::size_t o = 0; o < bound.outputs.size(); ++o)
      agree(bound.outputs[o], *function, function->function_.outputs[o]);
  }
  if (step.kind != StepKind::loop) return;

  // ONNX's Loop. Inputs: trip count, condition, carried values, then what the body only reads. The body's inputs:
  // iteration, condition and the same; its outputs: condition, carried values, then elements to stack.
  bound.carried = bound.outputs.size();
  if (!step.attributes.empty()) {
    try {
      bound.carried = nlohmann::json::parse(step.attributes).value("carried", bound.outputs.size());
    } catch (const nlohmann::json::exception& error) {
      throw Error(ErrorCode::corrupt, fmt::format("bad attributes of a loop: {}", error.what()));
    }
  }
  if (bound.carried > bound.outputs.size() || bound.carried + 2 > bound.inputs.size())
    throw Error(ErrorCode::corrupt, "a loop carries more values than it has");
  const BoundFunction& body = *bound.functions[0];
  agree({.dtype = DType::i64}, body, body.function_.inputs[0]);
  agree({.dtype = DType::boolean}, body, body.function_.inputs[1]);
  agree({.dtype = DType::boolean}, body, body.function_.outputs[0]);
  for (std::size_t i = 0; i < bound.carried; ++i) agree(bound.outputs[i], body, body.function_.outputs[i + 1]);
  std::uint64_t bytes = 0;
  for (const int output : body.function_.outputs) {
    const TensorView& view = body.values_[static_cast<std::size_t>(output)].view;
    const std::uint64_t size = static_cast<std::uint64_t>(view.size()) * size_of(view.dtype);
    bound.body_offsets.push_back(bytes);
    bound.body_bytes.push_back(size);
    bytes += align(size);
  }
  bound.body_outputs = Pages(bytes);
  for (std::size_t i = 0; i < bound.carried; ++i) agree(bound.outputs[i], body, body.function_.inputs[i + 2]);
}

void BoundFunction::resolve(const Memory& memory) {
  outputs_.assign(memory.outputs.begin(), memory.outputs.end());
  for (std::size_t v = 0; v < values_.size(); ++v) {
    Value& value = values_[v];
    switch (function_.values[v].storage) {
      case Storage::arena: value.base = memory.arena + value.arena_offset; break;
      case Storage::constant:
        // Kernels and views take plain pointers; check_module has seen to it that no step writes here.
        value.base = const_cast<std::byte*>(model_.weights()) + function_.values[v].file_offset;
        break;
      default: break;
    }
  }
  for (std::size_t i = 0; i < function_.inputs.size(); ++i)
    values_[static_cast<std::size_t>(function_.inputs[i])].base = memory.inputs[i];
  for (std::size_t o = function_.outputs.size(); o-- > 0;) {
    const auto v = static_cast<std::size_t>(function_.outputs[o]);
    // Backwards, so that the first mention of a value that is returned twice stays.
    if (function_.values[v].storage == Storage::output) values_[v].base = memory.outputs[o];
  }
  for (Value& value : values_) {
    value.base = values_[value.root].base;
    value.view.data = value.base + value.first;
  }

  for (const auto& step : steps_) {
    const auto inputs = step->plan->inputs.size();
    for (std::size_t b = 0; b < step->buffers.size(); ++b) {
      if (step->plan->on_device) break;
      const plan::Argument& argument = b < inputs ? step->plan->inputs[b] : step->plan->outputs[b - inputs];
      std::byte* host = values_[static_cast<std::size_t>(argument.value)].base + step->buffer_offsets[b];
      step->buffers[b].host = reinterpret_cast<std::uint8_t*>(host);
    }
    std::vector<std::byte*> in, out;
    for (std::size_t i = 0; i < step->inputs.size(); ++i) {
      const int v = step->plan->inputs[i].value;
      step->inputs[i].data = v < 0 ? nullptr : values_[static_cast<std::size_t>(v)].view.data;
      in.push_back(step->inputs[i].data);
    }
    for (std::size_t o = 0; o < step->outputs.size(); ++o) {
      step->outputs[o].data = values_[static_cast<std::size_t>(step->plan->outputs[o].value)].view.data;
      out.push_back(step->outputs[o].data);
    }
    if (step->functions.empty()) continue;
    if (step->plan->kind == StepKind::branch) in.erase(in.begin());
    if (step->plan->kind == StepKind::loop) {
      in[0] = reinterpret_cast<std::byte*>(&step->iteration);
      in[1] = reinterpret_cast<std::byte*>(&step->condition);
      for (std::size_t i = 0; i < step->carried; ++i) in[i + 2] = step->outputs[i].data;
      out.clear();
      for (const std::uint64_t offset : step->body_offsets) out.push_back(step->body_outputs.data() + offset);
    }
    for (const auto& function : step->functions)
      function->resolve({.arena = memory.arena, .inputs = in, .outputs = out});
  }
}

void BoundFunction::run(KernelCall& call, std::span<StepTime> times) const {
  const std::int64_t begin = times.empty() ? 0 : now_ns();
  std::int64_t last = begin;
  for (std::size_t s = 0; s < steps_.size(); ++s) {
    run_step(s, call);
    if (times.empty()) continue;
    const std::int64_t now = now_ns();
    times[s] = {.start_ns = last - begin, .duration_ns = now - last};
    last = now;
  }
  copy_outputs();
}

void BoundFunction::copy_outputs() const {
  for (const OutputCopy& output : output_copies_)
    output.copy.run(values_[output.value].view.data, outputs_[output.output]);
}

void BoundFunction::run_kernel(Step& step, KernelCall& call) const {
  step.context = &call;
  const int code = step.entry(step.arguments.data());
  if (code == 0) return;
  const std::string reason = call.message();
  call.clear();
  if (call.recorder != nullptr) call.recorder->check();
  throw Error(
      code == halide_error_code_out_of_memory ? ErrorCode::out_of_memory : ErrorCode::internal,
      fmt::format("kernel '{}' failed with code {}{}{}", step.plan->name, code, reason.empty() ? "" : ": ", reason));
}

void BoundFunction::record(std::size_t index, KernelCall& call) const {
  Step& step = *steps_[index];
  try {
    // The kernel marks what it has written, so that Halide's callers copy it back. Ours know.
    for (halide_buffer_t& buffer : step.buffers) buffer.flags = 0;
    run_kernel(step, call);
  } catch (const Error& error) {
    throw error.within(step_name(index));
  }
}

std::string BoundFunction::step_name(std::size_t index) const {
  const plan::Step& step = function_.steps[index];
  return fmt::format("step {} '{}'", index, step.label.empty() ? step.name : step.label);
}

void BoundFunction::run_step(std::size_t index, KernelCall& call) const {
  const Step& step = *steps_[index];
  try {
    switch (step.plan->kind) {
      case StepKind::kernel:
        if (step.plan->on_device) break;
        return run_kernel(*steps_[index], call);
      case StepKind::host: return step.host(step.inputs, step.outputs);
      case StepKind::copy: return step.copy.run(step.inputs[0].data, step.outputs[0].data);
      case StepKind::fill_border: return step.border.run(step.outputs[0].data);
      case StepKind::call: return step.functions[0]->run(call, {});
      case StepKind::branch: return step.functions[step.inputs[0].data[0] != std::byte{0} ? 0 : 1]->run(call, {});
      case StepKind::loop: return run_loop(step, call);
      case StepKind::upload:
      case StepKind::download: break;
    }
    throw Error(ErrorCode::internal, "a step on a device is run without it");
  } catch (const Error& error) {
    throw error.within(step_name(index));
  }
}

void BoundFunction::run_loop(const Step& step, KernelCall& call) const {
  std::int64_t trips = std::numeric_limits<std::int64_t>::max();
  if (step.inputs[0].data != nullptr) std::memcpy(&trips, step.inputs[0].data, sizeof(trips));
  step.condition = step.inputs[1].data == nullptr || step.inputs[1].data[0] != std::byte{0} ? 1 : 0;
  for (std::size_t i = 0; i < step.carried; ++i)
    std::memcpy(step.outputs[i].data, step.inputs[i + 2].data, step.body_bytes[i + 1]);
  for (step.iteration = 0; step.iteration < trips && step.condition != 0; ++step.iteration) {
    step.functions[0]->run(call, {});
    step.condition = static_cast<std::uint8_t>(step.body_outputs.data()[step.body_offsets[0]]);
    for (std::size_t o = 0; o < step.outputs.size(); ++o) {
      const std::uint64_t size = step.body_bytes[o + 1];
      std::byte* to = step.outputs[o].data;
      if (o >= step.carried) {
        const auto stacked = static_cast<std::uint64_t>(step.outputs[o].size()) * size_of(step.outputs[o].dtype);
        const std::uint64_t at = static_cast<std::uint64_t>(step.iteration) * size;
        if (at + size > stacked)
          throw Error(ErrorCode::unsupported, "a loop runs more often than its output has room for");
        to += at;
      }
      std::memcpy(to, step.body_outputs.data() + step.body_offsets[o + 1], size);
    }
  }
  for (std::size_t o = step.carried; o < step.outputs.size(); ++o) {
    const auto stacked = static_cast<std::uint64_t>(step.outputs[o].size()) * size_of(step.outputs[o].dtype);
    if (static_cast<std::uint64_t>(step.iteration) * step.body_bytes[o + 1] != stacked)
      throw Error(ErrorCode::unsupported, "a loop ended early: an output's size would depend on the data");
  }
}

BoundFunction::Allocation BoundFunction::allocation(std::size_t value) const {
  const Value& of = values_[value];
  return {.value = of.root, .bytes = values_[of.root].bytes, .host = of.base, .first = of.first, .device = of.device};
}

std::int64_t BoundFunction::flops(std::size_t step) const { return steps_[step]->flops; }
std::int64_t BoundFunction::bytes(std::size_t step) const { return steps_[step]->bytes; }

}  // namespace heddle::runtime
