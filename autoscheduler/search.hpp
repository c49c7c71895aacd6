#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "autoscheduler/measure.hpp"
#include "autoscheduler/space.hpp"

namespace heddle::autoscheduler {

/// Changes whenever the same space, seed and measurements would lead to other trials: part of what names a search.
constexpr int search_version = 14;

/// Where a search begins beside its own defaults and estimates: what was good elsewhere.
struct Start {
  Point point;
  std::string origin;  ///< of its trial: "record 12"
};

/// A point that was tried.
struct Trial {
  int number = 0;  ///< from 0, in the order of the search
  Point point;
  Implementation implementation;
  std::vector<ScheduleRequirement> requirements;
  double estimate = 0;               ///< seconds, analytic
  std::optional<double> prediction;  ///< seconds, by the cost model, if it was trained
  std::string origin;  ///< "default", "record 7", "estimate", "mutation of 12", "crossover of 3 and 12", "random"
  Measurement measurement;
  bool recalled = false;                 ///< measured by an earlier run of the same search
  std::optional<std::size_t> incumbent;  ///< the trial that it was timed in turns with
  std::string incumbent_kernel = {};     ///< that trial's Measurement::kernel_key
  /// Seconds, comparable between trials; infinite for a failure. Beside an incumbent
  ///   undisturbed(samples) / undisturbed(the incumbent's samples beside them) * the incumbent's score,
  /// so that the clock and the neighbours of another moment cancel out; never far below the fastest sample. The
  /// incumbent stays until something is clearly faster, and its own score keeps to the times that were measured while
  /// it was: if each lucky time became the measure of the next, scores would run away from any time ever measured.
  double score = 0;
  std::vector<double> process_seconds;  ///< of a finalist: medians in fresh processes, at the speed of the best score
};

struct SearchOptions {
  int trials = 64;  ///< 0: the estimate alone, nothing is measured
  std::uint64_t seed = 1;
  int finalists = 4;           ///< measured again; 0: the best score is the winner
  int finalist_processes = 5;  ///< each
  double seconds = 0;          ///< no new trial after this long; 0: no limit
};

/// A trial of an earlier run of the same search.
struct RecalledTrial {
  Point point;
  std::string origin;
  std::string incumbent_kernel;  ///< Trial::incumbent_kernel
  Measurement measurement;
};

/// What a search asks of the outside, so that it can be stopped, resumed and watched.
struct SearchHooks {
  /// Asked once for each number, before a batch is tried. What was tried stands, also where this run would have tried
  /// another point: how many candidates are counted between trials depends on the time that was left, and what is
  /// measured again for trials that were pruned leads elsewhere.
  std::function<std::optional<RecalledTrial>(int number)> recall;
  /// Called once a trial is measured now (not for recalled ones), in order.
  std::function<void(const Trial& trial)> store;
  /// The same for a finalist's medians in fresh processes.
  std::function<std::vector<double>(int number)> recall_finalist;
  std::function<void(const Trial& trial)> store_finalist;
  /// Called after each trial and each finalist.
  std::function<void(const std::vector<Trial>& trials)> progress;
  std::function<bool()> stop;  ///< asked after each trial: end now, with what there is
};

struct SearchResult {
  std::vector<Trial> trials;
  std::optional<std::size_t> best;  ///< index into trials; none if nothing was measured
  Candidate candidate;              ///< the winner
  bool stopped = false;             ///< by the hook, before all was measured
};

/// Defaults and the best estimates first, then evolution guided by a model learned on the way; the finalists are
/// measured again in fresh processes and the best median of those medians wins. Deterministic by seed, given the same
/// measurements; which points are tried does not depend on how many trials are asked for, so a search can be resumed
/// with more: by another process that recalls them, or by this object, which keeps what it has drawn and learned.
class Search {
 public:
  /// The space has to outlive it. Throws Error{unsupported} if every point is pruned, and Stopped once `stop` says so.
  Search(const Space& space, std::uint64_t seed, const std::vector<Start>& starts = {},
         const std::function<bool()>& stop = {});
  ~Search();
  Search(Search&&) noexcept;
  Search& operator=(Search&&) = delete;

  /// Goes on up to `options.trials` in all; the seed is the object's. Ends early where the space has no more points.
  /// Throws Error{unsupported} if every trial failed, with the reasons. `measurer` may be null for trials == 0.
  SearchResult run(Measurer* measurer, const SearchOptions& options, const SearchHooks& hooks = {});

 private:
  class Searcher;
  std::unique_ptr<Searcher> searcher_;
};

/// The same in one go.
SearchResult search(const Space& space, Measurer* measurer, const SearchOptions& options,
                    const SearchHooks& hooks = {});

}  // namespace heddle::autoscheduler
