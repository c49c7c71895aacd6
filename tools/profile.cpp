#include <algorithm>
#include <memory>

#include <fmt/format.h>

#include "tools/command.hpp"
#include "tools/execution.hpp"
#include "tools/model.hpp"
#include "tools/peak.hpp"
#include "tools/statistics.hpp"
#include "tools/terminal.hpp"

namespace heddle::tools {
namespace {

struct Options : ModelOptions {
  InputOptions inputs;
  int runs = 20;
  int top = 40;
  bool json = false;
};

std::string_view name_of(plan::StepKind kind) {
  switch (kind) {
    case plan::StepKind::kernel: return "kernel";
    case plan::StepKind::host: return "host";
    case plan::StepKind::copy: return "copy";
    case plan::StepKind::fill_border: return "border";
    case plan::StepKind::upload: return "upload";
    case plan::StepKind::download: return "download";
    default: return "control";
  }
}

/// 0 where a step took no time of its own: a copy that the device does together with others.
double ratio(double a, double b) { return b > 0 ? a / b : 0; }

int run(const Options& options) {
  const ReadyPackage package(options);
  const auto model = load_model(package.path(), options);
  auto inputs = load_inputs(options.inputs, *model, true, 1);
  runtime::Session session(model, {.threads = options.thread_count(), .profile = true});
  set_inputs(session, inputs);
  // What the processor reaches says nothing of a device, and what a device reaches is a benchmark of its own.
  const bool on_processor = model->device() == nullptr;
  const Peak before = on_processor ? measure_peak(options.thread_count()) : Peak();
  const auto& steps = model->main().steps;
  std::vector<std::vector<double>> seconds(steps.size());
  session.run();
  for (int i = 0; i < options.runs; ++i) {
    session.run();
    const auto times = session.profile();
    for (std::size_t s = 0; s < steps.size(); ++s)
      seconds[s].push_back(static_cast<double>(times[s].duration_ns) * 1e-9);
  }
  const Peak peak = on_processor ? best(before, measure_peak(options.thread_count(), false)) : before;

  struct Row {
    std::size_t step;
    double seconds, limit;
    bool compute_bound;
  };
  std::vector<Row> rows;
  double total = 0, total_limit = 0;
  for (std::size_t s = 0; s < steps.size(); ++s) {
    const double arithmetic = on_processor ? static_cast<double>(session.flops(s)) / (peak.gflops * 1e9) : 0;
    const double memory = on_processor ? static_cast<double>(session.bytes(s)) / (peak.copy_gbps * 1e9) : 0;
    // Intermediates may come out of a cache, so only arithmetic is a hard limit; bytes matter where there is little of
    // it.
    const bool compute_bound = arithmetic >= memory;
    rows.push_back({s, median(seconds[s]), std::max(arithmetic, memory), compute_bound});
    total += rows.back().seconds;
    total_limit += rows.back().limit;
  }
  std::map<std::string, std::string> sources;
  for (const auto& kernel : model->module().kernels) sources[kernel.name] = kernel.source;
  std::stable_sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.seconds > b.seconds; });

  if (options.json) {
    Json report = {{"target", model->module().target},
                   {"device", device_name(*model)},
                   {"threads", options.thread_count()},
                   {"total_ms", total * 1e3},
                   {"steps", Json::array()}};
    if (on_processor) {
      report["limit_ms"] = total_limit * 1e3;
      report["peak_gflops"] = peak.gflops;
      report["peak_bandwidth_gbs"] = peak.copy_gbps;
    }
    for (const Row& r : rows) {
      Json step = {{"index", r.step},
                   {"kind", name_of(steps[r.step].kind)},
                   {"label", steps[r.step].label},
                   {"kernel", steps[r.step].name},
                   {"on_device", steps[r.step].on_device},
                   {"median_ms", r.seconds * 1e3},
                   {"share_of_time", ratio(r.seconds, total)},
                   {"gflops", ratio(static_cast<double>(session.flops(r.step)) * 1e-9, r.seconds)},
                   {"schedule", sources[steps[r.step].name]}};
      if (on_processor) {
        step["limit_ms"] = r.limit * 1e3;
        step["share_of_limit"] = ratio(r.limit, r.seconds);
        step["bound"] = r.compute_bound ? "compute" : "memory";
      }
      report["steps"].push_back(std::move(step));
    }
    fmt::print("{}\n", report.dump(2));
    return 0;
  }
  Table table({{"step", true},
               {"kind"},
               {"what"},
               {"us", true},
               {"% time", true},
               {"GF/s", true},
               {"% limit", true},
               {on_processor ? "bound" : "side"}});
  for (std::size_t i = 0; i < rows.size() && static_cast<int>(i) < options.top; ++i) {
    const Row& r = rows[i];
    table.add({std::to_string(r.step), std::string(name_of(steps[r.step].kind)), steps[r.step].label,
               fmt::format("{:.1f}", r.seconds * 1e6), fmt::format("{:.1f}", 100 * ratio(r.seconds, total)),
               fmt::format("{:.1f}", ratio(static_cast<double>(session.flops(r.step)) * 1e-9, r.seconds)),
               on_processor ? fmt::format("{:.0f}", 100 * ratio(r.limit, r.seconds)) : "",
               !on_processor     ? (steps[r.step].on_device ? "device" : "host")
               : r.compute_bound ? "compute"
                                 : "memory"});
  }
  fmt::print("{}", table.str(120));
  if (!on_processor) {
    fmt::print("\n{} steps, {:.3f} ms on {}\n", steps.size(), total * 1e3, device_name(*model));
    return 0;
  }
  fmt::print(
      "\n{} steps, {:.3f} ms; at the limit of arithmetic ({:.0f} GFLOP/s) and memory ({:.0f} GB/s) {:.3f} ms: {:.0f} "
      "%\n",
      steps.size(), total * 1e3, peak.gflops, peak.copy_gbps, total_limit * 1e3, 100 * total_limit / total);
  return 0;
}

}  // namespace

Command profile_command() {
  return {"profile", "time of each step of a model, and its share of the machine's limit", [](CLI::App& app) {
            auto options = std::make_shared<Options>();
            options->add_model(app);
            options->add_flags(app);
            options->add_records(app);
            options->inputs.add_flags(app);
            app.add_option("--runs", options->runs, "measured runs")->check(CLI::PositiveNumber);
            app.add_option("--top", options->top, "rows to print, the slowest first")->check(CLI::PositiveNumber);
            app.add_flag("--json", options->json, "one JSON document");
            return std::function<int()>([options] { return run(*options); });
          }};
}

}  // namespace heddle::tools
