#pragma once
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/extent.hpp"
#include "runtime/tensor_view.hpp"

// Operators that run on the host as plain C++: what is small, or says nothing that a kernel could do better. One file
// each in this folder; table.cpp lists them.
namespace heddle::runtime {

/// What a host step is once the input shapes are known.
struct HostBinding {
  std::string_view attributes;  ///< JSON
  const SymbolValues& symbols;
  std::span<const TensorView> inputs, outputs;  ///< without data
};

/// Executes the step; called once a run with the same views, their data in place. May not allocate.
using HostFunction = std::function<void(std::span<const TensorView> inputs, std::span<const TensorView> outputs)>;

struct HostOperator {
  std::string_view name;
  /// Does all that depends on shapes and attributes only. Throws Error{corrupt} for attributes that it does not
  /// understand and Error{unsupported} for types and shapes that it cannot do.
  HostFunction (*bind)(const HostBinding& binding);
};

std::span<const HostOperator> host_operators();

/// Throws Error{unsupported} naming the near ones.
const HostOperator& host_operator(std::string_view name);

HostFunction bind_evaluate(const HostBinding& binding);

}  // namespace heddle::runtime
