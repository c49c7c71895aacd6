#include "schedules/records.hpp"

#include <algorithm>
#include <list>
#include <map>
#include <type_traits>

#include <fmt/format.h>

#include "base/file.hpp"
#include "base/statistics.hpp"
#include "schedules/database.hpp"
#include "schedules/records_row.hpp"

namespace heddle {
namespace {

using schedules::Database;
using schedules::storable;

// Between two times of which one was measured in fresh processes, that one counts.
constexpr std::string_view time_column = "(CASE WHEN process_median > 0 THEN process_median ELSE median_seconds END)";
const std::string best_first =
    fmt::format("(CASE WHEN status = 'ok' THEN 0 ELSE 1 END), (CASE WHEN process_median > 0 THEN 0 ELSE 1 END), {}, id",
                time_column);

/// What a workload is found by: its text may be too long for an index.
std::string workload_key(const std::string& text) { return sha256(text).substr(0, 32); }

/// As the column holds it: 0 where nothing was measured in fresh processes.
double process_median_of(const std::vector<double>& seconds) { return seconds.empty() ? 0 : median(seconds); }

template <class Member>
constexpr bool is_list = std::is_same_v<std::remove_cv_t<Member>, std::vector<double>>;

/// A record while it is bound to a statement: lists are text there. Neither copied nor moved, since SOCI keeps
/// addresses.
struct Row {
  Record record;
  std::string key;
  std::map<std::string, std::string> lists;  ///< by column
  double process_median = 0;

  Row() = default;
  explicit Row(const Record& from) : record(from) {
    schedules::for_each_member(record, [&](const char* name, auto& member) {
      using Member = std::remove_reference_t<decltype(member)>;
      if constexpr (std::is_same_v<Member, std::string>) member = storable(member);
      if constexpr (is_list<Member>) lists[name] = Json(member).dump();
    });
    key = workload_key(record.workload);
    process_median = process_median_of(record.process_seconds);
  }
  Row(const Row&) = delete;
  Row& operator=(const Row&) = delete;

  /// Calls `f(name, value)` for each column that records and rows share.
  template <class F>
  void for_each_column(F f) {
    schedules::for_each_member(record, [&](const char* name, auto& member) {
      if constexpr (is_list<std::remove_reference_t<decltype(member)>>) f(name, lists[name]);
      else f(name, member);
    });
  }

  Record take() const {
    Record taken = record;
    schedules::for_each_member(taken, [&](const char* name, auto& member) {
      if constexpr (is_list<std::remove_reference_t<decltype(member)>>)
        member = Json::parse(lists.at(name)).get<std::vector<double>>();
    });
    return taken;
  }
};

const std::string& columns() {
  static const std::string all = [] {
    std::string names;
    Row().for_each_column([&](const char* name, auto&) { names += (names.empty() ? "" : ", ") + std::string(name); });
    return names;
  }();
  return all;
}

/// The condition of a query and what it is bound to.
struct Condition {
  std::string sql;
  std::list<std::pair<std::string, std::string>> texts;  ///< name, value; a list, since SOCI keeps addresses
  int threads = 0;

  explicit Condition(const RecordStore::Query& query) : threads(query.threads) {
    const auto equals = [&](const char* column, const std::string& value) {
      if (value.empty()) return;
      add(fmt::format("{0} = :{0}", column));
      texts.emplace_back(column, value);
    };
    equals("workload_key", query.workload.empty() ? "" : workload_key(query.workload));
    equals("name", query.name);
    equals("anchor", query.anchor);
    equals("target", query.target);
    equals("machine", query.machine);
    equals("status", query.status);
    equals("search", query.search);
    if (threads > 0) add("threads = :threads");
  }

  void bind(soci::statement& statement) {
    for (auto& [name, value] : texts) statement.exchange(soci::use(value, name));
    if (threads > 0) statement.exchange(soci::use(threads, "threads"));
  }

