#include "runtime/session.hpp"

#include <sched.h>

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/error.hpp"
#include "runtime/gpu/device_module.hpp"
#include "runtime/symbols.hpp"

namespace heddle::runtime {
namespace {

/// What kernels may assume of every buffer.
constexpr std::uintptr_t alignment = 64;

bool aligned(const void* memory) { return reinterpret_cast<std::uintptr_t>(memory) % alignment == 0; }

std::size_t bytes_of(DType dtype, const Shape& shape) {
  return static_cast<std::size_t>(element_count(shape)) * size_of(dtype);
}

/// Makes `pages` hold `bytes` at least, and never nothing: kernels take a null pointer for a question about bounds.
std::byte* ensure(Pages& pages, std::size_t bytes) {
  if (pages.size() < std::max<std::size_t>(bytes, 1)) {
    pages = Pages();
    pages = Pages(std::max<std::size_t>(bytes, 1));
  }
  return pages.data();
}

/// Keeps the calling thread on the processor that it is on.
class Pinned {
 public:
  explicit Pinned(bool wanted) {
    const int cpu = wanted ? ::sched_getcpu() : -1;
    if (cpu < 0 || cpu >= CPU_SETSIZE || ::sched_getaffinity(0, sizeof(before_), &before_) != 0) return;
    ::cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(cpu, &only);
    pinned_ = ::sched_setaffinity(0, sizeof(only), &only) == 0;
  }
  ~Pinned() {
    if (pinned_) ::sched_setaffinity(0, sizeof(before_), &before_);
  }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;

 private:
  ::cpu_set_t before_{};
  bool pinned_ = false;
};

}  // namespace

Session::Session(std::shared_ptr<const Model> model, const SessionOptions& options)
    : model_(std::move(model)),
      options_(options),
      pool_(Pool::shared()),
      arena_(options.arena != nullptr ? options.arena : std::make_shared<Pages>()) {
  if (options_.threads < 0 || options_.threads > 4096)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("a session cannot have {} threads; 0 means one a core", options_.threads));
  if (options_.threads == 0) options_.threads = pool_.cores();
  options_.threads = std::min(options_.threads, pool_.processors());
  pool_.reserve(options_.threads);
  call_.pool = &pool_;
  call_.settings = {
      .threads = options_.threads,
      .spin_us = options_.spin_us < 0 ? Pool::default_spin_us() : static_cast<std::uint32_t>(options_.spin_us),
      .flush = options_.flush};
  call_.scratch = &scratch_;
  call_.poison = options_.poison;
  inputs_.resize(model_->main().inputs.size());
  outputs_.resize(model_->main().outputs.size());
  if (options_.profile) times_.resize(model_->main().steps.size());
  if (model_->device() != nullptr) workspace_.emplace(model_->device()->device());
}

Session::~Session() = default;

const plan::Value& Session::input_value(std::size_t index) const {
  const plan::Function& main = model_->main();
  if (index >= main.inputs.size())
    throw Error(ErrorCode::invalid_argument,
                fmt::format("there is no input {}: the model has {}", index, main.inputs.size()));
  return main.values[static_cast<std::size_t>(main.inputs[index])];
}

const plan::Value& Session::output_value(std::size_t index) const {
  const plan::Function& main = model_->main();
  if (index >= main.outputs.size())
    throw Error(ErrorCode::invalid_argument,
                fmt::format("there is no output {}: the model has {}", index, main.outputs.size()));
  return main.values[static_cast<std::size_t>(main.outputs[index])];
}

