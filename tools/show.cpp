#include <array>
#include <memory>

#include <fmt/format.h>

#include "generators/kernel.hpp"
#include "tools/command.hpp"
#include "tools/model.hpp"

namespace heddle::tools {
namespace {

constexpr std::array stages = {"import", "graph", "groups", "plan", "schedule", "loops", "stmt", "llvm", "asm"};

struct Options : ModelOptions {
  std::string stage = "graph";
  std::string kernel;  ///< a step's label or a kernel's name, in part
};

KernelStage kernel_stage(const std::string& name) {
  if (name == "loops") return KernelStage::loops;
  if (name == "stmt") return KernelStage::stmt;
  return name == "llvm" ? KernelStage::llvm : KernelStage::assembly;
}

void show_kernels(const Options& options, const graph::Compiled& compiled) {
  const auto& module = compiled.modules.at(0);
  std::set<std::string> shown;
  std::size_t choice = 0;
  for (const auto& group : compiled.groups) {
    if (group.kind != graph::Group::Kind::kernel) continue;
    const Choice& c = module.choices.at(choice++);
    const KernelRequest request{&*group.workload, c.implementation, module.target, false, c.source};
    const std::string symbol = kernel_symbol(request);
    const std::string& label = compiled.graph.nodes.at(static_cast<std::size_t>(group.nodes.front())).name;
    const std::string header = fmt::format("{} {} ({})", symbol, label, group.workload->name());
    if (header.find(options.kernel) == std::string::npos || !shown.insert(symbol).second) continue;
    fmt::print("# {}\n# {}\n# {}\n", header, group.workload->text(), c.source);
    if (options.stage == "schedule") fmt::print("{}\n", c.implementation.print());
    else fmt::print("{}\n", show_kernel(request, kernel_stage(options.stage)));
  }
  if (shown.empty())
    throw Error(
        ErrorCode::not_found,
        fmt::format("no kernel's name, node or operators contain '{}'; `--stage groups` lists them", options.kernel));
}

int run(const Options& options) {
  if (options.stage == "import") {
    const Operators operators = load_operators(options);
    fmt::print("{}", graph::read_model(options.model, operators, read_options(options)).print());
    return 0;
  }
  const graph::Compiled compiled = compile_model(options);
  if (options.stage == "graph") fmt::print("{}", compiled.graph.print());
  else if (options.stage == "groups") fmt::print("{}", graph::print(compiled.groups, compiled.graph));
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
            app.add_option("--stage", options->stage, "import, graph, groups, plan, schedule, loops, stmt, llvm or asm")
                ->check(CLI::IsMember(std::vector<std::string>(stages.begin(), stages.end())));
            app.add_option("--kernel", options->kernel,
                           "only kernels whose name, first node or operators contain this");
            return std::function<int()>([options] { return run(*options); });
          }};
}

}  // namespace heddle::tools
