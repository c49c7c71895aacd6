#include <memory>

#include <fmt/format.h>

#include "tools/command.hpp"
#include "tools/model.hpp"

namespace heddle::tools {
namespace {

struct Options : ModelOptions {
  std::string output;
  bool json = false;
  bool explain = false;
};

int run(const Options& options) {
  const graph::Compiled compiled = compile_model(options);
  graph::write_package(compiled, options.output);
  Json report;
  report["package"] = options.output;
  for (const auto& module : compiled.package.modules) {
    Json kernels = Json::array();
    for (const auto& kernel : module.kernels)
      kernels.push_back({{"name", kernel.name}, {"workload", kernel.workload}, {"schedule", kernel.source}});
    report["targets"].push_back(
        {{"target", module.target}, {"kernels", kernels}, {"steps", module.functions.at(0).steps.size()}});
    if (options.json) continue;
    fmt::print("{}: {} steps, {} kernels\n", module.target, module.functions.at(0).steps.size(), module.kernels.size());
    if (options.explain)
      for (const auto& kernel : module.kernels)
        fmt::print("  {}  {}\n    {}\n", kernel.name, kernel.source, kernel.workload);
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
            app.add_option("-o,--output", options->output, "directory to write")->required();
            app.add_flag("--json", options->json, "print a report as one JSON document");
            app.add_flag("--explain", options->explain, "print where each kernel's schedule came from");
            return std::function<int()>([options] { return run(*options); });
          }};
}

}  // namespace heddle::tools
