#include <memory>

#include <fmt/format.h>

#include "generators/static_library.hpp"
#include "schedules/family.hpp"
#include "tools/command.hpp"
#include "tools/model.hpp"
#include "tools/operator_bench.hpp"

namespace heddle::tools {
namespace {

struct Options : ModelOptions {
  std::string shape;
  std::vector<std::string> attributes;
  std::string output;
};

int run(const Options& options) {
  const Operators operators = load_operators(options);
  std::optional<Workload> workload;
  if (!names_operator(options.model, options.shape)) {
    workload.emplace(symbolic_workload(operators.get(options.model), Json::object(), options.thread_count()));
  } else {
    const OperatorRequest request = operator_request(operators, options.model, options.shape, options.attributes);
    if (request.requantization)
      throw Error(ErrorCode::unsupported,
                  fmt::format("--shape {}: a library holds one operator alone; write the bytes' operands out, as in "
                              "x=u8[1,64,56,56],w=i8[64,64,1,1]",
                              options.shape));
    SymbolRanges symbols;
    for (const auto& type : request.inputs)
      for (const auto& extent : type.shape)
        for (const auto& symbol : extent.symbols()) symbols[symbol] = {1, 65536};
    for (const auto& [name, range] : read_options(options).dimensions) symbols[name] = range;
    workload.emplace(Workload::of(*request.op, request.attributes, request.inputs, symbols, options.thread_count()));
  }
  // A pipeline's file gives the library its name.
  const std::string name = std::filesystem::path(options.model).stem().string();
  StaticLibraryRequest request{.name = name, .workload = &*workload};
  std::optional<std::filesystem::path> file;
  if (!options.schedules.empty()) {
    file = options.schedules.back();
    request.schedule_file = file->string();
  }
  for (Target& target : options.chosen_targets()) {
    if (target.is_gpu())
      throw Error(ErrorCode::unsupported,
                  fmt::format("a static library is for processors, and {} is for a device; `heddle compile` writes its "
                              "kernels as plain files",
                              target.name));
    // "host" and the host's own name may both be asked for: one kernel serves both.
    if (std::any_of(request.targets.begin(), request.targets.end(),
                    [&](const Target& t) { return t.name == target.name; }))
      continue;
    request.implementations.push_back(choose(*workload, target.machine, file).implementation);
    request.targets.push_back(std::move(target));
  }
  write_static_library(request, options.output);
  fmt::print("wrote {0}/lib{1}.a and {0}/{1}.h\n", options.output, name);
  return 0;
}

}  // namespace

Command kernel_command() {
  return {"kernel", "compile one operator to a static library and a header", [](CLI::App& app) {
            auto options = std::make_shared<Options>();
            app.add_option("operator", options->model, "the operator's name")->required();
            options->add_flags(app);
            app.add_option(
                "--shape", options->shape,
                "operands' types, ROLE=f32[H,W]: fixed or symbolic extents (default: every extent symbolic)");
            app.add_option("--attribute", options->attributes, "NAME=JSON of the operator");
            app.add_option("-o,--output", options->output, "directory to write")->required();
            return std::function<int()>([options] { return run(*options); });
          }};
}

}  // namespace heddle::tools
