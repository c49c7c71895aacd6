#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "graph/lower.hpp"

namespace heddle::graph {
namespace {

std::string print(const plan::Value& v, const plan::Function& f) {
  std::vector<std::string> shape, strides, border;
  for (const Extent& e : v.shape) shape.push_back(e.str());
  for (const Extent& e : v.strides) strides.push_back(e.str());
  for (std::size_t d = 0; d < v.border_before.size(); ++d)
    border.push_back(fmt::format("{}+{}", v.border_before[d], v.border_after[d]));
  std::string where;
  switch (v.storage) {
    case plan::Storage::input: where = "input"; break;
    case plan::Storage::output: where = "output"; break;
    case plan::Storage::constant: where = fmt::format("constant @{}", v.file_offset); break;
    case plan::Storage::arena: where = "arena"; break;
    case plan::Storage::alias:
      where = fmt::format("alias of %{} {}", v.of, f.values[static_cast<std::size_t>(v.of)].name);
      break;
    case plan::Storage::heap: where = "heap"; break;
  }
  std::string text = fmt::format("{}: {}[{}] strides [{}] {}", v.name, to_string(v.dtype), fmt::join(shape, ","),
                                 fmt::join(strides, ","), where);
  if (!border.empty()) text += fmt::format(" border [{}] of {}", fmt::join(border, ","), v.border_value);
  return text;
}

std::string print(const plan::Argument& a) {
  std::vector<std::string> dims;
  for (const auto& d : a.dimensions)
    dims.push_back(fmt::format("{}:{}*{}", d.min.str(), d.extent.str(), d.stride.str()));
  std::string text = fmt::format("%{}", a.value);
  if (!dims.empty()) text += fmt::format("[{}]", fmt::join(dims, " "));
  if (!(a.offset == Extent(0))) text += "+" + a.offset.str();
  return text;
}

/// Prints a function; of a module for a device also the side that each step runs on, and why.
std::string print(const plan::Function& function, const plan::Module* module) {
  std::string text = fmt::format("function {}({}) -> {}\n", function.name, fmt::join(function.inputs, ", "),
                                 fmt::join(function.outputs, ", "));
  for (std::size_t i = 0; i < function.values.size(); ++i)
    text += fmt::format("  %{} {}\n", i, print(function.values[i], function));
  for (std::size_t i = 0; i < function.steps.size(); ++i) {
    const plan::Step& step = function.steps[i];
    std::vector<std::string> in, out;
    for (const auto& a : step.inputs) in.push_back(print(a));
    for (const auto& a : step.outputs) out.push_back(print(a));
    const bool transfer = step.kind == plan::StepKind::upload || step.kind == plan::StepKind::download;
    text += fmt::format("  {:3} ", i);
    if (module && module->device) text += transfer ? "-      " : step.on_device ? "device " : "host   ";
    if (!out.empty()) text += fmt::format("{} = ", fmt::join(out, ", "));
    text += fmt::format("{}({})", step.name, fmt::join(in, ", "));
    if (!step.symbols.empty()) text += fmt::format(" with {}", fmt::join(step.symbols, ", "));
    if (!step.attributes.empty()) text += " " + step.attributes;
    text += fmt::format("  # {}", step.label);
    if (module)
      for (const plan::Kernel& kernel : module->kernels)
        if (kernel.name == step.name && !kernel.obstacle.empty())
          text += fmt::format("; on the host: {}", kernel.obstacle);
    text += '\n';
  }
  return text;
}

}  // namespace

std::string print(const plan::Function& function) { return print(function, nullptr); }

std::string print(const plan::Package& package) {
  std::string text;
  for (const plan::Module& module : package.modules) {
    text += fmt::format("module {}: {} kernels", module.target, module.kernels.size());
    if (module.device)
      text += fmt::format(", {} of them on the processor",
                          std::ranges::count_if(module.kernels, [](const auto& k) { return !k.obstacle.empty(); }));
    text += '\n';
    for (const plan::Function& function : module.functions) text += print(function, &module);
  }
  return text;
}

}  // namespace heddle::graph
