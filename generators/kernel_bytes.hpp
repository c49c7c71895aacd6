#pragma once
#include <string>

#include "generators/kernel.hpp"

namespace heddle {

/// A kernel's object and device code in one piece, to be kept or handed to another process of the same build.
std::string to_bytes(const CompiledKernel& kernel);
/// Throws Json::exception for bytes that are none of to_bytes().
CompiledKernel kernel_from_bytes(const std::string& bytes);

}  // namespace heddle
