#include "runtime/pool.hpp"

#include <sched.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <thread>
#include <vector>

#include "runtime/cpu.hpp"

using heddle::runtime::FloatMode;
using heddle::runtime::Pool;

namespace {

using Clock = std::chrono::steady_clock;

/// parallel_for with a C++ function.
template <class F>
int for_each(Pool& pool, const Pool::Settings& settings, int min, int extent, F f) {
  return pool.parallel_for(
      settings, [](void* context, int i, std::uint8_t*) -> int { return (*static_cast<F*>(context))(i); }, &f, min,
      extent, nullptr);
}

/// Runs f in a forked child, which may change what belongs to the whole process; true if f says so.
bool in_child(const std::function<bool()>& f) {
  const ::pid_t child = ::fork();
  if (child == 0) {
    ::alarm(20);  // a child that hangs must not hang the tests
    ::_exit(f() ? 0 : 1);
  }
  int status = 1;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

double cpu_seconds() {
  ::rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const ::timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

void spin_for(std::chrono::microseconds time) {
  const auto end = Clock::now() + time;
  while (Clock::now() < end) {
  }
}

}  // namespace

TEST_CASE("a thread begins with the same part of every loop, and helps with the rest", "[pool]") {
  Pool pool({-1, -1});
  pool.reserve(2);
  const auto caller = std::this_thread::get_id();
  for (int loop = 0; loop < 50; ++loop) {
    std::atomic<int> first_of_other{-1}, first_of_caller{-1}, done{0};
    CHECK(for_each(pool, {.threads = 2, .spin_us = 1000}, 0, 100, [&](int i) {
            int none = -1;
            (std::this_thread::get_id() == caller ? first_of_caller : first_of_other).compare_exchange_strong(none, i);
            spin_for(std::chrono::microseconds(i < 50 ? 1 : 5));
            done.fetch_add(1);
            return 0;
          }) == 0);
    CHECK(done == 100);
    // Either may come too late for any task.
    CHECK((first_of_caller == 0 || first_of_caller == -1));
    CHECK((first_of_other == 50 || first_of_other == -1));
  }
}

TEST_CASE("threads share what much is left of, and leave the last short tasks to the one at work", "[pool]") {
  Pool pool({-1, -1});
  pool.reserve(2);
  const auto caller = std::this_thread::get_id();
  /// In how many of 100 loops of 100 tasks the caller does some of the worker's half. Those from `from` on take `slow`
  /// once the caller is through with its own.
  const auto helped = [&](int from, std::chrono::microseconds slow) {
    int loops = 0;
    for (int loop = 0; loop < 100; ++loop) {
      std::atomic<int> done{0}, taken{0};
      std::atomic<bool> begun{false};
      for_each(pool, {.threads = 2, .spin_us = 1000}, 0, 100, [&](int i) {
        if (std::this_thread::get_id() == caller) {
          const auto end = Clock::now() + std::chrono::milliseconds(10);
          while (i == 49 && !begun && Clock::now() < end) {
          }
          (i < 50 ? done : taken).fetch_add(1);
        } else {
          begun = true;
          while (i >= from && done < 50) {
          }
          if (i >= from) spin_for(slow);
        }
        return 0;
      });
      loops += taken > 0 ? 1 : 0;
    }
    return loops;
  };
  CHECK(helped(50, std::chrono::microseconds(500)) == 100);
  CHECK(helped(98, std::chrono::microseconds(1)) < 100);  // now and then one of them loses its processor
}

TEST_CASE("every task runs exactly once, whatever the number of threads", "[pool]") {
  Pool pool({-1, -1, -1, -1});
  pool.reserve(4);
  for (const int threads : {1, 2, 3, 4, 9})
    for (const int extent : {0, 1, 2, 3, 7, 64, 5000}) {
      std::vector<std::atomic<int>> hits(static_cast<std::size_t>(extent));
      const int min = -3;
      CHECK(for_each(pool, {.threads = threads}, min, extent, [&](int i) {
              hits[static_cast<std::size_t>(i - min)].fetch_add(1);
              return 0;
            }) == 0);
      CHECK(std::all_of(hits.begin(), hits.end(), [](const auto& n) { return n.load() == 1; }));
    }
}

TEST_CASE("loops are really shared among threads", "[pool]") {
  Pool pool({-1, -1, -1});
  pool.reserve(3);
  std::atomic<int> inside{0}, most{0};
  for_each(pool, {.threads = 3}, 0, 3, [&](int) {
    const int now = inside.fetch_add(1) + 1;
    int seen = most.load();
    while (seen < now && !most.compare_exchange_weak(seen, now)) {
    }
    // Until somebody else is here too, or it takes suspiciously long.
    const auto end = Clock::now() + std::chrono::seconds(5);
    while (most.load() < 2 && Clock::now() < end) std::this_thread::yield();
    inside.fetch_sub(1);
    return 0;
  });
  CHECK(most.load() >= 2);
}

TEST_CASE("ten thousand small loops add up", "[pool]") {
  Pool pool({-1, -1});
  pool.reserve(2);
  std::vector<long> sums(8, 0);
  for (int round = 0; round < 10000; ++round)
    for_each(pool, {.threads = 2}, 0, 8, [&](int i) {
      sums[static_cast<std::size_t>(i)] += i;  // plain memory: the end of a loop orders it before the next
      return 0;
    });
  for (int i = 0; i < 8; ++i) CHECK(sums[static_cast<std::size_t>(i)] == 10000L * i);
}

TEST_CASE("a loop within a task runs inline", "[pool]") {
  Pool pool({-1, -1, -1});
  pool.reserve(3);
  std::atomic<int> sum{0}, elsewhere{0};
  for_each(pool, {.threads = 3}, 0, 10, [&](int) {
    const auto self = std::this_thread::get_id();
    return for_each(pool, {.threads = 3}, 0, 10, [&](int) {
      if (std::this_thread::get_id() != self) elsewhere.fetch_add(1);
      sum.fetch_add(1);
      return 0;
    });
  });
  CHECK(sum.load() == 100);
  CHECK(elsewhere.load() == 0);
}

TEST_CASE("a failing task ends the loop and its code is returned", "[pool]") {
  Pool pool({-1, -1});
  pool.reserve(2);
  for (const int threads : {1, 2}) {
    std::atomic<int> ran{0};
    CHECK(for_each(pool, {.threads = threads}, 0, 100000, [&](int i) {
            ran.fetch_add(1);
            return i == 10 ? -27 : 0;
          }) == -27);
    CHECK(ran.load() < 100000);
  }
  CHECK(for_each(pool, {.threads = 2}, 0, 100, [](int) { return 0; }) == 0);
}

TEST_CASE("several callers at once all get right results", "[pool]") {
  Pool pool({-1, -1, -1, -1});
  pool.reserve(4);
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c)
    callers.emplace_back([&] {
      const Pool::Caller caller(pool);
      for (int round = 0; round < 500; ++round) {
        std::atomic<int> sum{0};
        for_each(pool, {.threads = 1 + round % 4}, 1, 40, [&](int i) {
          sum.fetch_add(i);
          return 0;
        });
        if (sum.load() != 820) wrong.fetch_add(1);
      }
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong.load() == 0);
}

TEST_CASE("a caller leaves the processors of other callers alone", "[pool]") {
  Pool pool({-1, -1});
  pool.reserve(2);
  const Pool::Caller one(pool), two(pool);  // as many callers as processors
  const auto self = std::this_thread::get_id();
  std::atomic<int> elsewhere{0};
  for_each(pool, {.threads = 2}, 0, 200, [&](int) {
    if (std::this_thread::get_id() != self) elsewhere.fetch_add(1);
    return 0;
  });
  CHECK(elsewhere.load() == 0);
}

TEST_CASE("idle workers sleep", "[pool]") {
  Pool pool({-1, -1, -1});
  pool.reserve(3);
  for_each(pool, {.threads = 3, .spin_us = 200}, 0, 100, [](int) { return 0; });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  CHECK(cpu_seconds() - before < 0.05);
  // And wake again.
  std::atomic<int> ran{0};
  for_each(pool, {.threads = 3}, 0, 100, [&](int) {
    ran.fetch_add(1);
    return 0;
  });
  CHECK(ran.load() == 100);
}

TEST_CASE("workers stay on the processors of the affinity mask", "[pool]") {
  CHECK(in_child([] {
    ::cpu_set_t mask;
    ::sched_getaffinity(0, sizeof(mask), &mask);
    int first = 0;
    while (!CPU_ISSET(first, &mask)) ++first;
    CPU_ZERO(&mask);
    CPU_SET(first, &mask);
    if (::sched_setaffinity(0, sizeof(mask), &mask) != 0) return false;
    Pool& pool = Pool::shared();
    pool.reserve(8);
    std::atomic<int> outside{0}, ran{0};
    for_each(pool, {.threads = 8}, 0, 1000, [&](int) {
      if (::sched_getcpu() != first) outside.fetch_add(1);
      ran.fetch_add(1);
      return 0;
    });
    return pool.processors() == 1 && pool.cores() == 1 && outside.load() == 0 && ran.load() == 1000;
  }));
}

TEST_CASE("each worker is pinned to its own processor", "[pool]") {
  const auto list = heddle::runtime::available_cpus();
  if (list.cpus.size() < 2) return;
  Pool pool(list.cpus);
  pool.reserve(static_cast<int>(list.cpus.size()));
  std::atomic<int> moved{0};
  const auto self = std::this_thread::get_id();
  for (int round = 0; round < 200; ++round)
    for_each(pool, {.threads = 64}, 0, 64, [&](int) {
      ::cpu_set_t mask;
      ::sched_getaffinity(0, sizeof(mask), &mask);
      if (std::this_thread::get_id() != self && CPU_COUNT(&mask) != 1) moved.fetch_add(1);
      return 0;
    });
  CHECK(moved.load() == 0);
}

TEST_CASE("after a fork old pools work inline and the shared one is new", "[pool]") {
  Pool& before = Pool::shared();
  before.reserve(2);
  for_each(before, {.threads = 2}, 0, 10, [](int) { return 0; });
  CHECK(in_child([&] {
    std::atomic<int> sum{0};
    const auto add = [&](int i) {
      sum.fetch_add(i);
      return 0;
    };
    for_each(before, {.threads = 2}, 0, 10, add);
    Pool& after = Pool::shared();
    after.reserve(2);
    for_each(after, {.threads = 2}, 0, 10, add);
    return &after != &before && sum.load() == 90;
  }));
}

TEST_CASE("subnormals are flushed in tasks if asked, and the caller's setting comes back", "[pool]") {
  Pool pool({-1, -1});
  pool.reserve(2);
  const auto halved_is_zero = [] {
    volatile float smallest = 1.17549435e-38F;
    volatile float half = smallest * 0.5F;
    return half == 0.0F;
  };
  REQUIRE_FALSE(halved_is_zero());
  for (const bool flush : {true, false}) {
    std::atomic<int> zeros{0};
    {
      const FloatMode mode(flush);
      for_each(pool, {.threads = 2, .flush = flush}, 0, 500, [&](int) {
        zeros.fetch_add(halved_is_zero() ? 1 : 0);
        return 0;
      });
    }
    CHECK(zeros.load() == (flush ? 500 : 0));
    CHECK_FALSE(halved_is_zero());
  }
}

TEST_CASE("the spinning time can be set by the environment", "[pool]") {
  ::setenv("HEDDLE_SPIN_US", "35", 1);
  CHECK(Pool::default_spin_us() == 35);
  ::setenv("HEDDLE_SPIN_US", "soon", 1);
  CHECK(Pool::default_spin_us() == 200);
  ::unsetenv("HEDDLE_SPIN_US");
  CHECK(Pool::default_spin_us() == 200);
}

// Needs an idle machine with two processors.
TEST_CASE("two short tasks on two processors take little longer than one", "[.timing]") {
  Pool& pool = Pool::shared();
  pool.reserve(2);
  const Pool::Caller caller(pool);
  const auto measure = [&](int extent) {
    std::vector<double> times;
    for (int i = 0; i < 2000; ++i) {
      spin_for(std::chrono::microseconds(i % 4 == 0 ? 50 : 5));
      const auto start = Clock::now();
      for_each(pool, {.threads = 2}, 0, extent, [](int) {
        spin_for(std::chrono::microseconds(14));
        return 0;
      });
      times.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
    }
    std::nth_element(times.begin(), times.begin() + 1000, times.end());
    return times[1000];
  };
  const double one = measure(1), two = measure(2);
  WARN("one task " << one << " us, two tasks on two processors " << two << " us");
  CHECK(two < one + 3);
}
