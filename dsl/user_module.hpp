#pragma once
#include <span>

#include "dsl/operator.hpp"

namespace heddle {

/// What a user module's `extern "C" heddle::UserModule heddle_operators()` returns: the operators that it adds.
struct UserModule {
  static constexpr int current_version = 1;
  int version = current_version;
  std::span<const Operator* const> operators;
};

}  // namespace heddle
