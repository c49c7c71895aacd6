#pragma once
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "autoscheduler/remote_measurer.hpp"
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
  bool transfer = true;              ///< begins with what the store holds of earlier searches
  std::uint64_t seed = 1;
  std::optional<autoscheduler::Fleet> fleet;  ///< measures; none: this machine does
  std::string device = {};                    ///< of targets for devices, as --device names it
  std::string device_machine = {};            ///< machine_or_none() of a target for devices

  std::string machine() const {
    if (fleet) return fleet->machine.name;
    return target.is_gpu() ? device_machine : machine_name();
  }
};

struct TuneResult {
  std::string key;  ///< of the search in the store
  std::vector<autoscheduler::Sketch> sketches;
  autoscheduler::SearchResult search;
  int recalled = 0;  ///< trials that an earlier run had measured

  /// Of the winner: the median of its medians in fresh processes, else its samples'; 0 if nothing was measured.
  double seconds() const;
};

/// Searches and keeps every trial in the store as soon as it is measured. It begins with the best that other
/// searches of the workload have left there; which they were is kept with its own trials, so that it goes on with them.
/// The same request against the same store goes on where an earlier one ended, however it ended; the same object goes
/// on where it was, without making its space, drawing its first points or computing its references again.
class Tuner {
 public:
  /// The store has to outlive it. Throws as make_space() and Search do: Stopped, once `stop` says so.
  Tuner(const TuneRequest& request, RecordStore& store, const std::function<bool()>& stop = {});
  Tuner(const Tuner&) = delete;  // its measurer asks it whether to stop
  Tuner& operator=(const Tuner&) = delete;

  /// Up to `options.trials` in all; the seed is the request's. `stop` is asked after each trial, and while one is
  /// measured. Throws as Search::run() and the store do.
  TuneResult run(const autoscheduler::SearchOptions& options,
                 const std::function<void(const std::vector<autoscheduler::Trial>& trials)>& progress,
                 std::function<bool()> stop);

 private:
  std::optional<autoscheduler::RecalledTrial> recall(int number);

  TuneRequest request_;
  RecordStore& store_;
  std::unique_ptr<autoscheduler::Space> space_;
  std::string key_;
  std::vector<autoscheduler::Start> starts_;
  autoscheduler::Search search_;
  std::unique_ptr<autoscheduler::Measurer> measurer_;
  std::function<bool()> stop_;
  std::chrono::steady_clock::time_point deadline_;
  std::map<int, std::int64_t> ids_;  ///< records of trials
};

/// The fleet's machine that a search is for (autoscheduler::choose_machine). While there is none, waits for the first
/// worker and says so on stderr, until `stop`, or `seconds` unless 0: then nothing.
std::optional<autoscheduler::Fleet> find_fleet(const std::string& records, const std::string& machine, double seconds,
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
