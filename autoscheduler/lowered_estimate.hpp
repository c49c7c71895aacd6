#pragma once
#include <map>
#include <string>

#include "autoscheduler/lowered_program.hpp"
#include "dsl/workload.hpp"

namespace heddle::autoscheduler {

/// Of all of a loop's iterations, those of the loops inside included.
Instructions all_instructions(const LoopWork& loop);

/// Time of an implementation on the workload's threads by counting the instructions of its lowered loops and the bytes
/// that each loop has to bring into each cache. In seconds of an imagined processor of 3 GHz that starts two vector
/// operations, two loads and one store a cycle; only ratios between candidates matter. Takes milliseconds for one
/// operator and up to some tenths of a second for long pipelines: Halide lowers each candidate. Infinite where the code
/// would be too large to compile. Adds what it found to `features`.
double lowered_seconds(const Workload& workload, const Implementation& implementation, const Machine& machine,
                       std::map<std::string, double>& features);

/// The same of a program that is lowered already.
double program_seconds(const LoweredProgram& program, const Machine& machine, std::map<std::string, double>& features);

}  // namespace heddle::autoscheduler
