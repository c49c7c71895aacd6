#pragma once
#include <functional>
#include <string>
#include <vector>

#include "autoscheduler/search.hpp"
#include "ops/catalog.hpp"
#include "schedules/records.hpp"
#include "targets/target.hpp"

namespace heddle::tools {

/// A search for one workload's schedule.
struct TuneRequest {
  const Workload* workload = nullptr;
  Target target;
  std::vector<std::string> modules;  ///< user modules of operators that the workload needs
  bool families = true;              ///< the hand-written families are part of the space
  autoscheduler::SearchOptions search;
};

struct TuneResult {
  std::string key;  ///< of the search in the store
  std::vector<autoscheduler::Sketch> sketches;
  autoscheduler::SearchResult search;
  int recalled = 0;  ///< trials that an earlier run had measured

  /// Of the winner: the median of its medians in fresh processes, else its samples'; 0 if nothing was measured.
  double seconds() const;
};

/// Searches and keeps every trial in `store` as soon as it is measured. The same request against the same store goes on
/// where an earlier one ended, however it ended. `stop` is asked after each trial. Throws as search() and the store do.
TuneResult tune(const TuneRequest& request, RecordStore& store,
                const std::function<void(const std::vector<autoscheduler::Trial>& trials)>& progress,
                const std::function<bool()>& stop);

/// While it lives, the first SIGINT or SIGTERM is noted and the second ends the process as usual.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
  static bool interrupted();
};

}  // namespace heddle::tools
