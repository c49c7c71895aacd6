#include "runtime/gpu/build_threads.hpp"

#include <sys/resource.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <mutex>
#include <set>
#include <thread>

using heddle::runtime::gpu::run_build_threads;

namespace {

/// Touches about `depth` KiB of stack.
int recurse(int depth) {
  volatile char frame[1024];
  frame[0] = static_cast<char>(depth);
  return depth == 0 ? frame[0] : recurse(depth - 1) + frame[0] % 2;
}

/// The soft limit of the stack, from which new threads' sizes come, while the object lives.
class StackLimit {
 public:
  explicit StackLimit(::rlim_t bytes) {
    ::getrlimit(RLIMIT_STACK, &before_);
    const ::rlimit now = {bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_STACK, &now);
  }
  ~StackLimit() { ::setrlimit(RLIMIT_STACK, &before_); }
  StackLimit(const StackLimit&) = delete;
  StackLimit& operator=(const StackLimit&) = delete;

 private:
  ::rlimit before_{};
};

}  // namespace

TEST_CASE("build threads are as many as allowed, and never the caller's own", "[device]") {
  for (const int most : {0, 1, 2}) {
    std::mutex mutex;
    std::set<std::thread::id> threads;
    std::atomic<int> calls = 0;
    run_build_threads(20, most, [&] {
      ++calls;
      const std::lock_guard lock(mutex);
      threads.insert(std::this_thread::get_id());
    });
    CHECK(calls >= 1);
    if (most > 0) CHECK(calls <= most);
    CHECK_FALSE(threads.contains(std::this_thread::get_id()));
  }
  int calls = 0;
  run_build_threads(1, 0, [&] { ++calls; });
  CHECK(calls == 1);
  run_build_threads(0, 0, [&] { ++calls; });
  CHECK(calls == 1);
}

TEST_CASE("build threads have a deep stack whatever the process's limit is", "[device]") {
  const StackLimit limit(std::size_t{1} << 20);
  int result = -1;
  run_build_threads(1, 0, [&] { result = recurse(30000); });  // 30 MiB and more
  CHECK(result >= 0);
}
