#include <array>
#include <memory>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "runtime/gpu/device.hpp"
#include "targets/target.hpp"
#include "tools/command.hpp"
#include "tools/terminal.hpp"

namespace heddle::tools {
namespace {

using runtime::gpu::DeviceInfo;
using runtime::gpu::DeviceList;

constexpr std::array device_apis = {DeviceApi::opencl, DeviceApi::vulkan};

std::string_view kind_name(DeviceInfo::Kind kind) {
  switch (kind) {
    case DeviceInfo::Kind::cpu: return "cpu";
    case DeviceInfo::Kind::integrated: return "integrated";
    case DeviceInfo::Kind::discrete: return "discrete";
    case DeviceInfo::Kind::other: break;
  }
  return "other";
}

/// The types beyond 32 bits that kernels may use there.
std::vector<std::string> types_of(const DeviceInfo& device) {
  std::vector<std::string> types;
  for (const auto& [has, name] : {std::pair{device.f16, "f16"},
                                  {device.f64, "f64"},
                                  {device.int8, "int8"},
                                  {device.int16, "int16"},
                                  {device.int64, "int64"}})
    if (has) types.emplace_back(name);
  return types;
}

nlohmann::json to_json(const DeviceInfo& device) {
  return {{"api", to_string(device.api)},
          {"index", device.index},
          {"name", device.name},
          {"driver", device.driver},
          {"kind", kind_name(device.kind)},
          {"memory_bytes", device.memory_bytes},
          {"most_allocation_bytes", device.most_allocation_bytes},
          {"types", types_of(device)},
          {"block_threads", device.block_threads},
          {"shared_bytes", device.shared_bytes}};
}

nlohmann::json targets_report(const Target& host) {
  nlohmann::json report = nlohmann::json::array();
  for (const Target& t : all_targets()) {
    report.push_back({{"target", t.name}, {"features", t.features}, {"host", t.name == host.name}});
    if (!t.is_gpu()) report.back()["vector_bytes"] = t.machine.vector_bytes;
  }
  return report;
}

nlohmann::json report_of(const Target& host) {
  nlohmann::json report = {{"targets", targets_report(host)},
                           {"devices", nlohmann::json::array()},
                           {"no_devices", nlohmann::json::object()}};
  for (const DeviceApi api : device_apis) {
    const DeviceList list = runtime::gpu::list_devices(api);
    for (const DeviceInfo& device : list.devices) report["devices"].push_back(to_json(device));
    if (list.devices.empty()) report["no_devices"][std::string(to_string(api))] = list.reason;
  }
  return report;
}

std::string targets_text(const Target& host) {
  Table table({{"target"}, {"vector", true}, {"registers", true}, {"needs"}, {""}});
  for (const Target& t : all_targets()) {
    const bool gpu = t.is_gpu();
    table.add({t.name, gpu ? "" : fmt::format("{} B", t.machine.vector_bytes),
               gpu ? "" : std::to_string(t.machine.vector_registers),
               gpu ? "a device" : fmt::format("{}", fmt::join(t.features, " ")), t.name == host.name ? "<- cpu" : ""});
  }
  return table.str();
}

std::string devices_text() {
  Table table(
      {{"device"}, {"name"}, {"kind"}, {"memory", true}, {"types"}, {"block", true}, {"shared", true}, {"driver"}});
  std::string missing;
  bool any = false;
  for (const DeviceApi api : device_apis) {
    const DeviceList list = runtime::gpu::list_devices(api);
    if (list.devices.empty()) missing += fmt::format("no device for {}: {}\n", to_string(api), list.reason);
    for (const DeviceInfo& device : list.devices) {
      any = true;
      table.add({fmt::format("{} {}", to_string(api), device.index), device.name, std::string(kind_name(device.kind)),
                 fmt::format("{:.1f} GiB", static_cast<double>(device.memory_bytes) / (1 << 30)),
                 fmt::format("{}", fmt::join(types_of(device), " ")), std::to_string(device.block_threads),
                 fmt::format("{} KiB", device.shared_bytes >> 10), device.driver});
    }
  }
  return (any ? table.str() : std::string()) + missing;
}

}  // namespace

Command targets_command() {
  return {"targets", "list what can be compiled for, what this machine takes, and its devices", [](CLI::App& app) {
            auto json = std::make_shared<bool>(false);
            app.add_flag("--json", *json, "one JSON document");
            return std::function<int()>([json] {
              const Target host = host_target();
              if (*json) fmt::print("{}\n", report_of(host).dump(2));
              else fmt::print("{}\n{}", targets_text(host), devices_text());
              return 0;
            });
          }};
}

}  // namespace heddle::tools
