#include <algorithm>
#include <array>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "generators/kernel.hpp"
#include "tools/command.hpp"
#include "tools/model.hpp"

namespace heddle::tools {
namespace {

constexpr std::array stages = {"import", "graph", "groups", "plan",   "schedule", "loops",
                               "stmt",   "llvm",  "asm",    "opencl", "spirv"};

struct Options : ModelOptions {
  std::string stage = "graph";
  std::string kernel;  ///< a step's label or a kernel's name, in part
};

KernelStage kernel_stage(const std::string& name) {
  if (name == "loops") return KernelStage::loops;
  if (name == "stmt") return KernelStage::stmt;
  if (name == "opencl") return KernelStage::opencl;
  if (name == "spirv") return KernelStage::spirv;
  return name == "llvm" ? KernelStage::llvm : KernelStage::assembly;
}

std::optional<DeviceApi> device_code_of(const std::string& stage) {
  if (stage == "opencl") return DeviceApi::opencl;
  if (stage == "spirv") return DeviceApi::vulkan;
  return std::nullopt;
}

bool has_code(const Target& target, DeviceApi api) { return target.is_gpu() && target.machine.gpu->api == api; }

/// Before anything is compiled.
void check_targets(const Options& options) {
  const auto api = device_code_of(options.stage);
  if (!api || std::ranges::any_of(options.targets, [&](const auto& name) { return has_code(find_target(name), *api); }))
    return;
  throw Error(ErrorCode::invalid_argument,
              fmt::format("`--stage {}` needs a target that has such code: compile with --target {}", options.stage,
                          to_string(*api)));
}

/// Of device code the first module that has such, of everything else the first one.
const graph::Compiled::Module& shown_module(const graph::Compiled& compiled, const std::string& stage) {
  if (const auto api = device_code_of(stage))
    for (const auto& module : compiled.modules)
      if (has_code(module.target, *api)) return module;
  return compiled.modules.at(0);
}

void show_kernels(const Options& options, const graph::Compiled& compiled) {
  const bool device_code = device_code_of(options.stage).has_value();
  const auto& module = shown_module(compiled, options.stage);
  std::set<std::string> shown;
  std::size_t kernel = 0;
  for (const auto& group : module.groups()) {
    if (group.kind != graph::Group::Kind::kernel) continue;
    const graph::ChosenKernel& chosen = module.kernels.at(kernel++);
    const Choice& c = chosen.choice;
    const KernelRequest& request = chosen.request;
    if (device_code && !chosen.on_device()) continue;
    const std::string& symbol = chosen.symbol;
    const std::string& label = module.graph().nodes.at(static_cast<std::size_t>(group.nodes.front())).name;
    const std::string header = fmt::format("{} {} ({})", symbol, label, group.workload->name());
    if (header.find(options.kernel) == std::string::npos || !shown.insert(symbol).second) continue;
    fmt::print("# {}\n# {}\n# {}\n", header, group.workload->text(), c.source);
    if (options.stage == "schedule") fmt::print("{}\n", c.implementation.print());
    else fmt::print("{}\n", show_kernel(request, kernel_stage(options.stage)));
  }
  if (shown.empty())
    throw Error(ErrorCode::not_found,
                fmt::format("no kernel's name, node or operators contain '{}'{}; `--stage groups` lists them",
                            options.kernel, device_code ? ", or those that do run on the processor" : ""));
}

int run(const Options& options) {
  if (options.stage == "import") {
    const Operators operators = load_operators(options);
    fmt::print("{}", graph::read_model(options.model, operators, read_options(options)).print());
    return 0;
  }
  check_targets(options);
  const graph::Compiled compiled = compile_model(options);
  if (options.stage == "graph") fmt::print("{}", compiled.modules.at(0).graph().print());
  else if (options.stage == "groups")
    fmt::print("{}", graph::print(compiled.modules.at(0).groups(), compiled.modules.at(0).graph()));
  else if (options.stage == "plan") fmt::print("{}", graph::print(compiled.package));
  else show_kernels(options, compiled);
  return 0;
}

}  // namespace

Command show_command() {
  return {"show", "print a model at any stage of its compilation", [](CLI::App& app) {
            auto options = std::make_shared<Options>();
            options->add_model(app);
            options->add_flags(app);
            options->add_records(app);
            app.add_option("--stage", options->stage,
                           "import, graph, groups, plan, schedule, loops, stmt, llvm, asm, opencl or spirv")
                ->check(CLI::IsMember(std::vector<std::string>(stages.begin(), stages.end())));
            app.add_option("--kernel", options->kernel,
                           "only kernels whose name, first node or operators contain this");
            return std::function<int()>([options] { return run(*options); });
          }};
}

}  // namespace heddle::tools
