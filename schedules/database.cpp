#include "schedules/database.hpp"

#include <soci/postgresql/soci-postgresql.h>
#include <soci/sqlite3/soci-sqlite3.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <thread>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace heddle::schedules {
namespace {

using namespace std::chrono_literals;

constexpr int sqlite_wait_s = 30;           // for another process's transaction, which takes milliseconds
constexpr auto server_return_limit = 20s;   // a server that restarts is back by then
constexpr int server_connect_limit_s = 10;  // libpq's default is to wait for minutes

/// The URL with a password taken out, wherever libpq accepts one.
std::string without_password(const std::string& url) {
  std::string shown = url;
  const auto scheme = shown.find("://") + 3;
  const auto host = shown.find('@', scheme);
  if (host != std::string::npos && host < shown.find('/', scheme))
    if (const auto colon = shown.find(':', scheme); colon < host) shown.erase(colon, host - colon);
  for (const char* name : {"?password=", "&password=", "?sslpassword=", "&sslpassword="})
    if (const auto at = shown.find(name); at != std::string::npos) {
      const auto value = shown.find('=', at) + 1;
      shown.replace(value, std::min(shown.find('&', value), shown.size()) - value, "***");
    }
  return shown;
}

/// One line of libpq's or SQLite's message, without SOCI's account of the statement.
std::string reason_of(const soci::soci_error& e) {
  std::string reason = e.get_error_message();
  while (!reason.empty() && (reason.back() == '\n' || reason.back() == ' ' || reason.back() == '.')) reason.pop_back();
  std::replace(reason.begin(), reason.end(), '\n', ' ');
  return reason;
}

Error sqlite_error(const soci::sqlite3_soci_error& e, const DatabaseUrl& url) {
  const auto error = [&](ErrorCode code, const std::string& what) {
    return Error(code, fmt::format("{}: {}", url.shown, what));
  };
  constexpr int primary_code = 0xff;  // the rest is the extended code
  switch (e.result() & primary_code) {
    case SQLITE_READONLY:
    case SQLITE_PERM:
      return error(ErrorCode::io,
                   "the records cannot be written: the file or its directory is read-only; make them writable, or copy "
                   "the file to a directory of yours");
    case SQLITE_FULL:
      return error(ErrorCode::io,
                   "the disk is full; make room and start the same command again: what was recorded is kept");
    case SQLITE_NOTADB:
      return error(ErrorCode::corrupt, "the file is no SQLite database; name another file, it is left as it is");
    case SQLITE_CORRUPT:
      return error(ErrorCode::corrupt,
                   fmt::format("the database is damaged ({}); `sqlite3 {} .recover` saves what can be read",
                               reason_of(e), url.address));
    case SQLITE_CANTOPEN: {
      const auto parent = std::filesystem::absolute(url.address).parent_path();
      std::error_code ignored;
      if (!std::filesystem::is_directory(parent, ignored))
        return error(ErrorCode::io, fmt::format("the directory {} does not exist; make it first", parent.string()));
      return error(ErrorCode::io,
                   "the file cannot be opened: neither it nor its directory may be a directory or read-only, since "
                   "SQLite keeps its log beside it");
    }
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return error(ErrorCode::io, fmt::format("another process has kept the database locked for {} s; end it, or wait",
                                              sqlite_wait_s));
    default: return error(ErrorCode::io, reason_of(e));
  }
}

Error postgresql_error(const soci::soci_error& e, const DatabaseUrl& url) {
  const std::string reason = reason_of(e);
  const auto* with_state = dynamic_cast<const soci::postgresql_soci_error*>(&e);
  const std::string state = with_state == nullptr ? "" : with_state->sqlstate();
  const auto says = [&](std::string_view text) { return reason.find(text) != std::string::npos; };
  std::string next = "check that the server runs and that host, port and database are right";
  if (says("certificate") || says("SSL") || says("no encryption"))
    next =
        "check what TLS needs: sslmode, sslrootcert (of the authority that signed the server's certificate) and, where "
        "users have certificates, sslcert and sslkey; in the URL, or PGSSLMODE, PGSSLROOTCERT, PGSSLCERT and PGSSLKEY";
  else if (says("password") || says("authentication"))
    next = "give the password in PGPASSWORD or ~/.pgpass, or name another user in the URL";
  else if (says("does not exist") && state.starts_with("08"))
    next = "make the database and the user first: createuser, createdb";
  else if (state == "53100") next = "the server's disk is full; make room and start the same command again";
  else if (state == "25006") next = "the server is read-only (a standby?); name the primary one";
  else if (state == "42501") next = "grant the user the right to create and write tables in this database";
  else if (state.find_first_not_of(' ') != std::string::npos && !state.starts_with("08") && !state.starts_with("57"))
    next = fmt::format("SQLSTATE {}", state);
  return Error(ErrorCode::io, fmt::format("{}: {}; {}", url.shown, reason, next));
}

}  // namespace

