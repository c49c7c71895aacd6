#include <set>

#include <fmt/format.h>

#include "base/error.hpp"
#include "runtime/gpu/sides.hpp"
#include "runtime/host/host.hpp"
#include "runtime/model.hpp"

namespace heddle::runtime {
namespace {

using plan::StepKind;
using plan::Storage;

[[noreturn]] void contradict(const std::string& what) {
  throw Error(ErrorCode::corrupt, "the manifest contradicts itself: " + what + "; compile the package again");
}

class Checker {
 public:
  Checker(const plan::Module& module, const plan::Package& package, std::uint64_t weights_bytes)
      : module_(module), weights_bytes_(weights_bytes) {
    for (const plan::Symbol& symbol : package.symbols) symbols_.insert(symbol.name);
    for (const plan::Kernel& kernel : module.kernels) kernels_.insert(kernel.name);
  }

  void run() {
    if (module_.functions.empty()) contradict("there is no function");
    std::set<std::string> names;
    for (const plan::Function& function : module_.functions) {
      if (!names.insert(function.name).second) contradict(fmt::format("two functions are called '{}'", function.name));
      try {
        check(function);
      } catch (const Error& error) {
        throw error.within(fmt::format("function '{}'", function.name));
      }
    }
    // Functions may be called, but none can be inside itself: every call has its place in the arena.
    check_calls(module_.functions.front());
    check_device();
  }

 private:
  void known(const Extent& extent) {
    for (const std::string& name : extent.symbols())
      if (!symbols_.contains(name)) contradict(fmt::format("symbol '{}' in '{}' is not declared", name, extent.str()));
  }

  void check(const plan::Function& function) {
    for (const plan::Value& value : function.values) {
      try {
        check(function, value);
      } catch (const Error& error) {
        throw error.within(fmt::format("value '{}'", value.name));
      }
    }
    const auto in_range = [&](int v) { return v >= 0 && static_cast<std::size_t>(v) < function.values.size(); };
    std::set<int> inputs;
    for (const int v : function.inputs) {
      if (!in_range(v) || function.values[static_cast<std::size_t>(v)].storage != Storage::input ||
          !inputs.insert(v).second)
        contradict("an input is not a value of storage 'input' of its own");
    }
    for (const int v : function.outputs)
      if (!in_range(v)) contradict("an output is not a value");
    for (std::size_t v = 0; v < function.values.size(); ++v) {
      const Storage storage = function.values[v].storage;
      const auto& list = storage == Storage::input ? function.inputs : function.outputs;
      const bool listed = std::find(list.begin(), list.end(), static_cast<int>(v)) != list.end();
      if ((storage == Storage::input || storage == Storage::output) && !listed)
        contradict(fmt::format("value '{}' is neither an input nor an output", function.values[v].name));
    }
    for (std::size_t s = 0; s < function.steps.size(); ++s) {
      try {
        check(function, function.steps[s]);
      } catch (const Error& error) {
        throw error.within(fmt::format("step {} '{}'", s, function.steps[s].label));
      }
    }
  }

  void check(const plan::Function& function, const plan::Value& value) {
    if (value.dtype == DType::string)
      throw Error(ErrorCode::unsupported, "string tensors are not supported by this runtime");
    if (value.storage == Storage::heap)
      throw Error(ErrorCode::unsupported, "sequences and values of unknown size are not supported by this runtime");
    for (const auto* list : {&value.shape, &value.strides})
      for (const Extent& extent : *list) known(extent);
    known(value.offset);
    known(value.elements);
    if (value.storage == Storage::alias) {
      const plan::Value* at = &value;
      for (std::size_t hops = 0; at->storage == Storage::alias; ++hops) {
        if (at->of < 0 || static_cast<std::size_t>(at->of) >= function.values.size() || hops > function.values.size())
          contradict("an alias shows no value");
        at = &function.values[static_cast<std::size_t>(at->of)];
      }
    }
    if (value.storage == Storage::constant) {
      const auto elements = value.elements.constant();
      const std::uint64_t size = size_of(value.dtype);
      if (!elements || *elements < 0 || value.file_offset % 64 != 0 || value.file_offset > weights_bytes_ ||
          static_cast<std::uint64_t>(*elements) > (weights_bytes_ - value.file_offset) / size)
        contradict("a constant does not lie within the weights");
    }
  }

