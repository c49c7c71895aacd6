#pragma once
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schedules/support.hpp"

// What the families of convolutions share.
namespace heddle::schedules {

/// A convolution in two dimensions of f32 data with its channels innermost.
bool is_two_dimensional_conv(const Workload& workload);

/// Whether the convolution can be computed in that form.
bool has_variant(const Workload& workload, const std::string& variant);

/// Known beforehand, so that they can be stored in another form.
bool weights_are_constant(const Workload& workload);

/// Schedules `out` in tiles where the extents allow them, pixel by pixel where they do not.
template <class Loops>
void tiled_where_it_fits(Stage out, const Tiling& across, const Tiling& down, const Loops& loops) {
  std::vector<std::string> conditions;
  for (const Tiling* t : {&across, &down})
    if (t->condition) conditions.push_back(*t->condition);
  if (!conditions.empty()) {
    loops(out.specialize(fmt::format("{}", fmt::join(conditions, " && "))), across, down);
    loops(out, Tiling{}, Tiling{});
  } else {
    loops(out, across, down);
  }
}

/// The padded copy of the input that the algorithm makes where the operand has no border of its own.
void schedule_padding(Schedule& schedule, const std::vector<std::string>& roles, const Machine& machine);

}  // namespace heddle::schedules
