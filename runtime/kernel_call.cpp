#include "runtime/kernel_call.hpp"

#include <cstdio>

#include "runtime/async_tasks.hpp"
#include "runtime/gpu/recorder.hpp"

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

/// The call's recorder; nullptr, and a message, for a kernel that is to run on the processor and asks for a device.
gpu::Recorder* recorder_of(void* user_context) {
  KernelCall& call = call_of(user_context);
  if (call.recorder == nullptr) call.fail("the kernel is one for a device and was called as one for the processor");
  return call.recorder;
}

int device_allocate(void* user_context, halide_buffer_t* buffer) {
  gpu::Recorder* recorder = recorder_of(user_context);
  return recorder != nullptr ? recorder->allocate(*buffer) : halide_error_code_device_malloc_failed;
}
int device_release(void* user_context, halide_buffer_t* buffer) {
  gpu::Recorder* recorder = recorder_of(user_context);
  return recorder != nullptr ? recorder->release(*buffer) : halide_error_code_device_free_failed;
}
int device_copy(void* user_context, halide_buffer_t*, int to_device) {
  call_of(user_context)
      .fail(to_device != 0 ? "a stage on the device reads what a stage on the host has computed"
                           : "a stage on the host reads what a stage on the device has computed");
  return halide_error_code_copy_to_device_failed;
}
int launch(void* user_context, const char* kernel, const char* entry, const int* blocks, const int* threads,
           int shared_bytes, const std::size_t* sizes, void* const* arguments, const std::int8_t* is_buffer) {
  gpu::Recorder* recorder = recorder_of(user_context);
  if (recorder == nullptr) return halide_error_code_device_run_failed;
  return recorder->launch(kernel, entry, std::span<const int, 3>(blocks, 3), std::span<const int, 3>(threads, 3),
                          shared_bytes, sizes, arguments, is_buffer);
}

constexpr heddle_kernel_table functions = {.allocate = allocate,
                                           .release = release,
                                           .parallel_for = parallel_for,
                                           .parallel_tasks = parallel_tasks,
                                           .semaphore_init = init,
                                           .semaphore_release = post,
                                           .semaphore_try_acquire = try_acquire,
                                           .error = error,
                                           .print = print,
                                           .device_allocate = device_allocate,
                                           .device_release = device_release,
                                           .device_copy = device_copy,
                                           .launch = launch};

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
