#include "schedules/job_queue.hpp"

#include <fmt/format.h>

#include "base/file.hpp"
#include "schedules/database.hpp"

namespace heddle {
namespace {

using schedules::Database;
using schedules::Dialect;

/// SOCI has no byte strings that both databases take alike.
std::string to_hex(const std::string& bytes) {
  constexpr char digits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * bytes.size());
  for (const char c : bytes) {
    text += digits[static_cast<unsigned char>(c) >> 4];
    text += digits[static_cast<unsigned char>(c) & 15];
  }
  return text;
}

std::string from_hex(const std::string& text) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  std::string bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    bytes += static_cast<char>(16 * digit(text[i]) + digit(text[i + 1]));
  return bytes;
}

/// What may be leased: `{now}` is the database's clock.
std::string free_to_take(const Database& database) {
  return fmt::format("(state = 'queued' OR (state = 'leased' AND lease_deadline < {})) AND attempts < {}",
                     database.now(), JobQueue::most_attempts);
}

}  // namespace

struct JobQueue::Connection {
  mutable Database database;

  /// Changes the job of a lease, if it still is; `change` may use :value.
  bool update(const Lease& lease, const std::string& change, const std::string* value) {
    long long changed = 0;
    const long long id = lease.id;
    database.write([&](soci::session& session) {
      soci::statement statement(session);
      if (value != nullptr) statement.exchange(soci::use(*value, "value"));
      statement.exchange(soci::use(id, "id"));
      statement.exchange(soci::use(lease.worker, "worker"));
      statement.exchange(soci::use(lease.attempt, "attempt"));
      statement.alloc();
      statement.prepare(
          fmt::format("UPDATE jobs SET {} WHERE id = :id AND lease_owner = :worker AND attempts = :attempt "
                      "AND state = 'leased'",
                      change));
      statement.define_and_bind();
      statement.execute(true);
      changed = statement.get_affected_rows();
    });
    return changed > 0;
  }
};

JobQueue::JobQueue(const std::string& url) : connection_(new Connection{Database(url, true)}) {}
JobQueue::~JobQueue() = default;
JobQueue::JobQueue(JobQueue&&) noexcept = default;
JobQueue& JobQueue::operator=(JobQueue&&) noexcept = default;

void JobQueue::submit(const Job& job) {
  connection_->database.write([&](soci::session& session) {
    session
        << "INSERT INTO jobs (job_key, target, payload, state, lease_owner, lease_deadline, attempts, result) VALUES "
           "(:job_key, :target, :payload, 'queued', '', 0, 0, '') ON CONFLICT (job_key) DO NOTHING",
        soci::use(job.key), soci::use(job.target), soci::use(job.payload);
  });
}

std::optional<JobQueue::Lease> JobQueue::claim(const std::string& target, const std::string& worker,
                                               double lease_seconds) {
  Database& database = connection_->database;
  // SQLite's transaction holds the only lock there is. On a server, whoever finds a row taken goes on to the next one.
  const char* lock = database.dialect() == Dialect::postgresql ? " FOR UPDATE SKIP LOCKED" : "";
  std::optional<Lease> lease;
  database.write([&](soci::session& session) {
    Lease found{.worker = worker};
    long long id = 0;
    session << fmt::format("SELECT id, attempts, payload FROM jobs WHERE target = :target AND {} ORDER BY id LIMIT 1{}",
                           free_to_take(database), lock),
        soci::use(target), soci::into(id), soci::into(found.attempt), soci::into(found.payload);
    lease.reset();
    if (!session.got_data()) return;
    found.id = id;
    ++found.attempt;
    session << fmt::format(
        "UPDATE jobs SET state = 'leased', lease_owner = :worker, lease_deadline = {} + {}, attempts = "
        ":attempt WHERE id = :id",
        database.now(), lease_seconds),
        soci::use(worker), soci::use(found.attempt), soci::use(id);
    lease = std::move(found);
  });
  return lease;
}

bool JobQueue::extend(const Lease& lease, double lease_seconds) {
  return connection_->update(lease, fmt::format("lease_deadline = {} + {}", connection_->database.now(), lease_seconds),
                             nullptr);
}

bool JobQueue::finish(const Lease& lease, const std::string& result) {
  const std::string text = schedules::storable(result);
  return connection_->update(
      lease, fmt::format("state = 'done', result = :value, finished = {}", connection_->database.now()), &text);
}

void JobQueue::release(const Lease& lease) {
  connection_->update(lease, "state = 'queued', attempts = attempts - 1", nullptr);
}

std::optional<JobQueue::Status> JobQueue::status(const std::string& key) const {
  std::optional<Status> status;
  connection_->database.read([&](soci::session& session) {
    Status found;
    std::string state;
    int overdue = 0;
    session << fmt::format(
        "SELECT state, attempts, lease_owner, result, CASE WHEN lease_deadline < {} THEN 1 ELSE 0 END "
        "FROM jobs WHERE job_key = :job_key",
        connection_->database.now()),
        soci::use(key), soci::into(state), soci::into(found.attempts), soci::into(found.worker),
        soci::into(found.result), soci::into(overdue);
    status.reset();
    if (!session.got_data()) return;
    if (state == "done") found.state = State::done;
    else if (state == "leased" && overdue != 0)
      found.state = found.attempts >= most_attempts ? State::lost : State::queued;
    else if (state == "leased") found.state = State::leased;
    status = std::move(found);
  });
  return status;
}

