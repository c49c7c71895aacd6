#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "autoscheduler/measure_channel.hpp"
#include "autoscheduler/measure_child.hpp"
#include "autoscheduler/measure_job.hpp"
#include "autoscheduler/measure_quiet.hpp"
#include "autoscheduler/measure_trial.hpp"
#include "base/error.hpp"
#include "ops/workload_json.hpp"
#include "schedules/family.hpp"

namespace heddle::autoscheduler {
namespace {

/// A kernel on its way through the compiler. Requests for the same implementation share one.
struct Build {
  enum class State { waiting, compiling, done };
  State state = State::waiting;
  std::string text;
  BuiltKernel kernel;
  Descriptor module;
  std::string key;
  ChildOutcome outcome;
  std::optional<Child> child;
};

struct Request {
  int id = 0;
  std::shared_ptr<Build> build, incumbent;
  bool begun = false;
};

/// The oracle's results for one set, computed by a child: an operator of the user's may do anything.
struct Reference {
  CheckSet set;
  std::byte* memory = nullptr;  ///< shared with the child
  std::size_t bytes = 0;
  std::optional<Child> child;
};

class Worker {
 public:
  Worker(Channel channel, MeasureJob job) : channel_(channel), job_(std::move(job)), target_(find_target(job_.target)) {
    for (const auto& module : job_.modules) operators_.load(module);
    workload_.emplace(workload_from_json(job_.workload, operators_));
    if (workload_->text() != job_.text)
      throw Error(ErrorCode::unsupported,
                  fmt::format("the operators of this program are not those of the search: to it this is {}, here it is "
                              "{}; use the same build and the same user modules on all machines",
                              job_.text, workload_->text()));
    division_ = divide_processors(workload_->composition().threads);
    jobs_ = job_.options.compile_jobs > 0 ? job_.options.compile_jobs : static_cast<int>(division_.compiling.size());
    warm_up();
    draw_sets();
  }

  /// Until the measurer is gone.
  void serve() {
    for (;;) {
      start_references();
      start_compilers();
      start_trial();
      answer();
      if (!wait()) return;
      collect();
    }
  }

 private:
  // What the first compilation of a process sets up, and what libraries it loads, every child then has from its birth.
  void warm_up() {
    const Workload any = Workload::of(operators_.get("relu"), Json::object(), {tensor(DType::f32, {64})});
    const Descriptor module = anonymous_file("warm");
    build_kernel(any, choose(any, target_.machine).implementation, target_, module.get());
  }

  void draw_sets() {
    const SymbolValues symbols = measured_symbols(*workload_);
    // Infinities that go from one operator to the next meet what Halide assumes about floats; each operator alone is
    // tested on them.
    const bool exact =
        workload_->tolerance().special_values == SpecialValues::exact && workload_->composition().nodes.size() == 1;
    std::uint64_t index = 0;
    for (const Extremes extremes : {exact ? Extremes::all : Extremes::finite, Extremes::none}) {
      auto random = generator_for(job_.options.seed, workload_->text(), index++);
      Reference& reference = references_.emplace_back();
      reference.set.symbols = symbols;
      reference.set.inputs = draw_inputs(*workload_, symbols, extremes, random);
      for (const TensorType& type : workload_->output_types()) {
        reference.set.want.outputs.emplace_back(type.dtype, shape_of(type, symbols));
        reference.bytes += reference.set.want.outputs.back().bytes();
      }
    }
  }

  ChildLimits limits(double seconds, const std::vector<int>& cpus) const {
    return {.seconds = seconds,
            .memory_bytes = job_.options.memory_bytes,
            .processes = job_.options.processes,
            .cpus = cpus};
  }

  /// Of a trial. A device's driver compiles there what the kernel's compiler has left to it, on all processors, and
  /// maps more address space than there is memory.
  ChildLimits trial_limits() const {
    if (!target_.is_gpu()) return limits(job_.options.run_limit_s, division_.timing);
    ChildLimits all = limits(job_.options.run_limit_s + job_.options.compile_limit_s, {});
    all.memory_bytes = 0;
    return all;
  }

