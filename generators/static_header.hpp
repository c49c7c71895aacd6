#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "dsl/workload.hpp"
#include "targets/target.hpp"

// The header of a static library, and the names that it and the library agree on.
namespace heddle {

std::string static_kernel_symbol(const std::string& name, const Target& target);
std::string static_init_symbol(const std::string& name);

/// The object with the libraries' shared runtime, for the target's architecture.
std::filesystem::path standalone_object(const Target& target);

/// `targets`: the best first.
std::string static_header(const std::string& name, const Workload& workload, const std::vector<Packing>& packings,
                          const std::vector<Target>& targets);

}  // namespace heddle
