#include "autoscheduler/remote_measurer.hpp"

#include <algorithm>
#include <chrono>
#include <thread>

#include <fmt/format.h>

#include "autoscheduler/measure_job.hpp"
#include "base/error.hpp"
#include "base/file.hpp"

namespace heddle::autoscheduler {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

/// Names of a search's jobs begin so.
std::string prefix(const std::string& search) { return search + ":"; }

class RemoteMeasurer final : public Measurer {
 public:
  RemoteMeasurer(const Workload& workload, const Target& target, const std::vector<std::string>& modules,
                 const MeasureOptions& options, const Fleet& fleet, std::string search)
      : queue_(fleet.records),
        fleet_(fleet),
        search_(std::move(search)),
        name_(workload.name()),
        kind_(fleet.machine.kind(target.name)) {
    std::vector<std::string> hashes;
    for (const auto& module : modules) hashes.push_back(queue_.put_module(read_file(module)));
    job_ = to_json(measure_job(workload, target, hashes, options));
  }

  std::vector<Measurement> measure(const std::vector<Implementation>& candidates, const Implementation* incumbent,
                                   const Done& done) override {
    std::vector<JobQueue::Job> jobs;
    for (const auto& candidate : candidates) {
      jobs.push_back(job(candidate, incumbent, 0));
      queue_.submit(jobs.back());
    }
    std::vector<Measurement> results;
    for (const auto& job : jobs) {
      const auto answer = wait(job, false);
      if (!answer) break;
      results.push_back(measurement(*answer));
      const bool more = !done || done(results.back());
      queue_.remove(job.key);  // once it is stored
      if (!more) break;
    }
    withdraw({jobs.begin() + static_cast<std::ptrdiff_t>(results.size()), jobs.end()});
    return results;
  }

  std::vector<FreshTimes> remeasure(const Implementation& candidate, const Implementation& incumbent,
                                    int processes) override {
    const auto again = job(candidate, &incumbent, processes);
    queue_.submit(again);
    const auto answer = wait(again, true);
    if (!answer) {
      withdraw({again});
      return {};
    }
    queue_.remove(again.key);
    if (!answer->contains("fresh"))
      throw Error(ErrorCode::internal,
                  fmt::format("a finalist failed when it was measured again: {}", measurement(*answer).message));
    std::vector<FreshTimes> times;
    for (const Json& process : answer->at("fresh")) times.push_back({process.at(0), process.at(1)});
    return times;
  }

 private:
  JobQueue::Job job(const Implementation& candidate, const Implementation* incumbent, int processes) const {
    const std::string payload = Json({{"job", job_},
                                      {"name", name_},
                                      {"implementation", candidate.print()},
                                      {"incumbent", incumbent != nullptr ? incumbent->print() : ""},
                                      {"processes", processes}})
                                    .dump();
    return {.key = prefix(search_) + sha256(kind_ + payload).substr(0, 32), .target = kind_, .payload = payload};
  }

  static Measurement measurement(const Json& answer) {
    Measurement m = measurement_from_json(answer.at("measurement"));
    m.machine = answer.value("machine", "");
    m.worker = answer.value("worker", "");
    return m;
  }

  bool gives_up(bool finalist) {
    if (fleet_.stop && fleet_.stop()) return true;
    if (!fleet_.late || !fleet_.late()) return false;
    return !finalist || workers_of(queue_, fleet_.machine) == 0;
  }

  /// The job's result; nothing if this is told to end.
  std::optional<Json> wait(const JobQueue::Job& job, bool finalist) {
    auto pause = 10ms;
    auto asked = Clock::now();
    for (;;) {
      const auto status = queue_.status(job.key);
      if (!status) queue_.submit(job);  // another process of the same search had it, or an administrator tidied up
      else if (status->state == JobQueue::State::done) return answer_of(*status);
      else if (status->state == JobQueue::State::lost) return lost(*status);
      if (gives_up(finalist)) return std::nullopt;
      if (status && status->state == JobQueue::State::queued && Clock::now() - asked > 2s) {
        asked = Clock::now();
        if (fleet_.waits && workers_of(queue_, fleet_.machine) == 0)
          fleet_.waits(absent_workers(queue_, &fleet_.machine, fleet_.machine.version));
      }
      std::this_thread::sleep_for(pause);
      pause = std::min(pause * 3 / 2, 200ms);
    }
  }

  Json answer_of(const JobQueue::Status& status) const {
    Json answer = Json::parse(status.result, nullptr, false);
    if (answer.is_discarded())
      throw Error(ErrorCode::corrupt, fmt::format("worker {} has left a result that is no JSON", status.worker));
    if (const auto error = answer.find("error"); error != answer.end()) {
      const Error thrown(static_cast<ErrorCode>(answer.at("code").get<int>()), error->get<std::string>());
      throw thrown.within(fmt::format("worker {}", status.worker));
    }
    return answer;
  }

