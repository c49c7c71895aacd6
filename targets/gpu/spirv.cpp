#include "targets/gpu/spirv.hpp"

#include <cctype>
#include <map>
#include <set>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::targets {
namespace {

/// The instructions that are looked at, by their numbers in the SPIR-V specification.
enum class Op : std::uint16_t {
  name = 5,
  extension = 10,
  extended = 12,
  entry_point = 15,
  capability = 17,
  type_bool = 20,
  type_int = 21,
  type_float = 22,
  type_vector = 23,
  type_array = 28,
  type_runtime_array = 29,
  type_struct = 30,
  type_pointer = 32,
  function_call = 57,
  variable = 59,
  load = 61,
  store = 62,
  copy_memory = 63,
  access_chain = 65,
  in_bounds_access_chain = 66,
  decorate = 71,
  copy_object = 83,
  float_add = 129,
  float_subtract = 131,
  float_multiply = 133,
  float_divide = 136,
  logical_equal = 164,
  logical_not_equal = 165,
  integer_equal = 170,
  integer_not_equal = 171,
  unsigned_less_than = 176,
  signed_less_than = 177,
  atomic_load = 227,
  atomic_store = 228,
  atomic_first_with_result = 229,
  atomic_last_with_result = 242,
};
constexpr std::uint32_t decoration_non_writable = 24, decoration_binding = 33, decoration_no_contraction = 42;
/// Of the instructions that are named GLSL.std.450, the only ones besides the core's.
constexpr std::uint32_t glsl_float_minimum = 37;
constexpr std::size_t header_words = 5;
constexpr std::uint32_t magic = 0x07230203;

struct Instruction {
  Op op{};
  std::span<const std::uint32_t> operands;
};

template <class Visit>
void for_each_instruction(const SpirvWords& module, Visit&& visit) {
  if (module.size() < header_words || module[0] != magic)
    throw Error(ErrorCode::internal, "what Halide gave as SPIR-V does not begin as SPIR-V does");
  for (std::size_t at = header_words; at < module.size();) {
    const std::size_t count = module[at] >> 16;
    if (count == 0 || count > module.size() - at)
      throw Error(ErrorCode::internal, fmt::format("the SPIR-V instruction at word {} does not end", at));
    visit(Instruction{static_cast<Op>(module[at] & 0xffff), std::span(module).subspan(at + 1, count - 1)});
    at += count;
  }
}

void append(SpirvWords& module, Op op, const std::vector<std::uint32_t>& operands) {
  module.push_back(static_cast<std::uint32_t>(operands.size() + 1) << 16 | static_cast<std::uint32_t>(op));
  module.insert(module.end(), operands.begin(), operands.end());
}

/// A string ends with the first word that holds a zero byte.
std::string literal(std::span<const std::uint32_t> words, std::size_t& at) {
  std::string text;
  while (at < words.size()) {
    const std::uint32_t word = words[at++];
    for (int byte = 0; byte < 4; ++byte) {
      const char c = static_cast<char>(word >> (8 * byte) & 0xff);
      if (c == '\0') return text;
      text += c;
    }
  }
  throw Error(ErrorCode::internal, "a name in SPIR-V does not end");
}

void append_literal(std::vector<std::uint32_t>& words, const std::string& text) {
  for (std::size_t at = 0; at <= text.size(); at += 4) {
    std::uint32_t word = 0;
    for (std::size_t byte = 0; byte < 4 && at + byte < text.size(); ++byte)
      word |= static_cast<std::uint32_t>(static_cast<unsigned char>(text[at + byte])) << (8 * byte);
    words.push_back(word);
  }
}

/// Variables of descriptor set 0 by their bindings.
std::map<std::uint32_t, std::uint32_t> bound_variables(const SpirvWords& module) {
  std::map<std::uint32_t, std::uint32_t> bindings;
  for_each_instruction(module, [&](const Instruction& i) {
    if (i.op == Op::decorate && i.operands.size() == 3 && i.operands[1] == decoration_binding)
      bindings[i.operands[0]] = i.operands[2];
  });
  return bindings;
}

/// "k1_blur$7" -> "k1_blur"; a name that is nothing but a counter says nothing.
std::string readable(const std::string& name) {
  std::string clean;
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '$' && i + 1 < name.size() && std::isdigit(static_cast<unsigned char>(name[i + 1])) != 0) {
      while (i + 1 < name.size() && std::isdigit(static_cast<unsigned char>(name[i + 1])) != 0) ++i;
      continue;
    }
    clean += name[i];
  }
  return clean;
}

/// Values of the types that `is_type` takes, and of vectors of them.
template <class IsType>
std::set<std::uint32_t> values_of(const SpirvWords& module, IsType&& is_type) {
  std::set<std::uint32_t> types, values;
  for_each_instruction(module, [&](const Instruction& i) {
    if (i.operands.empty()) return;
    if (is_type(i)) types.insert(i.operands[0]);
    if (i.operands.size() < 2) return;
    if (i.op == Op::type_vector && types.contains(i.operands[1])) types.insert(i.operands[0]);
    // Whatever begins with a type makes a value of it; types themselves and names begin with their own id.
    else if (i.op != Op::name && types.contains(i.operands[0])) values.insert(i.operands[1]);
  });
  return values;
}

