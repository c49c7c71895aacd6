// Measures for searches that run elsewhere.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <ctime>
#include <mutex>
#include <thread>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "autoscheduler/remote_measurer.hpp"
#include "base/error.hpp"
#include "base/file.hpp"
#include "schedules/records.hpp"
#include "tools/command.hpp"
#include "tools/model.hpp"
#include "tools/stored_records.hpp"
#include "tools/tuning.hpp"
#include "tools/version.hpp"

namespace heddle::tools {
namespace {

using namespace std::chrono_literals;
using autoscheduler::FleetMachine;
using autoscheduler::JobMeasurer;
using Clock = std::chrono::steady_clock;

struct Options {
  std::string records;
  double idle_exit = 0;
  double lease = 30;
  double patience = 600;
  int jobs = 0;
  int most_jobs = 0;
};

template <class... T>
void say(fmt::format_string<T...> format, T&&... values) {
  fmt::print(stderr, "{:%H:%M:%S} {}\n", fmt::localtime(std::time(nullptr)),
             fmt::format(format, std::forward<T>(values)...));
}

std::string worker_name() {
  std::string host(256, '\0');
  if (::gethostname(host.data(), host.size() - 1) != 0) host = "unknown";
  // Containers all have the process 1, and some the same host's name.
  return fmt::format("{}/{}/{:x}", host.c_str(), ::getpid(), Clock::now().time_since_epoch().count() & 0xffffff);
}

/// Says that the worker lives, and that its job is still its own, from a thread with a connection of its own.
class Heartbeat {
 public:
  Heartbeat(std::string url, std::string worker, const FleetMachine& machine, double lease_seconds)
      : url_(std::move(url)),
        worker_(std::move(worker)),
        machine_(machine.row()),
        description_(to_json(machine).dump()),
        lease_seconds_(lease_seconds),
        thread_([this] { run(); }) {}

  ~Heartbeat() {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

  void hold(std::optional<JobQueue::Lease> lease) {
    const std::lock_guard lock(mutex_);
    lease_ = std::move(lease);
  }

 private:
  void run() {
    std::optional<JobQueue> queue;
    for (;;) {
      std::optional<JobQueue::Lease> lease;
      {
        std::unique_lock lock(mutex_);
        if (changed_.wait_for(lock, std::chrono::duration<double>(std::min(10.0, lease_seconds_ / 4)),
                              [this] { return ended_; }))
          return;
        lease = lease_;
      }
      try {
        if (!queue) queue.emplace(url_);
        if (lease) queue->extend(*lease, lease_seconds_);
        queue->announce(worker_, machine_, description_);
      } catch (const Error&) {
        queue.reset();  // the main thread meets the same and says it
      }
    }
  }

  std::string url_, worker_, machine_, description_;
  double lease_seconds_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
  std::optional<JobQueue::Lease> lease_;
  std::thread thread_;
};

class Worker {
 public:
  explicit Worker(const Options& options)
      : options_(options),
        url_(records_url(options.records)),
        machine_(autoscheduler::this_fleet_machine(version_text())),
        queue_(url_),
        measurer_(
            name_, machine_.name, options.jobs, [this](const std::string& hash) { return module_file(hash); },
            &InterruptGuard::interrupted) {
    for (const Machine& m : machine_.machines) kinds_.push_back(machine_.kind(m.target));
    queue_.announce(name_, machine_.row(), to_json(machine_).dump());
  }

  int run() {
    say("worker {} on {} takes jobs of", name_, records_name(url_));
    for (const auto& kind : kinds_) fmt::print(stderr, "  {}\n", kind);
    std::string ending;
    try {
      ending = serve();
    } catch (const Error&) {
      sign_off();
      throw;
    }
    sign_off();
    say("{}: {} job{} done", ending, done_, done_ == 1 ? "" : "s");
    return 0;
  }

 private:
  /// Returns why it ended. The heartbeat ends with it: a beat after the signing off would announce the worker anew.
  std::string serve() {
    Heartbeat heartbeat(url_, name_, machine_, options_.lease);
    auto pause = 50ms;
    for (;;) {
      if (InterruptGuard::interrupted()) return "told to stop";
      if (const auto lease = next()) {
        heartbeat.hold(lease);
        const bool done = work(*lease);
        heartbeat.hold(std::nullopt);
        if (!done) return "told to stop, its job is given back";
        if (options_.most_jobs > 0 && done_ >= options_.most_jobs) return "has done its --most-jobs";
        idle_since_ = Clock::now();
        pause = 50ms;
        continue;
      }
      if (options_.idle_exit > 0 && Clock::now() - idle_since_ > std::chrono::duration<double>(options_.idle_exit))
        return "has had nothing to do for --idle-exit";
      std::this_thread::sleep_for(pause);
      pause = std::min(pause * 3 / 2, 1000ms);
    }
  }

