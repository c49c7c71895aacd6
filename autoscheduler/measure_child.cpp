#include "autoscheduler/measure_child.hpp"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <new>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::autoscheduler {
namespace {

// A child that has answered exits with 0.
constexpr int out_of_memory_exit = 77;

/// Threads and processes of this process's user.
::rlim_t tasks_of_user() {
  ::rlim_t tasks = 0;
  std::error_code code;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", code)) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream status(entry.path() / "status");
    bool own = false;
    for (std::string word; status >> word;) {
      ::rlim_t value = 0;
      if (word == "Uid:" && status >> value) own = value == ::getuid();
      if (word == "Threads:" && status >> value) {
        if (own) tasks += value;
        break;
      }
    }
  }
  return tasks;
}

/// The limit counts a user's processes, ours and the rest alike, so it is what there are now and some more. The kernel
/// does not apply it to root, who is trusted. Counting takes milliseconds: done again once it may have changed.
::rlim_t process_limit(int processes) {
  static double counted_at = 0;
  static ::rlim_t tasks = 0;
  if (tasks == 0 || now_seconds() - counted_at > 2) {
    tasks = tasks_of_user();
    counted_at = now_seconds();
  }
  return tasks + static_cast<::rlim_t>(std::max(processes, 1));
}

std::uint64_t address_space() {
  std::ifstream file("/proc/self/statm");
  std::uint64_t pages = 0;
  file >> pages;
  return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

void limit(decltype(RLIMIT_AS) resource, ::rlim_t most) {
  ::rlimit now{};
  if (::getrlimit(resource, &now) != 0) return;
  now.rlim_cur = now.rlim_max == RLIM_INFINITY ? most : std::min(most, now.rlim_max);
  now.rlim_max = now.rlim_cur;
  ::setrlimit(resource, &now);
}

void confine(const ChildLimits& limits, ::rlim_t processes) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // Where memory runs out in spite of the limits, this is the one to end.
  if (const int fd = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC); fd >= 0) {
    write_all(fd, "1000");
    ::close(fd);
  }
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_NPROC, processes);
  limit(RLIMIT_FSIZE, ::rlim_t{1} << 28);
  // A net under the deadline, which its parent keeps: processor time of all its threads.
  limit(RLIMIT_CPU,
        static_cast<::rlim_t>(std::ceil(limits.seconds)) * static_cast<::rlim_t>(::sysconf(_SC_NPROCESSORS_ONLN)) + 5);
  if (limits.memory_bytes > 0) limit(RLIMIT_AS, address_space() + limits.memory_bytes);
  if (!limits.cpus.empty()) {
    ::cpu_set_t mask;
    CPU_ZERO(&mask);
    for (const int cpu : limits.cpus)
      if (cpu < CPU_SETSIZE) CPU_SET(static_cast<std::size_t>(cpu), &mask);
    ::sched_setaffinity(0, sizeof(mask), &mask);
  }
  for (const int signal : {SIGPIPE, SIGINT, SIGTERM, SIGHUP}) ::signal(signal, SIG_DFL);
}

Json failure(TrialStatus status, std::string_view message) {
  return {{"failed", std::string(to_string(status))}, {"message", std::string(message)}};
}

Json attempt(const std::function<Json()>& task) {
  try {
    return {{"answer", task()}};
  } catch (const Error& error) {
    return failure(error.code() == ErrorCode::out_of_memory ? TrialStatus::out_of_memory : TrialStatus::rejected,
                   error.what());
  } catch (const std::bad_alloc&) {
    return failure(TrialStatus::out_of_memory, "");
  } catch (const std::exception& error) {
    return failure(TrialStatus::crashed, error.what());
  } catch (...) {
    return failure(TrialStatus::crashed, "an exception that is not a std::exception");
  }
}

[[noreturn]] void run_in_child(const std::function<Json()>& task, const ChildLimits& limits, ::rlim_t processes,
                               int answer, int log) {
  confine(limits, processes);
  if (const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC); null >= 0) ::dup2(null, STDIN_FILENO);
  ::dup2(log, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  // LLVM is compiled without exceptions: a bad_alloc would not get through it.
  std::set_new_handler([] { ::_exit(out_of_memory_exit); });
  const Json result = attempt(task);
  // Neither destructors nor exit handlers: the memory is a copy, and what they would do is the parent's to do.
  ::_exit(write_all(answer, result.dump(-1, ' ', false, Json::error_handler_t::replace)) ? 0 : 1);
}

