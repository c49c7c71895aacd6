#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.hpp"
#include "base/file.hpp"
#include "dsl/schedule_cpp.hpp"
#include "ops/halide_rebuild.hpp"
#include "ops/workload_json.hpp"
#include "tools/command.hpp"
#include "tools/operator_bench.hpp"
#include "tools/peak.hpp"
#include "tools/terminal.hpp"
#include "tools/tune_model.hpp"
#include "tools/tuning.hpp"

namespace heddle::tools {
namespace {

using autoscheduler::Trial;
using autoscheduler::TrialStatus;

/// As shells say it of a program that SIGINT ended.
constexpr int interrupted_exit = 130;

struct Options : ModelOptions {
  std::string shape;
  std::vector<std::string> attributes;
  std::string records = "sqlite:tune.db";
  std::string output;
  int trials = 64;
  std::uint64_t seed = 1;
  double seconds = 0;
  bool no_families = false;
  bool no_transfer = false;
  bool remote = false;
  std::string machine;  ///< of the fleet
  bool json = false;
};

/// With --remote, whose workers measure; the options that were not given are then those of their machine.
/// Nothing if it was stopped before there was a worker.
std::optional<autoscheduler::Fleet> fleet_of(Options& options) {
  for (const Target& target : options.chosen_targets())
    if (target.is_gpu())
      throw Error(ErrorCode::unsupported,
                  "workers measure for processors: leave --remote out, and tune on the machine "
                  "that has the device");
  auto fleet = find_fleet(options.records, options.machine, options.seconds, &InterruptGuard::interrupted);
  if (!fleet) return fleet;
  if (options.targets.empty()) options.targets = {fleet->machine.target};
  if (options.threads == 0) options.threads = fleet->machine.cores;
  return fleet;
}

int stopped_before_a_worker() {
  fmt::print(stderr, "heddle: stopped before there was a worker; nothing was measured\n");
  return interrupted_exit;
}

/// "2 crashed, 1 timed_out", or "".
std::string failures(const std::vector<Trial>& trials) {
  std::map<TrialStatus, int> counts;
  for (const Trial& trial : trials)
    if (trial.measurement.status != TrialStatus::ok) ++counts[trial.measurement.status];
  std::vector<std::string> texts;
  for (const auto& [status, count] : counts) texts.push_back(fmt::format("{} {}", count, to_string(status)));
  return fmt::format("{}", fmt::join(texts, ", "));
}

std::string short_time(double seconds) {
  if (seconds < 99.5) return fmt::format("{:.0f} s", seconds);
  return fmt::format("{:.0f} min", seconds / 60);
}

/// The bar and what stands beside it.
class Watch {
 public:
  /// `peak`: GFLOP/s that such products reach here; 0: nobody knows.
  Watch(const Options& options, double flops, double peak) : options_(options), flops_(flops), peak_(peak) {}

  void update(const std::vector<Trial>& trials) {
    const auto finalists = std::ranges::count_if(trials, [](const Trial& t) { return !t.process_seconds.empty(); });
    if (finalists > 0) {
      progress_.update("fresh processes", static_cast<int>(finalists), autoscheduler::SearchOptions{}.finalists);
      return;
    }
    if (!trials.empty() && trials.back().recalled) return;
    announce(trials);
    double best = 0;
    int measured = 0;
    for (const Trial& trial : trials) {
      measured += trial.recalled ? 0 : 1;
      if (std::isfinite(trial.score) && (best == 0 || trial.score < best)) best = trial.score;
    }
    std::string detail;
    if (best > 0) {
      detail = fmt::format("best {:.4f} ms", best * 1e3);
      if (peak_ > 0) detail += fmt::format(", {:.0f} % of peak", flops_ / best * 1e-7 / peak_);
    }
    if (const auto failed = failures(trials); !failed.empty()) detail += fmt::format(", {}", failed);
    const double passed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    if (measured > 0) {
      double left = passed / measured * (options_.trials - static_cast<double>(trials.size()));
      if (options_.seconds > 0) left = std::min(left, options_.seconds - passed);
      detail += fmt::format(", {} left", short_time(std::max(0.0, left)));
    }
    progress_.update("tuning", static_cast<int>(trials.size()), options_.trials, detail);
  }