  void sign_off() {
    try {
      queue_.leave(name_);
    } catch (const Error& e) {
      say("could not sign off, so searches think for a minute that it is there: {}", e.what());
    }
  }

  /// Does what the database's absence would end, again and again while it may come back.
  template <class Work>
  auto patiently(const Work& work) {
    const auto start = Clock::now();
    std::string said;
    for (;;) try {
        return work();
      } catch (const Error& e) {
        const std::chrono::duration<double> passed = Clock::now() - start;
        if (e.code() != ErrorCode::io || InterruptGuard::interrupted() || passed.count() > options_.patience) throw;
        if (said != e.what()) say("{}\n  trying on for {:.0f} s", e.what(), options_.patience - passed.count());
        said = e.what();
        std::this_thread::sleep_for(1s);
      }
  }

  std::optional<JobQueue::Lease> next() {
    return patiently([&]() -> std::optional<JobQueue::Lease> {
      const auto free = queue_.free();
      for (const auto& [kind, jobs] : free)
        if (std::ranges::find(kinds_, kind) != kinds_.end()) return queue_.claim(kind, name_, options_.lease);
      // Between two batches of a search there is always a moment without jobs.
      if (Clock::now() - idle_since_ > 2s) explain(free);
      return std::nullopt;
    });
  }

  /// Says why there is no work, when that changes.
  void explain(const std::vector<JobQueue::Free>& free) {
    std::string text = "no jobs wait";
    if (!free.empty()) {
      text = "no jobs wait for this kind of worker; others do:";
      for (const auto& [kind, jobs] : free) text += fmt::format("\n  {} for {}", jobs, kind);
    }
    // How many there are changes all the time.
    std::string kinds;
    for (const auto& other : free) kinds += other.target + "\n";
    if (explained_ && *explained_ == kinds) return;
    explained_ = kinds;
    say("{}", text);
  }

  /// False if it was told to stop, and the job given back.
  bool work(const JobQueue::Lease& lease) {
    std::optional<JobMeasurer::Outcome> outcome;
    try {
      outcome = measurer_.run(lease.payload);
    } catch (const Error&) {
      queue_.release(lease);
      throw;
    }
    if (!outcome) {
      queue_.release(lease);
      return false;
    }
    const bool kept = patiently([&] { return queue_.finish(lease, outcome->result); });
    ++done_;
    explained_.reset();
    say("{}{}", outcome->summary, kept ? "" : " (too late: the job is another worker's by now, or nobody's)");
    return true;
  }

  std::string module_file(const std::string& hash) {
    const auto path = modules_.path() / (hash + ".so");
    if (!std::filesystem::exists(path)) {
      const std::string bytes = patiently([&] { return queue_.module(hash); });
      say("user module {} fetched, {} KiB", hash.substr(0, 12), bytes.size() >> 10);
      write_file(path, bytes);
    }
    return path.string();
  }

  Options options_;
  std::string url_, name_ = worker_name();
  FleetMachine machine_;
  std::vector<std::string> kinds_;
  JobQueue queue_;
  TemporaryDirectory modules_;
  JobMeasurer measurer_;
  std::optional<std::string> explained_;  ///< the other kinds that were last said to wait
  Clock::time_point idle_since_ = Clock::now();
  int done_ = 0;
};

}  // namespace

Command worker_command() {
  return {
      "worker", "measure for searches that run with --remote, until stopped", [](CLI::App& app) {
        auto options = std::make_shared<Options>();
        const std::map<std::string, double> units = {{"s", 1}, {"m", 60}, {"h", 3600}};
        add_store_option(app, options->records);
        app.add_option("--idle-exit", options->idle_exit, "end after so long without a job: 90s, 10m (default: never)")
            ->transform(CLI::AsNumberWithUnit(units));
        app.add_option("--most-jobs", options->most_jobs, "end after so many jobs (default: never)")
            ->check(CLI::PositiveNumber);
        app.add_option("--jobs", options->jobs,
                       "kernels compiled side by side (default: the cores that timing leaves free)")
            ->check(CLI::PositiveNumber);
        app.add_option("--lease", options->lease,
                       "if the worker dies, its job goes to another one after so long; at least 1s (default: 30s)")
            ->transform(CLI::AsNumberWithUnit(units) & CLI::Range(1.0, 1e6));
        app.add_option("--patience", options->patience, "wait so long for a database that has gone away (default: 10m)")
            ->transform(CLI::AsNumberWithUnit(units));
        return std::function<int()>([options] {
          if (records_url(options->records).empty())
            throw Error(ErrorCode::invalid_argument,
                        "whose jobs? Name the searches' database with --records postgresql://USER@HOST/DATABASE "
                        "or HEDDLE_RECORDS");
          const InterruptGuard guard;
          return Worker(*options).run();
        });
      }};
}

}  // namespace heddle::tools
