#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "schedules/family.hpp"

namespace heddle {

/// As AVX-512 processors are.
inline Machine wide() {
  Machine m;
  m.vector_bytes = 64;
  m.vector_registers = 32;
  return m;
}

inline const Family& family(std::string_view name) {
  for (const Family& f : families())
    if (f.name == name) return f;
  throw Error(ErrorCode::not_found, std::string(name));
}

/// Empty if the family's kernels agree with the reference under its rule's knobs and some others, for each binding of
/// the workload's symbols; else what differs.
std::string check_family(const std::string& name, const Workload& workload, const Machine& machine,
                         const std::vector<SymbolValues>& bindings = {{}});

}  // namespace heddle