  void wait(const std::string& why) { progress_.update("waits: " + why, 0, 0); }

  /// Says once how much of the work was done before.
  void announce(const std::vector<Trial>& trials) {
    const auto recalled = std::ranges::count_if(trials, &Trial::recalled);
    if (recalled > 0 && !announced_)
      fmt::print(stderr, "{} trial{} of this search {} in {} already\n", recalled, recalled == 1 ? "" : "s",
                 recalled == 1 ? "is" : "are", options_.records);
    announced_ = true;
  }

 private:
  const Options& options_;
  bool announced_ = false;
  double flops_;
  double peak_;
  Progress progress_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

struct Report {
  std::string name;
  const Options& options;
  const TuneResult& result;
  const Target& target;
  std::string machine;
  double flops = 0;
  Peak peak;
  DType numbers = DType::f32;  ///< that are multiplied

  double seconds() const { return result.seconds(); }
  double gflops() const { return seconds() > 0 ? flops / seconds() * 1e-9 : 0; }
  double reached() const { return peak.of(numbers); }
  double share() const { return reached() > 0 ? gflops() / reached() : 0; }
  /// 0 where the peak is no bound.
  double bounded_gflops() const {
    return bounded_by_fma_peak(result.search.candidate.implementation.variant) ? gflops() : 0;
  }
  bool valid() const { return peak.gflops == 0 || bounded_gflops() <= largest_valid_share * peak.gflops; }
};

Json to_json(const Trial& trial, const std::vector<autoscheduler::Sketch>& sketches) {
  Json json = {{"number", trial.number},
               {"origin", trial.origin},
               {"point", print(trial.point, sketches)},
               {"status", to_string(trial.measurement.status)},
               {"estimate_ms", trial.estimate * 1e3},
               {"compile_ms", trial.measurement.compile_seconds * 1e3},
               {"recalled", trial.recalled}};
  if (trial.prediction) json["prediction_ms"] = *trial.prediction * 1e3;
  if (trial.measurement.status == TrialStatus::ok) {
    json["median_ms"] = trial.measurement.median() * 1e3;
    json["score_ms"] = trial.score * 1e3;
  } else {
    json["message"] = trial.measurement.message;
  }
  for (const double seconds : trial.process_seconds) json["process_ms"].push_back(seconds * 1e3);
  return json;
}

Json to_json(const Report& report) {
  const auto& search = report.result.search;
  Json json = {{"name", report.name},
               {"target", report.target.name},
               {"threads", report.options.thread_count()},
               {"machine", report.machine},
               {"records", report.options.records},
               {"search", report.result.key},
               {"seed", report.options.seed},
               {"stopped", search.stopped},
               {"recalled", report.result.recalled},
               {"schedule", search.candidate.implementation.print()},
               {"estimate_ms", search.candidate.estimate * 1e3},
               {"trials", Json::array()}};
  if (search.best) {
    json["best"] = *search.best;
    json["median_ms"] = report.seconds() * 1e3;
    json["gflops"] = report.gflops();
    if (report.reached() > 0) {
      json["peak_gflops"] = report.reached();
      json["share_of_peak"] = report.share();
    }
    json["valid"] = report.valid();
  }
  for (const Trial& trial : search.trials) json["trials"].push_back(to_json(trial, report.result.sketches));
  return json;
}

/// The best ones; finalists by their fresh processes before the others.
std::string table(const Report& report, std::size_t most) {
  std::vector<const Trial*> order;
  for (const Trial& trial : report.result.search.trials)
    if (std::isfinite(trial.score)) order.push_back(&trial);
  std::ranges::stable_sort(order, [](const Trial* a, const Trial* b) {
    if (a->process_seconds.empty() != b->process_seconds.empty()) return b->process_seconds.empty();
    if (a->process_seconds.empty()) return a->score < b->score;
    return median(a->process_seconds) < median(b->process_seconds);
  });
  Table table({{"trial", true},
               {"ms", true},
               {"fresh ms", true},
               {"of peak", true},
               {"estimate", true},
               {"found by"},
               {"point"}});
  for (std::size_t i = 0; i < std::min(most, order.size()); ++i) {
    const Trial& trial = *order[i];
    const double fresh = trial.process_seconds.empty() ? 0 : median(trial.process_seconds);
    const double share =
        report.reached() > 0 ? report.flops / (fresh > 0 ? fresh : trial.score) * 1e-7 / report.reached() : 0;
    table.add({fmt::format("{}", trial.number), fmt::format("{:.4f}", trial.score * 1e3),
               fresh > 0 ? fmt::format("{:.4f}", fresh * 1e3) : "-", share > 0 ? fmt::format("{:.1f} %", share) : "-",
               fmt::format("{:.4f}", trial.estimate * 1e3), trial.origin, print(trial.point, report.result.sketches)});
  }
  return table.str();
}

void print_report(const Report& report) {
  const auto& search = report.result.search;
  if (report.target.is_gpu()) fmt::print("{}, {} on {}\n", report.name, report.target.name, report.machine);
  else
    fmt::print("{}, {} thread{}, {}\n", report.name, report.options.thread_count(),
               report.options.thread_count() == 1 ? "" : "s", report.target.name);
  if (search.best) {
    const auto failed = failures(search.trials);
    fmt::print("  {} trials{}\n\n{}\n", search.trials.size(), failed.empty() ? "" : fmt::format(", {}", failed),
               table(report, 10));
    fmt::print("trial {}: {:.4f} ms, {:.1f} GFLOP/s", *search.best, report.seconds() * 1e3, report.gflops());
    if (report.reached() > 0)
      fmt::print(", {:.1f} % of the {:.1f} that {} reach here", report.share() * 100, report.reached(),
                 products_of(report.numbers));
    fmt::print("\n");
  } else if (!search.stopped) {
    fmt::print("  estimated at {:.4f} ms, nothing was measured\n", search.candidate.estimate * 1e3);
  }
  if (search.best || !search.stopped) fmt::print("\n{}", search.candidate.implementation.print());
}

std::string schedule_file_text(const Report& report) {
  const auto& search = report.result.search;
  const std::string how =
      search.best ? fmt::format("trial {} of {}, {:.4f} ms", *search.best, search.trials.size(), report.seconds() * 1e3)
                  : fmt::format("by estimate, {:.4f} ms", search.candidate.estimate * 1e3);
  return fmt::format("# {}, {} threads, {}\n# {}\n# search {} in {}, seed {}\n{}", report.name,
                     report.options.thread_count(), report.target.name, how, report.result.key, report.options.records,
                     report.options.seed, search.candidate.implementation.print());
}

/// A schedule as a header for programs that have Halide and not Heddle.
std::string header_text(const Report& report, const Workload& workload) {
  const Implementation& found = report.result.search.candidate.implementation;
  if (!found.packings.empty() || found.variant != "direct")
    throw Error(ErrorCode::unsupported,
                "the schedule found needs another form of the algorithm, which C++ outside of Heddle does not have; "
                "write it as text: --output FILE.sched");
  const std::string name = std::filesystem::path(report.options.model).stem().string();
  return schedule_header(schedule_to_cpp(found.schedule, workload.instantiate()),
                         "schedule_" + ops::readable_name(name), schedule_file_text(report));
}

bool is_header(const std::string& file) {
  const auto extension = std::filesystem::path(file).extension();
  return extension == ".h" || extension == ".hpp";
}

int run_model(Options options) {
  if (!std::filesystem::exists(options.model))
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'{}' is no model's file; an operator needs --shape, as for heddle bench", options.model));
  if (is_package(options.model))
    throw Error(ErrorCode::invalid_argument,
                "a package is compiled already: tune its model, then compile that with the same --records");
  if (options.targets.size() > 1)
    throw Error(ErrorCode::invalid_argument, "tune takes one target: a schedule is found for one kind of machine");
  RecordStore store(options.records);
  const InterruptGuard guard;
  ModelTuneRequest request{
      options.modules, !options.no_families, !options.no_transfer, options.trials, options.seconds, options.seed, {}};
  if (options.remote) {
    request.fleet = fleet_of(options);
    if (!request.fleet) return stopped_before_a_worker();
  }
  const ModelTuneResult result = tune_model(options, request, store, &InterruptGuard::interrupted);
  if (options.json) {
    Json json = result.json();
    json["name"] = options.model;
    json["records"] = store.name();
    json["threads"] = options.thread_count();
    fmt::print("{}\n", json.dump(2));
  } else {
    fmt::print("{}", result.text());
  }
  if (result.stopped) {
    fmt::print(stderr, "heddle: stopped after {} of {} trials, which are in {}; the same command goes on from there\n",
               result.trials, options.trials, store.name());
    return interrupted_exit;
  }
  fmt::print(stderr, "use it: heddle compile {}{} --records {} -o PACKAGE\n", options.model,
             options.targets.empty() ? "" : " --target " + options.targets[0], store.name());
  return 0;
}

bool names_document(const Options& options) {
  return options.shape.empty() && std::filesystem::path(options.model).extension() == ".json";
}

/// A fused group has no name that a command line could say: it is given as records hold it.
Workload read_document(const Options& options, const Operators& operators) {
  Workload workload = workload_from_json(Json::parse(read_file(options.model), nullptr, false), operators);
  if (const int threads = workload.composition().threads; threads != options.thread_count())
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} is a workload for {} threads: give --threads {}, or make it for {}", options.model,
                            threads, threads, options.thread_count()));
  return workload;
}

