// A candidate for a device, as the runtime would run it: its code built by the driver, its launches recorded once and
// replayed. What is timed is the launches many times over in one submission, since a model's replay pays for a launch
// and not for a submission each.
#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>

#include "autoscheduler/measure_channel.hpp"
#include "autoscheduler/measure_memory.hpp"
#include "autoscheduler/measure_running.hpp"
#include "base/cache_directory.hpp"
#include "base/error.hpp"
#include "generators/kernel_bytes.hpp"
#include "runtime/gpu/device_module.hpp"
#include "runtime/vulkan/vulkan.hpp"

namespace heddle::autoscheduler {
namespace {

namespace gpu = runtime::gpu;

/// The number of the memory that all buffers lie in; the recorder has the first for intermediates.
constexpr std::uint32_t arena_memory = gpu::Recorder::scratch_memory + 1;

std::vector<plan::DeviceKernel> entries_of(const targets::DeviceCode& code, const std::string& symbol) {
  std::vector<plan::DeviceKernel> kernels;
  for (const targets::DeviceEntry& entry : code.entries) {
    plan::DeviceKernel kernel{.kernel = symbol,
                              .entry = entry.name,
                              .file = "",
                              .uniform_block = entry.uniform_block,
                              .access = entry.access,
                              .block_constants = entry.block_constants,
                              .shared = {}};
    for (const auto& s : entry.shared) kernel.shared.push_back({s.constant, s.element_bytes, s.elements});
    kernels.push_back(std::move(kernel));
  }
  return kernels;
}

class DeviceKernel final : public RunningKernel {
 public:
  DeviceKernel(const Workload& workload, const BuiltKernel& kernel, const SymbolValues& symbols,
               std::shared_ptr<gpu::Device> device)
      : workload_(workload),
        device_(std::move(device)),
        memory_(workload, kernel.implementation.packings, symbols, nullptr, device_->info().alignment) {
    const CompiledKernel compiled = kernel_from_bytes(contents(kernel.module));
    build(compiled.device, kernel.symbol);
    const Descriptor host = anonymous_file("host code");
    if (!write_all(host.get(), compiled.object))
      throw Error(ErrorCode::io, fmt::format("cannot write a kernel of {} bytes", compiled.object.size()));
    memory_.place_on_device(arena_memory);
    record(LoadedKernel(host.get(), kernel.symbol));
  }

  void fill(const std::vector<Array>& inputs) override {
    memory_.fill(inputs);
    device_->write(*arena_, 0, memory_.arena().data(), memory_.arena().size());
  }

  std::string check(const CheckSet& set) override {
    fill(set.inputs);
    if (scratch_ != nullptr) {
      const std::vector<std::byte> poison(scratch_->bytes(), std::byte{0xFF});
      device_->write(*scratch_, 0, poison.data(), poison.size());
    }
    const auto messages = gpu::validation_messages();
    run(*once_);
    device_->read(*arena_, 0, memory_.arena().data(), memory_.arena().size());
    const auto outputs = memory_.outputs();
    std::string found = memory_.damage();
    if (found.empty()) found = difference(workload_, outputs, set.want);
    if (found.empty() && gpu::validation_messages() != messages)
      found = "Vulkan's validation layers object to the kernel";
    return found;
  }

  double seconds_of(int runs) override {
    if (repeats_ == 0) repeat();
    const int submissions = (runs + repeats_ - 1) / repeats_;
    const double start = now_seconds();
    for (int i = 0; i < submissions; ++i) run(*often_);
    return (now_seconds() - start) / (submissions * repeats_);
  }

