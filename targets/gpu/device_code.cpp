#include "targets/gpu/device_code.hpp"

#include <cstring>
#include <map>
#include <span>

#include <fmt/format.h>

#include "base/error.hpp"
#include "targets/gpu/opencl_source.hpp"
#include "targets/gpu/spirv.hpp"

namespace heddle::targets {
namespace {

namespace hi = Halide::Internal;

using EntryNames = std::map<std::string, std::string>;  ///< from Halide's to ours

DeviceCode opencl_code(std::span<const std::uint8_t> bytes, EntryNames& names) {
  OpenclSource source = finish_opencl({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  DeviceCode code{DeviceApi::opencl, std::move(source.text), {}};
  for (auto& entry : source.entries) {
    names[entry.halide_name] = entry.name;
    code.entries.push_back({.name = entry.name, .code = "", .access = entry.access});
  }
  return code;
}

DeviceCode vulkan_code(std::span<const std::uint8_t> bytes, EntryNames& names) {
  DeviceCode code{DeviceApi::vulkan, "", {}};
  for (auto& kernel : read_halide_container(bytes)) {
    const std::string name = fmt::format("k{}", code.entries.size());
    names[kernel.name] = name;
    const std::string access = buffer_access(kernel.module, kernel.uniform_blocks, kernel.storage_buffers);
    const SpirvWords module = finish_spirv(kernel.module, name, kernel.uniform_blocks, access);
    if (const std::string fault = spirv_fault(module); !fault.empty())
      throw Error(ErrorCode::internal,
                  fmt::format("entry {} ({}) is no valid SPIR-V for Vulkan 1.3: {}", name, kernel.name, fault));
    code.entries.push_back({.name = name,
                            .code = spirv_bytes(module),
                            .uniform_block = kernel.uniform_blocks == 1,
                            .access = access,
                            .block_constants = kernel.block_constants,
                            .shared = std::move(kernel.shared)});
  }
  return code;
}

/// halide_vulkan_initialize_kernels(&state, code, 12345)      ->  (&state, name, 19)
/// halide_vulkan_run(state, "_kernel_blur_s0_y$3", ...)       ->  (state, "k0", ...)
class HostCode : public hi::IRMutator {
 public:
  HostCode(DeviceApi api, const EntryNames& names, int name_bytes)
      : run_(fmt::format("halide_{}_run", to_string(api))),
        initialize_(fmt::format("halide_{}_initialize_kernels", to_string(api))),
        names_(names),
        name_bytes_(name_bytes) {}

 protected:
  using IRMutator::visit;

  Halide::Expr visit(const hi::Call* op) override {
    if (op->name != run_ && op->name != initialize_) return IRMutator::visit(op);
    std::vector<Halide::Expr> arguments = op->args;
    if (op->name == initialize_) {
      arguments.at(2) = name_bytes_;
    } else {
      const auto* name = arguments.at(1).as<hi::StringImm>();
      const auto entry = name != nullptr ? names_.find(name->value) : names_.end();
      if (entry == names_.end()) throw Error(ErrorCode::internal, "a launch names no entry of the device code");
      arguments[1] = hi::StringImm::make(entry->second);
    }
    return hi::Call::make(op->type, op->name, arguments, op->call_type);
  }

  // Only loops that were left on the processor store, and those that find how much shared memory the blocks need.
  hi::Stmt visit(const hi::Store* op) override {
    if (op->name.ends_with(".shared_size")) return IRMutator::visit(op);
    throw Error(
        ErrorCode::unsupported,
        fmt::format("'{}' is computed on the processor in the middle of a kernel for a device: give each of its "
                    "stages gpu_blocks and gpu_threads, or gpu_single_thread",
                    op->name));
  }

 private:
  std::string run_, initialize_;
  const EntryNames& names_;
  int name_bytes_;
};

}  // namespace

DeviceCode extract_device_code(Halide::Module& module, DeviceApi api, const std::string& kernel) {
  const std::string held_by = fmt::format("{}_gpu_source_kernels", to_string(api));
  DeviceCode code;
  EntryNames names;
  Halide::Module rest(module.name(), module.target(), module.get_metadata_name_map());
  rest.set_any_strict_float(module.any_strict_float());
  bool found = false;
  for (const auto& buffer : module.buffers()) {
    if (buffer.name() != held_by) {
      rest.append(buffer);
      continue;
    }
    found = true;
    const std::span<const std::uint8_t> bytes(static_cast<const std::uint8_t*>(buffer.data()), buffer.size_in_bytes());
    try {
      code = api == DeviceApi::opencl ? opencl_code(bytes, names) : vulkan_code(bytes, names);
    } catch (const Error& error) {
      throw error.within(fmt::format("the device code of kernel {}", kernel));
    }
    Halide::Buffer<std::uint8_t> name(static_cast<int>(kernel.size()) + 1, held_by);
    std::memcpy(name.data(), kernel.c_str(), kernel.size() + 1);
    rest.append(name);
  }
  if (!found)
    throw Error(ErrorCode::unsupported,
                fmt::format("nothing of kernel {} runs on a device: its schedule has no gpu_blocks or "
                            "gpu_single_thread; give each of its stages one",
                            kernel));
  HostCode host(api, names, static_cast<int>(kernel.size()) + 1);
  for (const auto& function : module.functions()) {
    hi::LoweredFunc launching = function;
    launching.body = host.mutate(function.body);
    rest.append(launching);
  }
  for (const auto& part : module.submodules()) rest.append(part);
  module = rest;
  return code;
}

}  // namespace heddle::targets
