#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <set>

#include <fmt/format.h>

#include "dsl/workload.hpp"
#include "ops/catalog.hpp"
#include "targets/gpu/passes.hpp"
#include "tools/command.hpp"
#include "tools/terminal.hpp"

namespace heddle::tools {
namespace {

std::string_view to_string(OperatorKind kind) {
  switch (kind) {
    case OperatorKind::elementwise: return "elementwise";
    case OperatorKind::movement: return "movement";
    case OperatorKind::reduction: return "reduction";
    case OperatorKind::window: return "window";
    case OperatorKind::contraction: return "contraction";
  }
  return "";
}

struct Options {
  std::string name;
  std::vector<std::string> modules;
  bool json = false;
  bool markdown = false;
};

/// Where an operator runs: asked of its test cases, since what a device lacks depends on types and attributes.
struct Reach {
  bool everywhere = true, nowhere = true;        ///< over the cases
  std::map<std::string, std::string> obstacles;  ///< by the case's types
};

Reach reach_of(const Operator& op, DeviceApi api) {
  Reach reach;
  for (const Case& test : op.cases()) {
    SymbolRanges symbols;
    for (const auto& binding : test.bindings)
      for (const auto& [name, value] : binding) {
        Range& range = symbols.try_emplace(name, Range{value, value}).first->second;
        range = {std::min(range.min, value), std::max(range.max, value)};
      }
    const Workload workload = Workload::of(op, test.attributes, test.inputs, symbols);
    const std::string obstacle = targets::gpu_obstacle(workload.instantiate().outputs, api);
    (obstacle.empty() ? reach.nowhere : reach.everywhere) = false;
    if (obstacle.empty()) continue;
    std::vector<std::string> types;
    for (const auto& type : test.inputs.empty() ? workload.output_types() : test.inputs)
      types.emplace_back(to_string(type.dtype));
    reach.obstacles.emplace(fmt::format("{}", fmt::join(types, ", ")), obstacle);
  }
  return reach;
}

constexpr std::array device_apis = {DeviceApi::opencl, DeviceApi::vulkan};

/// "cpu opencl vulkan*": the star where some types stay on the processor.
std::string targets_of(const Operator& op) {
  std::string text = "cpu";
  for (const DeviceApi api : device_apis) {
    const Reach reach = reach_of(op, api);
    if (!reach.nowhere) text += fmt::format(" {}{}", to_string(api), reach.everywhere ? "" : "*");
  }
  return text;
}

Json describe_targets(const Operator& op) {
  Json targets = {{"cpu", {{"runs", "all"}}}};
  for (const DeviceApi api : device_apis) {
    const Reach reach = reach_of(op, api);
    Json& target = targets[std::string(to_string(api))];
    target["runs"] = reach.everywhere ? "all" : reach.nowhere ? "none" : "some";
    for (const auto& [types, obstacle] : reach.obstacles) target["not"][types] = obstacle;
  }
  return targets;
}

Json describe(const Operator& op) {
  Json attributes = Json::array();
  for (const auto& a : op.attributes())
    attributes.push_back({{"name", a.name}, {"type", a.type}, {"default", a.default_value}, {"choices", a.choices}});
  return {{"name", op.name()},        {"summary", op.summary()},         {"kind", to_string(op.kind())},
          {"attributes", attributes}, {"targets", describe_targets(op)}, {"cases", op.cases().size()}};
}

void print_one(const Operator& op) {
  fmt::print("{}: {}\n{} operator, {} test cases\n", op.name(), op.summary(), to_string(op.kind()), op.cases().size());
  fmt::print("targets: {}\n", targets_of(op));
  for (const DeviceApi api : device_apis)
    for (const auto& [types, obstacle] : reach_of(op, api).obstacles)
      fmt::print("  {} of {} runs on the processor: {}\n", to_string(api), types, obstacle);
  if (op.attributes().empty()) return;
  Table table({{"attribute"}, {"type"}, {"default"}, {"choices"}});
  for (const auto& a : op.attributes())
    table.add({a.name, a.type, a.default_value.dump(), fmt::format("{}", fmt::join(a.choices, " "))});
  fmt::print("\n{}", table.str());
}

int run(const Options& options) {
  Operators operators;
  for (const auto& module : options.modules) operators.load(module);
  if (!options.name.empty()) {
    const Operator& op = operators.get(options.name);
    if (options.json) fmt::print("{}\n", describe(op).dump(2));
    else print_one(op);
    return 0;
  }
  if (options.json) {
    Json all = Json::array();
    for (const Operator* op : operators.all()) all.push_back(describe(*op));
    fmt::print("{}\n", all.dump(2));
  } else if (options.markdown) {
    fmt::print("| operator | kind | attributes | what it computes |\n|---|---|---|---|\n");
    for (const Operator* op : operators.all()) {
      std::vector<std::string> names;
      for (const auto& a : op->attributes()) names.push_back(fmt::format("`{}`", a.name));
      fmt::print("| `{}` | {} | {} | {} |\n", op->name(), to_string(op->kind()), fmt::join(names, " "), op->summary());
    }
  } else {
    Table table({{"operator"}, {"kind"}, {"targets"}, {"what it computes"}});
    for (const Operator* op : operators.all())
      table.add(
          {std::string(op->name()), std::string(to_string(op->kind())), targets_of(*op), std::string(op->summary())});
    fmt::print("{}\n*: some types stay on the processor; `heddle ops NAME` says which and why\n", table.str());
  }
  return 0;
}

}  // namespace

Command ops_command() {
  return {"ops", "list the operators, or one with its attributes", [](CLI::App& app) {
            auto options = std::make_shared<Options>();
            app.add_option("operator", options->name, "show this one");
            app.add_option("--ops", options->modules, "a shared library of operators of your own");
            app.add_flag("--json", options->json, "one JSON document");
            app.add_flag("--markdown", options->markdown, "the table of docs/operators.md");
            return std::function<int()>([options] { return run(*options); });
          }};
}

}  // namespace heddle::tools
