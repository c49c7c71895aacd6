#pragma once
#include <string>

#include "schedules/records.hpp"

namespace heddle::testing {

/// A trial of one small product on a made-up machine.
Record trial(int number, const std::string& machine, double seconds);

/// Opens the store from `processes` new processes at once, each adding `trials` of its own and one that all add, and
/// checks that every one is there once.
void write_from_processes(const std::string& url, int processes, int trials);

}  // namespace heddle::testing
