#pragma once
#include "runtime/kernel_call.hpp"

struct halide_parallel_task_t;
struct halide_semaphore_t;

namespace heddle::runtime {

/// Halide's task system for `async` stages: producers and consumers that wait for one another by semaphores.
///
/// Each task of a group gets a thread of its own, so that one which waits never keeps the one that it waits for from
/// running, whatever the nesting. The threads are made as needed and kept; the iterations of one task run in order,
/// except that those which are declared independent and wait for nothing go to the pool. A task that fails makes the
/// group's others, and those nested in them, give up at their next wait.
///
/// `parent` is what a task of an outer group was given as its task_parent. Returns 0 or the first failing task's code.
int run_parallel_tasks(KernelCall& call, int count, halide_parallel_task_t* tasks, void* parent) noexcept;

int semaphore_init(halide_semaphore_t* semaphore, int count) noexcept;
int semaphore_release(halide_semaphore_t* semaphore, int count) noexcept;       ///< returns the new count
bool semaphore_try_acquire(halide_semaphore_t* semaphore, int count) noexcept;  ///< takes all or nothing

}  // namespace heddle::runtime
