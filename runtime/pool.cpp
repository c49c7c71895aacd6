#include "runtime/pool.hpp"

#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include <fmt/format.h>

#include "base/error.hpp"
#include "runtime/cpu.hpp"

namespace heddle::runtime {
namespace {

/// Two lines: the adjacent-line prefetcher pulls them in pairs.
constexpr std::size_t cache_line = 128;

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

std::int64_t now_ns() {
  struct ::timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected) {
  ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void futex_wake(std::atomic<std::uint32_t>& word) {
  ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

#if defined(__x86_64__)
constexpr std::uint64_t flush_bits = 0x8040;  // MXCSR: results (15) and operands (6)
std::uint64_t float_control() { return _mm_getcsr(); }
void set_float_control(std::uint64_t value) { _mm_setcsr(static_cast<unsigned int>(value)); }
#elif defined(__aarch64__)
constexpr std::uint64_t flush_bits = std::uint64_t{1} << 24;  // FPCR.FZ
std::uint64_t float_control() {
  std::uint64_t value = 0;
  asm volatile("mrs %0, fpcr" : "=r"(value));
  return value;
}
void set_float_control(std::uint64_t value) { asm volatile("msr fpcr, %0" ::"r"(value)); }
#else
constexpr std::uint64_t flush_bits = 0;
std::uint64_t float_control() { return 0; }
void set_float_control(std::uint64_t) {}
#endif

thread_local Scratch* own_scratch = nullptr;
thread_local bool in_task = false;

}  // namespace

FloatMode::FloatMode(bool flush) : before_(float_control()) {
  const std::uint64_t wanted = flush ? before_ | flush_bits : before_ & ~flush_bits;
  if (wanted != before_) set_float_control(wanted);
}

// Only the flushing is put back: exception flags raised meanwhile stay raised, as after any arithmetic.
FloatMode::~FloatMode() {
  const std::uint64_t current = float_control();
  const std::uint64_t wanted = (current & ~flush_bits) | (before_ & flush_bits);
  if (wanted != current) set_float_control(wanted);
}

namespace {

/// For so long a thread that is through with its part leaves the others' to those who are at work on them: what it
/// takes changes caches, and back in the next run. (A loop of 5 us takes 12 if its last tasks change sides each time.)
constexpr std::int64_t patience_ns = 5000;

/// Tasks that nobody has begun: `begin` in the lower half of a word, `end` in the upper one. Its owner takes the first
/// of them and others the last, so that each thread works its way through tasks that follow one another.
class alignas(cache_line) TaskRange {
 public:
  struct Taken {
    std::uint32_t begin = 0, end = 0;
    explicit operator bool() const { return begin < end; }
  };

  TaskRange(std::uint32_t begin, std::uint32_t end) : start_(begin), word_(word(begin, end)) {}

  Taken first() {
    return take([](const Taken& left) { return Taken{left.begin, left.begin + share(left)}; });
  }
  Taken last() {
    return take([](const Taken& left) { return Taken{left.end - share(left), left.end}; });
  }
  /// The same, as long as the owner has begun none.
  Taken last_unbegun() {
    return take(
        [this](const Taken& left) { return left.begin == start_ ? Taken{left.end - share(left), left.end} : Taken{}; });
  }
  bool empty() const { return !unbegun(word_.load(std::memory_order_relaxed)); }

 private:
  /// Taking costs as much as many a task, so several go at once: fewer the nearer the end comes, where threads would
  /// wait for the last ones.
  static std::uint32_t share(const Taken& left) { return std::max(1U, (left.end - left.begin) / 8); }
  static std::uint64_t word(std::uint32_t begin, std::uint32_t end) { return std::uint64_t{end} << 32 | begin; }
  static Taken unbegun(std::uint64_t word) {
    return {static_cast<std::uint32_t>(word), static_cast<std::uint32_t>(word >> 32)};
  }

  template <class Choose>
  Taken take(Choose&& choose) {
    std::uint64_t now = word_.load(std::memory_order_relaxed);
    for (;;) {
      const Taken left = unbegun(now);
      if (!left) return {};
      const Taken taken = choose(left);
      if (!taken) return {};
      const std::uint64_t rest = taken.begin == left.begin ? word(taken.end, left.end) : word(left.begin, taken.begin);
      if (word_.compare_exchange_weak(now, rest, std::memory_order_relaxed)) return taken;
    }
  }

