#include "perf/schedulers/loaded_kernel.hpp"

#include <dlfcn.h>
#include <poll.h>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::perf {

LoadedKernel::LoadedKernel(int module, const std::string& symbol, int threads, std::shared_ptr<KernelBuffers> buffers)
    : buffers_(std::move(buffers)) {
  void* library = ::dlopen(fmt::format("/proc/self/fd/{}", module).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw Error(ErrorCode::internal, fmt::format("cannot load {}: {}", symbol, ::dlerror()));
  const auto init = reinterpret_cast<decltype(&heddle_module_init)>(::dlsym(library, "heddle_module_init"));
  entry_ = reinterpret_cast<int (*)(void**)>(::dlsym(library, (symbol + "_argv").c_str()));
  if (init == nullptr || entry_ == nullptr || init(&runtime::kernel_table(), HEDDLE_KERNEL_TABLE_VERSION) != 0)
    throw Error(ErrorCode::internal, fmt::format("the module of {} is none of this runtime's", symbol));
  auto& pool = runtime::Pool::shared();
  pool.reserve(threads);
  call_.pool = &pool;
  call_.settings = {.threads = threads, .spin_us = runtime::Pool::default_spin_us(), .flush = true};
  call_.scratch = &scratch_;
}

void LoadedKernel::run() {
  const int code = entry_(buffers_->arguments(&call_));
  if (code != 0)
    throw Error(ErrorCode::internal, fmt::format("the kernel failed with code {}: {}", code, call_.message()));
}

double LoadedKernel::seconds_of(int times) {
  const double start = autoscheduler::now_seconds();
  for (int i = 0; i < times; ++i) run();
  return (autoscheduler::now_seconds() - start) / times;
}

autoscheduler::ChildOutcome run_isolated(const std::function<Json()>& task, double most_seconds,
                                         const std::vector<int>& cpus) {
  constexpr std::uint64_t memory = 8ULL << 30;
  autoscheduler::Child child(task, {.seconds = most_seconds, .memory_bytes = memory, .cpus = cpus});
  while (!child.ended()) {
    pollfd end = {.fd = child.end(), .events = POLLIN, .revents = 0};
    ::poll(&end, 1, 100);  // its deadline is looked at now and then
  }
  return child.finish();
}

}  // namespace heddle::perf
