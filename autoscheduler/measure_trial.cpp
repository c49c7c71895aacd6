#include "autoscheduler/measure_trial.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>

#include <fmt/format.h>

#include "autoscheduler/measure_channel.hpp"
#include "autoscheduler/measure_memory.hpp"
#include "autoscheduler/measure_running.hpp"
#include "base/error.hpp"
#include "generators/kernel_bytes.hpp"

namespace heddle::autoscheduler {
namespace {

/// The runtime's functions. Kernels without Halide's checks do not look whether they got their scratch memory, so where
/// there is none this process ends as one that is out of memory, instead of by a signal that could be any bug's.
const heddle_kernel_table& table_of_trials() {
  static const heddle_kernel_table table = [] {
    heddle_kernel_table own = runtime::kernel_table();
    own.allocate = [](void* context, std::size_t bytes) {
      void* memory = runtime::kernel_table().allocate(context, bytes);
      if (memory != nullptr) return memory;
      std::fprintf(stderr, "no scratch memory of %zu bytes for a kernel\n", bytes);
      if (const auto give_up = std::get_new_handler()) give_up();
      return memory;
    };
    return own;
  }();
  return table;
}

class ProcessorKernel final : public RunningKernel {
 public:
  ProcessorKernel(const Workload& workload, const BuiltKernel& kernel, const SymbolValues& symbols,
                  const RunningKernel* beside)
      : workload_(workload),
        memory_(workload, kernel.implementation.packings, symbols, beside == nullptr ? nullptr : beside->memory()),
        kernel_(kernel.module, kernel.symbol),
        variant_(kernel.implementation.variant) {
    auto& pool = runtime::Pool::shared();
    const int threads = std::min(workload.composition().threads, pool.processors());
    pool.reserve(threads);
    call_.pool = &pool;
    call_.settings = {.threads = threads, .spin_us = runtime::Pool::default_spin_us(), .flush = true};
    call_.scratch = &scratch_;
  }

  void fill(const std::vector<Array>& inputs) override { memory_.fill(inputs); }
  const KernelMemory* memory() const override { return &memory_; }

  /// Subnormal results count as what they are, as the oracle has them.
  std::string check(const CheckSet& set) override {
    memory_.fill(set.inputs);
    call_.poison = true;
    call_.settings.flush = false;
    run();
    call_.poison = false;
    call_.settings.flush = true;
    const auto outputs = memory_.outputs();
    std::string found = memory_.damage();
    return found.empty() ? difference(workload_, outputs, set.want, variant_) : found;
  }

  double seconds_of(int runs) override {
    const double start = now_seconds();
    for (int i = 0; i < runs; ++i) run();
    return (now_seconds() - start) / runs;
  }

 private:
  void run() { kernel_.call(memory_.arguments(&call_), call_); }

  const Workload& workload_;
  KernelMemory memory_;
  runtime::Scratch scratch_;
  runtime::KernelCall call_;
  LoadedKernel kernel_;
  std::string variant_;
};

/// Samples of one kernel: each of so many runs that the clock does not matter.
class Sampler {
 public:
  explicit Sampler(RunningKernel& kernel) : kernel_(&kernel) {
    constexpr double shortest = 20e-6;
    first_ = kernel.seconds_of(1);
    // Its memory has been seen and its threads are awake now.
    if (first_ < slow) first_ = std::min(first_, kernel.seconds_of(1));
    if (first_ < shortest) first_ = kernel.seconds_of(static_cast<int>(shortest / std::max(first_, 1e-8)) + 1);
    runs_ = first_ >= shortest ? 1 : static_cast<int>(shortest / std::max(first_, 1e-8)) + 1;
  }

  /// Of one execution, before any sample.
  double estimate() const { return first_; }
  void look_again() { first_ = std::min(first_, kernel_->seconds_of(runs_)); }

  /// A few samples in a row, after a run that brings its data back into the caches that the other kernel has used.
  void block(std::vector<double>& samples) {
    constexpr double enough = 2e-3;
    if (first_ < slow) kernel_->seconds_of(runs_);
    double total = 0;
    for (int i = 0; i < 3 && total < enough; ++i) {
      samples.push_back(kernel_->seconds_of(runs_));
      total += samples.back() * runs_;
    }
    spent_ += total;
  }

  double spent() const { return spent_; }  ///< in samples