DatabaseUrl parse_database_url(const std::string& url) {
  DatabaseUrl parsed;
  const auto fail = [&](const std::string& why) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'{}' is no place for records: {}; write sqlite:FILE, or postgresql://USER@HOST/DATABASE",
                            url, why));
  };
  if (url.starts_with("postgresql://") || url.starts_with("postgres://")) {
    parsed.dialect = Dialect::postgresql;
    parsed.shown = without_password(url);
    parsed.address = url;
    if (url.find("connect_timeout=") == std::string::npos)
      parsed.address +=
          fmt::format("{}connect_timeout={}", url.find('?') == std::string::npos ? '?' : '&', server_connect_limit_s);
    return parsed;
  }
  constexpr std::string_view scheme = "sqlite:";
  parsed.address = url.starts_with(scheme) ? url.substr(scheme.size()) : url;
  if (parsed.address.starts_with("//")) parsed.address = parsed.address.substr(2);
  if (parsed.address.empty()) fail("it names no file");
  if (parsed.address.find("://") != std::string::npos) fail("there are no databases of that kind");
  // SOCI's list of parameters has no way to quote a quote.
  if (parsed.address.find('"') != std::string::npos) fail("the file's name may not hold a double quote");
  parsed.shown = "sqlite:" + parsed.address;
  return parsed;
}

Database::Database(const std::string& url, bool create) : url_(parse_database_url(url)) {
  if (url_.dialect == Dialect::sqlite && !create && !std::filesystem::exists(url_.address))
    throw Error(ErrorCode::not_found,
                fmt::format("{}: there is no such file; `heddle tune --records` makes it", url_.shown));
  try {
    connect();
  } catch (const soci::soci_error& e) {
    throw translated(e);
  }
}

void Database::connect() {
  if (url_.dialect == Dialect::postgresql) {
    session_.open(soci::postgresql, url_.address);
  } else {
    session_.open(soci::sqlite3, fmt::format("dbname=\"{}\" timeout={}", url_.address, sqlite_wait_s));
    // In its write-ahead log SQLite syncs each transaction only if it is told to.
    session_ << "PRAGMA synchronous = FULL";
    session_ << "PRAGMA foreign_keys = ON";
  }
  migrate(session_, url_.dialect, url_.shown);
}

bool Database::lost(const soci::soci_error& e) {
  if (url_.dialect == Dialect::sqlite) return false;
  const auto* backend = static_cast<soci::postgresql_session_backend*>(session_.get_backend());
  if (backend == nullptr || PQstatus(backend->conn_) != CONNECTION_OK) return true;
  // What a server that is being shut down says, and what libpq says by itself, which has no state.
  const auto* with_state = dynamic_cast<const soci::postgresql_soci_error*>(&e);
  const std::string state = with_state == nullptr ? "" : with_state->sqlstate();
  return state.starts_with("08") || state.starts_with("57P") || state.find_first_not_of(' ') == std::string::npos;
}

void Database::reconnect(const soci::soci_error& reason) {
  const Error first = translated(reason);
  const auto start = std::chrono::steady_clock::now();
  for (auto pause = 100ms; std::chrono::steady_clock::now() - start < server_return_limit;
       pause = std::min(pause * 2, 2000ms))
    try {
      session_.close();
      connect();
      return;
    } catch (const soci::soci_error&) {
      std::this_thread::sleep_for(pause);
    }
  throw Error(first.code(),
              fmt::format("{}\n  the connection was lost and could not be made again within {} s; once the server is "
                          "back, the same command goes on where this one stopped",
                          first.what(), server_return_limit.count()));
}

void Database::attempt(const std::function<void()>& once) {
  // A server that goes down may take a new connection with it as well.
  constexpr int most_connections = 4;
  for (int left = most_connections;; --left) try {
      once();
      return;
    } catch (const soci::soci_error& e) {
      if (left == 0 || !lost(e)) throw translated(e);
      reconnect(e);
    }
}

void Database::write(const std::function<void(soci::session&)>& work) {
  attempt([&] {
    session_ << std::string(begin_writing(url_.dialect));
    try {
      work(session_);
      session_ << "COMMIT";
    } catch (...) {
      try {
        session_ << "ROLLBACK";
      } catch (const soci::soci_error&) {
        // The connection is gone or SQLite has rolled back by itself: either way nothing was kept.
      }
      throw;
    }
  });
}

void Database::read(const std::function<void(soci::session&)>& work) {
  attempt([&] { work(session_); });
}

std::string Database::now() const {
  return url_.dialect == Dialect::sqlite ? "((julianday('now') - 2440587.5) * 86400.0)"
                                         : "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)";
}

Error Database::translated(const soci::soci_error& e) const {
  if (url_.dialect == Dialect::postgresql) return postgresql_error(e, url_);
  if (const auto* sqlite = dynamic_cast<const soci::sqlite3_soci_error*>(&e)) return sqlite_error(*sqlite, url_);
  return Error(ErrorCode::io, fmt::format("{}: {}", url_.shown, reason_of(e)));
}

std::string_view begin_writing(Dialect dialect) { return dialect == Dialect::sqlite ? "BEGIN IMMEDIATE" : "BEGIN"; }

std::string storable(const std::string& text) {
  using Json = nlohmann::json;
  std::string clean = Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace)).get<std::string>();
  std::replace(clean.begin(), clean.end(), '\0', ' ');
  return clean;
}

std::string utc_now() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())));
}

}  // namespace heddle::schedules
