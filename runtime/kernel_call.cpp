#include "runtime/kernel_call.hpp"

#include <cstdio>

#include "runtime/async_tasks.hpp"

namespace heddle::runtime {
namespace {

KernelCall& call_of(void* user_context) { return *static_cast<KernelCall*>(user_context); }

Scratch* scratch_of(const KernelCall& call) {
  Scratch* own = Pool::thread_scratch();
  return own != nullptr ? own : call.scratch;
}

void* allocate(void* user_context, std::size_t bytes) {
  const KernelCall& call = call_of(user_context);
  return scratch_of(call)->allocate(bytes, call.poison);
}

void release(void* user_context, void* memory) { Scratch::release(memory, scratch_of(call_of(user_context))); }

int parallel_for(void* user_context, Pool::Task task, int min, int extent, std::uint8_t* closure) {
  const KernelCall& call = call_of(user_context);
  return call.pool->parallel_for(call.settings, task, user_context, min, extent, closure);
}

int parallel_tasks(void* user_context, int count, halide_parallel_task_t* tasks, void* parent) {
  return run_parallel_tasks(call_of(user_context), count, tasks, parent);
}

int init(halide_semaphore_t* semaphore, int count) { return semaphore_init(semaphore, count); }
int post(halide_semaphore_t* semaphore, int count) { return semaphore_release(semaphore, count); }
int try_acquire(halide_semaphore_t* semaphore, int count) { return semaphore_try_acquire(semaphore, count) ? 1 : 0; }

void error(void* user_context, const char* message) { call_of(user_context).fail(message); }

void print(void*, const char* text) { std::fputs(text, stderr); }

constexpr heddle_kernel_table functions = {.allocate = allocate,
                                           .release = release,
                                           .parallel_for = parallel_for,
                                           .parallel_tasks = parallel_tasks,
                                           .semaphore_init = init,
                                           .semaphore_release = post,
                                           .semaphore_try_acquire = try_acquire,
                                           .error = error,
                                           .print = print};

}  // namespace

void KernelCall::fail(const char* text) noexcept {
  if (failed_.exchange(true, std::memory_order_acq_rel)) return;
  std::snprintf(message_, sizeof(message_), "%s", text);
}

void KernelCall::clear() noexcept {
  message_[0] = '\0';
  failed_.store(false, std::memory_order_release);
}

const heddle_kernel_table& kernel_table() { return functions; }

}  // namespace heddle::runtime