  void check(const plan::Function& function, const plan::Step& step) {
    for (const auto* list : {&step.inputs, &step.outputs})
      for (const plan::Argument& argument : *list) {
        const bool optional = list == &step.inputs && (step.kind == StepKind::loop || step.kind == StepKind::host);
        if (static_cast<std::int64_t>(argument.value) >= static_cast<std::int64_t>(function.values.size()) ||
            (argument.value < 0 && !optional))
          contradict("an argument is not a value");
        for (const auto& d : argument.dimensions)
          for (const Extent* extent : {&d.min, &d.extent, &d.stride}) known(*extent);
        known(argument.offset);
        if (list == &step.outputs) check_writable(function, argument.value);
      }
    known(step.flops);
    known(step.bytes);
    const auto count = [&](std::size_t inputs, std::size_t outputs) {
      if (step.inputs.size() != inputs || step.outputs.size() != outputs)
        contradict(fmt::format("it needs {} inputs and {} outputs", inputs, outputs));
    };
    switch (step.kind) {
      case StepKind::kernel:
        if (!kernels_.contains(step.name)) contradict(fmt::format("there is no kernel '{}'", step.name));
        for (const std::string& name : step.symbols)
          if (!symbols_.contains(name)) contradict(fmt::format("symbol '{}' is not declared", name));
        break;
      case StepKind::host: host_operator(step.name); break;
      case StepKind::copy: count(1, 1); break;
      case StepKind::fill_border: count(0, 1); break;
      case StepKind::upload:
      case StepKind::download:
        count(1, 0);
        if (!module_.device) contradict("it copies to or from a device, and the module is for none");
        break;
      case StepKind::call: check_function(step, 0, step.inputs.size(), step.outputs.size()); break;
      case StepKind::branch:
        if (step.inputs.empty()) contradict("a branch needs a condition");
        check_function(step, 0, step.inputs.size() - 1, step.outputs.size());
        check_function(step, 1, step.inputs.size() - 1, step.outputs.size());
        break;
      case StepKind::loop:
        if (step.inputs.size() < 2 || (step.inputs[0].value < 0 && step.inputs[1].value < 0))
          contradict("a loop needs a trip count or a condition");
        check_function(step, 0, step.inputs.size(), step.outputs.size() + 1);
        break;
    }
  }

  /// Only main has steps on the device: a program recorded for it cannot branch on what the host will find.
  void check_device() {
    const auto of_device = [](const plan::Step& step) {
      return step.on_device || step.kind == StepKind::upload || step.kind == StepKind::download;
    };
    for (const plan::Function& function : module_.functions)
      for (const plan::Step& step : function.steps) {
        if (!of_device(step)) continue;
        if (!module_.device) contradict("a step is on a device, and the module is for none");
        if (step.on_device && step.kind != StepKind::kernel) contradict("a step on the device is no kernel");
        if (&function != &module_.functions.front())
          throw Error(
              ErrorCode::unsupported,
              fmt::format("step '{}' of function '{}' runs on a device, and this runtime does that only outside "
                          "of branches, loops and calls; compile the model for cpu",
                          step.label, function.name));
      }
    std::set<std::pair<std::string, std::string>> entries;
    for (const plan::DeviceKernel& kernel : module_.device_kernels) {
      if (!kernels_.contains(kernel.kernel)) contradict(fmt::format("there is no kernel '{}'", kernel.kernel));
      if (!entries.emplace(kernel.kernel, kernel.entry).second)
        contradict(fmt::format("kernel '{}' has two entries '{}'", kernel.kernel, kernel.entry));
    }
    if (!module_.device) return;
    const plan::Function& main = module_.functions.front();
    gpu::Sides sides(main);
    for (std::size_t s = 0; s < main.steps.size(); ++s) {
      try {
        sides.step(main.steps[s]);
      } catch (const Error& error) {
        throw error.within(fmt::format("step {} '{}'", s, main.steps[s].label));
      }
    }
  }

  /// Weights are mapped read-only, and the caller's inputs are not ours to change.
  void check_writable(const plan::Function& function, int v) {
    const plan::Value* value = &function.values[static_cast<std::size_t>(v)];
    while (value->storage == Storage::alias) value = &function.values[static_cast<std::size_t>(value->of)];
    if (value->storage == Storage::constant || value->storage == Storage::input)
      contradict(fmt::format("it writes to '{}', which is an input or a constant", value->name));
  }

  const plan::Function& named(const std::string& name) {
    for (const plan::Function& function : module_.functions)
      if (function.name == name) return function;
    contradict(fmt::format("there is no function '{}'", name));
  }

  void check_function(const plan::Step& step, std::size_t index, std::size_t inputs, std::size_t outputs) {
    if (index >= step.functions.size()) contradict("it names no function");
    const plan::Function& function = named(step.functions[index]);
    if (function.inputs.size() != inputs || function.outputs.size() != outputs)
      contradict(fmt::format("function '{}' has {} inputs and {} outputs where {} and {} are used", function.name,
                             function.inputs.size(), function.outputs.size(), inputs, outputs));
  }

  void check_calls(const plan::Function& function) {
    if (!active_.insert(function.name).second) contradict(fmt::format("function '{}' calls itself", function.name));
    for (const plan::Step& step : function.steps)
      for (const std::string& name : step.functions) check_calls(named(name));
    active_.erase(function.name);
  }

  const plan::Module& module_;
  std::uint64_t weights_bytes_;
  std::set<std::string> symbols_, kernels_, active_;
};

}  // namespace

void check_module(const plan::Module& module, const plan::Package& package, std::uint64_t weights_bytes) {
  Checker(module, package, weights_bytes).run();
}

}  // namespace heddle::runtime
