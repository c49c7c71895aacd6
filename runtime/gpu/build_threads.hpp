#pragma once
#include <cstddef>
#include <functional>

namespace heddle::runtime::gpu {

/// Calls `work` on several threads and returns when all have returned: one for each of `tasks`, as far as there are
/// processors, and at most `most` of them unless that is 0. `work` must not throw. Throws Error{out_of_memory} if no
/// thread can be started.
///
/// Each has 64 MiB of stack (address space; only what is touched is taken): drivers' compilers recurse over what they
/// compile, unrolled tiles are long expressions, and a stack that overflows ends the process without a message. A
/// thread of the caller's may have any size; glibc gives new ones what `ulimit -s` says, and 2 MiB if that is
/// "unlimited".
void run_build_threads(std::size_t tasks, int most, const std::function<void()>& work);

}  // namespace heddle::runtime::gpu
