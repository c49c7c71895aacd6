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

/// A kernel's entry in its module, see generators/shims/kernel_table.h.
using KernelEntry = int (*)(void** arguments);

struct LoadOptions {
  std::string target;  ///< the module to take by its target's name; empty: the best one that this processor can run
};

/// A package in memory, ready to be run by any number of sessions at once: the manifest, the module of kernels chosen
/// for this processor and the mapped weights. Immutable.
class Model {
 public:
  /// Opens a package directory. Errors: not_found (no such package or target), io, corrupt (a file that is missing,
  /// changed or cut short, or a manifest that contradicts itself), unsupported (no module for this processor, naming
  /// what each one lacks; values or steps that this runtime cannot do).
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
  SymbolRanges symbols() const;

 private:
  Model() = default;

  const plan::File& listed(const std::string& path) const;
  void choose_module(const LoadOptions& options);
  void open_kernels(const std::filesystem::path& path);

  plan::Package package_;
  const plan::Module* module_ = nullptr;
  void* library_ = nullptr;
  std::map<std::string, KernelEntry, std::less<>> entries_;
  std::map<std::string, const plan::Kernel*, std::less<>> kernels_;
  MappedFile weights_;
};

/// Checks that the parts of a module refer to one another as they should, once, so that execution need not. Throws
/// Error{corrupt} or Error{unsupported} naming function and step.
void check_module(const plan::Module& module, const plan::Package& package, std::uint64_t weights_bytes);

}  // namespace heddle::runtime
