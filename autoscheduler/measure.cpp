#include "autoscheduler/measure.hpp"

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "autoscheduler/measure_channel.hpp"
#include "autoscheduler/measure_job.hpp"
#include "base/error.hpp"
#include "base/file.hpp"
#include "runtime/cpu.hpp"
#include "runtime/gpu/device.hpp"
#include "schedules/records.hpp"

extern char** environ;

namespace heddle::autoscheduler {
namespace {

/// A process of this program that measures, and the connection to it.
class WorkerProcess {
 public:
  explicit WorkerProcess(const std::filesystem::path& directory) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
      throw Error(ErrorCode::io, fmt::format("cannot speak to a worker: {}", std::strerror(errno)));
    own_ = Descriptor(ends[0]);
    const Descriptor theirs(ends[1]);

    // A foreign program that Heddle was loaded into names the one that measures.
    const char* named = std::getenv("HEDDLE_PROGRAM");
    const std::string program = named != nullptr && *named != '\0' ? named : "/proc/self/exe";
    std::vector<std::string> variables = {"TMPDIR=" + directory.string()};  // removed with what a killed linker leaves
    for (char** variable = environ; *variable != nullptr; ++variable)
      if (!std::string_view(*variable).starts_with("TMPDIR=")) variables.emplace_back(*variable);
    std::vector<char*> environment;
    for (auto& variable : variables) environment.push_back(variable.data());
    environment.push_back(nullptr);
    std::array<std::string, 2> words = {"heddle", "measure-worker"};
    std::array<char*, 3> arguments = {words[0].data(), words[1].data(), nullptr};

    ::posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, theirs.get(), STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, theirs.get(), STDOUT_FILENO);
    ::posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    ::sigset_t none, usual;
    ::sigemptyset(&none);
    ::sigemptyset(&usual);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGCHLD}) ::sigaddset(&usual, signal);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setsigdefault(&attributes, &usual);
    ::posix_spawnattr_setpgroup(&attributes, 0);  // Ctrl-C in a terminal is for the search, which ends in order
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    const int refused =
        ::posix_spawn(&pid_, program.c_str(), &actions, &attributes, arguments.data(), environment.data());
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
    if (refused != 0)
      throw Error(ErrorCode::io, fmt::format("cannot start the worker '{} measure-worker': {}; HEDDLE_PROGRAM names "
                                             "the heddle program",
                                             program, std::strerror(refused)));
  }

  ~WorkerProcess() {
    // Its children die with it, by the kernel's hand.
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  int connection() const { return own_.get(); }

 private:
  Descriptor own_;
  ::pid_t pid_ = -1;
};

class ProcessMeasurer final : public Measurer {
 public:
  ProcessMeasurer(MeasureJob job, std::function<bool()> stop) : job_(std::move(job)), stop_(std::move(stop)) {
    for (auto& module : job_.modules) module = std::filesystem::absolute(module).string();
    connect();
  }

  std::vector<Measurement> measure(const std::vector<Implementation>& candidates, const Implementation* incumbent,
                                   const Done& done) override {
    std::vector<MeasureRequest> requests;
    for (const auto& candidate : candidates)
      requests.push_back({.id = next_id_++,
                          .implementation = candidate.print(),
                          .incumbent = incumbent != nullptr ? incumbent->print() : ""});
    return run(requests, done);
  }

  std::vector<FreshTimes> remeasure(const Implementation& candidate, const Implementation& incumbent,
                                    int processes) override {
    std::vector<MeasureRequest> requests;
    for (int i = 0; i < processes; ++i)
      requests.push_back({.id = next_id_++, .implementation = candidate.print(), .incumbent = incumbent.print()});
    std::vector<FreshTimes> times;
    for (const auto& measurement : run(requests, [](const Measurement& m) { return m.status == TrialStatus::ok; })) {
      if (measurement.status != TrialStatus::ok)
        throw Error(ErrorCode::internal, fmt::format("a finalist failed when it was measured again ({}): {}",
                                                     to_string(measurement.status), measurement.message));
      times.push_back({undisturbed(measurement.seconds), undisturbed(measurement.incumbent_seconds)});
    }
    return times;
  }

 private:
  /// False if it was told to end meanwhile.
  bool connect() {
    worker_.reset();
    worker_ = std::make_unique<WorkerProcess>(directory_.path());
    channel_.emplace(worker_->connection(), worker_->connection());
    const bool sent = channel_->send(to_json(job_));
    const auto answer = sent ? receive() : std::nullopt;
    if (told_to_end_) return false;
    if (!answer)
      throw Error(ErrorCode::internal,
                  "the worker that measures ended before it was ready; what it wrote to stderr says why");
    raise(*answer);
    return true;
  }

