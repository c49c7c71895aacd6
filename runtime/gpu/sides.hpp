#pragma once
#include <cstddef>
#include <vector>

#include "runtime/plan.hpp"

namespace heddle::runtime::gpu {

/// Of a function with steps on a device: on which side, the device's or the host's, the memory of each value holds what
/// was last written to it. Follows the steps one by one.
class Sides {
 public:
  explicit Sides(const plan::Function& function);

  /// Takes the next step. Throws Error{corrupt} naming the value if it reads what the other side has written and
  /// nothing has copied, or writes a part of that.
  void step(const plan::Step& step);

  /// Whether the value's bytes are on this side now. Inputs and constants are on both from the start.
  bool on_host(std::size_t value) const { return states_[root(value)].host; }
  bool on_device(std::size_t value) const { return states_[root(value)].device; }

 private:
  struct State {
    bool host = false, device = false;
  };
  std::size_t root(std::size_t value) const;
  void read(int value, bool State::* side);
  void write(int value, bool State::* side);

  const plan::Function& function_;
  std::vector<State> states_;  ///< of values that are no aliases
};

}  // namespace heddle::runtime::gpu