void Session::set_input(std::size_t index, const HostTensor& tensor) {
  const std::lock_guard lock(mutex_);
  const plan::Value& value = input_value(index);
  if (tensor.dtype != value.dtype)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("input '{}' is {}, not {}", value.name, heddle::to_string(value.dtype),
                            heddle::to_string(tensor.dtype)));
  if (tensor.shape.size() != value.shape.size() ||
      std::any_of(tensor.shape.begin(), tensor.shape.end(), [](std::int64_t n) { return n < 0; }))
    throw Error(ErrorCode::invalid_argument, fmt::format("input '{}' has shape {}, which does not fit {}", value.name,
                                                         heddle::to_string(tensor.shape), to_string(value.shape)));
  if (tensor.data == nullptr && element_count(tensor.shape) != 0)
    throw Error(ErrorCode::invalid_argument, fmt::format("input '{}' has no data", value.name));
  std::optional<HostTensor>& current = inputs_[index].tensor;
  if (!current || current->shape != tensor.shape) shapes_known_ = false;
  current = tensor;
}

void Session::set_output(std::size_t index, const HostTensor& tensor) {
  const std::lock_guard lock(mutex_);
  const plan::Value& value = output_value(index);
  Output& output = outputs_[index];
  if (tensor.data == nullptr) {
    output.given.reset();
    return;
  }
  if (tensor.dtype != value.dtype)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("output '{}' is {}, not {}", value.name, heddle::to_string(value.dtype),
                            heddle::to_string(tensor.dtype)));
  output.given = tensor;
}

void Session::select_plan(const SymbolValues& symbols) {
  const auto found =
      std::find_if(plans_.begin(), plans_.end(), [&](const auto& plan) { return plan->symbols == symbols; });
  if (found != plans_.end()) {
    std::rotate(plans_.begin(), found, found + 1);
    return;
  }
  auto plan = std::make_unique<Plan>();
  plan->symbols = symbols;
  plan->main = std::make_unique<BoundFunction>(*model_, model_->main(), symbols);
  if (plans_.size() == most_plans) plans_.pop_back();
  if (workspace_) plan->replay = record(*plan->main);
  plans_.insert(plans_.begin(), std::move(plan));
}

std::unique_ptr<gpu::Replay> Session::record(const BoundFunction& main) {
  const auto make = [&] {
    return std::make_unique<gpu::Replay>(*model_->device(), main, *workspace_, call_, options_.profile);
  };
  try {
    return make();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::out_of_memory) throw;
  }
  // Other shapes' plans may hold what is missing; they can be made again.
  plans_.clear();
  workspace_->clear();
  try {
    return make();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::out_of_memory) throw;
    throw Error(ErrorCode::out_of_memory,
                fmt::format("{}\n  use smaller inputs or fewer sessions and models at a time, or another device or cpu",
                            error.what()));
  }
}

Session::Plan& Session::current() const {
  if (plans_.empty())
    throw Error(ErrorCode::invalid_argument, "the session has no plan yet: call run or prepare first");
  return *plans_.front();
}

void Session::place_outputs() {
  for (std::size_t o = 0; o < outputs_.size(); ++o) {
    Output& output = outputs_[o];
    const plan::Value& value = output_value(o);
    output.shape = current().main->view(static_cast<std::size_t>(model_->main().outputs[o])).shape;
    if (output.given && output.given->shape != output.shape)
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("output '{}' has shape {} for these inputs, but memory for {} was given", value.name,
                              heddle::to_string(output.shape), heddle::to_string(output.given->shape)));
    const bool direct = output.given && (aligned(output.given->data) || !works_on(model_->main().outputs[o]));
    output.address =
        direct ? static_cast<std::byte*>(output.given->data) : ensure(output.own, bytes_of(value.dtype, output.shape));
  }
}

bool Session::works_on(int value) const {
  const Plan& plan = current();
  return plan.replay == nullptr || plan.replay->host_uses(static_cast<std::size_t>(value));
}

