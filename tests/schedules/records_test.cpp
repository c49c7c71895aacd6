// The store of records on SQLite, and on a PostgreSQL server where its program is installed.
#include "schedules/records.hpp"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <future>
#include <thread>

#include <fmt/format.h>

#include "base/error.hpp"
#include "base/file.hpp"
#include "tests/schedules/record_fixture.hpp"
#include "tests/support/postgresql.hpp"

namespace heddle {
namespace {

using Catch::Matchers::Contains;
using testing::trial;

std::vector<std::int64_t> ids(const std::vector<Record>& records) {
  std::vector<std::int64_t> all;
  for (const Record& r : records) all.push_back(r.id);
  return all;
}

/// Everything that a store promises, whatever it lies in.
void check_store(const std::string& url) {
  RecordStore store(url);

  Record full = trial(0, "machine a, 32 KiB L1", 0.5);
  full.message = "line one\nline \"two\" with \u00e4 and ';--";
  full.seconds = {0.1, 1e-9, 0.30000000000000004};
  full.incumbent_seconds = {0.5, 0.75};
  full.compile_seconds = 1.0 / 3;
  full.requirements = "[]";
  const auto first = store.add(full);
  const Record back = store.find(first).value();
  CHECK(back.id == first);
  CHECK(back.message == full.message);
  CHECK(back.seconds == full.seconds);
  CHECK(back.incumbent_seconds == full.incumbent_seconds);
  CHECK(back.process_seconds.empty());
  CHECK(back.compile_seconds == full.compile_seconds);
  CHECK(back.implementation == full.implementation);
  CHECK(back.workload == full.workload);
  CHECK(back.threads == full.threads);
  CHECK(back.requirements == "[]");
  REQUIRE(back.created.size() == 20);  // 2026-01-31T23:59:59Z
  CHECK(back.created.back() == 'Z');

  // A trial is counted once.
  Record again = full;
  again.median_seconds = 9;
  CHECK(store.add(again) == first);
  CHECK(store.find(first)->median_seconds == 0.5);
  CHECK(store.find(full.search, 0)->id == first);
  CHECK_FALSE(store.find(full.search, 7).has_value());
  CHECK_FALSE(store.find(999).has_value());

  // What a crashed program prints is bytes.
  Record torn = trial(1, "machine a, 32 KiB L1", 0);
  torn.status = "crashed";
  torn.message = std::string("signal 11\0 and \xff\xfe", 17);
  const auto second = store.add(torn);
  CHECK_THAT(store.find(second)->message, Contains("signal 11"));

  const auto third = store.add(trial(2, "machine a, 32 KiB L1", 0.25));
  const auto fourth = store.add(trial(3, "machine b, 64 KiB L1", 0.125));
  Record other = trial(0, "machine a, 32 KiB L1", 0.01);
  other.search = "other";
  other.workload += "; something else";
  other.anchor = "matmul";
  const auto fifth = store.add(other);

  using Ids = std::vector<std::int64_t>;
  CHECK(ids(store.list({})) == Ids{first, second, third, fourth, fifth});
  CHECK(ids(store.list({.status = "crashed"})) == Ids{second});
  CHECK(ids(store.list({.anchor = "matmul"})) == Ids{fifth});
  CHECK(ids(store.list({.search = "other"})) == Ids{fifth});
  CHECK(ids(store.list({.machine = "machine b, 64 KiB L1"})) == Ids{fourth});
  CHECK(ids(store.list({.threads = 5})).empty());
  CHECK(ids(store.list({.name = "nothing"})).empty());
  CHECK(ids(store.list({.workload = full.workload, .most = 2, .fastest_first = true})) == Ids{fourth, third});
  // Failures come last.
  CHECK(ids(store.list({.workload = full.workload, .fastest_first = true})) == Ids{fourth, third, first, second});

  CHECK(store.best(full.workload, full.target, full.machine)->id == third);
  CHECK_FALSE(store.best(full.workload, "another", full.machine).has_value());
  // Measured again in fresh processes: those are believed before others, and by that time.
  store.set_process_seconds(first, {0.75, 0.5, 0.625, 0.25});
  CHECK(store.best(full.workload, full.target, full.machine)->id == first);
  CHECK(store.find(first)->process_seconds == std::vector<double>{0.75, 0.5, 0.625, 0.25});
  store.set_process_seconds(third, {0.6});
  CHECK(store.best(full.workload, full.target, full.machine)->id == first);  // 0.5625
  store.set_process_seconds(third, {0.5});
  CHECK(store.best(full.workload, full.target, full.machine)->id == third);
  CHECK_THROWS_AS(store.set_process_seconds(999, {1}), Error);

  // Another connection sees it all.
  const std::string text = RecordStore(url, RecordStore::Open::existing).export_text({});
  CHECK(std::count(text.begin(), text.end(), '\n') == 6);

  CHECK(store.prune(1) == 2);  // the failure, and the slower one of machine a
  CHECK(ids(store.list({})) == Ids{third, fourth, fifth});
  CHECK(store.import_text(text, "a.txt") == 2);
  CHECK(store.import_text(text, "a.txt") == 0);
  // Ids are never used again, so the two that came back have new ones.
  for (const Record& r : store.list({.most = 0})) CHECK((r.id >= third && r.id != 0));
  CHECK(store.export_text({}) == text);
}

TEST_CASE("the store keeps trials on SQLite", "[records]") {
  const TemporaryDirectory directory;
  check_store("sqlite:" + (directory.path() / "a b.db").string());
}

TEST_CASE("the store keeps trials on PostgreSQL", "[records][postgresql]") {
  if (!testing::PostgresServer::programs()) {
    WARN("skipped: no PostgreSQL server is installed (the package postgresql)");
    return;
  }
  testing::PostgresServer server;
  check_store(server.url());

  // A server that restarts is waited for.
  {
    RecordStore store(server.url());
    const auto before = store.list({}).size();
    server.stop(SIGKILL);
    // The server has to be the child of a thread that lives on, so the writer is the one that comes and goes.
    auto late = std::async(std::launch::async, [&] {
      Record record = trial(77, "machine c", 1);
      record.search = "late";
      return store.add(record);
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    server.start();
    CHECK(late.get() > 0);
    CHECK(store.list({}).size() == before + 1);
  }
  // A wrong password is told, and no password is shown.
  {
    try {
      RecordStore store(server.url("wrong"));
      FAIL("opened");
    } catch (const Error& e) {
      CHECK(e.code() == ErrorCode::io);
      CHECK_THAT(e.what(), Contains("password authentication failed") && Contains("PGPASSWORD"));
      CHECK_THAT(e.what(), !Contains(":wrong@"));
    }
    CHECK_THAT(RecordStore(server.url()).name(), !Contains("secret"));
  }
  // Several processes open and write at once.
  testing::write_from_processes(server.url(), 4, 10);
}

TEST_CASE("several processes make and fill one SQLite file at once", "[records]") {
  const TemporaryDirectory directory;
  testing::write_from_processes((directory.path() / "tune.db").string(), 6, 12);
}

TEST_CASE("whoever is killed while writing leaves whole records", "[records]") {
  const TemporaryDirectory directory;
  const std::string url = "sqlite:" + (directory.path() / "tune.db").string();
  for (int round = 0; round < 5; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      RecordStore store(url);
      Record record = trial(0, "machine", 1);
      record.search = fmt::format("search {}", round);
      record.message = std::string(20000, 'x');
      for (;; ++record.trial) store.add(record);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(120 + 35 * round));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    RecordStore store(url);
    const auto records = store.list({.search = fmt::format("search {}", round)});
    REQUIRE_FALSE(records.empty());
    for (std::size_t i = 0; i < records.size(); ++i) {
      REQUIRE(records[i].trial == static_cast<int>(i));
      REQUIRE(records[i].message.size() == 20000);
      REQUIRE(records[i].created.size() == 20);
    }
  }
}

TEST_CASE("bad text is refused as a whole, with its line", "[records]") {
  const TemporaryDirectory directory;
  RecordStore store((directory.path() / "tune.db").string());
  store.add(trial(0, "machine", 1));
  store.add(trial(1, "machine", 2));
  const std::string good = store.export_text({});
  RecordStore fresh((directory.path() / "fresh.db").string());
  const auto fails = [&](const std::string& text, const std::string& message, ErrorCode code) {
    try {
      fresh.import_text(text, "old.txt");
      FAIL("imported: " << message);
    } catch (const Error& e) {
      CHECK_THAT(e.what(), Contains(message));
      CHECK(e.code() == code);
    }
    CHECK(fresh.list({}).empty());
  };
  const auto replaced = [&](const std::string& what, const std::string& by) {
    std::string text = good;
    text.replace(text.rfind(what), what.size(), by);
    return text;
  };
  fails("", "old.txt: there are no records in it", ErrorCode::invalid_argument);
  fails(good.substr(good.find('\n') + 1), "old.txt:1: the first line has to be", ErrorCode::invalid_argument);
  fails(good.substr(0, good.size() - 20), "old.txt:3: the line is not one JSON object", ErrorCode::invalid_argument);
  fails(replaced("\"threads\":2", "\"threads\":\"2\""), "old.txt:3: the member 'threads' is \"2\", not a whole number",
        ErrorCode::invalid_argument);
  fails(replaced("\"threads\":2,", ""), "old.txt:3: the member 'threads' is missing", ErrorCode::invalid_argument);
  fails(replaced("\"threads\"", "\"thread\":1,\"threads\""),
        "old.txt:3: there is no member 'thread' (did you mean 'threads'", ErrorCode::invalid_argument);
  fails("{\"heddle_records\":9}\n", "old.txt:1: the records have format 9", ErrorCode::unsupported);
  CHECK(fresh.import_text("\n" + good + good, "twice.txt") == 2);
}

TEST_CASE("requirements survive their text", "[records]") {
  const std::vector<ScheduleRequirement> all = {
      {ScheduleRequirement::Kind::at_least, Extent::parse("div(W, 2)"), 8, "a tile"},
      {ScheduleRequirement::Kind::multiple_of, Extent::symbol("H"), 4, "\"rows\""}};
  const auto back = parse_requirements(print_requirements(all));
  REQUIRE(back.size() == 2);
  CHECK(back[0].kind == all[0].kind);
  CHECK(back[0].left == all[0].left);
  CHECK(back[0].right == Extent(8));
  CHECK(back[1].kind == all[1].kind);
  CHECK(back[1].reason == all[1].reason);
  CHECK(parse_requirements("[]").empty());
  for (const char* bad : {"", "{}", "[1]", R"([{"kind":"often","left":1,"right":1,"reason":""}])",
                          R"([{"kind":"at_least","left":[],"right":1,"reason":""}])", R"([{"kind":"at_least"}])"})
    CHECK_THROWS_AS(parse_requirements(bad), Error);
}

}  // namespace
}  // namespace heddle
