#include "tools/model.hpp"

#include <charconv>
#include <cstdlib>
#include <thread>

#include <fmt/format.h>

#include "autoscheduler/measure.hpp"
#include "base/error.hpp"
#include "generators/kernel.hpp"
#include "runtime/gpu/device.hpp"
#include "runtime/gpu/device_module.hpp"
#include "tools/terminal.hpp"

namespace heddle::tools {
namespace {

std::int64_t integer(std::string_view digits, const std::string& flag) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc{} || end != digits.data() + digits.size() || value < 1)
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("--dim {}: expected NAME=EXTENT, NAME=MIN:MAX or NAME=MIN:MAX:MULTIPLE with positive integers",
                    flag));
  return value;
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::size_t start = 0;
  for (std::size_t end = text.find(separator); end != std::string::npos; end = text.find(separator, start)) {
    parts.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  parts.push_back(text.substr(start));
  return parts;
}

int cores() { return static_cast<int>(std::max(1U, std::thread::hardware_concurrency())); }

}  // namespace

void ModelOptions::add_model(CLI::App& app) {
  app.add_option("model", model, "an ONNX model or a package")->required();
}

void ModelOptions::add_flags(CLI::App& app) {
  app.add_option("--target", targets,
                 "targets, comma-separated: cpu (this machine, the default), opencl, vulkan or other names of `heddle "
                 "targets`")
      ->delimiter(',');
  app.add_option("--device", device,
                 "the device that opencl or vulkan runs on: its index or a part of its name, as `heddle targets` lists "
                 "them (default: HEDDLE_DEVICE, or the best one)");
  app.add_option("--dim", dims,
                 "range of a symbolic extent: NAME=EXTENT, NAME=MIN:MAX or NAME=MIN:MAX:MULTIPLE; NAME as the model "
                 "says, or input:axis");
  app.add_option("--schedule", schedules,
                 "a .sched file, for the kernels of one anchor operator: OPERATOR=FILE (or FILE for every kernel)");
  app.add_option("--ops", modules, "a shared library of operators of your own");
  app.add_option("--threads", threads, "threads to run on, and that schedules are to feed (default: the cores)")
      ->check(CLI::PositiveNumber);
  app.add_flag("--exact", exact, "no convolution by Winograd's algorithm, which is faster and rounds more");
  app.add_option("--precision", precision,
                 "what f32 data is stored as between kernels: f32, bf16 or f16; sums are in f32 (default: f32)")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}));
  app.add_option("--jobs", jobs, "kernels compiled side by side (default: the cores)")->check(CLI::PositiveNumber);
  app.add_option("--cache", cache, "directory of compiled kernels (default: HEDDLE_CACHE or ~/.cache/heddle)");
}

void ModelOptions::add_records(CLI::App& app) {
  app.add_option("--records", records,
                 "take measured schedules from sqlite:FILE or postgresql://... (default: HEDDLE_RECORDS, or none)");
}

int ModelOptions::thread_count() const { return threads > 0 ? threads : cores(); }

std::string records_url(const std::string& flag) {
  if (!flag.empty()) return flag;
  const char* url = std::getenv("HEDDLE_RECORDS");
  return url == nullptr ? "" : url;
}

std::vector<Target> ModelOptions::chosen_targets() const {
  if (targets.empty()) return {host_target()};
  std::vector<Target> chosen;
  for (const auto& name : targets) chosen.push_back(find_target(name));
  return chosen;
}

bool is_package(const std::filesystem::path& path) { return std::filesystem::exists(path / "manifest.json"); }

graph::ReadOptions read_options(const ModelOptions& options) {
  graph::ReadOptions read;
  for (const auto& flag : options.dims) {
    const auto equals = flag.rfind('=');
    if (equals == std::string::npos || equals == 0) integer("", flag);
    const auto parts = split(flag.substr(equals + 1), ':');
    const std::string name = flag.substr(0, equals);
    Range range;
    range.min = integer(parts[0], flag);
    range.max = parts.size() > 1 ? integer(parts[1], flag) : range.min;
    if (range.max < range.min || parts.size() > 3)
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("--dim {}: expected NAME=MIN:MAX:MULTIPLE with MIN <= MAX", flag));
    read.dimensions[name] = range;
    if (parts.size() == 3) read.multiples[name] = integer(parts[2], flag);
  }
  return read;
}

graph::CompileOptions compile_options(const ModelOptions& options) {
  graph::CompileOptions compile;
  compile.targets = options.chosen_targets();
  compile.threads = options.thread_count();
  compile.exact = options.exact;
  compile.precision = dtype_from_string(options.precision);
  compile.jobs = options.jobs > 0 ? options.jobs : cores();
  compile.cache = options.cache.empty() ? KernelCache::default_directory() : std::filesystem::path(options.cache);
  compile.records = records_url(options.records);
  for (const Target& target : compile.targets)
    if (target.is_gpu() && !compile.records.empty()) compile.machines[target.name] = machine_or_none(target, options);
  for (const auto& flag : options.schedules) {
    const auto equals = flag.find('=');
    const std::string anchor = equals == std::string::npos ? "" : flag.substr(0, equals);
    const std::filesystem::path file = equals == std::string::npos ? flag : flag.substr(equals + 1);
    if (!std::filesystem::exists(file))
      throw Error(ErrorCode::not_found, fmt::format("--schedule: there is no file '{}'", file.string()));
    compile.schedules[anchor] = file;
  }
  return compile;
}

std::string machine_or_none(const Target& target, const ModelOptions& options) {
  try {
    return autoscheduler::machine_of(target, options.device);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::not_found) throw;
    return "no device";
  }
}

Operators load_operators(const ModelOptions& options) {
  Operators operators;
  for (const auto& module : options.modules) operators.load(module);
  return operators;
}

graph::Compiled compile_model(const ModelOptions& options) {
  if (!std::filesystem::exists(options.model))
    throw Error(ErrorCode::not_found, fmt::format("there is no file '{}'", options.model));
  if (is_package(options.model))
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'{}' is a compiled package; this needs the model it was made of", options.model));
  Progress progress;
  graph::CompileOptions compile = compile_options(options);
  compile.progress = [&](const std::string& phase, int done, int total) { progress.update(phase, done, total); };
  compile.provenance["source"] = std::filesystem::path(options.model).filename().string();
  progress.update("reading", 0, 1);
  const Operators operators = load_operators(options);
  return graph::compile(graph::read_model(options.model, operators, read_options(options)), compile);
}

std::shared_ptr<const runtime::Model> load_model(const std::filesystem::path& package, const ModelOptions& options) {
  runtime::LoadOptions load;
  load.device = options.device;
  if (options.targets.size() == 1) {
    const std::string& name = options.targets[0];
    load.target = name == "cpu" || name == "host" ? "cpu" : find_target(name).name;
  }
  auto model = runtime::Model::load(package, load);
  if (model->device() != nullptr) {
    const auto& info = model->device()->device().info();
    fmt::print(stderr, "heddle: {} runs on {} device {}: {} ({})\n",
               std::filesystem::path(options.model).filename().string(), to_string(info.api), info.index, info.name,
               info.driver);
  }
  return model;
}

std::string device_name(const runtime::Model& model) {
  return model.device() == nullptr ? "cpu" : model.device()->device().info().name;
}

ReadyPackage::ReadyPackage(const ModelOptions& options) {
  if (is_package(options.model)) {
    path_ = options.model;
    return;
  }
  const graph::Compiled compiled = compile_model(options);
  temporary_.emplace();
  path_ = temporary_->path() / "package";
  graph::write_package(compiled, path_);
}

}  // namespace heddle::tools
