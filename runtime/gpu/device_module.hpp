#pragma once
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/gpu/device.hpp"
#include "runtime/gpu/recorder.hpp"

namespace heddle::runtime::gpu {

/// What a device lacks to run a module's kernels; empty if nothing. What only the grids of launches tell (threads in a
/// block, shared memory whose size depends on the inputs) is found when they are recorded.
std::string obstacle(const plan::Module& module, const DeviceInfo& device);

/// A package's module on an open device, shared by all sessions of a model: its code, and the constants that its
/// kernels read. Immutable.
class DeviceModule {
 public:
  /// Builds all code and copies the constants. `read` gives the content of a file of the package. Throws what it and
  /// the device throw.
  DeviceModule(std::shared_ptr<Device> device, const plan::Module& module, std::span<const std::byte> weights,
               const std::function<std::string(const std::string& path)>& read);

  Device& device() const { return *device_; }
  const Entries& entries() const { return entries_; }

  /// The memories that hold the constants. A device's limit for one allocation may be less than the weights have.
  std::span<const std::unique_ptr<Memory>> memories() const { return memories_; }
  /// Where the constant at this place of the weights file lies: `memory` counts memories(). nullptr if no step on the
  /// device reads it.
  const Address* constant(std::uint64_t file_offset) const {
    const auto found = constants_.find(file_offset);
    return found == constants_.end() ? nullptr : &found->second;
  }

 private:
  void build(const plan::Module& module, const std::function<std::string(const std::string& path)>& read);
  void copy_constants(const plan::Function& function, std::span<const std::byte> weights);

  std::shared_ptr<Device> device_;  ///< first: it outlives what it made
  Entries entries_;
  std::map<std::uint64_t, Address> constants_;  ///< by offset in the weights file
  std::vector<std::unique_ptr<Memory>> memories_;
};

}  // namespace heddle::runtime::gpu