  Json lost(const JobQueue::Status& status) const {
    const Measurement m{.status = TrialStatus::crashed,
                        .message = fmt::format("{} workers ended while they measured it, the last was {}",
                                               status.attempts, status.worker)};
    return {{"measurement", to_json(m)}, {"machine", fleet_.machine.name}, {"worker", status.worker}};
  }

  void withdraw(const std::vector<JobQueue::Job>& jobs) {
    std::vector<std::string> keys;
    for (const auto& job : jobs) keys.push_back(job.key);
    queue_.withdraw(keys);
  }

  JobQueue queue_;
  Fleet fleet_;
  std::string search_, name_, kind_;
  Json job_;
};

}  // namespace

std::unique_ptr<Measurer> make_remote_measurer(const Workload& workload, const Target& target,
                                               const std::vector<std::string>& modules, const MeasureOptions& options,
                                               const Fleet& fleet, const std::string& search) {
  fleet.machine.machine(target.name);
  return std::make_unique<RemoteMeasurer>(workload, target, modules, options, fleet, search);
}

void forget_jobs(const std::string& records, const std::string& search) {
  JobQueue(records).remove_all(prefix(search));
}

JobMeasurer::JobMeasurer(std::string worker, std::string machine, int compile_jobs,
                         std::function<std::string(const std::string&)> module_file, std::function<bool()> stop)
    : worker_(std::move(worker)),
      machine_(std::move(machine)),
      compile_jobs_(compile_jobs),
      module_file_(std::move(module_file)),
      stop_(std::move(stop)) {}

JobMeasurer::~JobMeasurer() = default;

Measurer& JobMeasurer::measurer_of(const Json& json) {
  constexpr std::size_t most_kept = 8;  // each has a process with a kernel's inputs and references
  const std::string key = json.dump();
  if (const auto found = std::ranges::find(kept_, key, &Kept::key); found != kept_.end()) {
    std::rotate(found, found + 1, kept_.end());
    return *kept_.back().measurer;
  }
  if (kept_.size() >= most_kept) kept_.erase(kept_.begin());
  MeasureJob job = measure_job_from_json(json);
  for (auto& module : job.modules) module = module_file_(module);
  job.options.compile_jobs = compile_jobs_;
  kept_.push_back({key, make_measurer(std::move(job), stop_)});
  return *kept_.back().measurer;
}

std::optional<JobMeasurer::Outcome> JobMeasurer::run(const std::string& payload) {
  Json result = {{"worker", worker_}, {"machine", machine_}};
  std::string summary = "a job";
  try {
    const Json wanted = Json::parse(payload);
    summary = wanted.at("name").get<std::string>();
    Measurer& measurer = measurer_of(wanted.at("job"));
    const auto implementation = Implementation::parse(wanted.at("implementation").get<std::string>(), "candidate");
    const auto incumbent_text = wanted.at("incumbent").get<std::string>();
    const Implementation incumbent = Implementation::parse(incumbent_text, "incumbent");
    if (const int processes = wanted.at("processes"); processes > 0) {
      const auto times = measurer.remeasure(implementation, incumbent, processes);
      if (static_cast<int>(times.size()) < processes) return std::nullopt;
      std::vector<double> seconds;
      for (const FreshTimes& process : times) {
        result["fresh"].push_back({process.candidate, process.incumbent});
        seconds.push_back(process.candidate);
      }
      summary += fmt::format(": {:.2f} us in {} fresh processes", median(seconds) * 1e6, processes);
    } else {
      const auto measured = measurer.measure({implementation}, incumbent_text.empty() ? nullptr : &incumbent, {});
      if (measured.empty()) return std::nullopt;
      const Measurement& m = measured.front();
      result["measurement"] = to_json(m);
      summary += m.status == TrialStatus::ok ? fmt::format(": ok, {:.2f} us", m.median() * 1e6)
                                             : fmt::format(": {}", to_string(m.status));
    }
  } catch (const Error& e) {
    if (stop_ && stop_()) return std::nullopt;
    if (e.code() == ErrorCode::io || e.code() == ErrorCode::out_of_memory) throw;
    result["error"] = e.what();
    result["code"] = static_cast<int>(e.code());
    summary += fmt::format(": failed: {}", e.what());
  } catch (const Json::exception& e) {
    result["error"] = fmt::format("the job cannot be understood: {}", e.what());
    result["code"] = static_cast<int>(ErrorCode::internal);
    summary += ": cannot be understood";
  }
  return Outcome{result.dump(-1, ' ', false, Json::error_handler_t::replace), summary};
}

}  // namespace heddle::autoscheduler
