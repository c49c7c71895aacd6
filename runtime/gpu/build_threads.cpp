#include "runtime/gpu/build_threads.hpp"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <system_error>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::runtime::gpu {
namespace {

constexpr std::size_t stack_bytes = std::size_t{64} << 20;
/// Beyond this, drivers' locks are what is waited for.
constexpr std::size_t most_useful = 8;

/// Attributes of threads with a deep stack, which start with all signals blocked: those belong to the program's own.
class Attributes {
 public:
  Attributes() {
    ::pthread_attr_init(&attributes_);
    ::pthread_attr_setstacksize(&attributes_, stack_bytes);
    ::sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~Attributes() {
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    ::pthread_attr_destroy(&attributes_);
  }
  Attributes(const Attributes&) = delete;
  Attributes& operator=(const Attributes&) = delete;
  const ::pthread_attr_t* get() const { return &attributes_; }

 private:
  ::pthread_attr_t attributes_{};
  ::sigset_t before_{};
};

}  // namespace

void run_build_threads(std::size_t tasks, int most, const std::function<void()>& work) {
  if (tasks == 0) return;
  std::size_t wanted = std::min({tasks, most_useful, std::max<std::size_t>(std::thread::hardware_concurrency(), 1)});
  if (most > 0) wanted = std::min(wanted, static_cast<std::size_t>(most));
  std::vector<::pthread_t> threads;
  threads.reserve(wanted);
  int error = 0;
  {
    const Attributes attributes;
    while (threads.size() < wanted && error == 0) {
      ::pthread_t thread{};
      error = ::pthread_create(
          &thread, attributes.get(),
          [](void* f) -> void* {
            (*static_cast<const std::function<void()>*>(f))();
            return nullptr;
          },
          const_cast<std::function<void()>*>(&work));
      if (error == 0) threads.push_back(thread);
    }
  }
  for (const ::pthread_t thread : threads) ::pthread_join(thread, nullptr);
  // Those that started did the work of all.
  if (threads.empty())
    throw Error(ErrorCode::out_of_memory,
                fmt::format("no thread can be started to build device code ({}): allow the process more threads or "
                            "more memory",
                            std::generic_category().message(error)));
}

}  // namespace heddle::runtime::gpu
