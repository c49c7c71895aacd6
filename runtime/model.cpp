#include "runtime/model.hpp"

#include <dlfcn.h>

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.hpp"
#include "base/file.hpp"
#include "runtime/cpu.hpp"
#include "runtime/gpu/device_module.hpp"
#include "runtime/kernel_call.hpp"

namespace heddle::runtime {
namespace {

namespace fs = std::filesystem;

void verify(const plan::File& file, const MappedFile& mapped) {
  if (mapped.size() != file.bytes)
    throw Error(ErrorCode::corrupt,
                fmt::format("'{}' has {} bytes instead of {}: the package is damaged, copy or compile it again",
                            file.path, mapped.size(), file.bytes));
  if (plan::checksum(mapped.text()) != file.sha256)
    throw Error(
        ErrorCode::corrupt,
        fmt::format("'{}' is not the file that was compiled (its checksum differs): the package is damaged or has "
                    "been tampered with, copy or compile it again",
                    file.path));
}

/// What keeps this processor from running a module; empty if nothing does.
std::string processor_obstacle(const plan::Module& module) {
  if (module.architecture != cpu_architecture())
    return fmt::format("is for {}, not {}", module.architecture, cpu_architecture());
  const auto missing = missing_features(module.features);
  return missing.empty() ? "" : fmt::format("needs {}", fmt::join(missing, ", "));
}

/// The same for a module for a device; if there is one that can run it, `chosen` becomes it.
std::string device_obstacle(const plan::Module& module, const LoadOptions& options,
                            std::unique_ptr<gpu::DeviceInfo>& chosen) {
  try {
    auto info = std::make_unique<gpu::DeviceInfo>(options.opened ? options.opened->info()
                                                                 : gpu::choose_device(*module.device, options.device));
    if (info->api != *module.device)
      return fmt::format("is for {}, and {} was opened by {}", heddle::to_string(*module.device), info->name,
                         heddle::to_string(info->api));
    std::string reason = gpu::obstacle(module, *info);
    if (reason.empty()) chosen = std::move(info);
    return reason;
  } catch (const Error& error) {
    return fmt::format("has no device: {}", error.what());
  }
}

}  // namespace

std::shared_ptr<const Model> Model::load(const fs::path& directory, const LoadOptions& options) {
  std::error_code ignored;
  const fs::path manifest = directory / "manifest.json";
  if (!fs::exists(manifest, ignored))
    throw Error(ErrorCode::not_found,
                fs::is_directory(directory, ignored)
                    ? fmt::format("'{}' is not a Heddle package: it has no manifest.json", directory.string())
                : fs::exists(directory, ignored)
                    ? fmt::format("'{}' is not a Heddle package: a package is a directory, made by `heddle compile`",
                                  directory.string())
                    : fmt::format("there is no package '{}'", directory.string()));
  const std::shared_ptr<Model> model(new Model);
  try {
    model->package_ = plan::from_json(read_file(manifest));
    model->choose_module(options);
    const plan::Module& module = *model->module_;
    if (!module.weights.empty()) {
      const plan::File& file = model->listed(module.weights);
      model->weights_ = MappedFile(directory / file.path);
      verify(file, model->weights_);
    }
    check_module(module, model->package_, model->weights_.size());
    for (const plan::Kernel& kernel : module.kernels) model->kernels_[kernel.name] = &kernel;
    if (!module.file.empty()) {
      const plan::File& file = model->listed(module.file);
      verify(file, MappedFile(directory / file.path));
      model->open_kernels(fs::absolute(directory) / file.path);
    }
    if (module.device) model->open_device(directory, options);
  } catch (const Error& error) {
    throw error.within(fmt::format("package '{}'", directory.string()));
  }
  return model;
}

Model::~Model() {
  if (library_ != nullptr) ::dlclose(library_);
}

const plan::File& Model::listed(const std::string& path) const {
  const auto found = std::find_if(package_.files.begin(), package_.files.end(),
                                  [&](const plan::File& file) { return file.path == path; });
  const fs::path parts(path);
  const bool inside = parts.is_relative() && std::find(parts.begin(), parts.end(), "..") == parts.end();
  if (found == package_.files.end() || !inside)
    throw Error(ErrorCode::corrupt,
                fmt::format("the manifest is damaged: it {} '{}'; compile the package again",
                            inside ? "gives no checksum of" : "leads outside the package by", path));
  return *found;
}

void Model::choose_module(const LoadOptions& options) {
  std::string reasons;
  std::vector<std::string> names;
  const bool wants_device = !options.device.empty() || options.opened;
  const auto consider = [&](const plan::Module& module) {
    std::string reason = processor_obstacle(module);
    std::unique_ptr<gpu::DeviceInfo> device;
    // The best of several is taken, and a device is looked for only where one is needed: that takes time.
    if (reason.empty() && module.device && (module_ == nullptr || module.rank > module_->rank))
      reason = device_obstacle(module, options, device);
    if (!reason.empty()) {
      reasons += fmt::format("\n  {} {}", module.target, reason);
    } else if (module_ == nullptr || module.rank > module_->rank) {
      module_ = &module;
      device_info_ = std::move(device);
    }
  };
  for (const plan::Module& module : package_.modules) {
    names.push_back(module.target);
    if (module.device || (wants_device && options.target.empty())) continue;
    if (options.target.empty() || options.target == "cpu" || options.target == module.target) consider(module);
  }
  if (module_ != nullptr) return;
  for (const plan::Module& module : package_.modules)
    if (module.device && (options.target.empty() || options.target == module.target)) consider(module);
  if (module_ != nullptr) return;
  if (package_.modules.empty())
    throw Error(ErrorCode::corrupt, "the manifest lists no modules; compile the package again");
  if (reasons.empty())
    throw Error(ErrorCode::not_found,
                options.target.empty()
                    ? fmt::format("the package has no module for a device; it has {}: compile with --target opencl or "
                                  "vulkan",
                                  fmt::join(names, ", "))
                    : fmt::format("the package has no module for target '{}'{}; it has {}", options.target,
                                  did_you_mean(options.target, names), fmt::join(names, ", ")));
  throw Error(
      ErrorCode::unsupported,
      fmt::format("this machine can run none of the package's modules{}; compile with a --target for it (cpu for "
                  "this processor), or choose another device (heddle targets lists them):{}",
                  options.target.empty() ? "" : " that were asked for", reasons));
}

std::string Model::read(const fs::path& directory, const std::string& path) const {
  const plan::File& file = listed(path);
  const MappedFile mapped(directory / file.path);
  verify(file, mapped);
  return std::string(mapped.text());
}

void Model::open_device(const fs::path& directory, const LoadOptions& options) {
  device_ = std::make_unique<gpu::DeviceModule>(options.opened ? options.opened : gpu::open_device(*device_info_),
                                                *module_, std::span(weights_.data(), weights_.size()),
                                                [&](const std::string& path) { return read(directory, path); });
}

void Model::open_kernels(const fs::path& path) {
  library_ = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  const auto fail = [&](const std::string& what) {
    throw Error(ErrorCode::corrupt, fmt::format("cannot load the kernels: {}; compile the package again", what));
  };
  if (library_ == nullptr) {
    const char* reason = ::dlerror();
    fail(reason != nullptr ? reason : "unknown reason");
  }
  const auto init = reinterpret_cast<decltype(&heddle_module_init)>(::dlsym(library_, "heddle_module_init"));
  if (init == nullptr) fail(fmt::format("'{}' has no heddle_module_init", path.string()));
  if (const int version = init(&kernel_table(), HEDDLE_KERNEL_TABLE_VERSION); version != 0)
    throw Error(ErrorCode::unsupported,
                fmt::format("the kernels need version {} of the runtime's interface, this one has {}; "
                            "compile the package again or update Heddle",
                            version, static_cast<int>(HEDDLE_KERNEL_TABLE_VERSION)));
  for (const plan::Kernel& kernel : module_->kernels) {
    const std::string symbol = kernel.name + "_argv";
    const auto entry = reinterpret_cast<KernelEntry>(::dlsym(library_, symbol.c_str()));
    if (entry == nullptr) fail(fmt::format("'{}' has no kernel '{}'", path.string(), symbol));
    entries_[kernel.name] = entry;
  }
}

const plan::Function& Model::function(std::string_view name) const {
  for (const plan::Function& function : module_->functions)
    if (function.name == name) return function;
  throw Error(ErrorCode::corrupt, fmt::format("the package has no function '{}'", name));
}

const plan::Kernel& Model::kernel(std::string_view name) const {
  const auto found = kernels_.find(name);
  if (found == kernels_.end()) throw Error(ErrorCode::corrupt, fmt::format("the package has no kernel '{}'", name));
  return *found->second;
}

KernelEntry Model::entry(std::string_view kernel) const {
  const auto found = entries_.find(kernel);
  if (found == entries_.end()) throw Error(ErrorCode::corrupt, fmt::format("the package has no kernel '{}'", kernel));
  return found->second;
}

SymbolRanges Model::symbols() const {
  SymbolRanges ranges;
  for (const plan::Symbol& symbol : package_.symbols) ranges[symbol.name] = {symbol.min, symbol.max};
  return ranges;
}

}  // namespace heddle::runtime
