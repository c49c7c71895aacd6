#include "tests/support/run.hpp"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "dsl/halide_error.hpp"
#include "targets/cpu/whole_accumulators.hpp"
#include "targets/gpu/passes.hpp"
#include "targets/pass.hpp"
#include "tests/support/device_room.hpp"
#include "tests/support/inputs.hpp"

namespace heddle::testing {
namespace {

constexpr std::size_t guard = 256;
constexpr std::byte poison{0xFF};

}  // namespace

Placed::Placed(const BufferView& view, const SymbolValues& symbols)
    : dtype_(view.dtype), halide_type_(halide_type(view.dtype)), symbols_(symbols) {
  for (const auto& d : view.dimensions)
    dimensions_.emplace_back(static_cast<int>(d.min.evaluate(symbols)), static_cast<int>(d.extent.evaluate(symbols)),
                             static_cast<int>(d.stride.evaluate(symbols)));
  offset_ = view.offset.evaluate(symbols);
  elements_ = view.elements.evaluate(symbols);
  bytes_.assign(static_cast<std::size_t>(elements_) * size_of(dtype_) + 2 * guard, poison);
}

std::vector<std::int64_t> Placed::positions(const TensorType& type, const Shape& shape) const {
  std::vector<std::int64_t> strides, at = {type.origin().evaluate(symbols_)};
  for (const auto& stride : type.strides()) strides.push_back(stride.evaluate(symbols_));
  for (std::size_t d = 0; d < shape.size(); ++d) {
    std::vector<std::int64_t> next;
    for (const std::int64_t outer : at)
      for (std::int64_t i = 0; i < shape[d]; ++i) next.push_back(outer + i * strides[d]);
    at = std::move(next);
  }
  return at;
}

void Placed::fill(const Array& logical, const TensorType& type) {
  const std::size_t size = size_of(dtype_);
  Array border(dtype_, {1});
  border.set(0, type.layout.border_value);
  for (std::int64_t i = 0; i < elements_; ++i)
    std::memcpy(bytes_.data() + guard + static_cast<std::size_t>(i) * size, border.data(), size);
  const auto* from = static_cast<const std::byte*>(logical.data());
  for (const std::int64_t position : positions(type, logical.shape())) {
    std::memcpy(bytes_.data() + guard + static_cast<std::size_t>(position) * size, from, size);
    from += size;
  }
}

void Placed::fill_packed(const Array& packed) {
  if (packed.size() != elements_)
    throw Error(ErrorCode::internal,
                fmt::format("{} packed elements do not fill a buffer of {}", packed.size(), elements_));
  std::memcpy(bytes_.data() + guard, packed.data(), packed.bytes());
}

Array Placed::read(const TensorType& type, const Shape& shape) const {
  const std::size_t size = size_of(dtype_);
  Array logical(dtype_, shape);
  auto* to = static_cast<std::byte*>(logical.mutable_data());
  for (const std::int64_t position : positions(type, shape)) {
    std::memcpy(to, bytes_.data() + guard + static_cast<std::size_t>(position) * size, size);
    to += size;
  }
  return logical;
}

bool Placed::poisoned_outside(const TensorType& type, const Shape& shape) const {
  const std::size_t size = size_of(dtype_);
  auto rest = bytes_;
  for (const std::int64_t position : positions(type, shape))
    std::fill_n(rest.begin() + static_cast<std::ptrdiff_t>(guard + static_cast<std::size_t>(position) * size), size,
                poison);
  return std::all_of(rest.begin(), rest.end(), [](std::byte b) { return b == poison; });
}

Halide::Buffer<> Placed::buffer() {
  void* first = bytes_.data() + guard + static_cast<std::size_t>(offset_) * size_of(dtype_);
  return Halide::Buffer<>(halide_type_, first, static_cast<int>(dimensions_.size()), dimensions_.data());
}

Kernel::Kernel(const Workload& workload, Pipeline pipeline, std::vector<Packing> packings)
    : workload_(&workload),
      packings_(std::move(packings)),
      target_(Halide::get_jit_target_from_environment()),
      pipeline_(std::move(pipeline)) {
  translate_halide_errors("compiling " + workload.name(), [&] {
    compiled_ = Halide::Pipeline(pipeline_.outputs);
    compiled_.compile_jit(target_);
  });
}

Kernel::Kernel(const Workload& workload, const Implementation& implementation)
    : Kernel(workload, implementation, std::nullopt) {}

Kernel::Kernel(const Workload& workload, const Implementation& implementation, const std::optional<Gpu>& gpu)
    : Kernel(workload, implementation,
             gpu ? Halide::get_jit_target_from_environment()
                       .with_feature(Halide::Target::OpenCL)
                       .with_feature(Halide::Target::CLDoubles)
                 : Halide::get_jit_target_from_environment(),
             [&](Halide::Pipeline& pipeline) {
               if (gpu) targets::add_gpu_passes(pipeline, *gpu);
               else targets::add_pass(pipeline, targets::whole_accumulators);
             }) {}

Kernel::Kernel(const Workload& workload, const Implementation& implementation, const Halide::Target& target,
               const std::function<void(Halide::Pipeline&)>& prepare)
    : workload_(&workload),
      packings_(implementation.packings),
      target_(target),
      pipeline_(workload.instantiate(implementation)),
      compiled_(pipeline_.outputs) {
  translate_halide_errors("compiling " + workload.name(), [&] {
    prepare(compiled_);
    compiled_.compile_jit(target_);
  });
}

std::vector<Array> Kernel::run(const std::vector<Array>& inputs, const SymbolValues& known) const {
  const auto& composition = workload_->composition();
  std::vector<TensorType> types;
  std::vector<Shape> shapes;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    types.push_back(composition.inputs[i].type);
    shapes.push_back(inputs[i].shape());
  }
  const SymbolValues symbols = bind_symbols(types, shapes, known);
  for (std::size_t i = 0; i < pipeline_.symbols.size(); ++i)
    pipeline_.symbols[i].set(static_cast<int>(symbols.at(workload_->symbols()[i])));

