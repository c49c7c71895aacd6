#include <algorithm>
#include <memory>

#include <fmt/format.h>

#include "tools/command.hpp"
#include "tools/launches.hpp"
#include "tools/model.hpp"

namespace heddle::tools {
namespace {

struct Options : ModelOptions {
  std::string output;
  bool json = false;
  bool explain = false;
};

int run(const Options& options) {
  graph::Compiled compiled = compile_model(options);
  add_launches(compiled);
  graph::write_package(compiled, options.output);
  Json report;
  report["package"] = options.output;
  for (const auto& module : compiled.package.modules) {
    Json kernels = Json::array();
    for (const auto& kernel : module.kernels) {
      Json row = {{"name", kernel.name}, {"workload", kernel.workload}, {"schedule", kernel.source}};
      if (!kernel.obstacle.empty()) row["on_processor"] = kernel.obstacle;
      kernels.push_back(std::move(row));
    }
    const auto& steps = module.functions.at(0).steps;
    const auto copies = std::ranges::count_if(steps, [](const plan::Step& step) {
      return step.kind == plan::StepKind::upload || step.kind == plan::StepKind::download;
    });
    report["targets"].push_back({{"target", module.target}, {"kernels", kernels}, {"steps", steps.size()}});
    if (module.device) report["targets"].back()["copies"] = copies;
    if (options.json) continue;
    fmt::print("{}: {} steps, {} kernels", module.target, steps.size(), module.kernels.size());
    // What a device cannot run costs copies, which nobody should have to look for.
    if (const auto kept = std::ranges::count_if(module.kernels, [](const auto& k) { return !k.obstacle.empty(); }))
      fmt::print(", {} of them on the processor with {} copies", kept, copies);
    fmt::print("\n");
    for (const auto& kernel : module.kernels) {
      if (options.explain) fmt::print("  {}  {}\n    {}\n", kernel.name, kernel.source, kernel.workload);
      if (!kernel.obstacle.empty() && options.explain) fmt::print("    on the processor: {}\n", kernel.obstacle);
    }
  }
  if (options.json) fmt::print("{}\n", report.dump(2));
  else fmt::print("wrote {}\n", options.output);
  return 0;
}

}  // namespace

Command compile_command() {
  return {"compile", "compile a model to a package", [](CLI::App& app) {
            auto options = std::make_shared<Options>();
            options->add_model(app);
            options->add_flags(app);
            options->add_records(app);
            app.add_option("-o,--output", options->output, "directory to write")->required();
            app.add_flag("--json", options->json, "print a report as one JSON document");
            app.add_flag("--explain", options->explain, "print where each kernel's schedule came from");
            return std::function<int()>([options] { return run(*options); });
          }};
}

}  // namespace heddle::tools