int run(const Options& given) {
  if (!given.remote && !given.machine.empty())
    throw Error(ErrorCode::invalid_argument, "--machine chooses among the workers of --remote");
  if (!names_operator(given.model, given.shape) && !names_document(given)) return run_model(given);
  Options options = given;
  const Operators operators = load_operators(options);
  std::optional<OperatorRequest> request;
  if (!names_document(options)) request = operator_request(operators, options.model, options.shape, options.attributes);
  if (options.targets.size() > 1)
    throw Error(ErrorCode::invalid_argument, "tune takes one target: a schedule is found for one kind of machine");
  RecordStore store(options.records);
  const InterruptGuard guard;
  TuneRequest tuning;
  if (options.remote) {
    tuning.fleet = fleet_of(options);
    if (!tuning.fleet) return stopped_before_a_worker();
  }
  options.records = store.name();  // a password has no place in reports
  tuning.target = options.chosen_targets().at(0);
  if (tuning.fleet) tuning.target.machine = tuning.fleet->machine.machine(tuning.target.name);
  const Target& target = tuning.target;
  if (target.is_gpu()) {
    tuning.device = options.device;
    tuning.device_machine = machine_or_none(target, options);
  }
  const Workload workload = request ? operator_workload(*request, target, options.thread_count(), options.exact,
                                                        dtype_from_string(options.precision))
                                    : read_document(options, operators);
  tuning.workload = &workload;
  tuning.modules = options.modules;
  tuning.families = !options.no_families;
  tuning.transfer = !options.no_transfer;
  tuning.seed = options.seed;
  autoscheduler::SearchOptions search;
  search.trials = options.trials;
  search.seconds = options.seconds;

  const double flops = static_cast<double>(workload.flops().value());
  const DType numbers = multiplied(workload);
  // What FMAs reach here says nothing of other machines.
  const bool measured = !target.is_gpu() && options.trials > 0 && !tuning.fleet;
  const Peak peak = measured ? measure_peak(options.thread_count(), false) : Peak{};
  std::optional<TuneResult> tuned;
  try {
    Watch watch(options, flops, peak.of(numbers));
    if (tuning.fleet) tuning.fleet->waits = [&](const std::string& why) { watch.wait(why); };
    tuned =
        Tuner(tuning, store, &InterruptGuard::interrupted)
            .run(search, [&](const std::vector<Trial>& trials) { watch.update(trials); }, &InterruptGuard::interrupted);
  } catch (const autoscheduler::Stopped&) {
    fmt::print(
        stderr,
        "heddle: stopped while schedules were weighed, before a trial of this run; trials of earlier runs are in "
        "{}; the same command goes on from there\n",
        options.records);
    return interrupted_exit;
  }
  const TuneResult& result = *tuned;
  Report report{fmt::format("{} {}", options.model, options.shape),
                options,
                result,
                target,
                tuning.machine(),
                flops,
                peak,
                numbers};
  if (measured && !result.search.stopped)
    report.peak = peak_after(peak, options.thread_count(), report.bounded_gflops());
  if (options.json) fmt::print("{}\n", to_json(report).dump(2));
  else print_report(report);
  if (result.search.stopped) {
    fmt::print(stderr, "heddle: stopped after {} of {} trials, which are in {}; the same command goes on from there\n",
               result.search.trials.size(), options.trials, options.records);
    return interrupted_exit;
  }
  if (!options.output.empty())
    write_file(options.output, is_header(options.output) ? header_text(report, workload) : schedule_file_text(report));
  if (!report.valid()) {
    print_invalid_run(report.share(), "The trials are kept; repeat it to measure the peak again");
    return 1;
  }
  return 0;
}

}  // namespace

