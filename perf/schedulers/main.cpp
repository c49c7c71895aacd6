// Schedules of all origins of one pipeline beside each other: by hand, from files, and by Halide's own autoschedulers.
// Each is made, compiled and checked in a process of its own; those that are right are then timed in turns in this one.
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <thread>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "autoscheduler/measure_quiet.hpp"
#include "base/error.hpp"
#include "base/file.hpp"
#include "base/statistics.hpp"
#include "dsl/halide_error.hpp"
#include "ops/workload_json.hpp"
#include "perf/schedulers/halide_autoscheduler.hpp"
#include "perf/schedulers/loaded_kernel.hpp"
#include "perf/schedulers/subject.hpp"
#include "schedules/records.hpp"
#include "tools/operator_bench.hpp"
#include "tools/peak.hpp"

namespace heddle::perf {
namespace {

using autoscheduler::Descriptor;
using autoscheduler::TrialStatus;

struct Options {
  std::string app, op, shape, model, workload;
  std::vector<std::string> attributes;
  std::vector<std::string> found;  ///< NAME=FILE
  std::vector<std::string> halide = halide_autoschedulers();
  int threads = 1, width = 0, height = 0;
  double limit = 120, seconds = 0.5;
  bool on_request = false, keep_sources = false, no_hand = false, list = false;
  std::string write_workload, write_pipeline;
};

/// Schedules of one algorithm are compared: Halide's autoschedulers know no Winograd.
constexpr bool plain_sums = true;

/// The kernel of a model that computes most.
Workload largest_kernel(const std::string& path, const Operators& operators, const Target& target, int threads) {
  const auto grouped =
      graph::prepare(graph::read_model(path, operators), target, {.threads = threads, .exact = plain_sums});
  const Workload* largest = nullptr;
  for (const auto& group : grouped.groups)
    if (group.workload && group.workload->symbols().empty() &&
        (largest == nullptr || group.workload->flops().value() > largest->flops().value()))
      largest = &*group.workload;
  if (largest == nullptr)
    throw Error(ErrorCode::unsupported, fmt::format("{} becomes no kernel with fixed extents", path));
  return *largest;
}

Workload read_workload(const Options& options, const Operators& operators, const Target& target) {
  if (!options.model.empty()) return largest_kernel(options.model, operators, target, options.threads);
  if (!options.workload.empty()) return workload_from_json(Json::parse(read_file(options.workload)), operators);
  const auto request = tools::parse_shape(operators.get(options.op), options.shape, options.attributes);
  return tools::operator_workload(request, target, options.threads, plain_sums);
}

/// One schedule in the comparison.
struct Contender {
  std::string name, source;
  bool ours = true;                       ///< not one of Halide's autoschedulers
  std::function<Json(int module)> build;  ///< {"symbol": ..., "schedule": ...}, in a process of its own
  std::string packed_as;                  ///< a schedule's text that says how operands are packed
  Descriptor module;
  TrialStatus status = TrialStatus::ok;
  std::string message, symbol, schedule;
  double make_seconds = 0, alone_seconds = 0;  ///< alone: the better of two runs in its own process
  std::unique_ptr<LoadedKernel> kernel;
  std::vector<double> samples;
};

std::vector<Contender> contenders(const Subject& subject, const Options& options, const Target& target) {
  std::vector<Contender> all;
  if (!options.no_hand) {
    Contender& hand = all.emplace_back();
    hand.name = "hand";
    hand.source = subject.hand_source();
    hand.packed_as = hand.schedule = subject.hand_schedule();
    hand.build = [&subject](int module) -> Json { return {{"symbol", subject.build_hand(module)}}; };
  }
  for (const std::string& entry : options.found) {
    const auto equals = entry.find('=');
    if (equals == std::string::npos)
      throw Error(ErrorCode::invalid_argument, fmt::format("--schedules {}: expected NAME=FILE", entry));
    Contender& found = all.emplace_back();
    found.name = entry.substr(0, equals);
    found.source = entry.substr(equals + 1);
    found.packed_as = found.schedule = read_file(found.source);
    found.build = [&subject, text = found.schedule](int module) -> Json {
      return {{"symbol", subject.build_found(text, module)}};
    };
  }
  for (const std::string& name : options.halide) {
    if (name.empty()) continue;  // how the command line says none
    Contender& automatic = all.emplace_back();
    automatic.name = name;
    automatic.ours = false;
    automatic.source = "Halide's autoscheduler " + name;
    for (const auto& [key, value] : autoscheduler_parameters(name, target.machine, options.threads))
      automatic.source += fmt::format(" {}={}", key, value);
    automatic.build = [&subject, name, target, threads = options.threads](int module) -> Json {
      const BarePipeline bare = subject.bare();
      const std::string schedule = schedule_automatically(bare, name, target, threads);
      build_pipeline(bare, name, target, false, module);
      return {{"symbol", name}, {"schedule", schedule}};
    };
  }
  return all;
}

/// Makes, checks and runs it where it can do no harm.
void try_alone(Contender& c, const Subject& subject, const Options& options, const std::vector<int>& cpus) {
  c.module = autoscheduler::anonymous_file("module");
  const auto task = [&]() -> Json {
    Json answer = c.build(c.module.get());
    LoadedKernel kernel(c.module.get(), answer["symbol"], options.threads, subject.buffers(c.packed_as));
    const runtime::Pool::Caller caller(runtime::Pool::shared());
    kernel.buffers().fill();
    kernel.run();
    answer["difference"] = kernel.buffers().difference();
    answer["seconds"] = std::min(kernel.seconds_of(1), kernel.seconds_of(1));
    return answer;
  };
  const auto outcome = run_isolated(task, options.limit, cpus);
  c.status = outcome.status;
  c.message = outcome.message;
  c.make_seconds = outcome.seconds;
  if (c.status != TrialStatus::ok) return;
  c.symbol = outcome.answer["symbol"];
  if (outcome.answer.contains("schedule")) c.schedule = outcome.answer["schedule"];
  c.alone_seconds = outcome.answer["seconds"];
  c.message = outcome.answer["difference"];
  if (!c.message.empty()) c.status = TrialStatus::wrong;
}

void wait_for_quiet(autoscheduler::TimingLock& lock) {
  while (!lock.try_exclusive()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

/// Some samples of each, forwards and backwards, so that what slows the machine for a while slows all.
void take_turn(std::vector<Contender>& all, double seconds) {
  constexpr double shortest = 20e-6;  // below this the clock's own cost shows
  for (const bool backwards : {false, true})
    for (std::size_t i = 0; i < all.size(); ++i) {
      Contender& c = all[backwards ? all.size() - 1 - i : i];
      if (!c.kernel) continue;
      const int runs =
          c.alone_seconds >= shortest ? 1 : static_cast<int>(shortest / std::max(c.alone_seconds, 1e-8)) + 1;
      c.kernel->seconds_of(runs);  // its data comes back into the caches
      double spent = 0;
      do {
        c.samples.push_back(c.kernel->seconds_of(runs));
        spent += c.samples.back() * runs;
      } while (spent < seconds / 2);
    }
}

Json report(const Contender& c, bool keep_source) {
  Json json = {{"name", c.name}, {"source", c.source}, {"status", to_string(c.status)}, {"make_s", c.make_seconds}};
  if (!c.message.empty()) json["message"] = c.message;
  if (keep_source && !c.schedule.empty()) json["schedule"] = c.schedule;
  if (c.status != TrialStatus::ok) return json;
  json["alone_ms"] = c.alone_seconds * 1e3;
  json["in_turns"] = !c.samples.empty();
  const auto& samples = c.samples.empty() ? std::vector<double>{c.alone_seconds} : c.samples;
  json["samples"] = samples.size();
  json["median_ms"] = median(samples) * 1e3;
  json["p10_ms"] = quantile(samples, 0.1) * 1e3;
  json["p90_ms"] = quantile(samples, 0.9) * 1e3;
  return json;
}

int run(const Options& options) {
  if (options.list) {
    for (const App& app : apps()) fmt::print("{}: {}, {}x{}\n", app.name, app.summary, app.width, app.height);
    return 0;
  }
  const Operators operators;
  const Target target = host_target();
  std::unique_ptr<Subject> subject;
  if (!options.app.empty()) {
    const App& app = find_app(options.app);
    const int width = options.width > 0 ? options.width : app.width;
    const int height = options.height > 0 ? options.height : app.height;
    if (!options.write_pipeline.empty()) {
      AppPipeline pipeline = app.instantiate(width, height);
      Halide::serialize_pipeline(Halide::Pipeline(pipeline.output()), options.write_pipeline);
      return 0;
    }
    subject = app_subject(app, width, height, target, options.threads, !options.found.empty());
  } else {
    Workload workload = read_workload(options, operators, target);
    if (!options.write_workload.empty()) {
      write_file(options.write_workload, workload_to_json(workload).dump(1) + "\n");
      return 0;
    }
    subject = workload_subject(std::move(workload), target);
  }

  // Before anything has threads.
  const auto cpus = autoscheduler::divide_processors(options.threads).timing;
  std::vector<Contender> all = contenders(*subject, options, target);
  for (Contender& c : all) {
    fmt::print(stderr, "{}: {}...", subject->name(), c.name);
    std::cerr.flush();
    try_alone(c, *subject, options, cpus);
    fmt::print(stderr, " {}\n",
               c.status == TrialStatus::ok ? fmt::format("{:.3f} ms", c.alone_seconds * 1e3)
                                           : fmt::format("{}: {}", to_string(c.status), c.message));
  }

  ::cpu_set_t mask;
  CPU_ZERO(&mask);
  for (const int cpu : cpus) CPU_SET(static_cast<std::size_t>(cpu), &mask);
  ::sched_setaffinity(0, sizeof(mask), &mask);
  autoscheduler::TimingLock lock;
  wait_for_quiet(lock);
  tools::Peak peak = tools::measure_peak(options.threads, false);
  lock.unlock();
  const runtime::Pool::Caller caller(runtime::Pool::shared());
  const runtime::FloatMode mode(true);
  double fastest = 0;
  for (const Contender& c : all)
    if (c.status == TrialStatus::ok && (fastest == 0 || c.alone_seconds < fastest)) fastest = c.alone_seconds;
  for (Contender& c : all) {
    // What is slower by far would only make the others wait: its two runs alone say enough.
    constexpr double hopeless = 20, slow = 0.1;
    if (c.status != TrialStatus::ok || (c.alone_seconds > slow && c.alone_seconds > hopeless * fastest)) continue;
    c.kernel = std::make_unique<LoadedKernel>(c.module.get(), c.symbol, options.threads, subject->buffers(c.packed_as));
    c.kernel->buffers().fill();
    c.kernel->run();
  }
  constexpr int turns = 10;
  const auto turn = [&] {
    wait_for_quiet(lock);
    take_turn(all, options.seconds / turns);
    lock.unlock();
  };
  if (options.on_request) {
    // Another program measures between the turns: a line asks for one, a line says that it is over.
    fmt::print("{}\n", Json({{"ready", true}, {"cpus", cpus}}).dump());
    std::cout.flush();
    for (std::string line; std::getline(std::cin, line);) {
      turn();
      fmt::print("{}\n", Json({{"turn", true}}).dump());
      std::fflush(stdout);
    }
  } else {
    for (int i = 0; i < turns; ++i) turn();
  }
  wait_for_quiet(lock);
  peak = best(peak, tools::measure_peak(options.threads, false));
  lock.unlock();

  Json json = {{"name", subject->name()},        {"threads", options.threads}, {"machine", machine_name()},
               {"target", target.name},          {"peak_gflops", peak.gflops}, {"flops", subject->flops()},
               {"halide", HALIDE_VERSION_MAJOR}, {"contenders", Json::array()}};
  for (const Contender& c : all) json["contenders"].push_back(report(c, options.keep_sources));
  fmt::print("{}\n", json.dump(options.on_request ? -1 : 2));
  // What Halide's autoschedulers do not manage is a result; what ours get wrong is a failure.
  return std::all_of(all.begin(), all.end(), [](const Contender& c) { return !c.ours || c.status == TrialStatus::ok; })
             ? 0
             : 1;
}

}  // namespace
}  // namespace heddle::perf

int main(int argc, char** argv) {
  heddle::perf::Options options;
  CLI::App app("Times a pipeline's schedules in turns: by hand, from files, and by Halide's autoschedulers; JSON.");
  app.add_option("--app", options.app, "one of the image pipelines in perf/apps; --list names them");
  app.add_flag("--list", options.list, "the apps");
  app.add_option("--width", options.width, "of the app's output");
  app.add_option("--height", options.height, "of the app's output");
  app.add_option("--operator", options.op, "an operator of the catalog, as for heddle tune");
  app.add_option("--shape", options.shape, "as for heddle tune");
  app.add_option("--attribute", options.attributes, "NAME=JSON of the operator");
  app.add_option("--model", options.model, "the kernel of an ONNX model that computes most");
  app.add_option("--workload", options.workload, "a workload's JSON document");
  app.add_option("--threads", options.threads, "that run the kernels")->check(CLI::Range(1, 256));
  app.add_option("--schedules", options.found, "NAME=FILE: schedules from files");
  app.add_option("--autoschedulers", options.halide, "Halide's, by name; all four if not given, \"\" for none");
  app.add_option("--limit", options.limit, "seconds in which a schedule is made, compiled, checked and run twice");
  app.add_option("--seconds", options.seconds, "of timing, each schedule");
  app.add_flag("--no-hand", options.no_hand, "without the schedule by hand");
  app.add_flag("--turns-on-request", options.on_request, "a turn for each line of the standard input");
  app.add_flag("--keep-schedules", options.keep_sources, "the schedules themselves too");
  app.add_option("--write-workload", options.write_workload, "write the workload's document and end");
  app.add_option("--write-pipeline", options.write_pipeline, "write the app as Halide's serialised pipeline and end");
  CLI11_PARSE(app, argc, argv);
  try {
    return heddle::translate_halide_errors("Halide", [&] { return heddle::perf::run(options); });
  } catch (const std::exception& error) {
    fmt::print(stderr, "perf_schedulers: {}\n", error.what());
    return 1;
  }
}
