#pragma once
#include <string>
#include <vector>

#include "tools/model.hpp"
#include "tools/tuning.hpp"

namespace heddle::tools {

/// A search over all kernels of a model.
struct ModelTuneRequest {
  std::vector<std::string> modules;
  bool families = true;
  bool transfer = true;
  int trials = 256;    ///< over all kernels
  double seconds = 0;  ///< no new trials after this long; 0: no limit
  std::uint64_t seed = 1;
  std::optional<autoscheduler::Fleet> fleet;  ///< measures; none: this machine does
};

/// One distinct kernel of the model.
struct TunedKernel {
  std::string label;  ///< of one of its nodes
  std::string workload;
  int count = 0;              ///< steps that run it
  double seconds_before = 0;  ///< of one step, in the model as it was compiled before
  double seconds_after = 0;   ///< of the best schedule, measured alone beside the former
  int trials = 0;
  std::string skipped;  ///< why it was not searched; empty: it was
};

struct ModelTuneResult {
  std::vector<TunedKernel> kernels;  ///< by the time they took before, longest first
  double model_seconds_before = 0;   ///< of all steps
  int trials = 0;
  bool stopped = false;

  double gain_seconds() const;  ///< expected, of one run of the model

  std::string text() const;  ///< the kernels, as a table
  Json json() const;
};

/// Profiles the model, then gives trials, a slice at a time, to the kernel whose next slice promises most for the whole
/// model's time; every trial is kept in the store as tune() keeps it, so an interrupted search goes on. Kernels with
/// symbolic extents are skipped, with the reason. With a fleet nothing runs here: each kernel's first trial, which is
/// the schedule that the model is compiled with, stands for its time in the model.
///
/// What the next slice of a kernel promises is the larger of what its last slice gained and what an untouched kernel of
/// its distance from the FMA peak could gain, which halves with every slice that found nothing.
ModelTuneResult tune_model(const ModelOptions& options, const ModelTuneRequest& request, RecordStore& store,
                           const std::function<bool()>& stop);

}  // namespace heddle::tools
