#include "graph/transfers.hpp"

#include <map>

namespace heddle::graph {
namespace {

/// Calls f(value) for the holder of every operand of a step that the other side made.
template <class F>
void for_each_crossing(const plan::Step& step, const std::vector<int>& holders,
                       const std::map<int, bool>& made_on_device, F&& f) {
  for (const plan::Argument& argument : step.inputs) {
    if (argument.value < 0) continue;
    const int holder = holders.at(static_cast<std::size_t>(argument.value));
    const auto made = made_on_device.find(holder);
    if (made != made_on_device.end() && made->second != step.on_device) f(holder);
  }
}

std::map<int, bool> makers(const plan::Function& function) {
  std::map<int, bool> on_device;
  for (const plan::Step& step : function.steps)
    for (const plan::Argument& argument : step.outputs) on_device[argument.value] = step.on_device;
  return on_device;
}

}  // namespace

std::vector<std::size_t> order_by_side(const std::vector<Group>& groups, const std::vector<Side>& sides) {
  std::map<int, std::size_t> maker;  // of each value
  for (std::size_t g = 0; g < groups.size(); ++g)
    for (const int v : groups[g].outputs) maker[v] = g;
  std::vector<bool> done(groups.size(), false);
  const auto ready = [&](const Group& group) {
    for (const int v : group.inputs)
      if (const auto made = maker.find(v); made != maker.end() && !done[made->second]) return false;
    return true;
  };
  std::vector<std::size_t> order;
  for (Side side = Side::host; order.size() < groups.size(); side = side == Side::host ? Side::device : Side::host)
    for (std::size_t g = 0; g < groups.size(); ++g) {
      if (done[g] || (sides[g] != Side::either && sides[g] != side) || !ready(groups[g])) continue;
      done[g] = true;
      order.push_back(g);
    }
  return order;
}

std::set<int> crossing_values(const plan::Function& function, const std::vector<int>& holders) {
  const auto made_on_device = makers(function);
  std::set<int> values;
  for (const plan::Step& step : function.steps)
    for_each_crossing(step, holders, made_on_device, [&](int value) { values.insert(value); });
  return values;
}

void add_transfers(plan::Function& function, const std::vector<int>& holders) {
  const std::set<int> crossing = crossing_values(function, holders);
  std::vector<plan::Step> steps;
  std::vector<int> waiting;  // made by the current run of steps for the other side
  bool on_device = false;
  for (plan::Step& step : function.steps) {
    if (step.on_device != on_device) {
      for (const int value : waiting) {
        plan::Step transfer;
        transfer.kind = on_device ? plan::StepKind::download : plan::StepKind::upload;
        transfer.name = on_device ? "download" : "upload";
        transfer.label = transfer.name + " of " + function.values.at(static_cast<std::size_t>(value)).name;
        transfer.inputs.push_back({value, {}, 0});
        const plan::Value& moved = function.values[static_cast<std::size_t>(value)];
        transfer.bytes = moved.elements * Extent(static_cast<std::int64_t>(size_of(moved.dtype)));
        steps.push_back(std::move(transfer));
      }
      waiting.clear();
      on_device = step.on_device;
    }
    for (const plan::Argument& argument : step.outputs)
      if (crossing.contains(argument.value)) waiting.push_back(argument.value);
    steps.push_back(std::move(step));
  }
  function.steps = std::move(steps);
}

}  // namespace heddle::graph
