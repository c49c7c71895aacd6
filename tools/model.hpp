#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/file.hpp"
#include "graph/compile.hpp"
#include "runtime/model.hpp"

namespace heddle::tools {

/// The flags that every subcommand working on a model shares.
struct ModelOptions {
  std::string model;                   ///< a file or a package
  std::vector<std::string> targets;    ///< none: this machine's processor
  std::string device;                  ///< an index or a part of a device's name; empty: HEDDLE_DEVICE, or the best one
  std::vector<std::string> dims;       ///< "W=32:2048", "N=1", "H=32:960:32"
  std::vector<std::string> schedules;  ///< "a.sched" for every kernel it fits, or "conv=a.sched"
  std::vector<std::string> modules;    ///< user modules of operators
  int threads = 0;                     ///< 0: the cores there are
  int jobs = 0;                        ///< kernels compiled side by side; 0: the cores there are
  bool exact = false;                  ///< no convolution by Winograd's algorithm
  std::string precision = "f32";       ///< f32, bf16 or f16
  std::string cache;
  std::string records;  ///< a store's URL; empty: HEDDLE_RECORDS, or none

  void add_model(CLI::App& app);
  void add_flags(CLI::App& app);    ///< all but the positional model and --records
  void add_records(CLI::App& app);  ///< of what compiles

  int thread_count() const;
  std::vector<Target> chosen_targets() const;  ///< throws Error{not_found} with the names there are
};

/// `--records`, or HEDDLE_RECORDS where the flag is not given; empty: no records.
std::string records_url(const std::string& flag);

/// A directory with a manifest.
bool is_package(const std::filesystem::path& path);

/// What records call the machine that the target's kernels run on here: autoscheduler::machine_of(), or "no device".
std::string machine_or_none(const Target& target, const ModelOptions& options);

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

/// Loads a package as the flags say: the module of --target if one was named, else the best one; on --device. Says on
/// stderr which device was taken.
std::shared_ptr<const runtime::Model> load_model(const std::filesystem::path& package, const ModelOptions& options);

/// What a model runs on, for reports: "cpu", or the device's name.
std::string device_name(const runtime::Model& model);

}  // namespace heddle::tools
