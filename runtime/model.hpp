#pragma once
#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "runtime/memory.hpp"
#include "runtime/plan.hpp"

namespace heddle::runtime {

namespace gpu {
class Device;
class DeviceModule;
struct DeviceInfo;
}  // namespace gpu

/// A kernel's entry in its module, see generators/shims/kernel_table.h.
using KernelEntry = int (*)(void** arguments);

struct LoadOptions {
  /// The module to take by its target's name, or "cpu": the best one for the processor. Empty: the same, and if no
  /// module is for this processor, one for a device. With a device named below: one for a device.
  std::string target = {};
  /// As gpu::choose_device takes it: an index, or a part of the device's name. Empty: HEDDLE_DEVICE, or the best one.
  std::string device = {};
  /// An open device to take instead of choosing one; of the module's API.
  std::shared_ptr<gpu::Device> opened = {};
};

/// A package in memory, ready to be run by any number of sessions at once: the manifest, the module of kernels chosen
/// for this processor or a device, the mapped weights, and on a device its code and constants there. Immutable.
class Model {
 public:
  /// Opens a package directory. Errors: not_found (no such package or target), io, corrupt (a file that is missing,
  /// changed or cut short, or a manifest that contradicts itself), unsupported (no module for this machine, naming
  /// what each one lacks; values or steps that this runtime cannot do; code that a driver rejects), out_of_memory and
  /// device.
  static std::shared_ptr<const Model> load(const std::filesystem::path& directory, const LoadOptions& options = {});

  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const plan::Package& package() const { return package_; }
  const plan::Module& module() const { return *module_; }
  const plan::Function& main() const { return module_->functions.front(); }
  const plan::Function& function(std::string_view name) const;
  const plan::Kernel& kernel(std::string_view name) const;
  KernelEntry entry(std::string_view kernel) const;
  const std::byte* weights() const { return weights_.data(); }
  const gpu::DeviceModule* device() const { return device_.get(); }  ///< nullptr: the module is for the processor
  SymbolRanges symbols() const;

 private:
  Model() = default;

  const plan::File& listed(const std::string& path) const;
  void choose_module(const LoadOptions& options);
  std::string read(const std::filesystem::path& directory, const std::string& path) const;
  void open_device(const std::filesystem::path& directory, const LoadOptions& options);
  void open_kernels(const std::filesystem::path& path);

  plan::Package package_;
  const plan::Module* module_ = nullptr;
  void* library_ = nullptr;
  std::map<std::string, KernelEntry, std::less<>> entries_;
  std::map<std::string, const plan::Kernel*, std::less<>> kernels_;
  MappedFile weights_;
  std::unique_ptr<gpu::DeviceInfo> device_info_;  ///< that choose_module found for the module
  std::unique_ptr<const gpu::DeviceModule> device_;
};

/// Checks that the parts of a module refer to one another as they should, once, so that execution need not. Throws
/// Error{corrupt} or Error{unsupported} naming function and step.
void check_module(const plan::Module& module, const plan::Package& package, std::uint64_t weights_bytes);

}  // namespace heddle::runtime
