#pragma once
#include <set>
#include <string>

#include <Halide.h>

namespace heddle::autoscheduler {

/// What a statement does to buffers.
struct BufferScan {
  std::set<std::string> stored;
  std::set<std::string> varying;  ///< some place that is read or written follows one of the variables
  bool has_loops = false;
};

/// `variables`: those that vary; what is computed from them, and the statement's own loops, vary too.
BufferScan scan(const Halide::Internal::Stmt& statement, std::set<std::string> variables);

bool loads_from(const Halide::Expr& e, const std::string& buffer);

}  // namespace heddle::autoscheduler
