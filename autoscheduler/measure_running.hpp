#pragma once
#include <memory>

#include "autoscheduler/measure_trial.hpp"
#include "runtime/kernel_call.hpp"
#include "runtime/model.hpp"

namespace heddle::autoscheduler {

class KernelMemory;

/// A kernel that is loaded as packages' kernels are, with memory to run on.
class RunningKernel {
 public:
  virtual ~RunningKernel() = default;
  /// Lays inputs out for what is timed.
  virtual void fill(const std::vector<Array>& inputs) = 0;
  /// Runs once on a set; empty, or what is wrong.
  virtual std::string check(const CheckSet& set) = 0;
  /// Of one execution: a mean of at least `runs`.
  virtual double seconds_of(int runs) = 0;
  /// That another kernel may be beside; null: none can.
  virtual const KernelMemory* memory() const { return nullptr; }
};

/// On this process's processors, among the runtime's threads. `beside`: a kernel of the same workload that it is timed
/// in turns with, null for none.
std::unique_ptr<RunningKernel> run_on_processor(const Workload& workload, const BuiltKernel& kernel,
                                                const SymbolValues& symbols, const RunningKernel* beside);
/// On a device, which no parent of this process may have opened before it forked. Throws Error for a
/// device that is not there or lacks what the kernel needs, and for code that its driver refuses.
std::unique_ptr<RunningKernel> run_on_device(const Workload& workload, const BuiltKernel& kernel,
                                             const SymbolValues& symbols, const std::string& device);

/// A kernel's entry in a shared object that a file holds, while this lives.
class LoadedKernel {
 public:
  LoadedKernel(int module, const std::string& symbol);
  ~LoadedKernel();
  LoadedKernel(const LoadedKernel&) = delete;
  LoadedKernel& operator=(const LoadedKernel&) = delete;

  /// Calls it, for what it computes or what it asks of a device. Throws Error for a code that is not 0.
  void call(void** arguments, const runtime::KernelCall& call) const;

 private:
  void* library_ = nullptr;
  runtime::KernelEntry entry_ = nullptr;
};

}  // namespace heddle::autoscheduler
