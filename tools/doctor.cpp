#include <unistd.h>

#include <filesystem>
#include <memory>
#include <thread>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.hpp"
#include "base/file.hpp"
#include "dsl/workload.hpp"
#include "generators/kernel.hpp"
#include "ops/catalog.hpp"
#include "runtime/gpu/device.hpp"
#include "schedules/family.hpp"
#include "targets/target.hpp"
#include "tools/command.hpp"
#include "tools/version.hpp"

namespace heddle::tools {
namespace {

struct Finding {
  std::string what;
  bool good = false;
  std::string detail;  ///< what was found, or what to do
};

/// Runs the check; an error of ours is the finding.
template <class F>
Finding check(const std::string& what, F f) {
  try {
    return {what, true, f()};
  } catch (const Error& e) {
    return {what, false, e.what()};
  }
}

std::string machine() {
  const Target host = host_target();
  return fmt::format("{}, {} cores, L1 {} KiB, L2 {} KiB, L3 {} MiB", host.name, std::thread::hardware_concurrency(),
                     host.machine.l1_bytes >> 10, host.machine.l2_bytes >> 10, host.machine.l3_bytes >> 20);
}

std::string cache() {
  const auto directory = KernelCache::default_directory();
  const auto probe = directory / ".doctor";
  write_file(probe, "written by `heddle doctor`\n");
  std::filesystem::remove(probe);
  return directory.string();
}

/// The whole path from algorithm to shared object, which needs the linker and the shims.
std::string compile_a_kernel() {
  const Workload workload = Workload::of(Operators().get("relu"), Json::object(), {tensor(DType::f32, {1024})});
  const Target host = host_target();
  const Choice choice = choose(workload, host.machine);
  const std::string object = compile_kernel({&workload, choice.implementation, host, false, choice.source}).object;
  return fmt::format("a relu of {} bytes linked", link_module({object}, host).size());
}

/// A line a device. Having none is no fault: packages for processors run without.
std::string devices(DeviceApi api) {
  const runtime::gpu::DeviceList list = runtime::gpu::list_devices(api);
  std::string text;
  for (const runtime::gpu::DeviceInfo& device : list.devices)
    text += fmt::format("{}{} {} ({})", text.empty() ? "" : "\n                        ", device.index, device.name,
                        device.driver);
  return text.empty() ? "none: " + list.reason : text;
}

}  // namespace

Command doctor_command() {
  return {"doctor", "check that this machine has what Heddle needs", [](CLI::App& app) {
            auto json = std::make_shared<bool>(false);
            app.add_flag("--json", *json, "one JSON document");
            return std::function<int()>([json] {
              const std::vector<Finding> findings = {
                  {"version", true, version_text()},
                  check("machine", machine),
                  check("kernel cache", cache),
                  check("compile and link", compile_a_kernel),
                  check("opencl devices", [] { return devices(DeviceApi::opencl); }),
                  check("vulkan devices", [] { return devices(DeviceApi::vulkan); }),
              };
              bool good = true;
              nlohmann::json report = nlohmann::json::array();
              for (const auto& f : findings) {
                good = good && f.good;
                report.push_back({{"check", f.what}, {"good", f.good}, {"detail", f.detail}});
                if (!*json) fmt::print("{:<4} {:<18} {}\n", f.good ? "ok" : "FAIL", f.what, f.detail);
              }
              if (*json) fmt::print("{}\n", report.dump(2));
              return good ? 0 : 1;
            });
          }};
}

}  // namespace heddle::tools
