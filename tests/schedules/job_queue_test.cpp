// Jobs and leases, on SQLite and on a PostgreSQL server.
#include "schedules/job_queue.hpp"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>
#include <catch2/catch.hpp>
#include <chrono>
#include <map>
#include <thread>

#include "base/error.hpp"
#include "base/file.hpp"
#include "tests/support/postgresql.hpp"

namespace heddle {
namespace {

using namespace std::chrono_literals;
using Catch::Matchers::Contains;
using State = JobQueue::State;

void check_queue(const std::string& url) {
  JobQueue queue(url);
  CHECK_FALSE(queue.claim("avx2", "w", 10).has_value());
  CHECK_FALSE(queue.status("a").has_value());
  queue.submit({"a", "avx2", "work a"});
  queue.submit({"a", "avx2", "another text for the same key"});
  queue.submit({"b", "avx2", "work b"});
  queue.submit({"c", "avx512", "work c"});
  CHECK(queue.waiting("avx2") == 2);
  CHECK(queue.status("a")->state == State::queued);

  // The oldest of the worker's kind, and each to one worker.
  const auto a = queue.claim("avx2", "first", 0.2).value();
  CHECK(a.payload == "work a");
  const auto b = queue.claim("avx2", "second", 10).value();
  CHECK(b.payload == "work b");
  CHECK_FALSE(queue.claim("avx2", "third", 10).has_value());
  CHECK(queue.status("a")->state == State::leased);
  CHECK(queue.status("a")->worker == "first");

  // A lease that is extended holds; one that is not goes to another, and what the first one then says does not count.
  std::this_thread::sleep_for(150ms);
  CHECK(queue.extend(a, 0.2));
  std::this_thread::sleep_for(100ms);
  CHECK_FALSE(queue.claim("avx2", "third", 10).has_value());
  std::this_thread::sleep_for(200ms);
  CHECK(queue.status("a")->state == State::queued);
  const auto again = queue.claim("avx2", "first", 10).value();
  CHECK(again.id == a.id);
  CHECK(again.attempt == 2);
  CHECK_FALSE(queue.extend(a, 10));
  CHECK_FALSE(queue.finish(a, "too late"));
  CHECK(queue.finish(again, "result a"));
  CHECK_FALSE(queue.finish(again, "twice"));
  CHECK(queue.status("a")->state == State::done);
  CHECK(queue.status("a")->result == "result a");
  // A search that starts again does not have it done again.
  queue.submit({"a", "avx2", "work a"});
  CHECK(queue.status("a")->state == State::done);

  queue.release(b);
  CHECK(queue.status("b")->state == State::queued);
  CHECK(queue.status("b")->attempts == 0);
  // Whatever kills every worker is given up.
  for (int i = 0; i < JobQueue::most_attempts; ++i) {
    REQUIRE(queue.claim("avx2", "victim", 0.01).has_value());
    std::this_thread::sleep_for(30ms);
  }
  CHECK_FALSE(queue.claim("avx2", "victim", 0.01).has_value());
  CHECK(queue.status("b")->state == State::lost);
  CHECK(queue.waiting("avx2") == 0);
  CHECK(queue.waiting("avx512") == 1);
  queue.remove("b");
  CHECK_FALSE(queue.status("b").has_value());

  std::string bytes;
  for (int i = 0; i < 1000; ++i) bytes += static_cast<char>(i);
  const std::string hash = queue.put_module(bytes);
  CHECK(queue.put_module(bytes) == hash);
  CHECK(queue.module(hash) == bytes);
  CHECK_THROWS_AS(queue.module("0123"), Error);
}

void check_workers(const std::string& url) {
  JobQueue queue(url);
  CHECK(queue.machines().empty());
  CHECK(queue.free().empty());
  queue.announce("a", "small", "one description");
  queue.announce("b", "small", "another description");
  queue.announce("c", "large", "large's");
  queue.announce("a", "small", "another description");
  auto machines = queue.machines();
  REQUIRE(machines.size() == 2);
  CHECK(machines[0].name == "large");
  CHECK(machines[0].workers == 1);
  CHECK(machines[1].description == "another description");
  CHECK(machines[1].workers == 2);
  // A machine stays known when its workers are gone.
  for (const char* worker : {"a", "b", "c"}) queue.leave(worker);
  machines = queue.machines();
  REQUIRE(machines.size() == 2);
  CHECK(machines[0].workers + machines[1].workers == 0);

  for (const char* key : {"s1:a", "s1:b", "s1:c", "s2:a"}) queue.submit({key, "avx2", key});
  queue.submit({"s3", "avx512", ""});
  const auto free = queue.free();
  REQUIRE(free.size() == 2);
  CHECK(free[0].target == "avx2");
  CHECK(free[0].jobs == 4);
  CHECK(free[1].jobs == 1);
  const auto done = queue.claim("avx2", "a", 10).value(), begun = queue.claim("avx2", "a", 10).value();
  CHECK(queue.finish(done, "result"));
  CHECK(queue.free()[0].jobs == 2);
  // A search that is told to stop takes back what nobody has begun; the end of one takes everything of its own.
  queue.withdraw({"s1:a", "s1:b", "s1:c"});
  CHECK(queue.status("s1:a")->state == State::done);
  CHECK(queue.status("s1:b")->state == State::leased);
  CHECK_FALSE(queue.status("s1:c").has_value());
  queue.remove_all("s1:");
  CHECK_FALSE(queue.finish(begun, "nobody wants it"));
  CHECK_FALSE(queue.status("s1:a").has_value());
  CHECK(queue.status("s2:a").has_value());
}

/// A worker that takes jobs until there are none, 5 ms each; one that is `slow` never ends its first one.
pid_t start_worker(const std::string& url, int number, bool slow) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  int status = 0;
  try {
    JobQueue queue(url);
    const auto name = fmt::format("worker {}", number);
    while (queue.waiting("avx2") > 0) {
      const auto lease = queue.claim("avx2", name, 3);
      if (slow && lease) std::this_thread::sleep_for(1h);
      std::this_thread::sleep_for(5ms);
      if (lease && !queue.finish(*lease, lease->payload + " by " + name)) status = 2;
    }
  } catch (const std::exception& e) {
    fmt::print(stderr, "worker {}: {}\n", number, e.what());
    status = 1;
  }
  ::_exit(status);
}

void check_killed_workers(const std::string& url) {
  constexpr int jobs = 60, workers = 5, killed = 2;
  // SQLite's connections do not survive a fork, so none is open while workers are made.
  {
    JobQueue queue(url);
    for (int i = 0; i < jobs; ++i) queue.submit({fmt::format("fleet {}", i), "avx2", fmt::format("job {}", i)});
  }
  std::vector<pid_t> children;
  for (int w = 0; w < killed; ++w) children.push_back(start_worker(url, w, true));
  {
    const JobQueue queue(url);
    while (queue.status("fleet 1")->state != State::leased) std::this_thread::sleep_for(5ms);
  }
  for (const pid_t child : children) {
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
  children.clear();
  for (int w = killed; w < workers; ++w) children.push_back(start_worker(url, w, false));
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK(status == 0);
  }
  const JobQueue queue(url);
  std::map<std::string, int> done_by;
  int repeated = 0;
  for (int i = 0; i < jobs; ++i) {
    const auto status = queue.status(fmt::format("fleet {}", i)).value();
    REQUIRE(status.state == State::done);
    CHECK_THAT(status.result, Catch::Matchers::StartsWith(fmt::format("job {} by worker ", i)));
    ++done_by[status.worker];
    repeated += status.attempts > 1 ? 1 : 0;
  }
  CHECK(repeated == killed);
  CHECK(done_by.size() == workers - killed);  // all had a part
}

TEST_CASE("jobs are leased and end once on SQLite", "[jobs]") {
  const TemporaryDirectory directory;
  check_queue((directory.path() / "a.db").string());
  check_workers((directory.path() / "w.db").string());
  check_killed_workers((directory.path() / "b.db").string());
}

TEST_CASE("jobs are leased and end once on PostgreSQL", "[jobs][postgresql]") {
  if (!testing::PostgresServer::programs()) {
    WARN("skipped: no PostgreSQL server is installed (the package postgresql)");
    return;
  }
  const testing::PostgresServer server;
  check_workers(server.url());
  JobQueue(server.url()).remove_all("s");
  check_queue(server.url());
  check_killed_workers(server.url());
}

}  // namespace
}  // namespace heddle
