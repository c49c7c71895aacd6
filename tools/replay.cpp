// Rebuilds what a record says, and with --verify checks and times it again.
#include <memory>

#include <fmt/format.h>

#include "autoscheduler/measure.hpp"
#include "base/error.hpp"
#include "generators/kernel.hpp"
#include "ops/workload_json.hpp"
#include "schedules/records.hpp"
#include "tools/command.hpp"
#include "tools/model.hpp"
#include "tools/stored_records.hpp"

namespace heddle::tools {
namespace {

using autoscheduler::Measurement;
using autoscheduler::TrialStatus;

struct Options : ModelOptions {
  std::int64_t id = 0;
  bool verify = false;
  bool json = false;
};

/// Throws Error where the operators of this program say something else than those that were measured.
Workload workload_of(const Record& record, const Operators& operators) {
  const Json json = Json::parse(record.workload_json, nullptr, false);
  if (json.is_discarded())
    throw Error(ErrorCode::corrupt, fmt::format("record {} holds no workload that could be rebuilt", record.id));
  Workload workload = workload_from_json(json, operators);
  if (workload.text() != record.workload)
    throw Error(
        ErrorCode::unsupported,
        fmt::format("the operators have changed since record {} was made, so that it describes other work now:\n"
                    "  then {}\n  now  {}",
                    record.id, record.workload, workload.text()));
  return workload;
}

std::string time_text(double seconds) { return fmt::format("{:.3f} us", seconds * 1e6); }

int run(const Options& options) {
  const Record record = find_record(open_store(options.records), options.id);
  const Operators operators = load_operators(options);
  const Workload workload = workload_of(record, operators);
  const Target host = host_target();
  const Target target = record.target == host.name ? host : find_target(record.target);
  const auto file = fmt::format("record {}", record.id);
  const auto implementation = Implementation::parse(record.implementation, file);

  Json report = {
      {"id", record.id}, {"kernel", record.name}, {"target", record.target}, {"recorded_key", record.kernel_key}};
  std::string key;
  std::optional<Measurement> measurement;
  if (options.verify) {
    autoscheduler::MeasureOptions measuring;
    measuring.device = options.device;
    const auto measurer = autoscheduler::make_measurer(workload, target, options.modules, measuring);
    measurement = measurer->measure({implementation}, nullptr, [](const Measurement&) { return true; }).at(0);
    key = measurement->kernel_key;
  } else {
    const KernelRequest request{
        .workload = &workload, .implementation = implementation, .target = target, .schedule_file = file};
    key = kernel_key(request);
    // What crashed the compiler once is not tried again inside of this process.
    if (record.status == "ok") compile_kernel(request);
  }
  const bool same = key == record.kernel_key;
  report["key"] = key;
  report["same_kernel"] = same;
  if (!options.json)
    fmt::print(
        "record {}: {}, {}\n  kernel    {}{}\n", record.id, record.name, record.target, key.empty() ? "none" : key,
        same          ? ", the same as recorded"
        : key.empty() ? ", since it was not compiled"
                      : fmt::format(", not the one recorded ({}): Heddle or Halide has changed", record.kernel_key));
  bool good = true;
  const std::string here = measurement ? autoscheduler::machine_of(target, options.device) : "";
  if (measurement) {
    good = measurement->status == TrialStatus::ok;
    report["status"] = to_string(measurement->status);
    report["message"] = measurement->message;
    report["recorded_status"] = record.status;
    report["machine"] = here;
    report["recorded_machine"] = record.machine;
    if (!options.json)
      fmt::print("  result    {}{}\n", good ? "correct" : std::string(to_string(measurement->status)) + ": ",
                 good ? "" : measurement->message);
  }
  if (measurement && good) {
    const double now = measurement->median(), then = record.best_seconds();
    report["seconds"] = now;
    report["recorded_seconds"] = then;
    if (!options.json) {
      fmt::print("  time      {} median of {} samples", time_text(now), measurement->seconds.size());
      if (record.status == "ok") fmt::print("; recorded {}, {:.2f} times as long now", time_text(then), now / then);
      fmt::print("\n");
      if (record.machine != here)
        fmt::print("  machine   {}; recorded on {}: the times do not compare\n", here, record.machine);
    }
  }
  if (options.json) fmt::print("{}\n", report.dump(2));
  return good ? 0 : 1;
}

}  // namespace

Command replay_command() {
  return {"replay", "rebuild a record's kernel; with --verify check its result and time it again", [](CLI::App& app) {
            auto options = std::make_shared<Options>();
            app.add_option("id", options->id, "the record's number, as `heddle records list` shows it")->required();
            add_store_option(app, options->records);
            app.add_option("--ops", options->modules, "a shared library of operators of your own");
            app.add_option("--device", options->device,
                           "of a record for opencl or vulkan: an index or a part of its name");
            app.add_flag("--verify", options->verify, "run it: check the result against the reference and time it");
            app.add_flag("--json", options->json, "one JSON document");
            return std::function<int()>([options] { return run(*options); });
          }};
}

}  // namespace heddle::tools