  std::uint32_t start_;
  std::atomic<std::uint64_t> word_;
};

}  // namespace

/// One parallel loop. It lives on the stack of its caller, who leaves only when no worker holds it any more.
///
/// Each thread has a part of the tasks for its own, the same part of every loop: the rows that it computes in one
/// kernel it reads in the next one, out of its own cache. (Another core's modified lines come at a fraction of the
/// speed at which its own do.) Who has done his part helps the others.
struct Pool::Job {
  Task task;
  void* context;
  std::uint8_t* closure;
  int min;
  std::int64_t spin_ns;
  bool flush;
  int caller;   ///< index of the worker on the caller's processor; -1: none
  int workers;  ///< that there are
  int parts;
  TaskRange* tasks;  ///< a range a part
  std::atomic<int> result{0};

  /// `worker`: its index; the caller's for the caller.
  void work(int worker) noexcept {
    const int own = (worker - caller + workers) % workers % parts;
    run_all([&] { return tasks[own].first(); });
    for (int i = 1; i < parts; ++i) run_all([&] { return tasks[(own + i) % parts].last_unbegun(); });
    const std::int64_t until = now_ns() + patience_ns;
    // Seldom: each look takes the line from its owner.
    while (!std::all_of(tasks, tasks + parts, [](const TaskRange& t) { return t.empty(); }) && now_ns() < until)
      for (int i = 0; i < 16; ++i) relax();
    for (int i = 1; i < parts; ++i) run_all([&] { return tasks[(own + i) % parts].last(); });
  }

 private:
  template <class Take>
  void run_all(Take&& take) noexcept {
    while (result.load(std::memory_order_relaxed) == 0) {
      const TaskRange::Taken taken = take();
      if (!taken) return;
      for (std::uint32_t i = taken.begin; i < taken.end; ++i) {
        const int code = task(context, min + static_cast<int>(i), closure);
        if (code == 0) continue;
        int none = 0;
        result.compare_exchange_strong(none, code, std::memory_order_relaxed);
        return;
      }
    }
  }
};

struct alignas(cache_line) Pool::Worker {
  /// 0: free. A Job's address: offered. The address + 1: taken, until the worker stores 0. The caller takes an offer
  /// back by storing 0 itself.
  std::atomic<std::uintptr_t> mailbox{0};
  std::atomic<std::uint32_t> sleeping{0};
  std::atomic<bool> quit{false};
  const std::atomic<int>* callers = nullptr;  ///< of the pool: runs under way
  int index = 0;
  int cpu = -1;
  ::pthread_t thread{};
  Scratch scratch;

  void wake() {
    if (sleeping.load(std::memory_order_seq_cst) == 0) return;
    sleeping.store(0, std::memory_order_seq_cst);
    futex_wake(sleeping);
  }

  void sleep() {
    sleeping.store(1, std::memory_order_seq_cst);
    // Either this load sees the offer, or its caller sees `sleeping`.
    if (mailbox.load(std::memory_order_seq_cst) == 0 && !quit.load(std::memory_order_seq_cst)) futex_wait(sleeping, 1);
    sleeping.store(0, std::memory_order_seq_cst);
  }

  /// How many times as long as after a run a worker spins within one: loops come again behind kernels of one thread,
  /// and a loop that finds its worker asleep takes some 30 us longer.
  std::int64_t patience() const { return callers->load(std::memory_order_relaxed) > 0 ? 5 : 1; }

  void run() {
    own_scratch = &scratch;
    in_task = true;  // loops within tasks run inline
    std::int64_t spin_ns = 0;
    std::int64_t idle_since = now_ns();
    for (unsigned int spins = 1; !quit.load(std::memory_order_relaxed); ++spins) {
      std::uintptr_t offer = mailbox.load(std::memory_order_acquire);
      if (offer != 0 && mailbox.compare_exchange_strong(offer, offer + 1, std::memory_order_acq_rel)) {
        auto* job = reinterpret_cast<Job*>(offer);
        spin_ns = job->spin_ns;
        {
          const FloatMode mode(job->flush);
          job->work(index);
        }
        mailbox.store(0, std::memory_order_release);
        spins = 0;
        idle_since = now_ns();
        continue;
      }
      relax();
      if (spins % 32 == 0 && now_ns() - idle_since >= spin_ns * patience()) {
        sleep();
        // Woken without an offer: a run is about to begin.
        spin_ns = std::max<std::int64_t>(spin_ns, 50'000);
        idle_since = now_ns();
      }
    }
  }
};

struct Pool::State {
  std::vector<int> cpus;
  std::vector<int> worker_on;  ///< by processor
  std::mutex growing;
  std::atomic<int> count{0};                     ///< workers made so far
  std::vector<std::unique_ptr<Worker>> workers;  ///< as many entries as processors, so that it never moves
  alignas(cache_line) std::atomic<int> callers{0};

