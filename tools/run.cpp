#include <memory>

#include <fmt/format.h>

#include "tools/command.hpp"
#include "tools/execution.hpp"
#include "tools/model.hpp"
#include "tools/tensor_file.hpp"

namespace heddle::tools {
namespace {

struct Options : ModelOptions {
  InputOptions inputs;
  std::string output;
  bool json = false;
};

int run(const Options& options) {
  const ReadyPackage package(options);
  const auto model = load_model(package.path(), options);
  auto inputs = load_inputs(options.inputs, *model, false, 0);
  runtime::Session session(model, {.threads = options.thread_count()});
  set_inputs(session, inputs);
  session.run();
  Json report = {{"target", model->module().target}, {"device", device_name(*model)}, {"outputs", Json::array()}};
  const auto& main = model->main();
  for (std::size_t i = 0; i < main.outputs.size(); ++i) {
    const std::string& name = main.values[static_cast<std::size_t>(main.outputs[i])].name;
    const Array array = output_array(session, i);
    const auto file = std::filesystem::path(options.output) / (file_name(name) + ".npy");
    write_npy(file, array);
    report["outputs"].push_back(
        {{"name", name}, {"dtype", to_string(array.dtype())}, {"shape", array.shape()}, {"file", file.string()}});
    if (!options.json)
      fmt::print("{}  {} {}  -> {}\n", name, to_string(array.dtype()), to_string(array.shape()), file.string());
  }
  if (options.json) fmt::print("{}\n", report.dump(2));
  return 0;
}

}  // namespace

Command run_command() {
  return {"run", "run a model or package on inputs from files", [](CLI::App& app) {
            auto options = std::make_shared<Options>();
            options->add_model(app);
            options->add_flags(app);
            options->add_records(app);
            options->inputs.add_flags(app);
            app.add_option("--output", options->output,
                           "directory: each output becomes DIR/NAME.npy ('/' in a name becomes '_')")
                ->required();
            app.add_flag("--json", options->json, "one JSON document");
            return std::function<int()>([options] { return run(*options); });
          }};
}

}  // namespace heddle::tools