 private:
  static constexpr double slow = 0.05;  // seconds: what caches hold does not matter then
  RunningKernel* kernel_;
  double first_ = 0, spent_ = 0;
  int runs_ = 1;
};

void time_in_turns(RunningKernel& candidate, RunningKernel* incumbent, const MeasureOptions& options,
                   TrialResult& result) {
  constexpr double hopeless = 5;  // times the incumbent's time
  const double begin = now_seconds();
  Sampler own(candidate);
  std::optional<Sampler> other;
  if (incumbent != nullptr) other.emplace(*incumbent);
  const auto is_hopeless = [&] { return other && own.estimate() > hopeless * other->estimate(); };
  // Another program may have had the processor meanwhile.
  for (int i = 0; i < 2 && is_hopeless(); ++i) own.look_again();
  if (is_hopeless()) {
    result.seconds = {own.estimate()};
    result.incumbent_seconds = {other->estimate()};
    return;
  }
  const auto enough = [&] {
    const auto count = static_cast<int>(result.seconds.size());
    const double left = options.run_limit_s / 2 - (now_seconds() - begin);
    // A slow kernel's few samples say more than a limit that it runs into.
    const double next = 4 * own.estimate() + (other ? 4 * other->estimate() : 0);
    return count > 0 && ((count >= options.least_samples && own.spent() >= options.least_seconds) || left < next);
  };
  // A B, B A, A B...: what slows the machine down for a while slows both.
  for (bool first = true; !enough(); first = !first) {
    if (other && !first) other->block(result.incumbent_seconds);
    own.block(result.seconds);
    if (other && first) other->block(result.incumbent_seconds);
  }
}

std::unique_ptr<RunningKernel> start(const Workload& workload, const BuiltKernel& kernel, const SymbolValues& symbols,
                                     const MeasureOptions& options, const RunningKernel* beside) {
  return kernel.device ? run_on_device(workload, kernel, symbols, options.device)
                       : run_on_processor(workload, kernel, symbols, beside);
}

}  // namespace

std::unique_ptr<RunningKernel> run_on_processor(const Workload& workload, const BuiltKernel& kernel,
                                                const SymbolValues& symbols, const RunningKernel* beside) {
  return std::make_unique<ProcessorKernel>(workload, kernel, symbols, beside);
}

LoadedKernel::LoadedKernel(int module, const std::string& symbol)
    : library_(::dlopen(fmt::format("/proc/self/fd/{}", module).c_str(), RTLD_NOW | RTLD_LOCAL)) {
  if (library_ == nullptr) throw Error(ErrorCode::internal, fmt::format("cannot load the kernel: {}", ::dlerror()));
  const auto init = reinterpret_cast<decltype(&heddle_module_init)>(::dlsym(library_, "heddle_module_init"));
  entry_ = reinterpret_cast<runtime::KernelEntry>(::dlsym(library_, (symbol + "_argv").c_str()));
  if (init != nullptr && entry_ != nullptr && init(&table_of_trials(), HEDDLE_KERNEL_TABLE_VERSION) == 0) return;
  ::dlclose(library_);
  throw Error(ErrorCode::internal, fmt::format("the module of {} is none of this runtime's", symbol));
}

LoadedKernel::~LoadedKernel() { ::dlclose(library_); }

void LoadedKernel::call(void** arguments, const runtime::KernelCall& call) const {
  const int code = entry_(arguments);
  if (code == 0) return;
  throw Error(code == halide_error_code_out_of_memory ? ErrorCode::out_of_memory : ErrorCode::internal,
              fmt::format("the kernel failed with code {}: {}", code, call.message()));
}

std::string build_kernel(const Workload& workload, const Implementation& implementation, const Target& target,
                         int module) {
  const KernelRequest request{
      .workload = &workload, .implementation = implementation, .target = target, .schedule_file = "candidate"};
  std::string key = kernel_key(request);
  CompiledKernel kernel = compile_kernel(request);
  kernel.object = link_module({kernel.object}, target);
  const std::string bytes = target.is_gpu() ? to_bytes(kernel) : std::move(kernel.object);
  if (!write_all(module, bytes))
    throw Error(ErrorCode::io,
                fmt::format("cannot write a kernel of {} bytes: {}", bytes.size(), std::strerror(errno)));
  return key;
}

SymbolValues measured_symbols(const Workload& workload) {
  constexpr std::int64_t most_work = 1'000'000'000, most_bytes = 64 << 20;
  SymbolValues values;
  for (const auto& name : workload.symbols()) values[name] = workload.composition().symbols.at(name).max;
  const auto fits = [&] {
    return workload.flops().evaluate(values) <= most_work && workload.bytes().evaluate(values) <= most_bytes;
  };
  for (bool smaller = true; smaller && !fits();) {
    smaller = false;
    for (auto& [name, value] : values) {
      const std::int64_t least = workload.composition().symbols.at(name).min;
      const std::int64_t half = std::max(least, value / 2);
      smaller = smaller || half < value;
      value = half;
    }
  }
  return values;
}

TrialResult try_kernel(const Workload& workload, const BuiltKernel& candidate, const BuiltKernel* incumbent,
                       std::span<const CheckSet> sets, const MeasureOptions& options) {
  TrialResult result;
  const CheckSet& timed = sets.back();
  const auto own = start(workload, candidate, timed.symbols, options, nullptr);
  const runtime::Pool::Caller caller(runtime::Pool::shared());
  {
    const runtime::FloatMode mode(false);
    for (const CheckSet& set : sets) {
      result.difference = own->check(set);
      if (!result.difference.empty()) return result;
    }
  }
  const runtime::FloatMode mode(true);
  std::unique_ptr<RunningKernel> other;
  if (incumbent != nullptr) {
    other = start(workload, *incumbent, timed.symbols, options, own.get());
    other->fill(timed.inputs);
  }
  time_in_turns(*own, other.get(), options, result);
  return result;
}

}  // namespace heddle::autoscheduler
