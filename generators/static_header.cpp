#include "generators/static_header.hpp"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.hpp"
#include "base/file.hpp"
#include "generators/tool.hpp"

namespace heddle {
namespace {

struct CType {
  const char* name;
  int code;  ///< Halide's
  int bits;
  const char* remark;
};

CType c_type(DType type) {
  switch (type) {
    case DType::f32: return {"float", 2, 32, ""};
    case DType::f64: return {"double", 2, 64, ""};
    case DType::f16: return {"uint16_t", 2, 16, ", the bits of an IEEE half"};
    case DType::bf16: return {"uint16_t", 4, 16, ", the bits of a bfloat16"};
    case DType::i8: return {"int8_t", 0, 8, ""};
    case DType::u8: return {"uint8_t", 1, 8, ""};
    case DType::i16: return {"int16_t", 0, 16, ""};
    case DType::u16: return {"uint16_t", 1, 16, ""};
    case DType::i32: return {"int32_t", 0, 32, ""};
    case DType::u32: return {"uint32_t", 1, 32, ""};
    case DType::i64: return {"int64_t", 0, 64, ""};
    case DType::u64: return {"uint64_t", 1, 64, ""};
    case DType::boolean: return {"uint8_t", 1, 8, ", 0 or 1"};
    case DType::string: break;
  }
  throw Error(ErrorCode::unsupported, "kernels work on numbers, not strings");
}

/// An extent as a C expression over the function's int32_t parameters.
struct CExpression {
  std::string constant(std::int64_t value) const { return fmt::format("(int64_t){}", value); }
  std::string symbol(const std::string& name) const { return fmt::format("(int64_t){}", name); }
  std::string binary(char op, const std::string& a, const std::string& b) const {
    switch (op) {
      case '/': return fmt::format("heddle_standalone_1_div({}, {})", a, b);
      case '%': return fmt::format("heddle_standalone_1_mod({}, {})", a, b);
      case 'm': return fmt::format("heddle_standalone_1_min({}, {})", a, b);
      case 'M': return fmt::format("heddle_standalone_1_max({}, {})", a, b);
      default: return fmt::format("({} {} {})", a, op, b);
    }
  }
};

std::string c_text(const Extent& extent) { return extent.visit(CExpression()); }
std::string c_int(const Extent& extent) {
  const auto constant = extent.constant();
  return constant ? std::to_string(*constant) : fmt::format("(int32_t)({})", c_text(extent));
}

struct Parameter {
  std::string name, note;
  BufferView view;
  const TensorType* type = nullptr;
  bool is_output = false;
  const Packing* packing = nullptr;
  const OperandInfo* operand = nullptr;
};

class Header {
 public:
  Header(const std::string& name, const Workload& workload, const std::vector<Packing>& packings,
         const std::vector<Target>& targets)
      : name_(name),
        workload_(workload),
        targets_(targets),
        symbols_(workload.symbols()),
        outputs_(workload.output_types()) {
    const auto inputs = workload.input_views(packings);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      Parameter p{inputs[i].role, "", inputs[i], &workload.value_types()[i], false, nullptr, &workload.inputs()[i]};
      for (const auto& packing : packings)
        if (packing.operand == p.name) p.packing = &packing;
      parameters_.push_back(std::move(p));
    }
    const auto results = workload.output_views();
    for (std::size_t i = 0; i < results.size(); ++i)
      parameters_.push_back({results[i].role, "", results[i], &outputs_[i], true, nullptr, nullptr});
    for (const auto& symbol : symbols_) {
      extents_ += fmt::format("{}int32_t {}", extents_.empty() ? "" : ", ", symbol);
      passed_ += fmt::format("{}{}", passed_.empty() ? "" : ", ", symbol);
    }
  }