/// Ends processes that a child has left behind outside of its group.
void end_strays(const std::vector<::pid_t>& own) {
  std::ifstream file(fmt::format("/proc/self/task/{}/children", ::gettid()));
  for (::pid_t pid = 0; file >> pid;) {
    if (std::find(own.begin(), own.end(), pid) != own.end()) continue;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
}

/// Children that live, of this process, which has one thread.
std::vector<::pid_t>& living() {
  static std::vector<::pid_t> pids;
  return pids;
}

/// The end of what was printed, where the reason stands.
std::string last_words(const std::string& log) {
  constexpr std::size_t most = 1000;
  const std::size_t end = log.find_last_not_of(" \n\t") + 1;
  const std::size_t begin = end > most ? end - most : 0;
  return end == 0 ? "" : ": " + log.substr(begin, end - begin);
}

}  // namespace

void adopt_descendants() { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }

Child::Child(const std::function<Json()>& task, const ChildLimits& limits)
    : answer_(anonymous_file("answer")),
      log_(anonymous_file("log")),
      seconds_limit_(limits.seconds),
      memory_limit_(limits.memory_bytes) {
  const ::rlim_t processes = process_limit(limits.processes);
  const ::pid_t parent = ::getpid();
  start_ = now_seconds();
  deadline_ = start_ + limits.seconds;
  pid_ = ::fork();
  if (pid_ < 0)
    throw Error(ErrorCode::io, fmt::format("cannot start a process for a candidate: {}", std::strerror(errno)));
  if (pid_ == 0) {
    if (::getppid() != parent) ::_exit(1);
    run_in_child(task, limits, processes, answer_.get(), log_.get());
  }
  ::setpgid(pid_, pid_);  // both sides set it, so that neither has to wait for the other
  living().push_back(pid_);
  end_ = Descriptor(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  if (end_) return;
  const std::string reason = std::strerror(errno);
  finish();
  throw Error(ErrorCode::io, fmt::format("cannot watch a candidate's process: {}", reason));
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      end_(std::move(other.end_)),
      answer_(std::move(other.answer_)),
      log_(std::move(other.log_)),
      start_(other.start_),
      deadline_(other.deadline_),
      seconds_limit_(other.seconds_limit_),
      memory_limit_(other.memory_limit_),
      timed_out_(other.timed_out_) {}

Child::~Child() {
  if (pid_ > 0) finish();
}

void Child::kill_group() const { ::kill(-pid_, SIGKILL); }

bool Child::ended() {
  if (now_seconds() >= deadline_ && !timed_out_) {
    ::siginfo_t info{};
    // Not one that has ended just in time.
    timed_out_ =
        ::waitid(P_PID, static_cast<::id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
    if (timed_out_) kill_group();
  }
  ::siginfo_t info{};
  return ::waitid(P_PID, static_cast<::id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid_;
}

ChildOutcome Child::finish() {
  ChildOutcome outcome;
  outcome.seconds = now_seconds() - start_;
  kill_group();  // before the leader is gone and its number free: what it has started ends with it
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  std::erase(living(), pid_);
  pid_ = -1;
  end_strays(living());

  const std::string log = contents(log_.get(), std::size_t{1} << 14);
  const bool memory = (WIFEXITED(status) && WEXITSTATUS(status) == out_of_memory_exit) ||
                      log.find("LLVM ERROR: out of memory") != std::string::npos;
  const auto fail = [&](TrialStatus why, std::string message) {
    outcome.status = why;
    outcome.message = std::move(message);
  };
  if (timed_out_) {
    fail(TrialStatus::timed_out, fmt::format("not done within {} s", seconds_limit_));
  } else if (memory) {
    fail(TrialStatus::out_of_memory, last_words(log));
  } else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU) {
    fail(TrialStatus::timed_out, "beyond the limit of processor time");
  } else if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    fail(TrialStatus::crashed,
         fmt::format("died of signal {} ({}){}{}", signal, ::strsignal(signal),
                     signal == SIGKILL ? ", which the system sends when memory runs out" : "", last_words(log)));
  } else if (Json result = Json::parse(contents(answer_.get()), nullptr, false); result.is_discarded()) {
    fail(TrialStatus::crashed,
         fmt::format("ended with status {} without an answer{}", WEXITSTATUS(status), last_words(log)));
  } else if (result.contains("failed")) {
    fail(trial_status_from_string(result["failed"].get<std::string>()), result["message"].get<std::string>());
  } else {
    outcome.answer = std::move(result["answer"]);
  }
  if (outcome.status == TrialStatus::out_of_memory && memory_limit_ > 0) {
    const bool reason = !outcome.message.empty() && !outcome.message.starts_with(": ");
    outcome.message = fmt::format("beyond the limit of {} MiB of address space{}{}", memory_limit_ >> 20,
                                  reason ? ": " : "", outcome.message);
  }
  return outcome;
}

}  // namespace heddle::autoscheduler