void JobQueue::remove(const std::string& key) {
  connection_->database.write(
      [&](soci::session& session) { session << "DELETE FROM jobs WHERE job_key = :job_key", soci::use(key); });
}

void JobQueue::withdraw(const std::vector<std::string>& keys) {
  if (keys.empty()) return;
  connection_->database.write([&](soci::session& session) {
    for (const auto& key : keys)
      session << "DELETE FROM jobs WHERE job_key = :job_key AND state = 'queued'", soci::use(key);
  });
}

void JobQueue::remove_all(const std::string& key_prefix) {
  const auto length = static_cast<int>(key_prefix.size());
  connection_->database.write([&](soci::session& session) {
    session << "DELETE FROM jobs WHERE substr(job_key, 1, :length) = :prefix", soci::use(length), soci::use(key_prefix);
  });
}

std::vector<JobQueue::Free> JobQueue::free() const {
  std::vector<Free> all;
  connection_->database.read([&](soci::session& session) {
    all.clear();
    Free row;
    soci::statement statement =
        (session.prepare << fmt::format("SELECT target, count(*) FROM jobs WHERE {} GROUP BY target ORDER BY min(id)",
                                        free_to_take(connection_->database)),
         soci::into(row.target), soci::into(row.jobs));
    statement.execute();
    while (statement.fetch()) all.push_back(row);
  });
  return all;
}

void JobQueue::announce(const std::string& worker, const std::string& machine, const std::string& description) {
  constexpr int day = 24 * 3600, month = 30 * day;
  Database& database = connection_->database;
  database.write([&](soci::session& session) {
    session << "INSERT INTO machines (name, description) VALUES (:name, :description) ON CONFLICT (name) DO UPDATE SET "
               "description = excluded.description WHERE machines.description <> excluded.description",
        soci::use(machine), soci::use(description);
    session << fmt::format(
        "INSERT INTO workers (name, machine, seen) VALUES (:name, :machine, {}) ON CONFLICT (name) DO "
        "UPDATE SET machine = excluded.machine, seen = excluded.seen",
        database.now()),
        soci::use(worker), soci::use(machine);
    session << fmt::format("DELETE FROM workers WHERE seen < {} - {}", database.now(), day);
    session << fmt::format("DELETE FROM jobs WHERE state = 'done' AND finished < {} - {}", database.now(), month);
  });
}

void JobQueue::leave(const std::string& worker) {
  connection_->database.write(
      [&](soci::session& session) { session << "DELETE FROM workers WHERE name = :name", soci::use(worker); });
}

std::vector<JobQueue::Machine> JobQueue::machines() const {
  std::vector<Machine> all;
  connection_->database.read([&](soci::session& session) {
    all.clear();
    Machine row;
    soci::statement statement =
        (session.prepare << fmt::format(
             "SELECT m.name, m.description, (SELECT count(*) FROM workers w WHERE w.machine = m.name AND "
             "w.seen > {} - {}) FROM machines m ORDER BY m.name",
             connection_->database.now(), lately_seconds),
         soci::into(row.name), soci::into(row.description), soci::into(row.workers));
    statement.execute();
    while (statement.fetch()) all.push_back(row);
  });
  return all;
}

int JobQueue::waiting(const std::string& target) const {
  int count = 0;
  connection_->database.read([&](soci::session& session) {
    session << fmt::format(
        "SELECT count(*) FROM jobs WHERE target = :target AND state <> 'done' AND NOT (state = "
        "'leased' AND lease_deadline < {} AND attempts >= {})",
        connection_->database.now(), most_attempts),
        soci::use(target), soci::into(count);
  });
  return count;
}

std::string JobQueue::put_module(const std::string& bytes) {
  const std::string hash = sha256(bytes), text = to_hex(bytes);
  connection_->database.write([&](soci::session& session) {
    session << "INSERT INTO modules (hash, bytes) VALUES (:hash, :bytes) ON CONFLICT (hash) DO NOTHING",
        soci::use(hash), soci::use(text);
  });
  return hash;
}

std::string JobQueue::module(const std::string& hash) const {
  std::string text;
  bool found = false;
  connection_->database.read([&](soci::session& session) {
    session << "SELECT bytes FROM modules WHERE hash = :hash", soci::use(hash), soci::into(text);
    found = session.got_data();
  });
  const std::string& where = connection_->database.shown();
  if (!found) throw Error(ErrorCode::not_found, fmt::format("{} has no user module {}", where, hash));
  std::string bytes = from_hex(text);
  if (sha256(bytes) != hash)
    throw Error(ErrorCode::corrupt,
                fmt::format("{}: the user module {} has other contents than its name says", where, hash));
  return bytes;
}

}  // namespace heddle
