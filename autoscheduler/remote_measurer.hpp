#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "autoscheduler/fleet.hpp"
#include "autoscheduler/measure.hpp"

namespace heddle::autoscheduler {

/// How a search reaches its workers.
struct Fleet {
  std::string records;   ///< URL of the database
  FleetMachine machine;  ///< that the search is for
  std::function<bool()> stop = {};
  std::function<bool()> late = {};  ///< no new trials; finalists only while there are workers
  /// Told, again and again, why nothing happens.
  std::function<void(const std::string& message)> waits = {};
};

/// Measures on other machines, through jobs in the database: each candidate is one, timed there in turns with its
/// incumbent. A job's key follows from the search's and from what is measured, so that a search that starts again finds
/// what workers have done meanwhile. Not for several threads. Throws as JobQueue does, and what a worker's measurer has
/// thrown.
std::unique_ptr<Measurer> make_remote_measurer(const Workload& workload, const Target& target,
                                               const std::vector<std::string>& modules, const MeasureOptions& options,
                                               const Fleet& fleet, const std::string& search);

/// Removes the jobs of a search that is over.
void forget_jobs(const std::string& records, const std::string& search);

/// The worker's side: does what a job's payload says and gives its result's text. Measurers are kept, so that the next
/// job of a search neither starts a process nor computes a reference.
class JobMeasurer {
 public:
  /// `module_file` gives the path of a user module by its hash; `compile_jobs` as in MeasureOptions.
  JobMeasurer(std::string worker, std::string machine, int compile_jobs,
              std::function<std::string(const std::string& hash)> module_file, std::function<bool()> stop);
  ~JobMeasurer();

  struct Outcome {
    std::string result;
    std::string summary;  ///< for people: "matmul: ok, 12.3 us"
  };
  /// Nothing if it was told to stop meanwhile. Throws Error{io} and Error{out_of_memory} where this machine, not the
  /// job, is to blame.
  std::optional<Outcome> run(const std::string& payload);

 private:
  Measurer& measurer_of(const Json& job);

  std::string worker_, machine_;
  int compile_jobs_;
  std::function<std::string(const std::string&)> module_file_;
  std::function<bool()> stop_;
  struct Kept {
    std::string key;
    std::unique_ptr<Measurer> measurer;
  };
  std::vector<Kept> kept_;  ///< the latest used last
};

}  // namespace heddle::autoscheduler
