#include "tools/tune_model.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <memory>

#include <fmt/format.h>

#include "base/error.hpp"
#include "tools/execution.hpp"
#include "tools/peak.hpp"
#include "tools/statistics.hpp"
#include "tools/terminal.hpp"

namespace heddle::tools {
namespace {

/// Trials between two decisions of which kernel is next.
constexpr int slice = 8;

/// What is hoped for of a kernel whose distance from the FMA peak nobody knows, or that memory bounds.
constexpr double unknown_hope = 0.1;

struct Task {
  TunedKernel kernel;
  const Workload* workload = nullptr;
  double best = 0;         ///< seconds of one step, by the search's own measure
  double first = 0;        ///< the same of the schedule that the model was compiled with
  double last_gain = 0;    ///< seconds of one run of the model that the last slice saved
  double hope = 0;         ///< seconds of one run of the model that more trials might save
  bool exhausted = false;  ///< the space was tried whole, or nothing in it works
  std::unique_ptr<Tuner> tuner = {};

  double promise() const { return exhausted || !kernel.skipped.empty() ? 0 : std::max(last_gain, hope); }
};

/// Median seconds of each step of the model.
std::vector<double> profile(const runtime::Model& model, runtime::Session& session) {
  constexpr int runs = 15;
  std::vector<std::vector<double>> samples(model.main().steps.size());
  session.run();
  for (int i = 0; i < runs; ++i) {
    session.run();
    const auto times = session.profile();
    for (std::size_t s = 0; s < times.size(); ++s)
      samples[s].push_back(static_cast<double>(times[s].duration_ns) * 1e-9);
  }
  std::vector<double> medians;
  for (const auto& of_step : samples) medians.push_back(median(of_step));
  return medians;
}

/// The distinct kernels with the time that their steps take.
std::vector<Task> tasks_of(const graph::Compiled& compiled, const plan::Function& steps_of,
                           const std::vector<double>& seconds, double peak_gflops) {
  const auto& module = compiled.modules.at(0);
  std::map<std::string, Task> by_symbol;
  std::size_t next = 0;
  for (const auto& group : module.groups()) {
    if (!group.workload) continue;
    const auto& chosen = module.kernels.at(next++);
    Task& task = by_symbol[chosen.symbol];
    task.workload = &*group.workload;
    task.kernel.workload = group.workload->text();
    if (!chosen.obstacle.empty())
      task.kernel.skipped = fmt::format("it runs on the processor beside the device: {}", chosen.obstacle);
    else if (!group.workload->symbols().empty())
      task.kernel.skipped = "its extents are symbolic; give them with --dim NAME=SIZE";
  }
  for (std::size_t s = 0; s < seconds.size(); ++s) {
    const auto& step = steps_of.steps[s];
    const auto found = by_symbol.find(step.name);
    if (step.kind != plan::StepKind::kernel || found == by_symbol.end()) continue;
    TunedKernel& kernel = found->second.kernel;
    if (kernel.count == 0) kernel.label = step.label;
    kernel.seconds_before += seconds[s];
    ++kernel.count;
  }
  std::vector<Task> tasks;
  for (auto& [symbol, task] : by_symbol) {
    if (task.kernel.count == 0) continue;
    const double all = task.kernel.seconds_before;
    task.kernel.seconds_before /= task.kernel.count;
    task.kernel.seconds_after = task.kernel.seconds_before;
    // How far from the FMA peak it is bounds what can be won.
    double share = 1 - unknown_hope;
    if (task.kernel.skipped.empty() && peak_gflops > 0) {
      const double limit = static_cast<double>(task.workload->flops().value()) / (peak_gflops * 1e9);
      share = std::clamp(limit / task.kernel.seconds_before, 0.5, 1.0);
    }
    task.hope = all * std::max(0.02, 1 - share);
    tasks.push_back(std::move(task));
  }
  std::ranges::stable_sort(tasks, std::greater{},
                           [](const Task& t) { return t.kernel.seconds_before * t.kernel.count; });
  return tasks;
}

class ModelTuner {
 public:
  ModelTuner(const ModelOptions& options, const ModelTuneRequest& request, RecordStore& store,
             std::function<bool()> stop, const Target& target)
      : options_(options), request_(request), store_(store), stop_(std::move(stop)), target_(target) {
    if (target.is_gpu()) device_machine_ = machine_or_none(target, options);
  }

