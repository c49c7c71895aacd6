#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "autoscheduler/measure_child.hpp"
#include "perf/schedulers/subject.hpp"
#include "runtime/kernel_call.hpp"

namespace heddle::perf {

/// A kernel that is loaded as packages' kernels are, with buffers to run on and a place among the runtime's threads.
/// Its shared object stays loaded until the process ends.
class LoadedKernel {
 public:
  LoadedKernel(int module, const std::string& symbol, int threads, std::shared_ptr<KernelBuffers> buffers);

  void run();                    ///< throws Error{internal} with what the kernel says if it fails
  double seconds_of(int times);  ///< of one of so many runs
  KernelBuffers& buffers() { return *buffers_; }

 private:
  std::shared_ptr<KernelBuffers> buffers_;
  runtime::Scratch scratch_;
  runtime::KernelCall call_;
  int (*entry_)(void**) = nullptr;
};

/// Does a task in a process of its own and waits for its end. This process must have one thread.
autoscheduler::ChildOutcome run_isolated(const std::function<Json()>& task, double most_seconds,
                                         const std::vector<int>& cpus = {});

}  // namespace heddle::perf