  /// The worker on the processor that the calling thread is on; -1: none.
  int own_worker() const {
    const int here = ::sched_getcpu();
    const bool known = here >= 0 && static_cast<std::size_t>(here) < worker_on.size();
    return known ? worker_on[static_cast<std::size_t>(here)] : -1;
  }

  /// Calls visit(worker) until it returns false, leaving out `own`, the worker of the processor that the calling thread
  /// is on. Counting from that processor, neighbours first, a caller always meets the same workers, whose caches hold
  /// what they computed in the loop before.
  template <class Visit>
  void visit_workers(int own, Visit&& visit) const {
    const int made = count.load(std::memory_order_acquire);
    for (int i = 0; i < made; ++i) {
      const int index = (own + 1 + i) % made;
      if (index != own && !visit(*workers[static_cast<std::size_t>(index)])) return;
    }
  }
};

Pool::Pool(std::vector<int> cpus) : state_(std::make_unique<State>()), cores_(static_cast<int>(cpus.size())) {
  if (cpus.size() > most_threads) cpus.resize(most_threads);
  cores_ = static_cast<int>(cpus.size());
  const int highest = *std::max_element(cpus.begin(), cpus.end());
  state_->worker_on.assign(static_cast<std::size_t>(std::max(highest, 0)) + 1, -1);
  for (std::size_t i = 0; i < cpus.size(); ++i)
    if (cpus[i] >= 0) state_->worker_on[static_cast<std::size_t>(cpus[i])] = static_cast<int>(i);
  state_->cpus = std::move(cpus);
  state_->workers.resize(state_->cpus.size());
}

Pool::~Pool() {
  for (int i = 0; i < state_->count.load(); ++i) {
    Worker& worker = *state_->workers[static_cast<std::size_t>(i)];
    worker.quit.store(true, std::memory_order_seq_cst);
    worker.wake();
    ::pthread_join(worker.thread, nullptr);
  }
}

namespace {

std::atomic<Pool*> shared_pool{nullptr};
std::mutex shared_pool_making;

}  // namespace

Pool& Pool::shared() {
  if (Pool* pool = shared_pool.load(std::memory_order_acquire)) return *pool;
  const std::lock_guard lock(shared_pool_making);
  if (Pool* pool = shared_pool.load(std::memory_order_acquire)) return *pool;
  static const bool once = [] {
    // The workers never end, so the code that they run must stay even if the library is closed.
    ::Dl_info info{};
    if (::dladdr(reinterpret_cast<const void*>(&Pool::default_spin_us), &info) != 0 && info.dli_fname != nullptr)
      ::dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
    // A child of fork has this pool's memory but none of its threads. It is left behind, and a lock that another thread
    // held at that moment with it.
    ::pthread_atfork(nullptr, nullptr, [] {
      shared_pool.store(nullptr, std::memory_order_release);
      new (&shared_pool_making) std::mutex;
    });
    return true;
  }();
  static_cast<void>(once);
  CpuList list = available_cpus();
  // Never destroyed: threads of the program may still run sessions while static objects are destroyed.
  auto* pool = new Pool(std::move(list.cpus));
  pool->cores_ = std::min(list.cores, pool->cores_);
  shared_pool.store(pool, std::memory_order_release);
  return *pool;
}

std::uint32_t Pool::default_spin_us() {
  constexpr std::uint32_t usual = 200;
  const char* text = std::getenv("HEDDLE_SPIN_US");
  if (text == nullptr) return usual;
  char* end = nullptr;
  errno = 0;
  const unsigned long value = std::strtoul(text, &end, 10);
  const bool number = end != text && *end == '\0' && errno == 0 && text[0] != '-';
  return number ? static_cast<std::uint32_t>(std::min(value, 10'000'000UL)) : usual;
}

int Pool::processors() const { return static_cast<int>(state_->cpus.size()); }

void Pool::reserve(int threads) {
  const std::lock_guard lock(state_->growing);
  // One alone works in its caller. Two need two workers: the one of the processor that the caller is on is not used.
  const int wanted = threads <= 1 ? 0 : std::min(threads, processors());
  for (int i = state_->count.load(); i < wanted; ++i) {
    auto worker = std::make_unique<Worker>();
    worker->callers = &state_->callers;
    worker->index = i;
    worker->cpu = state_->cpus[static_cast<std::size_t>(i)];
    // Signals belong to the program's own threads. A new thread inherits the mask.
    ::sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = ::pthread_create(
        &worker->thread, nullptr,
        [](void* self) -> void* {
          static_cast<Worker*>(self)->run();
          return nullptr;
        },
        worker.get());
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (error != 0)
      throw Error(ErrorCode::out_of_memory, fmt::format("cannot start a thread: {}", std::strerror(error)));
    ::pthread_setname_np(worker->thread, fmt::format("heddle-{}", i).c_str());
    if (worker->cpu >= 0) {
      const auto cpu = static_cast<std::size_t>(worker->cpu);
      std::vector<::cpu_set_t> mask(cpu / CPU_SETSIZE + 1);
      const std::size_t bytes = mask.size() * sizeof(::cpu_set_t);
      CPU_ZERO_S(bytes, mask.data());
      CPU_SET_S(cpu, bytes, mask.data());
      // Refused when the mask has shrunk meanwhile: the worker then runs where it may.
      ::pthread_setaffinity_np(worker->thread, bytes, mask.data());
    }
    state_->workers[static_cast<std::size_t>(i)] = std::move(worker);
    state_->count.store(i + 1, std::memory_order_release);
  }
}

void Pool::wake(const Settings& settings) noexcept {
  int left = settings.spin_us == 0 ? 0 : settings.threads - 1;
  state_->visit_workers(state_->own_worker(), [&](Worker& worker) {
    if (left > 0) worker.wake();
    return --left > 0;
  });
}

int Pool::parallel_for(const Settings& settings, Task task, void* context, int min, int extent,
                       std::uint8_t* closure) noexcept {
  if (extent <= 0) return 0;
  const int count = state_->count.load(std::memory_order_acquire);
  const int others = processors() - std::max(1, state_->callers.load(std::memory_order_relaxed));
  const int helpers = in_task ? 0 : std::min({settings.threads - 1, extent - 1, others, count});
  if (helpers <= 0) {
    for (int i = 0; i < extent; ++i)
      if (const int code = task(context, min + i, closure); code != 0) return code;
    return 0;
  }

  const int parts = helpers + 1;
  const int own = state_->own_worker();
  // As many as there are parts come into being: all of them would be 32 KiB to write for each loop.
  alignas(TaskRange) std::byte ranges[most_threads * sizeof(TaskRange)];
  auto* tasks = reinterpret_cast<TaskRange*>(ranges);
  const auto first_of = [&](int part) { return static_cast<std::uint32_t>(std::int64_t{extent} * part / parts); };
  for (int i = 0; i < parts; ++i) new (&tasks[i]) TaskRange(first_of(i), first_of(i + 1));
  Job job{.task = task,
          .context = context,
          .closure = closure,
          .min = min,
          .spin_ns = std::int64_t{settings.spin_us} * 1000,
          .flush = settings.flush,
          .caller = own,
          .workers = count,
          .parts = parts,
          .tasks = tasks};
  const auto address = reinterpret_cast<std::uintptr_t>(&job);

  Worker* claimed[most_threads];
  int claims = 0;
  state_->visit_workers(own, [&](Worker& worker) {
    std::uintptr_t free = 0;
    if (worker.mailbox.load(std::memory_order_relaxed) == 0 &&
        worker.mailbox.compare_exchange_strong(free, address, std::memory_order_seq_cst)) {
      worker.wake();
      claimed[claims++] = &worker;
    }
    return claims < helpers;
  });

  in_task = true;
  job.work(own);
  in_task = false;

  for (int i = 0; i < claims; ++i) {
    std::atomic<std::uintptr_t>& mailbox = claimed[i]->mailbox;
    std::uintptr_t offered = address;
    if (mailbox.compare_exchange_strong(offered, 0, std::memory_order_acq_rel)) continue;
    for (unsigned int spins = 1; mailbox.load(std::memory_order_acquire) == address + 1; ++spins) {
      relax();
      // The worker may be waiting for this very processor.
      if (spins % 4096 == 0) ::sched_yield();
    }
  }
  return job.result.load(std::memory_order_relaxed);
}

Pool::Caller::Caller(Pool& pool) : pool_(pool) { pool_.state_->callers.fetch_add(1, std::memory_order_relaxed); }
Pool::Caller::~Caller() { pool_.state_->callers.fetch_sub(1, std::memory_order_relaxed); }

Scratch* Pool::thread_scratch() { return own_scratch; }
void Pool::set_thread_scratch(Scratch* scratch) { own_scratch = scratch; }

}  // namespace heddle::runtime
