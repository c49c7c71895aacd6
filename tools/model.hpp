#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/file.hpp"
#include "graph/compile.hpp"

namespace heddle::tools {

/// The flags that every subcommand working on a model shares.
struct ModelOptions {
  std::string model;  ///< a file or a package
  std::vector<std::string> targets = {"cpu"};
  std::vector<std::string> dims;       ///< "W=32:2048", "N=1", "H=32:960:32"
  std::vector<std::string> schedules;  ///< "a.sched" for every kernel it fits, or "conv=a.sched"
  std::vector<std::string> modules;    ///< user modules of operators
  int threads = 0;                     ///< 0: the cores there are
  int jobs = 0;                        ///< kernels compiled side by side; 0: the cores there are
  std::string cache;

  void add_model(CLI::App& app);
  void add_flags(CLI::App& app);  ///< all but the positional model

  int thread_count() const;
};

/// A directory with a manifest.
bool is_package(const std::filesystem::path& path);

graph::ReadOptions read_options(const ModelOptions& options);
graph::CompileOptions compile_options(const ModelOptions& options);
Operators load_operators(const ModelOptions& options);

/// Reads and compiles with a progress bar.
graph::Compiled compile_model(const ModelOptions& options);

/// The package to run: the given one, or a model compiled into a directory that lives as long as this object.
class ReadyPackage {
 public:
  explicit ReadyPackage(const ModelOptions& options);
  const std::filesystem::path& path() const { return path_; }

 private:
  std::optional<TemporaryDirectory> temporary_;
  std::filesystem::path path_;
};

}  // namespace heddle::tools
