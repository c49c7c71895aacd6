#include "runtime/gpu/sides.hpp"

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::runtime::gpu {

using plan::Storage;

Sides::Sides(const plan::Function& function) : function_(function), states_(function.values.size()) {
  for (std::size_t v = 0; v < states_.size(); ++v) {
    const Storage storage = function.values[v].storage;
    if (storage == Storage::input || storage == Storage::constant) states_[v] = {true, true};
  }
}

std::size_t Sides::root(std::size_t value) const {
  while (function_.values[value].storage == Storage::alias)
    value = static_cast<std::size_t>(function_.values[value].of);
  return value;
}

void Sides::step(const plan::Step& step) {
  if (step.kind == plan::StepKind::upload || step.kind == plan::StepKind::download) {
    const bool up = step.kind == plan::StepKind::upload;
    read(step.inputs[0].value, up ? &State::host : &State::device);
    states_[root(static_cast<std::size_t>(step.inputs[0].value))] = {true, true};
    return;
  }
  const auto side = step.on_device ? &State::device : &State::host;
  for (const plan::Argument& argument : step.inputs)
    if (argument.value >= 0) read(argument.value, side);
  for (const plan::Argument& argument : step.outputs) write(argument.value, side);
}

void Sides::read(int value, bool State::* side) {
  const State& state = states_[root(static_cast<std::size_t>(value))];
  if (state.*side || (!state.host && !state.device)) return;
  const bool device = side == &State::device;
  throw Error(ErrorCode::corrupt,
              fmt::format("the manifest contradicts itself: value '{}' is used on the {}, but it was written on the {} "
                          "and no step copies it; compile the package again",
                          function_.values[static_cast<std::size_t>(value)].name, device ? "device" : "host",
                          device ? "host" : "device"));
}

void Sides::write(int value, bool State::* side) {
  // A view may be a part only: what the other side has written of the rest would be lost.
  State& state = states_[root(static_cast<std::size_t>(value))];
  const bool part = function_.values[static_cast<std::size_t>(value)].storage == Storage::alias;
  if (part) read(value, side);
  state = {};
  state.*side = true;
}

}  // namespace heddle::runtime::gpu
