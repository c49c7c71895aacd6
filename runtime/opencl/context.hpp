#pragma once
#include <atomic>
#include <mutex>
#include <string_view>

#include "runtime/opencl/devices.hpp"
#include "runtime/opencl/status.hpp"

namespace heddle::runtime::gpu::opencl {

/// An open device's context and its queue, shared by everything made with it.
///
/// Work goes through one queue in order. Programs with timestamps need a queue that measures, which costs every command
/// on it, so they have their own; whichever queue is used next waits for the other.
class Context {
 public:
  explicit Context(FoundDevice found);

  const Library& cl() const { return *found_.library; }
  const FoundDevice& found() const { return found_; }
  const DeviceInfo& info() const { return found_.info; }
  cl_context get() const { return context_.get(); }

  bool lost() const { return lost_; }
  /// Throws if the device was lost earlier.
  void check_alive(std::string_view doing) const;
  /// Throws unless `status` is a success, and remembers if it says that the device is lost.
  void check(cl_int status, std::string_view doing);

  /// Enqueues with the queue to oneself: `work(queue)` gives the event of its last command, or null. Flushes.
  template <class Work>
  Handle<cl_event> enqueue(bool timestamps, std::string_view doing, Work work) {
    const std::lock_guard lock(mutex_);
    check_alive(doing);
    const cl_command_queue queue = choose_queue(timestamps);
    try {
      Handle<cl_event> last = cl().own(work(queue));
      check(cl().flush(queue), doing);
      return last;
    } catch (...) {
      // What was enqueued before the failure must not touch memory that its owner now takes back.
      cl().finish(queue);
      throw;
    }
  }
  /// Until the command is complete. The device is lost if it failed, unless for want of memory.
  void wait(cl_event event, std::string_view doing);

 private:
  cl_command_queue choose_queue(bool timestamps);

  FoundDevice found_;
  Handle<cl_context> context_;
  std::mutex mutex_;
  Handle<cl_command_queue> plain_, measuring_;
  cl_command_queue latest_ = nullptr;
  std::atomic<bool> lost_ = false;
};

}  // namespace heddle::runtime::gpu::opencl