std::set<std::uint32_t> boolean_values(const SpirvWords& module) {
  return values_of(module, [](const Instruction& i) { return i.op == Op::type_bool; });
}

std::set<std::uint32_t> signed_values(const SpirvWords& module) {
  return values_of(module, [](const Instruction& i) {
    return i.op == Op::type_int && i.operands.size() == 3 && i.operands[2] == 1;
  });
}

bool is_arithmetic(Op op) {
  return op == Op::float_add || op == Op::float_subtract || op == Op::float_multiply || op == Op::float_divide;
}

/// The minimum of a value with itself, by which vulkan_values says that the value is exact.
bool says_exact(const Instruction& i) {
  const auto& o = i.operands;
  return i.op == Op::extended && o.size() == 6 && o[3] == glsl_float_minimum && o[4] == o[5];
}

/// Sums, differences, products and quotients that drivers must neither join with others nor cancel against them.
std::set<std::uint32_t> exact_values(const SpirvWords& module) {
  std::set<std::uint32_t> arithmetic, exact;
  for_each_instruction(module, [&](const Instruction& i) {
    if (is_arithmetic(i.op) && i.operands.size() == 4) arithmetic.insert(i.operands[1]);
    if (says_exact(i) && arithmetic.contains(i.operands[4])) exact.insert(i.operands[4]);
  });
  return exact;
}

/// What a module must declare to have numbers of 8 and 16 bits in its buffers.
struct Narrow {
  std::set<std::uint32_t> capabilities;
  std::set<std::string> extensions;
};

Narrow narrow_storage(const SpirvWords& module, int uniform_blocks) {
  constexpr std::uint32_t storage_16 = 4433, uniform_and_storage_16 = 4434, storage_8 = 4448,
                          uniform_and_storage_8 = 4449;
  const auto bindings = bound_variables(module);
  std::map<std::uint32_t, std::set<std::uint32_t>> widths;  // of numbers in a type
  Narrow declared, needed;
  for_each_instruction(module, [&](const Instruction& i) {
    const auto& o = i.operands;
    const auto add = [&](std::size_t from) { widths[o[0]].insert(widths[o[from]].begin(), widths[o[from]].end()); };
    if (i.op == Op::capability && !o.empty()) declared.capabilities.insert(o[0]);
    if (i.op == Op::extension) {
      std::size_t at = 0;
      declared.extensions.insert(literal(o, at));
    }
    if (o.size() < 2) return;
    if (i.op == Op::type_int || i.op == Op::type_float) widths[o[0]].insert(o[1]);
    if (i.op == Op::type_vector || i.op == Op::type_array || i.op == Op::type_runtime_array) add(1);
    if (i.op == Op::type_pointer && o.size() > 2) add(2);
    if (i.op == Op::type_struct)
      for (std::size_t member = 1; member < o.size(); ++member) add(member);
    const auto bound = i.op == Op::variable ? bindings.find(o[1]) : bindings.end();
    if (bound == bindings.end()) return;
    const bool uniform = bound->second < static_cast<std::uint32_t>(uniform_blocks);
    if (widths[o[0]].contains(16)) {
      needed.capabilities.insert(uniform ? uniform_and_storage_16 : storage_16);
      needed.extensions.insert("SPV_KHR_16bit_storage");
    }
    if (widths[o[0]].contains(8)) {
      needed.capabilities.insert(uniform ? uniform_and_storage_8 : storage_8);
      needed.extensions.insert("SPV_KHR_8bit_storage");
    }
  });
  for (const auto capability : declared.capabilities) needed.capabilities.erase(capability);
  for (const auto& extension : declared.extensions) needed.extensions.erase(extension);
  return needed;
}

}  // namespace

std::string buffer_access(const SpirvWords& module, int uniform_blocks, int storage_buffers) {
  const auto bindings = bound_variables(module);
  std::map<std::uint32_t, std::uint32_t> variable_of;  // by pointer
  std::vector<bool> reads(static_cast<std::size_t>(storage_buffers)), writes(static_cast<std::size_t>(storage_buffers));
  const auto root = [&](std::uint32_t pointer) {
    const auto found = variable_of.find(pointer);
    return found == variable_of.end() ? pointer : found->second;
  };
  const auto mark = [&](std::uint32_t pointer, bool read, bool write) {
    const auto found = bindings.find(root(pointer));
    if (found == bindings.end()) return;
    const auto buffer = static_cast<std::int64_t>(found->second) - uniform_blocks;
    if (buffer < 0 || buffer >= storage_buffers) return;
    if (read) reads[static_cast<std::size_t>(buffer)] = true;
    if (write) writes[static_cast<std::size_t>(buffer)] = true;
  };
  for_each_instruction(module, [&](const Instruction& i) {
    const auto operand = [&](std::size_t n) { return n < i.operands.size() ? i.operands[n] : 0; };
    switch (i.op) {
      case Op::access_chain:
      case Op::in_bounds_access_chain:
      case Op::copy_object: variable_of[operand(1)] = root(operand(2)); break;
      case Op::load:
      case Op::atomic_load: mark(operand(2), true, false); break;
      case Op::store:
      case Op::atomic_store: mark(operand(0), false, true); break;
      case Op::copy_memory:
        mark(operand(0), false, true);
        mark(operand(1), true, false);
        break;
      case Op::function_call:
        for (std::size_t n = 3; n < i.operands.size(); ++n) mark(i.operands[n], true, true);
        break;
      default:
        if (i.op >= Op::atomic_first_with_result && i.op <= Op::atomic_last_with_result) mark(operand(2), true, true);
    }
  });
  std::string access;
  for (std::size_t b = 0; b < reads.size(); ++b)
    access += reads[b] == writes[b] ? 'b' : reads[b] ? 'r' : 'w';  // what nothing touches may be anything
  return access;
}