void Session::resolve() {
  Plan& plan = current();
  std::byte* arena = plan.replay != nullptr ? plan.replay->arena() : nullptr;
  if (arena == nullptr) arena = ensure(*arena_, plan.main->arena_end());
  addresses_.clear();
  addresses_.push_back(arena);
  for (const Input& input : inputs_) addresses_.push_back(input.address);
  for (const Output& output : outputs_) addresses_.push_back(output.address);
  if (plan.resolved == addresses_) return;
  const std::span<std::byte* const> all = addresses_;
  plan.main->resolve(
      {.arena = arena, .inputs = all.subspan(1, inputs_.size()), .outputs = all.subspan(1 + inputs_.size())});
  plan.resolved = addresses_;
}

void Session::run() {
  const std::lock_guard lock(mutex_);
  ran_ = false;
  if (!shapes_known_) {
    std::vector<Shape> shapes;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      if (!inputs_[i].tensor)
        throw Error(ErrorCode::invalid_argument,
                    fmt::format("input '{}' ({} {}) has not been set", input_value(i).name,
                                heddle::to_string(input_value(i).dtype), to_string(input_value(i).shape)));
      shapes.push_back(inputs_[i].tensor->shape);
    }
    select_plan(solve_symbols(model_->package(), model_->main(), shapes));
    shapes_known_ = true;
  }
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    Input& input = inputs_[i];
    const std::size_t bytes = bytes_of(input.tensor->dtype, input.tensor->shape);
    if (bytes > 0 && (aligned(input.tensor->data) || !works_on(model_->main().inputs[i]))) {
      input.address = static_cast<std::byte*>(input.tensor->data);
    } else {
      input.address = ensure(input.copy, bytes);
      if (bytes > 0) std::memcpy(input.address, input.tensor->data, bytes);
    }
  }
  place_outputs();
  resolve();

  if (options_.poison) {
    poison();
    for (std::size_t o = 0; o < outputs_.size(); ++o)
      std::memset(outputs_[o].address, 0xFF, bytes_of(output_value(o).dtype, outputs_[o].shape));
  }
  {
    const Pinned pinned(options_.pin);
    const FloatMode mode(options_.flush);
    Plan& plan = current();
    // A thread that only waits for a device leaves the processors to others.
    std::optional<Pool::Caller> caller;
    if (plan.replay == nullptr || plan.replay->host_kernels()) {
      caller.emplace(pool_);
      pool_.wake(call_.settings);
    }
    if (plan.replay == nullptr) {
      plan.main->run(call_, times_);
    } else {
      try {
        plan.replay->run(call_, times_);
      } catch (const Error& error) {
        if (error.code() != ErrorCode::device) throw;
        throw Error(
            ErrorCode::device,
            fmt::format("{}\n  inputs and earlier outputs are as they were; free the model and its sessions and "
                        "load it again to try once more, on another device or on cpu",
                        error.what()));
      }
    }
  }
  for (Output& output : outputs_)
    if (output.given && output.given->data != output.address)
      std::memcpy(output.given->data, output.address, bytes_of(output.given->dtype, output.shape));
  ran_ = true;
}

void Session::poison() {
  if (arena_->size() > 0) std::memset(arena_->data(), 0xFF, arena_->size());
  if (current().replay != nullptr) current().replay->poison();
}

HostTensor Session::output(std::size_t index) const {
  const std::lock_guard lock(mutex_);
  const plan::Value& value = output_value(index);
  const Output& output = outputs_[index];
  if (!ran_)
    throw Error(ErrorCode::invalid_argument, fmt::format("output '{}' has no value: no run has succeeded", value.name));
  return {.dtype = value.dtype, .shape = output.shape, .data = output.given ? output.given->data : output.address};
}

std::vector<StepTime> Session::profile() const {
  const std::lock_guard lock(mutex_);
  return times_;
}

void Session::prepare(const SymbolValues& symbols) {
  const std::lock_guard lock(mutex_);
  check_ranges(model_->package(), symbols);
  shapes_known_ = false;
  select_plan(symbols);
  const plan::Function& main = model_->main();
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    const TensorView& view = current().main->view(static_cast<std::size_t>(main.inputs[i]));
    inputs_[i].address = ensure(inputs_[i].copy, bytes_of(view.dtype, view.shape));
  }
  place_outputs();
  resolve();
  if (options_.poison) poison();
}