 private:
  void add(const std::string& condition) { sql += (sql.empty() ? " WHERE " : " AND ") + condition; }
};

/// Every record that `rest` of a SELECT finds; `bind` gives its parameters.
std::vector<Record> select(soci::session& session, const std::string& rest,
                           const std::function<void(soci::statement&)>& bind) {
  Row row;
  long long id = 0;
  soci::statement statement(session);
  statement.exchange(soci::into(id));
  row.for_each_column([&](const char*, auto& value) { statement.exchange(soci::into(value)); });
  bind(statement);
  statement.alloc();
  statement.prepare(fmt::format("SELECT id, {} FROM records{}", columns(), rest));
  statement.define_and_bind();
  statement.execute();
  std::vector<Record> found;
  while (statement.fetch()) {
    found.push_back(row.take());
    found.back().id = id;
  }
  return found;
}

std::optional<Record> only(std::vector<Record> found) {
  if (found.empty()) return std::nullopt;
  return std::move(found.front());
}

/// Whether it was new, and its id.
std::pair<bool, std::int64_t> insert(soci::session& session, const Record& record) {
  if (record.search.empty() || record.status.empty())
    throw Error(ErrorCode::invalid_argument, "a record needs the key of its search and a status");
  Row row(record);
  if (row.record.created.empty()) row.record.created = schedules::utc_now();
  std::string names, values;
  soci::statement statement(session);
  row.for_each_column([&](const char* name, auto& value) {
    names += fmt::format("{}, ", name);
    values += fmt::format(":{}, ", name);
    statement.exchange(soci::use(value, name));
  });
  statement.exchange(soci::use(row.key, "workload_key"));
  statement.exchange(soci::use(row.process_median, "process_median"));
  statement.alloc();
  statement.prepare(
      fmt::format("INSERT INTO records ({}workload_key, process_median) VALUES ({}:workload_key, "
                  ":process_median) ON CONFLICT (search, trial) DO NOTHING",
                  names, values));
  statement.define_and_bind();
  statement.execute(true);
  const bool is_new = statement.get_affected_rows() > 0;
  long long id = 0;
  session << "SELECT id FROM records WHERE search = :search AND trial = :trial", soci::use(row.record.search),
      soci::use(row.record.trial), soci::into(id);
  return {is_new, id};
}

}  // namespace

std::string records_name(const std::string& url) { return schedules::parse_database_url(url).shown; }

struct RecordStore::State {
  mutable Database database;
};

RecordStore::RecordStore(const std::string& url, Open open) : state_(new State{Database(url, open == Open::create)}) {}
RecordStore::~RecordStore() = default;
double Record::best_seconds() const { return process_seconds.empty() ? median_seconds : median(process_seconds); }

RecordStore::RecordStore(RecordStore&&) noexcept = default;
RecordStore& RecordStore::operator=(RecordStore&&) noexcept = default;

const std::string& RecordStore::name() const { return state_->database.shown(); }

std::int64_t RecordStore::add(const Record& record) {
  std::int64_t id = 0;
  state_->database.write([&](soci::session& session) { id = insert(session, record).second; });
  return id;
}

void RecordStore::set_process_seconds(std::int64_t id, const std::vector<double>& seconds) {
  const std::string text = Json(seconds).dump();
  const double middle = process_median_of(seconds);
  const long long wanted = id;
  state_->database.write([&](soci::session& session) {
    soci::statement statement =
        (session.prepare << "UPDATE records SET process_seconds = :text, process_median = :middle WHERE id = :id",
         soci::use(text), soci::use(middle), soci::use(wanted));
    statement.execute(true);
    if (statement.get_affected_rows() == 0)
      throw Error(ErrorCode::not_found, fmt::format("{} has no record {}", name(), id));
  });
}

std::optional<Record> RecordStore::find(std::int64_t id) const {
  const long long wanted = id;
  std::vector<Record> found;
  state_->database.read([&](soci::session& session) {
    found =
        select(session, " WHERE id = :wanted", [&](soci::statement& s) { s.exchange(soci::use(wanted, "wanted")); });
  });
  return only(std::move(found));
}

std::optional<Record> RecordStore::find(const std::string& search, int trial) const {
  std::vector<Record> found;
  state_->database.read([&](soci::session& session) {
    found = select(session, " WHERE search = :search AND trial = :trial", [&](soci::statement& s) {
      s.exchange(soci::use(search, "search"));
      s.exchange(soci::use(trial, "trial"));
    });
  });
  return only(std::move(found));
}

std::vector<Record> RecordStore::list(const Query& query) const {
  std::vector<Record> found;
  state_->database.read([&](soci::session& session) {
    Condition condition(query);
    found = select(session,
                   fmt::format("{} ORDER BY {}{}", condition.sql, query.fastest_first ? best_first : "id",
                               query.most > 0 ? fmt::format(" LIMIT {}", query.most) : ""),
                   [&](soci::statement& s) { condition.bind(s); });
  });
  return found;
}

std::optional<Record> RecordStore::best(const std::string& workload, const std::string& target,
                                        const std::string& machine) const {
  return only(list(
      {.workload = workload, .target = target, .machine = machine, .status = "ok", .most = 1, .fastest_first = true}));
}

int RecordStore::prune(int keep) {
  if (keep < 0) throw Error(ErrorCode::invalid_argument, "prune keeps 0 records of a workload or more");
  long long gone = 0;
  state_->database.write([&](soci::session& session) {
    soci::statement statement =
        (session.prepare << fmt::format(
             "DELETE FROM records WHERE id NOT IN (SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY "
             "workload_key, target, machine ORDER BY {}) AS place FROM records WHERE status = 'ok') AS ranked WHERE "
             "place <= :keep)",
             best_first),
         soci::use(keep));
    statement.execute(true);
    gone = statement.get_affected_rows();
  });
  return static_cast<int>(gone);
}

std::string RecordStore::export_text(const Query& query) const { return schedules::records_to_text(list(query)); }

int RecordStore::import_text(const std::string& text, const std::string& file) {
  const auto records = schedules::records_from_text(text, file);
  int fresh = 0;
  state_->database.write([&](soci::session& session) {
    fresh = 0;
    for (const Record& record : records) fresh += insert(session, record).first ? 1 : 0;
  });
  return fresh;
}

}  // namespace heddle