  const auto in_views = workload_->input_views(packings_);
  std::vector<Placed> placed;
  placed.reserve(inputs.size());
  std::vector<DeviceRoom> rooms;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const OperandInfo& info = workload_->inputs()[i];
    const auto packing =
        std::find_if(packings_.begin(), packings_.end(), [&](const Packing& p) { return p.operand == info.role; });
    placed.emplace_back(in_views[i], symbols);
    if (packing == packings_.end()) placed.back().fill(inputs[i], types[i]);
    else placed.back().fill_packed(pack(inputs[i], info, *packing));
    Halide::Buffer<> buffer = placed.back().buffer();
    buffer.set_host_dirty();  // a device's copy is made from it
    rooms.emplace_back(buffer, target_);
    pipeline_.inputs[i].set(buffer);
  }

  const auto out_views = workload_->output_views();
  const auto out_types = workload_->output_types();
  std::vector<Placed> results;
  std::vector<Halide::Buffer<>> buffers;
  for (const auto& view : out_views) {
    results.emplace_back(view, symbols);
    buffers.push_back(results.back().buffer());
    rooms.emplace_back(buffers.back(), target_);
  }
  translate_halide_errors("running " + workload_->name(), [&] {
    compiled_.realize(Halide::Realization(buffers));
    for (auto& buffer : buffers) buffer.copy_to_host();
  });

  std::vector<Array> outputs;
  for (std::size_t i = 0; i < results.size(); ++i) {
    const Shape shape = shape_of(out_types[i], symbols);
    if (!results[i].poisoned_outside(out_types[i], shape))
      throw Error(ErrorCode::internal,
                  fmt::format("{} wrote outside of output {}", workload_->name(), out_views[i].role));
    outputs.push_back(results[i].read(out_types[i], shape));
  }
  return outputs;
}

void schedule_plainly(Pipeline& pipeline, int vectors) {
  std::set<std::string> outputs;
  for (auto& func : pipeline.outputs) {
    outputs.insert(func.name());
    const auto arguments = func.args();
    if (vectors > 1 && !arguments.empty()) func.vectorize(arguments[0], vectors, Halide::TailStrategy::GuardWithIf);
  }
  for (auto& stage : pipeline.stages)
    if (!outputs.contains(stage.func.name())) stage.func.compute_root();
}

std::string compare(const Workload& workload, const std::vector<Array>& inputs, const std::vector<Array>& outputs,
                    const SymbolValues& symbols, std::string_view variant) {
  return difference(workload, outputs, workload.expect(inputs, symbols), variant);
}

}  // namespace heddle::testing
