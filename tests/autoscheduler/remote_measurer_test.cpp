// Jobs between a search and a worker: what they carry, and what becomes of those that end badly.
#include "autoscheduler/remote_measurer.hpp"

#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <future>
#include <thread>

#include "autoscheduler/measure_job.hpp"
#include "base/error.hpp"
#include "base/file.hpp"
#include "ops/catalog.hpp"
#include "targets/target.hpp"

namespace heddle::autoscheduler {
namespace {

using namespace std::chrono_literals;
using Catch::Matchers::Contains;

/// A search's side and a worker's, of an operator that a user module brings.
struct Sides {
  TemporaryDirectory directory;
  std::string url = (directory.path() / "tune.db").string();
  Operators operators;
  std::optional<Workload> workload;
  Fleet fleet{.records = url, .machine = this_fleet_machine("heddle of test")};
  std::string kind = fleet.machine.kind(host_target().name);
  JobQueue queue{url};

  Sides() {
    ::setenv("HEDDLE_PROGRAM", HEDDLE_PROGRAM, 1);
    operators.load(HEDDLE_FAULTY_OPERATORS);
    workload.emplace(
        Workload::of(operators.get("faulty_increment"), Json::object(), {tensor(DType::f32, {Extent(637)})}));
  }

  std::unique_ptr<Measurer> search() {
    return make_remote_measurer(*workload, host_target(), {HEDDLE_FAULTY_OPERATORS}, {.least_seconds = 0.002}, fleet,
                                "search");
  }

  JobQueue::Lease lease(double seconds = 60) {
    for (int tries = 0; tries < 1000; ++tries) {
      if (auto found = queue.claim(kind, "worker", seconds)) return *found;
      std::this_thread::sleep_for(10ms);
    }
    throw std::runtime_error("no job came");
  }
};

const Implementation good = Implementation::parse("variant direct\nout.vectorize(x, 8)\n");
const Implementation plain = Implementation::parse("variant direct\n");

TEST_CASE("a job brings its user module, and its incumbent is timed on the same worker") {
  Sides sides;
  const auto measurer = sides.search();
  auto results = std::async(std::launch::async, [&] { return measurer->measure({good, plain}, &plain, {}); });
  int fetched = 0;
  JobMeasurer worker("worker 7", "a machine", 1,
                     [&](const std::string& hash) {
                       const auto file = sides.directory.path() / (hash + ".so");
                       write_file(file, sides.queue.module(hash));
                       ++fetched;
                       return file.string();
                     },
                     {});
  for (int i = 0; i < 2; ++i) {
    const auto lease = sides.lease();
    const auto outcome = worker.run(lease.payload);
    REQUIRE(outcome.has_value());
    CHECK(sides.queue.finish(lease, outcome->result));
  }
  const auto measured = results.get();
  REQUIRE(measured.size() == 2);
  CHECK(fetched == 1);  // one measurer served both
  for (const Measurement& m : measured) {
    CHECK(m.message == "");
    CHECK(m.status == TrialStatus::ok);
    CHECK(m.incumbent_seconds.size() >= 7);  // in turns, but a slow sample ends a turn early
    CHECK(m.machine == "a machine");
    CHECK(m.worker == "worker 7");
  }
  CHECK(sides.queue.free().empty());
}

TEST_CASE("a job with which five workers died is a crash") {
  Sides sides;
  const auto measurer = sides.search();
  auto results = std::async(std::launch::async, [&] { return measurer->measure({good}, nullptr, {}); });
  for (int death = 0; death < JobQueue::most_attempts; ++death) sides.lease(0.01);
  const auto measured = results.get();
  REQUIRE(measured.size() == 1);
  CHECK(measured[0].status == TrialStatus::crashed);
  CHECK_THAT(measured[0].message, Contains("5 workers ended while they measured it") && Contains("worker"));
  CHECK_FALSE(sides.queue.claim(sides.kind, "worker", 1).has_value());
}

TEST_CASE("what a search was told while it was away is found by it again") {
  Sides sides;
  bool stop = false;
  sides.fleet.stop = [&] { return stop; };
  auto measurer = sides.search();
  auto results = std::async(std::launch::async, [&] { return measurer->measure({good, plain}, nullptr, {}); });
  const auto begun = sides.lease();
  stop = true;
  CHECK(results.get().empty());
  // What a worker has begun goes on; what nobody had is taken back.
  CHECK(sides.queue.free().empty());
  Measurement m{.status = TrialStatus::wrong, .message = "made up"};
  CHECK(sides.queue.finish(begun, Json({{"measurement", to_json(m)}, {"machine", "a machine"}}).dump()));
  stop = false;
  measurer = sides.search();
  const auto again = measurer->measure({good}, nullptr, {});
  REQUIRE(again.size() == 1);
  CHECK(again[0].message == "made up");
}

TEST_CASE("a worker's failure is the search's, with the worker's name") {
  Sides sides;
  const auto measurer = sides.search();
  auto results = std::async(std::launch::async, [&] { return measurer->measure({good}, nullptr, {}); });
  const auto lease = sides.lease();
  // The operators of another build.
  Json payload = Json::parse(lease.payload);
  payload["job"]["text"] = "something else";
  JobMeasurer worker("w", "m", 1, [](const std::string&) { return std::string(HEDDLE_FAULTY_OPERATORS); }, {});
  const auto outcome = worker.run(payload.dump());
  REQUIRE(outcome.has_value());
  CHECK(sides.queue.finish(lease, outcome->result));
  CHECK_THROWS_WITH(results.get(), Contains("not those of the search") && Contains("in worker worker"));
}

TEST_CASE("a search is for one machine of those that announced themselves") {
  Sides sides;
  const std::string version = "heddle of test";
  CHECK_FALSE(choose_machine(sides.queue, "", version).has_value());
  FleetMachine one = sides.fleet.machine, other = one, old = one;
  one.machines[0].l2_bytes = 123 << 10;
  other.name = "Another, 1 KiB L1";
  old.version = "heddle of yore";
  for (const FleetMachine* machine : {&one, &old})
    sides.queue.announce(machine->version, machine->row(), to_json(*machine).dump());
  const auto found = choose_machine(sides.queue, "", version);
  REQUIRE(found.has_value());
  CHECK(found->name == one.name);
  CHECK(found->machines[0].l2_bytes == 123 << 10);
  CHECK(workers_of(sides.queue, *found) == 1);
  CHECK_THROWS_WITH(found->machine("arm-64-linux-none"), Contains("run no kernels for"));

  sides.queue.announce("o", other.row(), to_json(other).dump());
  CHECK_THROWS_WITH(choose_machine(sides.queue, "", version), Contains("--machine") && Contains("Another"));
  CHECK(choose_machine(sides.queue, "Another", version)->name == other.name);
  sides.queue.leave("o");
  CHECK_THAT(absent_workers(sides.queue, &other, version), Contains("heddle of yore") && Contains("start one there"));
}

}  // namespace
}  // namespace heddle::autoscheduler
