#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "targets/target.hpp"

namespace heddle {

/// The object that gives kernels their halide_* functions, compiled for the target's architecture.
std::filesystem::path shims_object(const Target& target);

/// Writes the distinct ones of `objects` into `directory` and returns their paths, in order. Equal layers of a model
/// share one object.
std::vector<std::filesystem::path> write_objects(const std::vector<std::string>& objects,
                                                 const std::filesystem::path& directory);

}  // namespace heddle
