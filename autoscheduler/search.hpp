#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "autoscheduler/measure.hpp"
#include "autoscheduler/space.hpp"

namespace heddle::autoscheduler {

/// A point that was tried.
struct Trial {
  int number = 0;  ///< from 0, in the order of the search
  Point point;
  Implementation implementation;
  double estimate = 0;               ///< seconds, analytic
  std::optional<double> prediction;  ///< seconds, by the cost model, if it was trained
  std::string origin;  ///< "default", "estimate", "mutation of 12", "crossover of 3 and 12", "random", "record"
  Measurement measurement;
};

struct SearchOptions {
  int trials = 64;  ///< 0: the estimate alone, nothing is measured
  std::uint64_t seed = 1;
  int batch = 8;  ///< trials between two trainings of the cost model
  int finalists = 4;
  int finalist_processes = 5;
  double seconds = 0;  ///< stop after about this long; 0: no limit
};

/// What a search asks of the outside, so that it can be stopped, resumed and watched.
struct SearchHooks {
  /// Asked before a trial is measured: a trial of that number that an earlier run of the same search has measured.
  std::function<std::optional<Measurement>(int number, const Point& point, const Implementation& implementation)>
      recall;
  /// Called once a trial is measured now (not for recalled ones), in order.
  std::function<void(const Trial& trial)> store;
  std::function<void(const std::vector<Trial>& trials, int total)> progress;
  std::function<bool()> stop;  ///< asked between batches: end now, with what there is
};

struct SearchResult {
  std::vector<Trial> trials;
  std::size_t best = 0;                      ///< index into trials
  std::vector<double> best_process_seconds;  ///< of the winner in fresh processes; empty if nothing was measured
  Candidate candidate;                       ///< the winner
  bool stopped = false;                      ///< before all trials were made
};

/// Defaults and the best estimates first, then evolution guided by a model learned on the way; the finalists are
/// measured again in fresh processes before one is named. Deterministic by seed, given the same measurements.
/// Throws Error{unsupported} if every point is pruned, with the reasons.
SearchResult search(const Space& space, Measurer* measurer, const SearchOptions& options,
                    const SearchHooks& hooks = {});

}  // namespace heddle::autoscheduler