Command tune_command() {
  return {"tune", "search schedules for an operator or for the kernels of a model, by measuring", [](CLI::App& app) {
            auto options = std::make_shared<Options>();
            app.add_option("what", options->model,
                           "an operator's name with --shape, a pipeline of Halide's (*.hlpipe), a workload's document "
                           "(*.json), or an ONNX model")
                ->required();
            options->add_flags(app);
            app.add_option("--shape", options->shape, "of an operator, as of `heddle bench`");
            app.add_option("--attribute", options->attributes, "NAME=JSON of the operator");
            app.add_option("--trials", options->trials,
                           "schedules to compile, check and time; 0: take the best estimate, measure nothing")
                ->check(CLI::NonNegativeNumber)
                ->capture_default_str();
            app.add_option("--seed", options->seed, "of the search: equal seeds try the same, timings allowing")
                ->capture_default_str();
            app.add_option("--records", options->records,
                           "where every trial is kept, and from where a search that was stopped goes on")
                ->capture_default_str();
            app.add_option("--time", options->seconds, "no new trial after this long: 90s, 10m, 2h")
                ->transform(CLI::AsNumberWithUnit(std::map<std::string, double>{{"s", 1}, {"m", 60}, {"h", 3600}}));
            app.add_flag("--remote", options->remote,
                         "leave measuring to the workers that were started with the same --records");
            app.add_option("--machine", options->machine,
                           "with --remote: the kind of machine to tune for, or a part of its name, where there are "
                           "workers of several");
            app.add_flag("--no-families", options->no_families, "leave the hand-written families out of the search");
            app.add_flag("--no-transfer", options->no_transfer,
                         "do not begin with the best that other searches have recorded of the same kernel");
            app.add_option("--output", options->output,
                           "write the winner's schedule here: text, or C++ that calls Halide if it ends with .h");
            app.add_flag("--json", options->json, "one JSON document");
            return std::function<int()>([options] { return run(*options); });
          }};
}

}  // namespace heddle::tools