  /// What a child must not keep open: its end would not be seen, nor its lock free, if something it started lives on.
  Child start(const std::function<Json()>& task, const ChildLimits& limits) {
    const int in = channel_.in(), out = channel_.out(), lock = lock_.file();
    return Child(
        [=] {
          ::close(in);
          ::close(out);
          if (lock >= 0) ::close(lock);
          return task();
        },
        limits);
  }

  void start_references() {
    if (references_started_ || requests_.empty()) return;
    references_started_ = true;
    for (Reference& reference : references_) {
      void* memory = ::mmap(nullptr, std::max<std::size_t>(reference.bytes, 1), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
      if (memory == MAP_FAILED)
        throw Error(ErrorCode::out_of_memory, fmt::format("no memory for {} bytes of reference", reference.bytes));
      reference.memory = static_cast<std::byte*>(memory);
      constexpr double limit_s = 600;  // in double, one loop after the other
      reference.child.emplace(start(
          [&] {
            std::byte* to = reference.memory;
            const auto [results, largest] = workload_->expect(reference.set.inputs, reference.set.symbols);
            for (std::size_t o = 0; o < results.size(); ++o) {
              const Array& want = reference.set.want.outputs.at(o);
              if (results[o].dtype() != want.dtype() || results[o].shape() != want.shape())
                throw Error(ErrorCode::internal, "the reference's result has another type than the type rule says");
              std::memcpy(to, results[o].data(), want.bytes());
              to += want.bytes();
            }
            return Json{{"largest", largest}};
          },
          limits(limit_s, {})));
    }
  }

  bool references_done() const {
    return references_started_ &&
           std::none_of(references_.begin(), references_.end(), [](const Reference& r) { return r.child.has_value(); });
  }

  std::size_t compiling() const {
    return static_cast<std::size_t>(std::count_if(
        builds_.begin(), builds_.end(), [](const auto& entry) { return entry->state == Build::State::compiling; }));
  }

  /// Requests at the front whose kernels are done.
  std::size_t ready() const {
    std::size_t count = 0;
    for (const Request& request : requests_) {
      if (request.build->state != Build::State::done) break;
      ++count;
    }
    return count;
  }

  void start_compilers() {
    // Ahead of the trial by so many, so that neither waits for the other and little is lost by a stop.
    const std::size_t ahead = std::max<std::size_t>(8, 2 * static_cast<std::size_t>(jobs_));
    if (!division_.overlap) {
      // In turns: compile several on all processors, then time them, on a machine that does nothing else.
      if (trial_ || timing_phase_) return;
    }
    std::size_t looked_at = 0;
    for (Request& request : requests_) {
      if (++looked_at > ahead) return;
      for (const auto& build : {request.incumbent, request.build}) {
        if (!build || build->state != Build::State::waiting) continue;
        if (compiling() >= static_cast<std::size_t>(jobs_)) return;
        if (!division_.overlap && !lock_.try_shared()) return;
        begin(request);
        compile(*build);
      }
    }
  }

  /// Says that a candidate is worked on: if this process is killed, the measurer knows which it was.
  void begin(Request& request) {
    if (std::exchange(request.begun, true)) return;
    channel_.send({{"begin", request.id}});
  }

  void compile(Build& build) {
    build.state = Build::State::compiling;
    build.module = anonymous_file("kernel");
    build.child.emplace(start(
        [&] {
          const Implementation implementation = Implementation::parse(build.text, "candidate");
          return Json(build_kernel(*workload_, implementation, target_, build.module.get()));
        },
        limits(job_.options.compile_limit_s, division_.compiling)));
  }

  void compiled(Build& build) {
    build.outcome = build.child->finish();
    build.child.reset();
    build.state = Build::State::done;
    if (build.outcome.status != TrialStatus::ok) return;
    build.key = build.outcome.answer.get<std::string>();
    build.kernel = {.implementation = Implementation::parse(build.text, "candidate"),
                    .module = build.module.get(),
                    .symbol = "k_" + build.key.substr(0, 16)};
    if (target_.is_gpu()) build.kernel.device = target_.machine.gpu->api;
  }

  /// Whether the next candidate can be run now, or never has to be.
  void start_trial() {
    if (trial_ || requests_.empty() || !references_done()) return;
    Request& request = requests_.front();
    if (request.build->state != Build::State::done) {
      timing_phase_ = false;
      return;
    }
    if (request.build->outcome.status != TrialStatus::ok) return;
    if (request.incumbent && request.incumbent->state != Build::State::done) return;
    if (!division_.overlap) {
      const std::size_t wanted = std::min<std::size_t>(requests_.size(), 8);
      if (!timing_phase_ && ready() < wanted) return;
      timing_phase_ = true;
      if (compiling() > 0) return;
    }
    waits_for_lock_ = !lock_.try_exclusive();
    if (waits_for_lock_) return;
    begin(request);
    const bool incumbent = request.incumbent && request.incumbent->outcome.status == TrialStatus::ok;
    trial_.emplace(start(
        [&, incumbent] {
          std::vector<CheckSet> sets;
          for (const Reference& reference : references_) sets.push_back(reference.set);
          const TrialResult result = try_kernel(*workload_, request.build->kernel,
                                                incumbent ? &request.incumbent->kernel : nullptr, sets, job_.options);
          return Json{{"difference", result.difference},
                      {"seconds", result.seconds},
                      {"incumbent_seconds", result.incumbent_seconds}};
        },
        trial_limits()));
  }

  /// Answers requests that need no trial because their kernel did not compile.
  void answer() {
    while (!trial_ && !requests_.empty() && requests_.front().build->state == Build::State::done &&
           requests_.front().build->outcome.status != TrialStatus::ok)
      answer({});
  }

  void answer(const std::optional<ChildOutcome>& trial) {
    const Request request = std::move(requests_.front());
    requests_.pop_front();
    const ChildOutcome& outcome = trial ? *trial : request.build->outcome;
    Measurement m{.status = outcome.status, .message = outcome.message};
    m.compile_seconds = request.build->outcome.seconds;
    m.kernel_key = request.build->key;
    if (trial) m.run_seconds = trial->seconds;
    if (trial && m.status == TrialStatus::ok) {
      m.message = trial->answer["difference"];
      if (!m.message.empty()) m.status = TrialStatus::wrong;
      m.seconds = trial->answer["seconds"].get<std::vector<double>>();
      m.incumbent_seconds = trial->answer["incumbent_seconds"].get<std::vector<double>>();
    }
    Json json = to_json(m);
    json["id"] = request.id;
    channel_.send(json);
    forget_builds();
  }

  /// Keeps those that requests wait for and the latest good ones: one of those is the next incumbent.
  void forget_builds() {
    constexpr std::size_t most = 64;
    std::size_t kept = 0;
    for (auto entry = builds_.end(); entry != builds_.begin();) {
      --entry;
      const bool good = (*entry)->state == Build::State::done && (*entry)->outcome.status == TrialStatus::ok;
      if (entry->use_count() == 1 && (!good || ++kept > most)) entry = builds_.erase(entry);
    }
  }

  std::shared_ptr<Build> build_of(const std::string& text) {
    const auto found = std::find_if(builds_.begin(), builds_.end(), [&](const auto& b) { return b->text == text; });
    if (found != builds_.end()) {
      builds_.splice(builds_.end(), builds_, found);  // the latest are kept longest
      return builds_.back();
    }
    builds_.push_back(std::make_shared<Build>());
    builds_.back()->text = text;
    return builds_.back();
  }

  /// Waits until a child ends, its time is over, or the measurer speaks; false once it is gone.
  bool wait() {
    std::vector<::pollfd> ends = {{.fd = channel_.in(), .events = POLLIN, .revents = 0}};
    double deadline = 0;
    visit_children([&](Child& child) {
      ends.push_back({.fd = child.end(), .events = POLLIN, .revents = 0});
      if (deadline == 0 || child.deadline() < deadline) deadline = child.deadline();
    });
    if (ends.size() == 1 && requests_.empty()) lock_.unlock();
    int milliseconds = -1;
    if (deadline > 0) milliseconds = std::max(0, static_cast<int>((deadline - now_seconds()) * 1000) + 1);
    // Nothing tells when another process leaves the lock.
    constexpr int lock_poll_ms = 2;
    if (!requests_.empty() && (waits_for_lock_ || ends.size() == 1)) milliseconds = lock_poll_ms;
    if (::poll(ends.data(), ends.size(), milliseconds) < 0 && errno != EINTR)
      throw Error(ErrorCode::io, fmt::format("cannot wait for candidates: {}", std::strerror(errno)));
    if (ends[0].revents == 0) return true;
    if (!channel_.fill()) return false;
    while (const auto document = channel_.take()) {
      if (document->contains("cancel")) {
        cancel();
        continue;
      }
      const MeasureRequest wanted = measure_request_from_json(*document);
      Request request{.id = wanted.id, .build = build_of(wanted.implementation), .incumbent = nullptr};
      if (!wanted.incumbent.empty()) request.incumbent = build_of(wanted.incumbent);
      requests_.push_back(std::move(request));
    }
    return true;
  }

  template <class Visit>
  void visit_children(const Visit& visit) {
    for (Reference& reference : references_)
      if (reference.child) visit(*reference.child);
    for (const auto& build : builds_)
      if (build->child) visit(*build->child);
    if (trial_) visit(*trial_);
  }

  void collect() {
    for (Reference& reference : references_) {
      if (!reference.child || !reference.child->ended()) continue;
      const ChildOutcome outcome = reference.child->finish();
      reference.child.reset();
      if (outcome.status != TrialStatus::ok)
        throw Error(ErrorCode::internal, fmt::format("the reference of {} {}: {}", workload_->name(),
                                                     to_string(outcome.status), outcome.message));
      const std::byte* from = reference.memory;
      reference.set.want.largest = outcome.answer["largest"].get<std::vector<double>>();
      for (Array& want : reference.set.want.outputs) {
        std::memcpy(want.mutable_data(), from, want.bytes());
        from += want.bytes();
      }
      ::munmap(reference.memory, std::max<std::size_t>(reference.bytes, 1));
    }
    for (const auto& build : builds_)
      if (build->child && build->child->ended()) compiled(*build);
    if (trial_ && trial_->ended()) {
      const ChildOutcome outcome = trial_->finish();
      trial_.reset();
      if (division_.overlap) lock_.unlock();
      answer(outcome);
      if (requests_.empty() || ready() == 0) timing_phase_ = false;
    }
  }

  void cancel() {
    if (trial_) trial_->finish();
    trial_.reset();
    requests_.clear();
    for (const auto& build : builds_) {
      if (!build->child) continue;
      build->child->finish();
      build->child.reset();
      build->state = Build::State::waiting;
    }
    std::erase_if(builds_, [](const auto& build) { return build->state != Build::State::done; });
    timing_phase_ = waits_for_lock_ = false;
    lock_.unlock();
    channel_.send({{"cancelled", true}});
  }

  Channel channel_;
  MeasureJob job_;
  Target target_;
  Operators operators_;
  std::optional<Workload> workload_;
  Division division_;
  TimingLock lock_;
  int jobs_ = 1;

  std::list<Reference> references_;
  bool references_started_ = false;
  std::list<std::shared_ptr<Build>> builds_;  ///< the latest asked for last
  std::deque<Request> requests_;
  std::optional<Child> trial_;  ///< of the first request
  bool timing_phase_ = false;
  bool waits_for_lock_ = false;
};

}  // namespace

int serve_measurer(int in, int out) {
  // What operators print must not end up among the answers.
  const Descriptor answers(::fcntl(out, F_DUPFD_CLOEXEC, 3)), questions(::fcntl(in, F_DUPFD_CLOEXEC, 3));
  ::dup2(STDERR_FILENO, STDOUT_FILENO);
  if (const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC); null >= 0) ::dup2(null, STDIN_FILENO);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::signal(SIGPIPE, SIG_IGN);
  adopt_descendants();

  Channel channel(questions.get(), answers.get());
  const auto fail = [&](ErrorCode code, const std::string& message) {
    channel.send({{"error", message}, {"code", static_cast<int>(code)}});
    return 1;
  };
  try {
    const auto job = channel.receive();
    if (!job) return 0;
    Worker worker(channel, measure_job_from_json(*job));
    channel.send({{"ready", true}});
    worker.serve();
    return 0;
  } catch (const Error& error) {
    return fail(error.code(), error.what());
  } catch (const std::exception& error) {
    return fail(ErrorCode::internal, error.what());
  }
}

}  // namespace heddle::autoscheduler
