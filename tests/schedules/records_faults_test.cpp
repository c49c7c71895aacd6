// Databases that are away, not ours, read-only, full or newer than the program.
#include <sched.h>
#include <signal.h>
#include <soci/soci.h>
#include <soci/sqlite3/soci-sqlite3.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <functional>

#include "base/error.hpp"
#include "base/file.hpp"
#include "schedules/job_queue.hpp"
#include "schedules/records.hpp"
#include "tests/schedules/record_fixture.hpp"

namespace heddle {
namespace {

using Catch::Matchers::Contains;

/// What the work throws, "code: message"; "done" if nothing.
std::string outcome_of(const std::function<void()>& work) {
  try {
    work();
    return "done";
  } catch (const Error& e) {
    return std::to_string(static_cast<int>(e.code())) + ": " + e.what();
  } catch (const std::exception& e) {
    return std::string("not an Error: ") + e.what();
  }
}

std::string code(ErrorCode c) { return std::to_string(static_cast<int>(c)) + ": "; }

/// The same in a child, which may give up its rights first.
std::string outcome_in_child(const std::function<void()>& work) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const std::string outcome = outcome_of(work);
    const bool sent = ::write(ends[1], outcome.data(), outcome.size()) == static_cast<ssize_t>(outcome.size());
    ::_exit(sent ? 0 : 1);
  }
  ::close(ends[1]);
  std::string outcome;
  char buffer[4096];
  for (ssize_t n = 0; (n = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    outcome.append(buffer, static_cast<std::size_t>(n));
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  return outcome;
}

/// File permissions mean nothing to root.
void become_ordinary_user() {
  constexpr unsigned nobody = 65534;
  if (::geteuid() == 0 && (::setgid(nobody) != 0 || ::setuid(nobody) != 0)) ::_exit(3);
}

void add_one(RecordStore& store, int number) {
  Record record = testing::trial(number, "machine", 1);
  record.message = std::string(50000, 'x');
  store.add(record);
}

TEST_CASE("places that mean nothing are refused", "[records]") {
  for (const char* url : {"", "sqlite:", "mysql://host/db", "sqlite:a\"b.db"})
    CHECK_THAT(outcome_of([&] { RecordStore store{url}; }),
               Contains(code(ErrorCode::invalid_argument)) && Contains("write sqlite:FILE, or postgresql://"));
}

TEST_CASE("files that cannot be used are told apart", "[records]") {
  const TemporaryDirectory directory;
  const auto path = [&](const char* name) { return (directory.path() / name).string(); };

  CHECK_THAT(outcome_of([&] { RecordStore(path("no.db"), RecordStore::Open::existing); }),
             Contains(code(ErrorCode::not_found)) && Contains("no.db: there is no such file"));
  CHECK_FALSE(std::filesystem::exists(path("no.db")));
  CHECK_THAT(outcome_of([&] { RecordStore{path("no/tune.db")}; }),
             Contains(code(ErrorCode::io)) && Contains("no does not exist; make it first"));
  CHECK_THAT(outcome_of([&] { RecordStore{directory.path().string()}; }), Contains(code(ErrorCode::io)));

  const std::string text = "this is a shopping list, not a database, and it is longer than a header\n";
  write_file(path("list.txt"), text + text);
  CHECK_THAT(outcome_of([&] { RecordStore{path("list.txt")}; }),
             Contains(code(ErrorCode::corrupt)) && Contains("list.txt: the file is no SQLite database"));
  CHECK(read_file(path("list.txt")) == text + text);

  {
    RecordStore store(path("cut.db"));
    for (int i = 0; i < 5; ++i) add_one(store, i);
  }
  const std::string whole = read_file(path("cut.db"));
  write_file(path("cut.db"), whole.substr(0, 4096) + std::string(whole.size() - 4096, '\x5a'));
  CHECK_THAT(outcome_of([&] { RecordStore{path("cut.db")}.list({}); }),
             Contains(code(ErrorCode::corrupt)) && Contains("damaged"));
}

TEST_CASE("a schema newer than the program is refused and left alone", "[records]") {
  const TemporaryDirectory directory;
  const auto file = (directory.path() / "tune.db").string();
  {
    RecordStore store(file);
    add_one(store, 0);
  }
  const auto set_version = [&](int version) {
    soci::session session(soci::sqlite3, "dbname=" + file);
    session << "UPDATE schema_version SET version = :v", soci::use(version);
  };
  int current = 0;
  {
    soci::session session(soci::sqlite3, "dbname=" + file);
    session << "SELECT version FROM schema_version", soci::into(current);
  }
  set_version(1000);
  CHECK_THAT(outcome_of([&] { RecordStore{file}; }),
             Contains(code(ErrorCode::unsupported)) && Contains("schema 1000, which is newer than this program's"));
  set_version(current);
  CHECK(RecordStore(file).list({}).size() == 1);
}

TEST_CASE("an older schema is brought up to date with what is in it", "[records]") {
  const TemporaryDirectory directory;
  const auto file = (directory.path() / "tune.db").string();
  {
    RecordStore store(file);
    add_one(store, 0);
  }
  {
    soci::session session(soci::sqlite3, "dbname=" + file);
    session << "DROP TABLE jobs";
    for (const char* table : {"modules", "machines", "workers"}) session << std::string("DROP TABLE ") + table;
    session << "UPDATE schema_version SET version = 1";
  }
  CHECK(JobQueue(file).waiting("any") == 0);
  CHECK(RecordStore(file).list({}).size() == 1);
}

TEST_CASE("what is read-only can be read, and says so when it is written", "[records]") {
  const TemporaryDirectory directory;
  const auto file = (directory.path() / "tune.db").string();
  {
    RecordStore store(file);
    add_one(store, 0);
  }
  // The directory stays writable, as SQLite needs it for its log even to read.
  REQUIRE(::chmod(directory.path().c_str(), 0777) == 0);
  REQUIRE(::chmod(file.c_str(), 0444) == 0);
  CHECK(outcome_in_child([&] {
          become_ordinary_user();
          if (RecordStore(file).list({}).size() != 1) throw std::runtime_error("the record is not there");
        }) == "done");
  CHECK_THAT(outcome_in_child([&] {
               become_ordinary_user();
               RecordStore store(file);
               add_one(store, 1);
             }),
             Contains(code(ErrorCode::io)) && Contains("read-only; make them writable"));
  for (const char* beside : {"tune.db-shm", "tune.db-wal"}) std::filesystem::remove(directory.path() / beside);
  REQUIRE(::chmod(directory.path().c_str(), 0555) == 0);
  CHECK_THAT(outcome_in_child([&] {
               become_ordinary_user();
               RecordStore{(directory.path() / "new.db").string()};
             }),
             Contains(code(ErrorCode::io)) && Contains("read-only, since SQLite keeps its log beside it"));
  REQUIRE(::chmod(directory.path().c_str(), 0777) == 0);
  CHECK(RecordStore(file).list({}).size() == 1);
}

TEST_CASE("a full disk loses nothing that was recorded", "[records]") {
  const TemporaryDirectory directory;
  // A file system of its own needs rights that not every machine gives; a limit on file sizes fails alike.
  const auto fill = [&](bool own_file_system) {
    if (own_file_system) {
      if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
          ::mount("tmpfs", directory.path().c_str(), "tmpfs", 0, "size=1m") != 0)
        throw std::runtime_error("no rights to mount");
    } else {
      ::signal(SIGXFSZ, SIG_IGN);
      const rlimit limit{1 << 20, 1 << 20};
      ::setrlimit(RLIMIT_FSIZE, &limit);
    }
    const auto file = (directory.path() / "tune.db").string();
    RecordStore store(file);
    int added = 0;
    std::string failure;
    while (added < 1000 && failure.empty()) try {
        add_one(store, added);
        ++added;
      } catch (const Error& e) {
        failure = e.what();
      }
    if (RecordStore(file).list({}).size() != static_cast<std::size_t>(added)) failure += " AND RECORDS ARE LOST";
    if (added < 3) failure += " TOO EARLY";
    throw Error(ErrorCode::io, failure);
  };
  const std::string limited = outcome_in_child([&] { fill(false); });
  CHECK_THAT(limited, Contains(code(ErrorCode::io)) && !Contains("LOST") && !Contains("EARLY"));
  const std::string full = outcome_in_child([&] { fill(true); });
  if (full.find("no rights to mount") != std::string::npos) WARN("a full file system is not tried: " << full);
  else CHECK_THAT(full, Contains("the disk is full; make room") && !Contains("LOST") && !Contains("EARLY"));
}

TEST_CASE("a server that is away is told at once", "[records]") {
  CHECK_THAT(outcome_of([] { RecordStore{"postgresql://me:secret@127.0.0.1:1/records"}; }),
             Contains(code(ErrorCode::io)) && Contains("postgresql://me@127.0.0.1:1/records") &&
                 Contains("check that the server runs") && !Contains("secret"));
}

}  // namespace
}  // namespace heddle
