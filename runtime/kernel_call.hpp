#pragma once
#include <atomic>
#include <string>

#include "generators/shims/kernel_table.h"
#include "runtime/memory.hpp"
#include "runtime/pool.hpp"

namespace heddle::runtime {

namespace gpu {
class Recorder;
}

/// What a kernel's user_context points to: the pool, the memory and the place for messages of one run of a session.
struct KernelCall {
  Pool* pool = nullptr;
  Pool::Settings settings;
  Scratch* scratch = nullptr;         ///< of the thread that runs the session
  bool poison = false;                ///< scratch memory starts as NaNs
  gpu::Recorder* recorder = nullptr;  ///< of kernels for a device: they launch nothing, what they would is recorded

  /// Keeps the first message since clear(); later ones are consequences of it. Safe from any thread.
  void fail(const char* text) noexcept;
  void clear() noexcept;
  const char* message() const { return message_; }  ///< "" if there is none. Only after the kernel has returned

 private:
  std::atomic<bool> failed_{false};
  char message_[1024] = {};
};

/// The functions that modules of kernels get: each expects a KernelCall as user_context.
const heddle_kernel_table& kernel_table();

}  // namespace heddle::runtime
