#include "runtime/vulkan/spirv.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <span>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::runtime::gpu::vulkan {
namespace {

// Numbers of the SPIR-V specification, as far as they are looked at.
constexpr std::uint32_t magic = 0x07230203;
enum Opcode : std::uint32_t {
  op_entry_point = 15,
  op_execution_mode = 16,
  op_capability = 17,
  op_type_int = 21,
  op_type_float = 22,
  op_type_struct = 30,
  op_type_pointer = 32,
  op_function = 54,
  op_function_end = 56,
  op_variable = 59,
  op_decorate = 71,
  op_member_decorate = 72,
};
constexpr std::uint32_t model_gl_compute = 5;
constexpr std::uint32_t mode_local_size = 17;
constexpr std::uint32_t storage_uniform = 2;
constexpr std::uint32_t decoration_built_in = 11, decoration_binding = 33, decoration_offset = 35;
constexpr std::uint32_t built_in_workgroup_size = 25;

/// Why the device cannot run code with the capability; nothing if it can, or if the driver has to say.
std::optional<std::string> lacks(std::uint32_t capability, const Features& on) {
  struct Row {
    std::uint32_t capability;
    VkBool32 supported;
    const char* name;
  };
  const Row rows[] = {
      {9, on.v12.shaderFloat16, "16-bit floats"},
      {10, on.core.shaderFloat64, "64-bit floats"},
      {11, on.core.shaderInt64, "64-bit integers"},
      {12, on.v12.shaderBufferInt64Atomics, "64-bit atomics"},
      {22, on.core.shaderInt16, "16-bit integers"},
      {39, on.v12.shaderInt8, "8-bit integers"},
      {4433, on.v11.storageBuffer16BitAccess, "16-bit buffers"},
      {4434, on.v11.uniformAndStorageBuffer16BitAccess, "16-bit scalars"},
      {4441, on.v11.variablePointersStorageBuffer, "variable pointers to buffers"},
      {4442, on.v11.variablePointers, "variable pointers"},
      {4448, on.v12.storageBuffer8BitAccess, "8-bit buffers"},
      {4449, on.v12.uniformAndStorageBuffer8BitAccess, "8-bit scalars"},
      {5345, on.v12.vulkanMemoryModel, "the Vulkan memory model"},
  };
  for (const Row& row : rows)
    if (row.capability == capability && row.supported == VK_FALSE) return row.name;
  if (capability == 6) return "OpenCL's kernels";  // Kernel: SPIR-V for another API
  return std::nullopt;
}

class Reader {
 public:
  Reader(const std::string& entry, const Physical& device) : entry_(entry), device_(device) {}

  SpirvModule run(std::string_view code) {
    module_.words.resize(code.size() / 4);
    if (code.size() % 4 != 0 || module_.words.size() < 5) corrupt("its size is not that of a module");
    std::memcpy(module_.words.data(), code.data(), code.size());
    const std::span<const std::uint32_t> words = module_.words;
    if (words[0] != magic) corrupt("it does not begin as a module does");
    // Vulkan 1.3 takes SPIR-V 1.6 and 1.2 takes 1.5.
    const std::uint32_t most = device_.properties.apiVersion >= VK_API_VERSION_1_3 ? 6 : 5;
    if (words[1] >> 16 != 1 || (words[1] >> 8 & 0xff) > most)
      unsupported(fmt::format("SPIR-V {}.{}", words[1] >> 16, words[1] >> 8 & 0xff));
    for (std::size_t at = 5; at < words.size();) {
      const std::size_t length = words[at] >> 16;
      if (length == 0 || length > words.size() - at) corrupt(fmt::format("instruction at word {} is cut off", at));
      instruction(words[at] & 0xffff, words.subspan(at + 1, length - 1));
      at += length;
    }
    if (inside_function_) corrupt("its last function does not end");
    if (function_ == 0) corrupt("it has no entry of that name for compute");
    if (sized_by_constant_) module_.threads = {0, 0, 0};
    find_scalars();
    return std::move(module_);
  }

