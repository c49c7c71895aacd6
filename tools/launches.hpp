#pragma once
#include <filesystem>
#include <optional>
#include <string>

#include "graph/compile.hpp"

namespace heddle::tools {

/// The launches of a written package's module for a device as data, for programs that have neither Heddle nor Halide:
/// JSON as docs/launches.md describes it. Made without a device. Nothing for modules of the processor, for symbolic
/// shapes, and where steps of the processor are a part of the work.
std::optional<std::string> describe_launches(const std::filesystem::path& package, const plan::Module& module);

/// Adds `<folder>/launches.json` to every module of a compiled model that can have one.
void add_launches(graph::Compiled& compiled);

}  // namespace heddle::tools
