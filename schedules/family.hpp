#pragma once
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/extent.hpp"
#include "dsl/machine.hpp"
#include "dsl/workload.hpp"

namespace heddle {

/// A condition on extents that a schedule relies on and that the runtime checks before the kernel runs: a ShiftInwards
/// tail writes before the buffer where the extent is below the tile.
struct ScheduleRequirement {
  enum class Kind { at_least, multiple_of };
  Kind kind = Kind::at_least;
  Extent left, right;
  std::string reason;
};

/// A hand-written family: a plain function of knobs. `make` writes the schedule; `rule` picks the knobs analytically
/// from shape, vector width, registers, caches and threads; `candidates` spans the space for search.
struct Family {
  std::string name;  ///< "conv_direct"
  std::string summary;
  bool gpu = false;  ///< for devices (machine.gpu), not for processors
  std::function<bool(const Workload&, const Machine&)> matches;
  std::function<Json(const Workload&, const Machine&)> rule;
  std::function<std::vector<Json>(const Workload&, const Machine&)> candidates;
  std::function<Implementation(const Workload&, const Machine&, const Json& knobs)> make;
  std::function<std::vector<ScheduleRequirement>(const Workload&, const Machine&, const Json& knobs)> requirements;
};

/// The most specific first; the last one for processors and the last one for devices match everything.
std::span<const Family> families();

/// Whether a family is for this kind of machine and takes the workload.
bool matches(const Family& family, const Workload& workload, const Machine& machine);

/// Whether a kernel of two convolutions, the second one reading what the first makes, is faster than one kernel after
/// the other: a depthwise convolution behind a pointwise one that has good tiles within rows.
bool pays_together(const Workload& workload, const Machine& machine);

/// Whether several threads are faster than one: not where handing work over, and moving what the threads before wrote
/// from one core's cache to another's, takes as long as the work.
bool worth_sharing(const Workload& workload, const Machine& machine);

/// What will be compiled for a workload, and why.
struct Choice {
  Implementation implementation;
  /// "family conv_direct (vectors=4, pixels=7)", "file a.sched", "record 12 of sqlite:tune.db, measured on this
  /// machine"
  std::string source;
  std::vector<ScheduleRequirement> requirements;
};

class RecordStore;

/// The implementation for a workload: `file` (a .sched text written by hand) if given, else the best record that fits,
/// of this machine or the nearest one, else the first family that matches with its analytic knobs. Throws Error where
/// the file does not fit, or the records cannot be read.
Choice choose(const Workload& workload, const Machine& machine, const std::optional<std::filesystem::path>& file = {},
              const RecordStore* records = nullptr);

}  // namespace heddle
