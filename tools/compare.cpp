// Several schedules of one operator: each checked, then timed in turns, so that what drifts hits all alike.
#include <memory>

#include <fmt/format.h>

#include "tools/command.hpp"
#include "tools/compare_report.hpp"
#include "tools/operator_bench.hpp"
#include "tools/peak.hpp"
#include "tools/terminal.hpp"

namespace heddle::tools {
namespace {

struct Options : ModelOptions {
  std::string shape;
  std::vector<std::string> attributes;
  std::vector<std::string> names = {"hand"};
  double seconds = 1.0;
  bool json = false;
  bool loops = false;
  std::string html;
};

int run(const Options& options) {
  const Operators operators = load_operators(options);
  const OperatorRequest request = operator_request(operators, options.model, options.shape, options.attributes);
  ComparisonReport report;
  report.title = fmt::format("{} {}", options.model, options.shape);
  report.threads = options.thread_count();
  std::vector<std::unique_ptr<OperatorBench>> benches;
  {
    Progress progress;
    // Every schedule on every target; a family is for one kind of them, "hand" for all.
    const auto targets = options.targets.empty() ? std::vector<std::string>{"cpu"} : options.targets;
    const std::size_t total_entries = targets.size() * options.names.size();
    for (std::size_t i = 0; i < total_entries; ++i) {
      progress.update("compiling", static_cast<int>(i), static_cast<int>(total_entries));
      const std::string& name = options.names[i % options.names.size()];
      ModelOptions one = options;
      one.targets = {targets[i / options.names.size()]};
      benches.push_back(
          std::make_unique<OperatorBench>(request, one, name, benches.empty() ? nullptr : benches.front().get()));
      OperatorBench& bench = *benches.back();
      report.entries.push_back({targets.size() == 1 ? name : fmt::format("{} {}", one.targets[0], name),
                                bench.choice().source,
                                bench.choice().implementation.print(),
                                bench.loops(),
                                bench.check(),
                                {}});
    }
    report.peak = measure_peak(options.thread_count());
    report.numbers = multiplied(benches.front()->workload());
    report.flops = static_cast<double>(benches.front()->flops());
    report.bytes = static_cast<double>(benches.front()->bytes());
    constexpr int least_rounds = 40;
    double total = 0;
    for (int round = 0; round < least_rounds || total < options.seconds * static_cast<double>(benches.size());
         ++round) {
      progress.update("timing", std::min(round, least_rounds), least_rounds);
      // The order alternates, or the first would always find the caches as the last one left them.
      for (std::size_t j = 0; j < benches.size(); ++j) {
        const std::size_t i = round % 2 == 0 ? j : benches.size() - 1 - j;
        benches[i]->run();  // what it reads is there again, and in the caches
        const auto times = sample([&] { return benches[i]->time_once(); }, 1, 0);
        report.entries[i].seconds.push_back(times.front());
        total += times.front();
      }
    }
  }
  report.peak = best(report.peak, measure_peak(options.thread_count(), false));
  if (!options.html.empty()) write_file(options.html, report.html());
  fmt::print("{}", options.json ? report.json().dump(2) + "\n" : report.text(options.loops));
  return std::all_of(report.entries.begin(), report.entries.end(), [](const auto& e) { return e.mismatch.empty(); })
             ? 0
             : 1;
}

}  // namespace

Command compare_command() {
  return {
      "compare", "set schedules of one operator side by side: checked, timed in turns, with a verdict",
      [](CLI::App& app) {
        auto options = std::make_shared<Options>();
        app.add_option("operator", options->model, "the operator's name")->required();
        options->add_flags(app);
        options->add_records(app);
        app.add_option("--shape", options->shape, "as for bench");
        app.add_option("--attribute", options->attributes, "NAME=JSON of the operator");
        app.add_option("--schedules", options->names,
                       "what to compare: hand, auto (a record, else hand), FAMILY[:KNOB=N,...] or .sched files")
            ->required();
        app.add_option("--seconds", options->seconds, "measure each at least this long")->check(CLI::NonNegativeNumber);
        app.add_flag("--loops", options->loops, "print the loop nests too");
        app.add_option("--html", options->html, "write a report with the times drawn");
        app.add_flag("--json", options->json, "one JSON document");
        return std::function<int()>([options] { return run(*options); });
      }};
}

}  // namespace heddle::tools
