#pragma once
#include <string>
#include <vector>

#include "schedules/support.hpp"

// What the families of convolutions share.
namespace heddle::schedules {

/// A convolution in two dimensions of f32 data with its channels innermost.
bool is_two_dimensional_conv(const Workload& workload);

/// The padded copy of the input that the algorithm makes where the operand has no border of its own.
void schedule_padding(Schedule& schedule, const std::vector<std::string>& roles, const Machine& machine);

}  // namespace heddle::schedules