  ModelTuneResult run(std::vector<Task> tasks, double model_seconds) {
    ModelTuneResult result;
    if (request_.fleet) {
      survey(tasks, result);
      model_seconds = 0;
      for (const Task& task : tasks) model_seconds += task.kernel.seconds_before * task.kernel.count;
    }
    result.model_seconds_before = model_seconds;
    while (!result.stopped && result.trials < request_.trials && !out_of_time()) {
      const auto next = std::ranges::max_element(tasks, {}, &Task::promise);
      if (next == tasks.end() || next->promise() <= 0) break;
      show(tasks, *next, result.trials);
      const int before = next->kernel.trials;
      if (!search(*next, std::min(before + slice, before + request_.trials - result.trials), 0)) {
        result.stopped = stop_();
        if (result.stopped) break;
      }
      result.trials += next->kernel.trials - before;
    }
    // What won is measured again in fresh processes, which is what compiling goes by.
    for (Task& task : tasks)
      if (task.kernel.trials > 0 && !result.stopped) {
        progress_.update("fresh processes", 0, 0, task.kernel.label);
        result.stopped = !search(task, task.kernel.trials, autoscheduler::SearchOptions{}.finalists) && stop_();
      }
    for (Task& task : tasks) {
      if (task.first > 0 && task.best > 0)
        task.kernel.seconds_after = task.kernel.seconds_before * std::min(1.0, task.best / task.first);
      result.kernels.push_back(task.kernel);
    }
    return result;
  }

 private:
  std::optional<autoscheduler::Fleet> fleet() {
    auto fleet = request_.fleet;
    if (fleet) fleet->waits = [this](const std::string& why) { progress_.update("waits: " + why, 0, 0); };
    return fleet;
  }
  bool out_of_time() const { return request_.seconds > 0 && passed() > request_.seconds; }
  double passed() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

  /// Gives each kernel the time of its first trial, which is what the model is compiled with.
  void survey(std::vector<Task>& tasks, ModelTuneResult& result) {
    for (Task& task : tasks) {
      if (result.trials >= request_.trials || out_of_time() || result.stopped) return;
      if (!task.kernel.skipped.empty()) continue;
      progress_.update("first trials", result.trials, static_cast<int>(tasks.size()), task.kernel.label);
      result.stopped = !search(task, 1, 0) && stop_();
      result.trials += task.kernel.trials;
      if (task.first > 0) task.kernel.seconds_before = task.kernel.seconds_after = task.first;
      task.hope = task.kernel.seconds_before * task.kernel.count * unknown_hope;
    }
  }

  void show(const std::vector<Task>& tasks, const Task& next, int trials) {
    double gained = 0;
    for (const Task& task : tasks)
      if (task.first > 0)
        gained += task.kernel.count * task.kernel.seconds_before * std::max(0.0, 1 - task.best / task.first);
    double left = trials > 0 ? passed() / trials * (request_.trials - trials) : 0;
    if (request_.seconds > 0)
      left = trials > 0 ? std::min(left, request_.seconds - passed()) : request_.seconds - passed();
    progress_.update("tuning", trials, request_.trials,
                     fmt::format("{:.2f} ms gained, {:.2f} hoped of {}{}", gained * 1e3, next.promise() * 1e3,
                                 next.kernel.label, left > 0 ? fmt::format(", {:.0f} s left", left) : ""));
  }

  /// Goes on with the search of a kernel up to `trials` in all; false if it ended before.
  bool search(Task& task, int trials, int finalists) {
    autoscheduler::SearchOptions options;
    options.trials = trials;
    options.finalists = finalists;
    if (request_.seconds > 0) options.seconds = std::max(1e-3, request_.seconds - passed());
    const double before = task.best;
    TuneResult found;
    try {
      if (!task.tuner)
        task.tuner = std::make_unique<Tuner>(TuneRequest{.workload = task.workload,
                                                         .target = target_,
                                                         .modules = request_.modules,
                                                         .families = request_.families,
                                                         .transfer = request_.transfer,
                                                         .seed = request_.seed,
                                                         .fleet = fleet(),
                                                         .device = options_.device,
                                                         .device_machine = device_machine_},
                                             store_, stop_);
      found = task.tuner->run(options, {}, stop_);
    } catch (const autoscheduler::Stopped&) {
      return false;
    } catch (const Error& e) {
      // One kernel that nothing is known for must not cost the others their trials.
      if (e.code() != ErrorCode::unsupported) throw e.within(fmt::format("kernel {}", task.kernel.label));
      task.kernel.skipped = e.what();
      task.exhausted = true;
      return true;
    }
    const int made = static_cast<int>(found.search.trials.size());
    task.exhausted = made < trials && !found.search.stopped;
    task.kernel.trials = made;
    if (found.search.best) {
      const auto& winner = found.search.trials[*found.search.best];
      task.best = winner.score;
      // Families come first among the defaults: the first trial is what the model would be compiled with.
      const auto first =
          std::ranges::find_if(found.search.trials, [](const auto& t) { return std::isfinite(t.score); });
      task.first = first->score;
    }
    const double scale = task.first > 0 ? task.kernel.seconds_before / task.first * task.kernel.count : 0;
    const double reference = before > 0 ? before : task.first;
    task.last_gain = std::max(0.0, reference - task.best) * scale / 2;
    task.hope /= 2;
    return !found.search.stopped;
  }