 private:
  using Operands = std::span<const std::uint32_t>;

  [[noreturn]] void corrupt(const std::string& why) const {
    throw Error(ErrorCode::corrupt,
                fmt::format("the SPIR-V of kernel '{}' is damaged: {}; compile the package again", entry_, why));
  }
  [[noreturn]] void unsupported(const std::string& what) const {
    throw Error(
        ErrorCode::unsupported,
        fmt::format("kernel '{}' needs {}, which {} has not; choose another device (heddle targets lists them), "
                    "or compile the model with --target cpu",
                    entry_, what, device_.info.name));
  }
  std::uint32_t operand(Operands operands, std::size_t i) const {
    if (i >= operands.size()) corrupt("an instruction is too short");
    return operands[i];
  }

  void instruction(std::uint32_t opcode, Operands o) {
    switch (opcode) {
      case op_capability:
        if (const auto what = lacks(operand(o, 0), device_.features)) unsupported(*what);
        break;
      case op_entry_point: {
        const Operands text = o.subspan(std::min<std::size_t>(2, o.size()));
        const char* name = reinterpret_cast<const char*>(text.data());
        const std::string_view found(name, ::strnlen(name, text.size() * 4));
        if (operand(o, 0) == model_gl_compute && found == entry_) function_ = operand(o, 1);
        break;
      }
      case op_execution_mode:
        if (operand(o, 0) == function_ && operand(o, 1) == mode_local_size)
          module_.threads = {operand(o, 2), operand(o, 3), operand(o, 4)};
        break;
      case op_type_int:
      case op_type_float: type_bytes_[operand(o, 0)] = operand(o, 1) / 8; break;
      case op_type_struct: members_[operand(o, 0)].assign(o.begin() + 1, o.end()); break;
      case op_type_pointer: pointee_[operand(o, 0)] = operand(o, 2); break;
      case op_function: inside_function_ = true; break;
      case op_function_end: inside_function_ = false; break;
      case op_variable:
        if (operand(o, 2) == storage_uniform) uniforms_[operand(o, 1)] = operand(o, 0);
        break;
      case op_decorate:
        if (operand(o, 1) == decoration_binding) binding_[operand(o, 0)] = operand(o, 2);
        // A constant decorated so overrides LocalSize.
        if (operand(o, 1) == decoration_built_in && operand(o, 2) == built_in_workgroup_size) sized_by_constant_ = true;
        break;
      case op_member_decorate:
        if (operand(o, 2) == decoration_offset) offsets_[{operand(o, 0), operand(o, 1)}] = operand(o, 3);
        break;
      default: break;
    }
  }

  void find_scalars() {
    for (const auto& [variable, type] : uniforms_) {
      const auto binding = binding_.find(variable);
      if (binding == binding_.end() || binding->second != 0) continue;
      const std::uint32_t block = pointee_[type];
      const std::vector<std::uint32_t>& members = members_[block];
      for (std::uint32_t i = 0; i < members.size(); ++i) {
        const auto offset = offsets_.find({block, i});
        const auto bytes = type_bytes_.find(members[i]);
        if (offset == offsets_.end() || bytes == type_bytes_.end()) return module_.scalars.clear();  // not of scalars
        module_.scalars.push_back({offset->second, bytes->second});
      }
    }
  }

  const std::string& entry_;
  const Physical& device_;
  SpirvModule module_;
  std::uint32_t function_ = 0;
  bool inside_function_ = false;
  bool sized_by_constant_ = false;
  std::map<std::uint32_t, std::uint32_t> type_bytes_, pointee_, uniforms_, binding_;
  std::map<std::uint32_t, std::vector<std::uint32_t>> members_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t> offsets_;
};

}  // namespace

SpirvModule read_spirv(std::string_view code, const std::string& entry, const Physical& device) {
  return Reader(entry, device).run(code);
}

}  // namespace heddle::runtime::gpu::vulkan
