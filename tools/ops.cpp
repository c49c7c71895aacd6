#include <memory>

#include <fmt/format.h>

#include "ops/catalog.hpp"
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

Json describe(const Operator& op) {
  Json attributes = Json::array();
  for (const auto& a : op.attributes())
    attributes.push_back({{"name", a.name}, {"type", a.type}, {"default", a.default_value}, {"choices", a.choices}});
  return {{"name", op.name()},
          {"summary", op.summary()},
          {"kind", to_string(op.kind())},
          {"attributes", attributes},
          {"cases", op.cases().size()}};
}

void print_one(const Operator& op) {
  fmt::print("{}: {}\n{} operator, {} test cases\n", op.name(), op.summary(), to_string(op.kind()), op.cases().size());
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
    Table table({{"operator"}, {"kind"}, {"what it computes"}});
    for (const Operator* op : operators.all())
      table.add({std::string(op->name()), std::string(to_string(op->kind())), std::string(op->summary())});
    fmt::print("{}", table.str());
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