  std::string text() const {
    std::string guard = name_ + "_HEDDLE_H";
    std::ranges::transform(guard, guard.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    std::string out = comment();
    out += fmt::format("#ifndef {0}\n#define {0}\n\n", guard);
    out += read_file(support_file("standalone.h"));
    out += "\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n";
    for (const auto& target : targets_)
      out += fmt::format("int {}_argv(void** arguments);\n", static_kernel_symbol(name_, target));
    out += fmt::format("int {}(const struct heddle_kernel_table* table, uint32_t version);\n\n",
                       static_init_symbol(name_));
    out += "#ifdef __cplusplus\n}\n#endif\n\n";
    out += library();
    for (const auto& p : parameters_) {
      if (p.is_output || p.packing) out += elements(p);
      if (p.packing) out += packing(p);
    }
    out += function();
    out += fmt::format(
        "\n/* The latest error of {0}() in the calling thread, in words. */\n"
        "static inline const char* {0}_error(void) {{ return heddle_standalone_1_error(); }}\n\n"
        "/* The target that {0}() runs on this processor; NULL if there is none. */\n"
        "static inline const char* {0}_target(void) {{\n"
        "  const heddle_standalone_1_kernel* kernel = heddle_standalone_1_choose({0}_heddle_library());\n"
        "  return kernel ? kernel->target : (const char*)0;\n}}\n\n#endif\n",
        name_);
    return out;
  }

 private:
  std::string name_;
  const Workload& workload_;
  const std::vector<Target>& targets_;
  std::vector<std::string> symbols_;
  std::vector<TensorType> outputs_;
  std::vector<Parameter> parameters_;
  std::string extents_, passed_;  ///< "int32_t H, int32_t W" and "H, W"

  std::string comment() const {
    std::string out = fmt::format("/* {}: {}.\n * Made by `heddle kernel` from\n *   {}\n", name_,
                                  workload_.anchor().op->summary(), workload_.text());
    std::vector<std::string> names;
    for (const auto& target : targets_) names.push_back(target.name);
    out +=
        fmt::format(" * for {}; the best one that the processor runs is taken.\n *\n * Arguments of {}(), in order:\n",
                    fmt::join(names, ", "), name_);
    for (const auto& symbol : symbols_) {
      const Range& range = workload_.composition().symbols.at(symbol);
      out += fmt::format(" *   {}: an extent, {} to {}\n", symbol, range.min, range.max);
    }
    for (const auto& p : parameters_) {
      const CType type = c_type(p.view.dtype);
      std::vector<std::string> shape, strides;
      for (const auto& extent : p.type->shape) shape.push_back(fmt::format("[{}]", extent.str()));
      for (const auto& stride : p.type->strides()) strides.push_back(stride.str());
      out += fmt::format(" *   {}: {}, {}{}{}", p.name, p.is_output ? "written" : "read", type.name,
                         fmt::join(shape, ""), type.remark);
      if (p.packing)
        out += fmt::format(", packed: fill {0}_{1}_elements() elements with {0}_pack_{1}()", name_, p.name);
      else if (!strides.empty()) out += fmt::format(", strides in elements {}", fmt::join(strides, ", "));
      out += '\n';
    }
    out +=
        " * Arrays must not overlap, and are best aligned to 64 bytes.\n"
        " *\n * Returns 0, or what went wrong:\n"
        " *   -1001  this processor runs none of the targets\n"
        " *   -1002  parts of different versions of Heddle were linked\n"
        " *   -1003  an extent is out of its range\n"
        " *   -1004  an array is NULL\n"
        " *   other  a check inside the kernel failed, or memory ran out: Halide's halide_error_code_t\n";
    out += fmt::format(" * {}_error() says it in words. Any number of threads may call it at once. */\n", name_);
    return out;
  }

  std::string library() const {
    std::string out = fmt::format(
        "static inline const heddle_standalone_1_library* {}_heddle_library(void) {{\n"
        "  static const heddle_standalone_1_kernel kernels[] = {{\n",
        name_);
    for (const auto& target : targets_) {
      std::string features;
      for (const auto& feature : target.features) features += feature + " ";
      out += fmt::format("      {{\"{}\", \"{}\", {}_argv}},\n", target.name, features,
                         static_kernel_symbol(name_, target));
    }
    out += fmt::format(
        "  }};\n  static const heddle_standalone_1_library library = {{{}, kernels, {}}};\n"
        "  return &library;\n}}\n\n",
        static_init_symbol(name_), targets_.size());
    return out;
  }

  static std::string in_comment(std::string_view text) {
    std::string safe(text);
    for (std::size_t at = 0; (at = safe.find("*/", at)) != std::string::npos;) safe.insert(at + 1, " ");
    return safe;
  }

  std::string unused() const {
    std::string out;
    for (const auto& symbol : symbols_) out += fmt::format("  (void){};\n", symbol);
    return out;
  }

  std::string elements(const Parameter& p) const {
    return fmt::format(
        "/* How many elements {0} has. */\n"
        "static inline int64_t {1}_{0}_elements({2}) {{\n{3}  return {4};\n}}\n\n",
        p.name, name_, symbols_.empty() ? "void" : extents_, unused(), c_text(p.view.elements));
  }

  /// The dimensions of a packed array, innermost first, as Packing says: the blocks' remainders, then the operand's
  /// packing order with quotients where there are blocks.
  std::string packing(const Parameter& p) const {
    const CType type = c_type(p.view.dtype);
    const auto& names = p.operand->dimensions;
    std::vector<std::string> index(names.size(), "0");
    std::string body;
    std::size_t position = 0;
    const auto place = [&](const std::string& dimension, std::int64_t times) {
      const auto d = static_cast<std::size_t>(std::ranges::find(names, dimension) - names.begin());
      body += fmt::format("    const int64_t i{0} = rest % ({1});\n    rest /= {1};\n", position,
                          c_text(p.view.dimensions[position].extent));
      index[d] += times == 1 ? fmt::format(" + i{}", position) : fmt::format(" + {} * i{}", times, position);
      ++position;
    };
    for (const auto& block : p.packing->blocks) place(block.dimension, 1);
    for (const auto& dimension : p.operand->packing_order) {
      std::int64_t times = 1;
      for (const auto& block : p.packing->blocks)
        if (block.dimension == dimension) times = block.size;
      place(dimension, times);
    }
    std::vector<std::string> inside, offset;
    const auto strides = p.type->strides();
    for (std::size_t d = 0; d < names.size(); ++d) {
      inside.push_back(fmt::format("{} < {}", index[d], c_text(p.type->shape[d])));
      offset.push_back(fmt::format("({}) * {}", index[d], c_text(strides[d])));
    }
    return fmt::format(
        "/* Rearranges a dense {0} into the order that {1}() reads; done once for many calls. */\n"
        "static inline void {1}_pack_{0}({2}{3}const {4}* {0}, {4}* packed) {{\n"
        "  const int64_t count = {1}_{0}_elements({5});\n"
        "  for (int64_t i = 0; i < count; ++i) {{\n    int64_t rest = i;\n{6}"
        "    packed[i] = {7} ? {0}[{8}] : ({4})0;\n  }}\n}}\n\n",
        p.name, name_, extents_, extents_.empty() ? "" : ", ", type.name, passed_, body, fmt::join(inside, " && "),
        fmt::join(offset, " + "));
  }

  std::string function() const {
    std::string parameters = extents_, nulls, arrays, geometry;
    for (const auto& p : parameters_) {
      const CType type = c_type(p.view.dtype);
      parameters +=
          fmt::format("{}{}{}* {}", parameters.empty() ? "" : ", ", p.is_output ? "" : "const ", type.name, p.name);
      nulls +=
          fmt::format("  if (!{0}) return heddle_standalone_1_fail(-1004, \"{1}: {0} is NULL\");\n", p.name, name_);
      std::vector<std::string> numbers;
      for (const auto& d : p.view.dimensions)
        numbers.push_back(fmt::format("{}, {}, {}", c_int(d.min), c_int(d.extent), c_int(d.stride)));
      if (numbers.empty()) numbers.push_back("0");
      geometry += fmt::format("  const int32_t heddle_{}[] = {{{}}};\n", p.name, fmt::join(numbers, ", "));
      arrays += fmt::format("      {{{} + {}, {}, {}, {}, heddle_{}}},\n", p.name, c_text(p.view.offset), type.code,
                            type.bits, p.view.dimensions.size(), p.name);
    }
    std::string out = fmt::format("static inline int {}({}) {{\n", name_, parameters);
    for (const auto& symbol : symbols_) {
      const Range& range = workload_.composition().symbols.at(symbol);
      out += fmt::format(
          "  if ({0} < {1} || {0} > {2})\n"
          "    return heddle_standalone_1_fail(-1003, \"{3}: {0} is not within {1} and {2}\");\n",
          symbol, range.min, range.max, name_);
    }
    out += nulls + geometry;
    out += fmt::format("  const heddle_standalone_1_array heddle_arrays[] = {{\n{}  }};\n", arrays);
    if (!symbols_.empty()) out += fmt::format("  const int32_t heddle_extents[] = {{{}}};\n", passed_);
    out +=
        fmt::format("  return heddle_standalone_1_call({}_heddle_library(), {}, {}, heddle_arrays, {});\n}}\n", name_,
                    symbols_.empty() ? "(const int32_t*)0" : "heddle_extents", symbols_.size(), parameters_.size());
    return out;
  }
};

}  // namespace

std::string static_kernel_symbol(const std::string& name, const Target& target) {
  std::string suffix = target.name;
  std::ranges::replace(suffix, '-', '_');
  return name + "_heddle_" + suffix;
}

std::string static_init_symbol(const std::string& name) { return name + "_heddle_init"; }

std::filesystem::path standalone_object(const Target& target) {
  const std::string architecture = target.architecture == "x86_64" ? "x86-64" : target.architecture;
  return support_file(fmt::format("standalone-{}.o", architecture));
}

std::string static_header(const std::string& name, const Workload& workload, const std::vector<Packing>& packings,
                          const std::vector<Target>& targets) {
  return Header(name, workload, packings, targets).text();
}

}  // namespace heddle