 private:
  void build(const targets::DeviceCode& code, const std::string& symbol) {
    module_.device_kernels = entries_of(code, symbol);
    // What a device lacks is asked of steps and their values.
    plan::Function main;
    plan::Step step;
    step.on_device = true;
    const auto add = [&](DType type) {
      step.inputs.push_back({.value = static_cast<int>(main.values.size()), .dimensions = {}, .offset = 0});
      main.values.push_back({.dtype = type, .shape = {}, .strides = {}, .border_before = {}, .border_after = {}});
    };
    for (const auto& input : workload_.composition().inputs) add(input.type.dtype);
    for (const auto& type : workload_.output_types()) add(type.dtype);
    main.steps.push_back(std::move(step));
    module_.functions.push_back(std::move(main));
    if (const std::string why = gpu::obstacle(module_, device_->info()); !why.empty())
      throw Error(ErrorCode::unsupported, "the kernel " + why);
    const std::string cache = (cache_directory() / "devices").string();
    for (std::size_t i = 0; i < module_.device_kernels.size(); ++i) {
      const plan::DeviceKernel& kernel = module_.device_kernels[i];
      const std::string& text = code.api == DeviceApi::opencl ? code.source : code.entries[i].code;
      entries_.add(kernel, device_->build(kernel, text, cache));
    }
  }

  void record(const LoadedKernel& kernel) {
    auto& pool = runtime::Pool::shared();
    pool.reserve(1);
    runtime::Scratch host_scratch;
    runtime::KernelCall call;
    call.pool = &pool;
    call.settings = {.threads = 1, .spin_us = 0, .flush = true};
    call.scratch = &host_scratch;
    const std::array<std::uint64_t, 2> bytes = {0, memory_.arena().size()};
    gpu::Recorder recorder(call, entries_, device_->info(), bytes);
    try {
      kernel.call(memory_.arguments(&call), call);
    } catch (const Error&) {
      recorder.check();  // knows more of what went wrong than a code does
      throw;
    }
    arena_ = device_->allocate(memory_.arena().size());
    if (recorder.scratch_bytes() > 0) scratch_ = device_->allocate(recorder.scratch_bytes());
    const std::array<gpu::Recorder::Place, 2> places = {gpu::Recorder::Place{scratch_.get(), 0},
                                                        gpu::Recorder::Place{arena_.get(), 0}};
    launches_ = recorder.placed(places);
    once_ = device_->record({.uploads = {}, .launches = launches_, .downloads = {}});
  }

  /// As many times as make a submission's own cost small.
  void repeat() {
    constexpr double enough = 2e-3;
    constexpr std::size_t most_launches = 256;
    run(*once_);
    const double start = now_seconds();
    run(*once_);
    const double one = std::max(now_seconds() - start, 1e-6);
    const std::size_t most = std::max<std::size_t>(1, most_launches / std::max<std::size_t>(1, launches_.size()));
    repeats_ = static_cast<int>(std::clamp<double>(enough / one, 1, static_cast<double>(most)));
    // A submission's cost is in the first measurement, too: once more with what it was spread over.
    for (int tries = 0; tries < 3; ++tries) {
      gpu::Commands commands;
      for (int i = 0; i < repeats_; ++i)
        commands.launches.insert(commands.launches.end(), launches_.begin(), launches_.end());
      often_ = device_->record(commands);
      const double begin = now_seconds();
      run(*often_);
      const double took = std::max(now_seconds() - begin, 1e-6);
      if (took >= enough / 2 || static_cast<std::size_t>(repeats_) >= most) return;
      repeats_ = static_cast<int>(std::clamp<double>(repeats_ * enough / took, 1, static_cast<double>(most)));
    }
  }

  static void run(gpu::Program& program) {
    program.submit();
    program.wait();
  }

  const Workload& workload_;
  std::shared_ptr<gpu::Device> device_;  ///< outlives what it made
  KernelMemory memory_;
  plan::Module module_;
  gpu::Entries entries_;
  std::unique_ptr<gpu::Memory> arena_, scratch_;
  std::vector<gpu::Launch> launches_;
  std::unique_ptr<gpu::Program> once_, often_;
  int repeats_ = 0;  ///< of all launches in `often_`; 0: not known yet
};

}  // namespace

std::unique_ptr<RunningKernel> run_on_device(const Workload& workload, const BuiltKernel& kernel,
                                             const SymbolValues& symbols, const std::string& device) {
  auto open = gpu::open_device(gpu::choose_device(kernel.device.value(), device));
  return std::make_unique<DeviceKernel>(workload, kernel, symbols, std::move(open));
}

}  // namespace heddle::autoscheduler
