#include <memory>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.hpp"
#include "generators/static_library.hpp"
#include "schedules/family.hpp"
#include "tools/command.hpp"
#include "tools/model.hpp"
#include "tools/operator_bench.hpp"

namespace heddle::tools {
namespace {

struct Options : ModelOptions {
  std::string op;
  std::string name;
  std::string shape;
  std::vector<std::string> attributes;
  std::string schedule;
  std::string output;
  bool unchecked = false;
};

/// The operator at the types of --shape, with the ranges of --dim; at types of any extent if there is no --shape.
Workload workload(const Options& options, const Operator& op) {
  const auto given = read_options(options).dimensions;
  if (options.shape.empty()) {
    if (!given.empty()) throw Error(ErrorCode::invalid_argument, "--dim gives ranges to the symbols of --shape");
    const Json attributes =
        options.attributes.empty() ? Json::object() : parse_shape(op, "", options.attributes).attributes;
    return symbolic_workload(op, attributes, options.thread_count());
  }
  const OperatorRequest request = parse_shape(op, options.shape, options.attributes);
  SymbolRanges ranges;
  for (const auto& type : request.inputs)
    for (const auto& extent : type.shape)
      for (const auto& symbol : extent.symbols()) ranges[symbol] = {1, 65536};
  for (const auto& [symbol, range] : given) {
    if (!ranges.contains(symbol))
      throw Error(ErrorCode::invalid_argument, fmt::format("--dim {}: no extent of --shape depends on it", symbol));
    ranges[symbol] = range;
  }
  return Workload::of(op, request.attributes, request.inputs, ranges, options.thread_count());
}

int run(const Options& options) {
  const Operators operators = load_operators(options);
  const Operator& op = operators.get(options.op);
  const Workload work = workload(options, op);

  StaticLibraryRequest request;
  request.name = options.name.empty() ? options.op : options.name;
  request.workload = &work;
  request.checked = !options.unchecked;
  std::optional<std::filesystem::path> file;
  if (!options.schedule.empty()) request.schedule_file = *(file = options.schedule);
  for (const auto& name : options.targets) {
    const Target target = find_target(name);
    // This machine's target may be named twice: as `cpu` and by its name.
    const auto same = [&](const Target& other) { return other.name == target.name; };
    if (std::any_of(request.targets.begin(), request.targets.end(), same)) continue;
    request.implementations.push_back(choose(work, target.machine, file).implementation);
    request.targets.push_back(target);
  }
  write_static_library(request, options.output);

  std::vector<std::string> names;
  for (const auto& target : request.targets) names.push_back(target.name);
  fmt::print("wrote {0}/lib{1}.a and {0}/{1}.h for {2}\n", options.output, request.name, fmt::join(names, ", "));
  return 0;
}

}  // namespace

Command kernel_command() {
  return {
      "kernel", "compile one operator to a static library and a header", [](CLI::App& app) {
        auto options = std::make_shared<Options>();
        app.add_option("operator", options->op, "an operator of `heddle ops` or of a module")->required();
        app.add_option("-o,--output", options->output, "directory to write libNAME.a and NAME.h to")->required();
        app.add_option("--name", options->name, "of the library and its function (default: the operator's)");
        app.add_option("--shape", options->shape,
                       "operand types, ROLE=f32[H,W]; names are extents known only at run time (default: all extents)");
        app.add_option("--attribute", options->attributes, "NAME=JSON");
        app.add_option("--dim", options->dims, "range of an extent of --shape: NAME=MIN:MAX (default: 1:65536)");
        app.add_option("--schedule", options->schedule, "a .sched file (default: the family's choice)")
            ->check(CLI::ExistingFile);
        app.add_option("--target", options->targets, "targets, comma-separated; the program takes the best at run time")
            ->delimiter(',');
        app.add_option("--ops", options->modules, "a shared library of operators of your own");
        app.add_option("--threads", options->threads, "threads that the schedule is to feed (default: the cores)")
            ->check(CLI::PositiveNumber);
        app.add_flag("--unchecked", options->unchecked, "leave out the checks of the arrays that are passed");
        return std::function<int()>([options] { return run(*options); });
      }};
}

}  // namespace heddle::tools
