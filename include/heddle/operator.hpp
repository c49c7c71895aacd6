#pragma once
// Everything that an operator of one's own includes: the operator's interface and what its module exports.
#include "dsl/operator.hpp"
#include "dsl/user_module.hpp"
