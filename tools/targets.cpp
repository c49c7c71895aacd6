#include <algorithm>
#include <memory>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "targets/target.hpp"
#include "tools/command.hpp"
#include "tools/terminal.hpp"

namespace heddle::tools {

Command targets_command() {
  return {
      "targets", "list what can be compiled for, and which one this machine takes", [](CLI::App& app) {
        auto json = std::make_shared<bool>(false);
        app.add_flag("--json", *json, "one JSON document");
        return std::function<int()>([json] {
          const Target host = host_target();
          Table table({{"target"}, {"vector", true}, {"registers", true}, {"needs"}, {""}});
          nlohmann::json report = nlohmann::json::array();
          for (const Target& t : all_targets()) {
            const bool here = t.name == host.name;
            table.add({t.name, fmt::format("{} B", t.machine.vector_bytes), std::to_string(t.machine.vector_registers),
                       fmt::format("{}", fmt::join(t.features, " ")), here ? "<- cpu" : ""});
            report.push_back({{"target", t.name},
                              {"vector_bytes", t.machine.vector_bytes},
                              {"features", t.features},
                              {"host", here}});
          }
          fmt::print("{}", *json ? report.dump(2) + "\n" : table.str());
          return 0;
        });
      }};
}

}  // namespace heddle::tools
