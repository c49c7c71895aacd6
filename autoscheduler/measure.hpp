#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/statistics.hpp"
#include "dsl/workload.hpp"
#include "targets/target.hpp"

namespace heddle::autoscheduler {

enum class TrialStatus {
  ok,
  wrong,          ///< differs from the reference
  rejected,       ///< the schedule does not apply, or Halide or the target refuses it
  crashed,        ///< a signal or an abort
  timed_out,      ///< compiling or running took longer than the limit
  out_of_memory,  ///< beyond the limit of address space
};
std::string_view to_string(TrialStatus status);
TrialStatus trial_status_from_string(std::string_view text);  ///< throws Error{invalid_argument}

/// What is known of one candidate after it was tried.
struct Measurement {
  TrialStatus status = TrialStatus::ok;
  std::string message;                    ///< of a failure
  std::vector<double> seconds;            ///< samples, each of one execution; empty unless ok
  std::vector<double> incumbent_seconds;  ///< of the incumbent, taken in turns with `seconds`, if one was given
  double compile_seconds = 0;             ///< lowering, code generation and linking
  double run_seconds = 0;                 ///< checking and timing
  std::string kernel_key;                 ///< content key of what was compiled
  std::string machine, worker;            ///< that measured it; empty: this one

  double median() const { return heddle::median(seconds); }
};

/// What a kernel takes by the samples in which no other program had its core: their lower quartile. The median counts
/// the others' turns too once they take half of the time.
inline double undisturbed(const std::vector<double>& samples) { return quantile(samples, 0.25); }

/// Of one process, undisturbed seconds of one execution.
struct FreshTimes {
  double candidate = 0, incumbent = 0;
};

struct MeasureOptions {
  double compile_limit_s = 30;              ///< wall time
  double run_limit_s = 10;                  ///< wall time of checking and timing
  std::uint64_t memory_bytes = 6ULL << 30;  ///< address space of a candidate, beside the worker's
  int processes = 64;  ///< that a candidate may have; threads count, and not for root, whom the kernel does not limit
  double least_seconds = 0.02;  ///< time spent on samples of a candidate
  int least_samples = 7;
  std::uint64_t seed = 1;   ///< of the inputs
  std::string device = {};  ///< of targets for devices, as runtime::gpu::choose_device takes it
  int compile_jobs = 0;     ///< compiled ahead on other cores while one is timed; 0: the cores that timing leaves free
};

/// Compiles, checks and times candidates of one workload. A candidate's end is never ours.
class Measurer {
 public:
  virtual ~Measurer() = default;
  /// Called with each measurement once it is done, in order, so that it can be stored; false: leave out the candidates
  /// that remain.
  using Done = std::function<bool(const Measurement& measurement)>;
  /// One measurement a candidate, in order; fewer if it was told to end. The incumbent, if given, is timed in turns
  /// with each of them.
  virtual std::vector<Measurement> measure(const std::vector<Implementation>& candidates,
                                           const Implementation* incumbent, const Done& done) = 0;
  /// In `processes` fresh processes, since memory is placed anew in each, which alone changes a kernel's time by up to
  /// 30 %; each times the incumbent in turns with the candidate, since the machine's speed changes from one to the next
  /// too. Fewer if it was told to end. Throws Error if the candidate fails.
  virtual std::vector<FreshTimes> remeasure(const Implementation& candidate, const Implementation& incumbent,
                                            int processes) = 0;
};

/// Measures in worker processes of this program (`program` measure-worker), which see the workload as JSON. `stop` is
/// asked ten times a second: true ends what is worked on, and measure() returns what it has.
std::unique_ptr<Measurer> make_measurer(const Workload& workload, const Target& target,
                                        const std::vector<std::string>& modules, const MeasureOptions& options,
                                        std::function<bool()> stop = {});

/// Where a measurer for the target measures, as records name it: machine_name() for processors, "NVIDIA H200" for a
/// device, "llvmpipe (LLVM 15.0.6, 256 bits) on AMD EPYC 7763, 32 KiB L1, 512 KiB L2" for a processor that plays one.
/// `device`: as runtime::gpu::choose_device takes it. Throws Error{not_found} where there is no such device.
std::string machine_of(const Target& target, const std::string& device = {});

}  // namespace heddle::autoscheduler
