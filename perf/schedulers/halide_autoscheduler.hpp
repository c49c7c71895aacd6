#pragma once
#include <string>
#include <vector>

#include "dsl/machine.hpp"
#include "perf/schedulers/subject.hpp"

namespace heddle::perf {

/// Halide's autoschedulers by the names that it knows them by. Anderson2021 schedules for GPUs alone.
const std::vector<std::string>& halide_autoschedulers();

/// What an autoscheduler is told of the machine, by its own names.
std::map<std::string, std::string> autoscheduler_parameters(const std::string& name, const Machine& machine,
                                                            int threads);

/// Has one of Halide's autoschedulers schedule the pipeline; returns the schedule as the C++ that it writes. Loads a
/// plugin into this process; the plugins may crash or never end. Throws Error with Halide's reason.
std::string schedule_automatically(const BarePipeline& pipeline, const std::string& name, const Target& target,
                                   int threads);

}  // namespace heddle::perf
