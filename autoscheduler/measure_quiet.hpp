#pragma once
#include <vector>

#include "autoscheduler/measure_channel.hpp"

namespace heddle::autoscheduler {

/// Which processors time kernels and which compile meanwhile. Equal in every process of the machine, so that the ones
/// that time stay quiet.
struct Division {
  std::vector<int> timing;
  std::vector<int> compiling;  ///< no hyper-thread of those that time; where there are none left, all of them
  bool overlap = false;        ///< whether compiling may go on while a kernel is timed
};
Division divide_processors(int threads);

/// Held by one Heddle process of the machine while it times; shared by those that compile on the processors that time.
/// A file that the system unlocks when its holder ends.
class TimingLock {
 public:
  TimingLock();

  bool try_exclusive();  ///< without waiting
  bool try_shared();
  void unlock();
  int file() const { return file_.get(); }

 private:
  bool lock(int operation);
  Descriptor file_;
  int held_ = 0;
};

}  // namespace heddle::autoscheduler
