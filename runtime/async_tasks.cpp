#include "runtime/async_tasks.hpp"

#include <HalideRuntime.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

namespace heddle::runtime {
namespace {

/// Everything that waits, for a semaphore or for a task's end, waits here: async stages hand over whole rows or tiles,
/// so that wake-ups are few.
struct Waiting {
  std::mutex mutex;
  std::condition_variable changed;
  std::atomic<int> waiters{0};

  /// After a change that is sequentially consistent: either this sees the waiter, or the waiter sees the change.
  void notify() {
    if (waiters.load(std::memory_order_seq_cst) == 0) return;
    {
      const std::lock_guard lock(mutex);
    }
    changed.notify_all();
  }

  template <class Ready>
  void wait(Ready&& ready) {
    if (ready()) return;
    waiters.fetch_add(1, std::memory_order_seq_cst);
    {
      std::unique_lock lock(mutex);
      changed.wait(lock, ready);
    }
    waiters.fetch_sub(1, std::memory_order_seq_cst);
  }
};

Waiting& waiting() {
  static auto* shared = new Waiting;  // outlives the helper threads, which never end
  return *shared;
}

/// What Halide leaves opaque in halide_semaphore_t.
std::atomic_ref<std::int64_t> counter(halide_semaphore_t* semaphore) {
  static_assert(sizeof(halide_semaphore_t) >= sizeof(std::int64_t));
  return std::atomic_ref(*reinterpret_cast<std::int64_t*>(semaphore));
}

/// Tasks started together. `parent` is the group of the task that started them.
struct TaskGroup {
  KernelCall* call;
  TaskGroup* parent;
  std::atomic<int> running{0};
  std::atomic<int> result{0};

  /// This group or one around it.
  bool failed() const {
    for (const TaskGroup* group = this; group != nullptr; group = group->parent)
      if (group->result.load(std::memory_order_seq_cst) != 0) return true;
    return false;
  }

  void fail(int code) {
    int none = 0;
    result.compare_exchange_strong(none, code, std::memory_order_seq_cst);
    waiting().notify();
  }
};

bool acquire_all(const halide_parallel_task_t& task) {
  for (int i = 0; i < task.num_semaphores; ++i) {
    const auto& wanted = task.semaphores[i];
    if (semaphore_try_acquire(wanted.semaphore, wanted.count)) continue;
    // Not through semaphore_release, which would wake everyone for nothing.
    while (--i >= 0)
      counter(task.semaphores[i].semaphore).fetch_add(task.semaphores[i].count, std::memory_order_acq_rel);
    return false;
  }
  return true;
}

struct Iteration {
  const halide_parallel_task_t& task;
  TaskGroup& group;
};

int run_iteration(void* context, int index, std::uint8_t* closure) {
  const auto& iteration = *reinterpret_cast<const Iteration*>(closure);
  return iteration.task.fn(context, index, 1, iteration.task.closure, &iteration.group);
}

void run_task(const halide_parallel_task_t& task, TaskGroup& group) {
  if (!task.serial && task.num_semaphores == 0 && task.extent > 1) {
    Iteration iteration{task, group};
    const int code = group.call->pool->parallel_for(group.call->settings, run_iteration, group.call, task.min,
                                                    task.extent, reinterpret_cast<std::uint8_t*>(&iteration));
    if (code != 0) group.fail(code);
    return;
  }
  for (int i = 0; i < task.extent; ++i) {
    bool acquired = false;
    waiting().wait([&] { return (acquired = acquire_all(task)) || group.failed(); });
    if (!acquired || group.failed()) return;
    if (const int code = task.fn(group.call, task.min + i, 1, task.closure, &group); code != 0) return group.fail(code);
  }
}

/// Threads for tasks, as many as ever ran at once.
class Helpers {
 public:
  struct Work {
    const halide_parallel_task_t* task;
    TaskGroup* group;
  };

  static Helpers& shared() {
    static auto* helpers = new Helpers;
    return *helpers;
  }

  /// Throws std::system_error if a thread is needed and refused; nothing was started then.
  void start(const Work& work) {
    const std::lock_guard lock(mutex_);
    if (idle_ <= queue_.size()) {
      // Signals belong to the program's own threads.
      ::sigset_t all, before;
      ::sigfillset(&all);
      ::pthread_sigmask(SIG_SETMASK, &all, &before);
      try {
        std::thread([this] { run(); }).detach();
      } catch (...) {
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
        throw;
      }
      ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
      ++idle_;
    }
    queue_.push_back(work);
    arrived_.notify_one();
  }

 private:
  void run() {
    Scratch scratch;
    Pool::set_thread_scratch(&scratch);
    for (;;) {
      Work work{};
      {
        std::unique_lock lock(mutex_);
        arrived_.wait(lock, [&] { return !queue_.empty(); });
        work = queue_.front();
        queue_.pop_front();
        --idle_;
      }
      {
        const FloatMode mode(work.group->call->settings.flush);
        run_task(*work.task, *work.group);
      }
      {
        const std::lock_guard lock(mutex_);
        ++idle_;
      }
      // The group may be gone as soon as its count is 0.
      work.group->running.fetch_sub(1, std::memory_order_seq_cst);
      waiting().notify();
    }
  }

  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<Work> queue_;
  std::size_t idle_ = 0;
};

}  // namespace

int semaphore_init(halide_semaphore_t* semaphore, int count) noexcept {
  counter(semaphore).store(count, std::memory_order_release);
  return count;
}

int semaphore_release(halide_semaphore_t* semaphore, int count) noexcept {
  const std::int64_t before = counter(semaphore).fetch_add(count, std::memory_order_seq_cst);
  waiting().notify();
  return static_cast<int>(before + count);
}

bool semaphore_try_acquire(halide_semaphore_t* semaphore, int count) noexcept {
  auto value = counter(semaphore);
  std::int64_t current = value.load(std::memory_order_seq_cst);
  while (current >= count)
    if (value.compare_exchange_weak(current, current - count, std::memory_order_acq_rel)) return true;
  return count <= 0;
}

int run_parallel_tasks(KernelCall& call, int count, halide_parallel_task_t* tasks, void* parent) noexcept {
  TaskGroup group{.call = &call, .parent = static_cast<TaskGroup*>(parent)};
  for (int i = 1; i < count; ++i) {
    group.running.fetch_add(1, std::memory_order_relaxed);
    try {
      Helpers::shared().start({&tasks[i], &group});
    } catch (const std::exception& error) {
      group.running.fetch_sub(1, std::memory_order_relaxed);
      call.fail(error.what());
      group.fail(halide_error_code_generic_error);
      break;
    }
  }
  if (count > 0 && !group.failed()) run_task(tasks[0], group);
  waiting().wait([&] { return group.running.load(std::memory_order_seq_cst) == 0; });
  return group.result.load(std::memory_order_acquire);
}

}  // namespace heddle::runtime