  const ModelOptions& options_;
  const ModelTuneRequest& request_;
  RecordStore& store_;
  std::function<bool()> stop_;
  const Target& target_;
  std::string device_machine_;
  Progress progress_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

double ModelTuneResult::gain_seconds() const {
  double gain = 0;
  for (const auto& kernel : kernels) gain += kernel.count * (kernel.seconds_before - kernel.seconds_after);
  return gain;
}

std::string ModelTuneResult::text() const {
  Table table({{"kernel"}, {"steps", true}, {"us before", true}, {"us after", true}, {"x", true}, {"trials", true}});
  constexpr std::size_t most = 25;
  for (std::size_t i = 0; i < kernels.size(); ++i) {
    const TunedKernel& k = kernels[i];
    if (i >= most) continue;
    table.add({k.label, std::to_string(k.count), fmt::format("{:.1f}", k.seconds_before * 1e6),
               fmt::format("{:.1f}", k.seconds_after * 1e6),
               fmt::format("{:.2f}", k.seconds_before / std::max(k.seconds_after, 1e-12)), std::to_string(k.trials)});
  }
  std::string out = table.str();
  if (kernels.size() > most) out += fmt::format("and {} shorter ones\n", kernels.size() - most);
  for (const TunedKernel& k : kernels)
    if (!k.skipped.empty()) out += fmt::format("not searched: {}: {}\n", k.label, k.skipped);
  out += fmt::format("\n{} trials; {:.3f} ms a run before, {:.3f} expected now\n", trials, model_seconds_before * 1e3,
                     (model_seconds_before - gain_seconds()) * 1e3);
  return out;
}

Json ModelTuneResult::json() const {
  Json report = {{"trials", trials},
                 {"stopped", stopped},
                 {"before_ms", model_seconds_before * 1e3},
                 {"expected_ms", (model_seconds_before - gain_seconds()) * 1e3},
                 {"kernels", Json::array()}};
  for (const TunedKernel& k : kernels)
    report["kernels"].push_back({{"label", k.label},
                                 {"workload", k.workload},
                                 {"steps", k.count},
                                 {"before_ms", k.seconds_before * 1e3},
                                 {"after_ms", k.seconds_after * 1e3},
                                 {"trials", k.trials},
                                 {"skipped", k.skipped}});
  return report;
}

ModelTuneResult tune_model(const ModelOptions& options, const ModelTuneRequest& request, RecordStore& store,
                           const std::function<bool()>& stop) {
  const graph::Compiled compiled = compile_model(options);
  const plan::Function& main = compiled.package.modules.at(0).functions.front();
  if (request.fleet) {
    // Until they are measured, nothing is known of how long kernels take: those with most steps come first.
    const std::vector<double> work(main.steps.size(), 1);
    Target target = compiled.modules.at(0).target;
    target.machine = request.fleet->machine.machine(target.name);
    return ModelTuner(options, request, store, stop, target).run(tasks_of(compiled, main, work, 0), 0);
  }
  const TemporaryDirectory directory;
  graph::write_package(compiled, directory.path() / "package");
  const auto model = load_model(directory.path() / "package", options);
  auto inputs = load_inputs({}, *model, true, 1);
  runtime::Session session(model, {.threads = options.thread_count(), .profile = true});
  set_inputs(session, inputs);
  const auto seconds = profile(*model, session);
  double total = 0;
  for (const double s : seconds) total += s;
  const Target& target = compiled.modules.at(0).target;
  ModelTuner tuner(options, request, store, stop, target);
  // What a processor's FMAs reach says nothing of devices.
  const double peak = target.is_gpu() ? 0 : measure_peak(options.thread_count(), false).gflops;
  return tuner.run(tasks_of(compiled, main, seconds, peak), total);
}

}  // namespace heddle::tools