SpirvWords finish_spirv(const SpirvWords& module, const std::string& entry, int uniform_blocks,
                        const std::string& access) {
  std::set<std::uint32_t> read_only;  // the uniform block is so by its storage class, and says it no second time
  for (const auto& [variable, binding] : bound_variables(module)) {
    const std::int64_t buffer = static_cast<std::int64_t>(binding) - uniform_blocks;
    if (buffer >= 0 && buffer < static_cast<std::int64_t>(access.size()) &&
        access[static_cast<std::size_t>(buffer)] == 'r')
      read_only.insert(variable);
  }

  const std::set<std::uint32_t> booleans = boolean_values(module), numbers = signed_values(module);
  const std::set<std::uint32_t> exact = exact_values(module);
  const Narrow narrow = narrow_storage(module, uniform_blocks);

  SpirvWords finished(module.begin(), module.begin() + header_words);
  std::uint32_t function = 0;
  bool declared = false, decorated = false;
  for_each_instruction(module, [&](const Instruction& i) {
    Op op = i.op;
    std::vector<std::uint32_t> operands(i.operands.begin(), i.operands.end());
    if (op != Op::capability && !declared) {
      // OpCapability Shader  ->  OpCapability Shader and, for a buffer of f16, OpCapability StorageBuffer16BitAccess:
      // Halide declares the arithmetic alone, and then only drivers that look away accept the module.
      declared = true;
      for (const auto capability : narrow.capabilities) append(finished, Op::capability, {capability});
      for (const auto& extension : narrow.extensions) {
        std::vector<std::uint32_t> name;
        append_literal(name, extension);
        append(finished, Op::extension, name);
      }
    }
    if (op == Op::decorate && !decorated) {
      decorated = true;
      for (const auto value : exact) append(finished, Op::decorate, {value, decoration_no_contraction});
    }
    // OpExtInst %float %b FMin %a %a  ->  OpCopyObject %float %b %a, and OpDecorate %a NoContraction above.
    if (says_exact(i)) {
      op = Op::copy_object;
      operands = {operands[0], operands[1], operands[4]};
    }
    // OpINotEqual %bool %a %b  ->  OpLogicalNotEqual %bool %a %b where a and b are booleans.
    if ((op == Op::integer_equal || op == Op::integer_not_equal) && operands.size() == 4 &&
        booleans.contains(operands[2]))
      op = op == Op::integer_equal ? Op::logical_equal : Op::logical_not_equal;
    // OpULessThan %bool %i %end  ->  OpSLessThan where they are signed: Halide closes every loop so, and one with a
    // negative extent, which runs not at all, would run for ever. Mesa 22.3 leaves the right ones too early.
    if (op == Op::unsigned_less_than && operands.size() == 4 && numbers.contains(operands[2]) &&
        numbers.contains(operands[3]))
      op = Op::signed_less_than;
    if (i.op == Op::entry_point && operands.size() > 2) {
      // "_kernel_blur_s0_y_block_id_y$3" -> "k0": the host code's name for it, whatever was compiled before.
      function = operands[1];
      std::size_t rest = 2;
      literal(i.operands, rest);
      operands.resize(2);
      append_literal(operands, entry);
      operands.insert(operands.end(), i.operands.begin() + static_cast<std::ptrdiff_t>(rest), i.operands.end());
    } else if (i.op == Op::name && operands.size() > 1) {
      std::size_t at = 1;
      const std::string name = operands[0] == function ? entry : readable(literal(i.operands, at));
      operands.resize(1);
      append_literal(operands, name);
    }
    append(finished, op, operands);
    // OpDecorate %a Binding 1  ->  the same and OpDecorate %a NonWritable: drivers then load through read-only caches.
    if (i.op == Op::decorate && operands.size() == 3 && operands[1] == decoration_binding &&
        read_only.contains(operands[0]))
      append(finished, Op::decorate, {operands[0], decoration_non_writable});
  });
  return finished;
}

}  // namespace heddle::targets
