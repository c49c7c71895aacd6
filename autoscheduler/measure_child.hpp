#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <sys/types.h>

#include "autoscheduler/measure.hpp"
#include "autoscheduler/measure_channel.hpp"

namespace heddle::autoscheduler {

/// What one child may use.
struct ChildLimits {
  double seconds = 30;             ///< wall time
  std::uint64_t memory_bytes = 0;  ///< address space, besides what it inherits
  int processes = 64;              ///< of the user, besides those that there are
  std::vector<int> cpus;           ///< that it may run on; empty: all
};

/// How a child ended.
struct ChildOutcome {
  TrialStatus status = TrialStatus::ok;
  std::string message;
  Json answer;         ///< the task's result if the status is ok
  double seconds = 0;  ///< wall time that it lived
};

/// A forked process that does one task, with limits, in a process group of its own. This process must have one thread.
/// What the task does to its memory, its limits or itself stays there; a signal, a deadline, an exception or an exit
/// becomes an outcome. What it or its children print is kept and quoted where they crash.
class Child {
 public:
  /// Throws Error{io} where the system refuses a process.
  Child(const std::function<Json()>& task, const ChildLimits& limits);
  ~Child();  ///< kills it if it still lives
  Child(Child&& other) noexcept;
  Child& operator=(Child&&) = delete;
  Child(const Child&) = delete;

  int end() const { return end_.get(); }         ///< readable, for poll(), once the child has ended
  double deadline() const { return deadline_; }  ///< by now_seconds()

  /// Ends it if its deadline has passed; whether it has ended.
  bool ended();
  /// Ends it in any case; what came of it.
  ChildOutcome finish();

 private:
  void kill_group() const;

  ::pid_t pid_ = -1;
  Descriptor end_, answer_, log_;
  double start_ = 0, deadline_ = 0, seconds_limit_ = 0;
  std::uint64_t memory_limit_ = 0;
  bool timed_out_ = false;
};

/// Prepares this process for children: descendants whose parents ended become its own, so that none is lost.
void adopt_descendants();

}  // namespace heddle::autoscheduler