  /// The worker's next document; nothing once it is gone or this is told to end.
  std::optional<Json> receive() {
    constexpr int ask_every_ms = 100;
    for (;;) {
      if (auto document = channel_->take()) return document;
      told_to_end_ = told_to_end_ || (stop_ && stop_());
      if (told_to_end_) return std::nullopt;
      ::pollfd end{.fd = channel_->in(), .events = POLLIN, .revents = 0};
      if (::poll(&end, 1, stop_ ? ask_every_ms : -1) > 0 && !channel_->fill()) return std::nullopt;
    }
  }

  /// The worker's own failure is the caller's.
  static void raise(const Json& answer) {
    if (const auto error = answer.find("error"); error != answer.end())
      throw Error(static_cast<ErrorCode>(answer.at("code").get<int>()), error->get<std::string>());
  }

  std::vector<Measurement> run(const std::vector<MeasureRequest>& requests, const Done& done) {
    std::vector<Measurement> results;
    int deaths = 0;  // in a row, with nothing measured between
    told_to_end_ = false;
    while (results.size() < requests.size()) {
      const std::size_t before = results.size();
      std::set<int> begun;
      try {
        if ((worker_ || connect()) && converse(requests, results, begun, done)) return results;
      } catch (...) {
        // Whatever it still works on is for nobody; a new one starts clean.
        channel_.reset();
        worker_.reset();
        throw;
      }
      channel_.reset();
      worker_.reset();
      if (told_to_end_) return results;
      deaths = results.size() > before ? 1 : deaths + 1;
      const auto victim = std::find_if(requests.begin() + static_cast<std::ptrdiff_t>(results.size()), requests.end(),
                                       [&](const MeasureRequest& r) { return begun.contains(r.id); });
      if (victim == requests.begin() + static_cast<std::ptrdiff_t>(results.size()) && victim != requests.end()) {
        results.push_back({.status = TrialStatus::crashed, .message = "the worker that measures was killed"});
        if (done && !done(results.back())) return results;
      } else if (deaths > 3) {
        throw Error(ErrorCode::internal, "the worker that measures ended four times in a row with nothing to do");
      }
    }
    return results;
  }

  /// Sends requests and takes answers until all have one or `done` wants no more: true. False if the worker has died or
  /// this was told to end.
  bool converse(const std::vector<MeasureRequest>& requests, std::vector<Measurement>& results, std::set<int>& begun,
                const Done& done) {
    constexpr std::size_t most_outstanding = 16;  // neither side ever waits for the other to read
    std::size_t sent = results.size();
    while (results.size() < requests.size()) {
      for (; sent < requests.size() && sent < results.size() + most_outstanding; ++sent)
        if (!channel_->send(to_json(requests[sent]))) return false;
      const auto answer = receive();
      if (!answer) return false;
      raise(*answer);
      if (const auto begin = answer->find("begin"); begin != answer->end()) {
        begun.insert(begin->get<int>());
        continue;
      }
      if (answer->at("id").get<int>() != requests[results.size()].id)
        throw Error(ErrorCode::internal, "the worker that measures has answered out of order");
      results.push_back(measurement_from_json(*answer));
      if (done && !done(results.back())) {
        if (sent > results.size()) cancel();
        return true;
      }
    }
    return true;
  }

  void cancel() {
    if (channel_->send({{"cancel", true}}))
      while (const auto answer = channel_->receive())
        if (answer->contains("cancelled")) return;
    channel_.reset();
    worker_.reset();
  }

  MeasureJob job_;
  std::function<bool()> stop_;
  bool told_to_end_ = false;
  TemporaryDirectory directory_;
  std::unique_ptr<WorkerProcess> worker_;
  std::optional<Channel> channel_;
  int next_id_ = 0;
};

}  // namespace

std::unique_ptr<Measurer> make_measurer(MeasureJob job, std::function<bool()> stop) {
  const Target target = find_target(job.target);
  const auto missing = runtime::missing_features(target.features);
  if (target.architecture != runtime::cpu_architecture() || !missing.empty())
    throw Error(ErrorCode::unsupported,
                fmt::format("this machine cannot run kernels for {}{}, so it cannot measure them", target.name,
                            missing.empty() ? "" : fmt::format(" (it lacks {})", fmt::join(missing, ", "))));
  // Said here, before a candidate is compiled, and for all of them at once.
  if (target.is_gpu()) runtime::gpu::choose_device(target.machine.gpu->api, job.options.device);
  return std::make_unique<ProcessMeasurer>(std::move(job), std::move(stop));
}

std::string machine_of(const Target& target, const std::string& device) {
  if (!target.is_gpu()) return machine_name();
  const auto info = runtime::gpu::choose_device(target.machine.gpu->api, device);
  return info.kind == runtime::gpu::DeviceInfo::Kind::cpu ? fmt::format("{} on {}", info.name, machine_name())
                                                          : info.name;
}

std::unique_ptr<Measurer> make_measurer(const Workload& workload, const Target& target,
                                        const std::vector<std::string>& modules, const MeasureOptions& options,
                                        std::function<bool()> stop) {
  return make_measurer(measure_job(workload, target, modules, options), std::move(stop));
}

}  // namespace heddle::autoscheduler
