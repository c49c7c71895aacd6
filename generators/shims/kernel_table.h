/* The contract between a module of compiled kernels and the runtime that loads it. Plain C, included by both sides.
 *
 * A module is one shared object. Halide compiles its kernels with `no_runtime` and `user_context`, so they call
 * halide_malloc, halide_do_par_for and so on with the context of the call; shims.c defines those with hidden visibility
 * inside the module and forwards them to this table. Nothing is resolved between a module and the rest of the process:
 * two modules, two runtimes or another copy of Halide's runtime can live side by side.
 *
 * Every kernel NAME is exported as `int NAME_argv(void** args)`: args[0] points to the user_context pointer, then come
 * pointers to int32 scalars, then halide_buffer_t* of the inputs, then of the outputs. It returns 0 or an error code of
 * Halide; the message has gone to `error`. */
#ifndef HEDDLE_KERNEL_TABLE_H
#define HEDDLE_KERNEL_TABLE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct halide_parallel_task_t;
struct halide_semaphore_t;
struct halide_buffer_t;

/* Raised whenever the struct below or the meaning of a member changes. */
enum { HEDDLE_KERNEL_TABLE_VERSION = 2 };

/* What kernels may call. `user_context` is the pointer that the kernel was called with. None of these throws or
 * unwinds; all may be called from several threads of one call at once. */
typedef struct heddle_kernel_table {
  /* Scratch memory, aligned to at least 128 bytes, readable for 64 bytes beyond either end. NULL: out of memory. */
  void* (*allocate)(void* user_context, size_t bytes);
  void (*release)(void* user_context, void* memory);

  /* Calls task(user_context, i, closure) for min <= i < min + extent in any order and concurrently; returns 0 or the
   * non-zero result of one task, after which no new task starts. Returns when no task runs any more. */
  int (*parallel_for)(void* user_context, int (*task)(void* user_context, int index, uint8_t* closure), int min,
                      int extent, uint8_t* closure);

  /* halide_do_parallel_tasks and the semaphores of asynchronous stages, with Halide's meaning. */
  int (*parallel_tasks)(void* user_context, int count, struct halide_parallel_task_t* tasks, void* parent);
  int (*semaphore_init)(struct halide_semaphore_t* semaphore, int count);
  int (*semaphore_release)(struct halide_semaphore_t* semaphore, int count);
  int (*semaphore_try_acquire)(struct halide_semaphore_t* semaphore, int count);

  /* The first message of a call explains its error code. */
  void (*error)(void* user_context, const char* message);
  void (*print)(void* user_context, const char* text);

  /* Of kernels for devices. Nothing here runs on a device: launches are recorded, see runtime/gpu/recorder.hpp.
   * `buffer->device` is an address as the runtime makes them; a crop or slice is an addition to it, which shims.c does.
   *
   * device_allocate: gives an intermediate its place (does nothing if it has one); device_release takes it back.
   * launch: one entry of the kernel's device code. `arguments`: one each, of `sizes` bytes (ending with 0);
   * those with is_buffer are halide_buffer_t*, the others point to scalars.
   * copy: data would have to go between host and device in the middle of a kernel; `to_device` says which way. */
  int (*device_allocate)(void* user_context, struct halide_buffer_t* buffer);
  int (*device_release)(void* user_context, struct halide_buffer_t* buffer);
  int (*device_copy)(void* user_context, struct halide_buffer_t* buffer, int to_device);
  int (*launch)(void* user_context, const char* kernel, const char* entry, const int* blocks, const int* threads,
                int shared_bytes, const size_t* sizes, void* const* arguments, const int8_t* is_buffer);
} heddle_kernel_table;

/* Exported by every module; called once after it is loaded, before any kernel. The table must outlive the module.
 * Returns 0, or the version that the module needs if `version` is another one. */
int heddle_module_init(const heddle_kernel_table* table, uint32_t version);

#ifdef __cplusplus
}
#endif

#endif