void Session::run_step(std::size_t step) {
  const std::lock_guard lock(mutex_);
  if (step >= model_->main().steps.size())
    throw Error(ErrorCode::invalid_argument,
                fmt::format("there is no step {}: main has {}", step, model_->main().steps.size()));
  const Pool::Caller caller(pool_);
  const FloatMode mode(options_.flush);
  Plan& plan = current();
  if (plan.replay != nullptr) plan.replay->run_step(step, call_);
  else plan.main->run_step(step, call_);
}

Array Session::read(std::size_t value) const {
  const std::lock_guard lock(mutex_);
  if (value >= model_->main().values.size())
    throw Error(ErrorCode::invalid_argument,
                fmt::format("there is no value {}: main has {}", value, model_->main().values.size()));
  const Plan& plan = current();
  TensorView view = plan.main->view(value);
  Array array(view.dtype, view.shape);
  std::vector<std::byte> memory;
  if (plan.replay != nullptr && plan.replay->only_on_device(value)) {
    memory = plan.replay->read(value);
    view.data = memory.data() + plan.main->allocation(value).first;
  }
  copy_elements(view, view_of(array));
  return array;
}

void Session::write(std::size_t value, const Array& array) {
  const std::lock_guard lock(mutex_);
  const plan::Function& main = model_->main();
  if (value >= main.values.size())
    throw Error(ErrorCode::invalid_argument,
                fmt::format("there is no value {}: main has {}", value, main.values.size()));
  const TensorView view = current().main->view(value);
  const plan::Value& written = main.values[value];
  const plan::Value* root = &written;
  while (root->storage == plan::Storage::alias) root = &main.values[static_cast<std::size_t>(root->of)];
  if (root->storage == plan::Storage::constant)
    throw Error(ErrorCode::invalid_argument, fmt::format("value '{}' is a constant", written.name));
  if (array.dtype() != view.dtype || array.shape() != view.shape)
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("value '{}' is {} {}, not {} {}", written.name, heddle::to_string(view.dtype),
                    heddle::to_string(view.shape), heddle::to_string(array.dtype()), heddle::to_string(array.shape())));
  // An input is the caller's memory after a run: what is written goes to memory of the session instead.
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    const auto v = static_cast<std::size_t>(main.inputs[i]);
    if (&main.values[v] != root || inputs_[i].address == inputs_[i].copy.data()) continue;
    const TensorView& input = current().main->view(v);
    const std::byte* before = inputs_[i].address;
    inputs_[i].address = ensure(inputs_[i].copy, bytes_of(input.dtype, input.shape));
    std::memcpy(inputs_[i].address, before, bytes_of(input.dtype, input.shape));
    resolve();
  }
  Array copy = array;
  TensorView to = current().main->view(value);
  const std::unique_ptr<gpu::Replay>& replay = current().replay;
  std::vector<std::byte> memory;
  if (replay != nullptr) {
    // Of the memory that a view shows a part of, the rest stays as it is.
    memory = replay->read(value);
    to.data = memory.data() + current().main->allocation(value).first;
  }
  copy_elements(view_of(copy), to);
  BorderPlan(to, written.border_value).run(to.data);
  if (replay != nullptr) replay->write(value, memory);
}

SymbolValues Session::symbols() const {
  const std::lock_guard lock(mutex_);
  return current().symbols;
}

std::int64_t Session::flops(std::size_t step) const {
  const std::lock_guard lock(mutex_);
  return current().main->flops(step);
}

std::int64_t Session::bytes(std::size_t step) const {
  const std::lock_guard lock(mutex_);
  return current().main->bytes(step);
}

std::uint64_t Session::arena_bytes() const {
  const std::lock_guard lock(mutex_);
  return current().main->arena_end();
}

}  // namespace heddle::runtime
