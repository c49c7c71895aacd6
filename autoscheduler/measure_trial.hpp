#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "autoscheduler/measure.hpp"
#include "base/device_api.hpp"
#include "dsl/check.hpp"

// What happens to one candidate in its own process: it is loaded, checked and timed as the runtime would run it.
namespace heddle::autoscheduler {

/// Inputs that a kernel is checked on and what they must give.
struct CheckSet {
  SymbolValues symbols;
  std::vector<Array> inputs;
  Expectation want;
};

/// A compiled kernel: what the compiler's process hands to the one that runs it.
struct BuiltKernel {
  Implementation implementation;
  int module = -1;  ///< a file that holds the shared object, or for a device what to_bytes() makes of it and its code
  std::string symbol;
  std::optional<DeviceApi> device = {};  ///< that it is for; none: a processor
};

/// Compiles as packages are compiled and writes what came of it into the file; returns its content key. Throws what
/// compile_kernel throws.
std::string build_kernel(const Workload& workload, const Implementation& implementation, const Target& target,
                         int module);

/// The values of the workload's symbols that it is measured at: the largest of their ranges whose work still fits a
/// measurement.
SymbolValues measured_symbols(const Workload& workload);

struct TrialResult {
  std::string difference;  ///< what is wrong; empty if nothing
  std::vector<double> seconds, incumbent_seconds;
};

/// Runs the kernel on every set: outputs and scratch memory start as NaNs, every buffer lies between guards of NaNs,
/// and after the run the guards, the borders and the inputs must be as they were and the outputs as the set says. Then
/// times it on the last set, in turns with the incumbent if there is one. Throws Error for a kernel that reports a
/// failure.
TrialResult try_kernel(const Workload& workload, const BuiltKernel& candidate, const BuiltKernel* incumbent,
                       std::span<const CheckSet> sets, const MeasureOptions& options);

}  // namespace heddle::autoscheduler
