#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/memory.hpp"

namespace heddle::runtime {

/// Whether subnormal numbers are flushed to zero, set for the calling thread while the object lives. Arithmetic on
/// subnormals takes a hundred times as long on many processors.
class FloatMode {
 public:
  explicit FloatMode(bool flush);
  ~FloatMode();
  FloatMode(const FloatMode&) = delete;
  FloatMode& operator=(const FloatMode&) = delete;

 private:
  std::uint64_t before_;
};

/// Threads that run the tasks of parallel loops. One pool a process is shared by all sessions (Pool::shared()).
///
/// There is one worker a processor of the process's affinity mask, pinned to it, made when first asked for. A worker
/// that has just worked spins for a while, for longer while a session runs, since waking a sleeping thread takes longer
/// than many kernels, then sleeps. The thread that calls parallel_for takes part; the pool never pins it, but prefers
/// the workers of other processors than the one it is on.
///
/// Workers are claimed for one loop at a time: loops of several callers get disjoint workers, at most as many as there
/// are processors without a caller, and run inline when none is left. A loop within a task of a loop runs inline. At
/// the end of a loop workers that were claimed but have not woken up yet are let go, so that a loop never waits for
/// one.
///
/// A forked child has no workers: loops run inline there, and Pool::shared() makes new workers for sessions created
/// after the fork. Fork only while no session runs.
class Pool {
 public:
  using Task = int (*)(void* context, int index, std::uint8_t* closure);

  struct Settings {
    int threads = 1;  ///< that may work on one loop, the caller included
    std::uint32_t spin_us = 200;
    bool flush = true;  ///< subnormals in workers, see FloatMode
  };

  /// One worker an entry, pinned to that processor; -1: not pinned. For tests; the process's pool is shared().
  explicit Pool(std::vector<int> cpus);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /// Lives until the process ends.
  static Pool& shared();
  /// HEDDLE_SPIN_US, or 200.
  static std::uint32_t default_spin_us();
  static constexpr int most_threads = 256;

  int processors() const;
  /// The sensible number of threads: physical cores among the processors, within the process's quota.
  int cores() const { return cores_; }

  /// Makes the workers that `threads` threads need. Throws Error{out_of_memory} if the system refuses threads.
  void reserve(int threads);

  /// Wakes sleeping workers without work, so that they spin by the time that the first loop comes.
  void wake(const Settings& settings) noexcept;

  /// Calls task(context, i, closure) for min <= i < min + extent, in any order, on up to settings.threads threads.
  /// Returns when all have returned: 0, or the result of one that was not 0, after which tasks not yet begun are
  /// dropped. Allocates nothing.
  int parallel_for(const Settings& settings, Task task, void* context, int min, int extent,
                   std::uint8_t* closure) noexcept;

  /// A thread that executes kernels and so occupies a processor, which loops of others then leave alone.
  class Caller {
   public:
    explicit Caller(Pool& pool);
    ~Caller();
    Caller(const Caller&) = delete;
    Caller& operator=(const Caller&) = delete;

   private:
    Pool& pool_;
  };

  /// Scratch memory of the calling thread if it is one of the runtime's own; nullptr in threads of the program.
  static Scratch* thread_scratch();
  /// Makes `scratch` the calling thread's.
  static void set_thread_scratch(Scratch* scratch);

 private:
  struct Job;
  struct Worker;
  struct State;

  std::unique_ptr<State> state_;
  int cores_ = 1;
};

}  // namespace heddle::runtime
