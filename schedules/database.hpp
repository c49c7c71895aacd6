#pragma once
#include <functional>
#include <string>
#include <string_view>

#include <soci/soci.h>

#include "base/error.hpp"

// The store's connection: what differs between SQLite and PostgreSQL is here and nowhere else.
namespace heddle::schedules {

enum class Dialect { sqlite, postgresql };

/// "sqlite:tune.db" or a path; "postgresql://..." with all that libpq understands.
struct DatabaseUrl {
  Dialect dialect = Dialect::sqlite;
  std::string address;  ///< a path, or libpq's URL
  std::string shown;    ///< for people: without the password
};
DatabaseUrl parse_database_url(const std::string& url);  ///< throws Error{invalid_argument}

/// Not for several threads at once: each opens its own.
class Database {
 public:
  /// Opens and migrates. Throws Error{not_found} for an SQLite file that is not there, unless it is to be created.
  Database(const std::string& url, bool create);

  Dialect dialect() const { return url_.dialect; }
  const std::string& shown() const { return url_.shown; }
  std::string now() const;  ///< SQL: seconds since 1970 by the database's clock, which all machines share

  /// Runs `work` in a transaction that writes. If the connection is lost, it is made again and `work` runs once more:
  /// an earlier one may or may not have been committed, so a later one has to come to the same.
  void write(const std::function<void(soci::session&)>& work);
  /// The same for what only reads, outside of a transaction.
  void read(const std::function<void(soci::session&)>& work);

 private:
  void connect();
  void reconnect(const soci::soci_error& reason);
  bool lost(const soci::soci_error& e);
  void attempt(const std::function<void()>& once);
  Error translated(const soci::soci_error& e) const;

  DatabaseUrl url_;
  soci::session session_;
};

/// Text as both databases take it: valid UTF-8 without NUL. What a crashed program prints need not be.
std::string storable(const std::string& text);

/// UTC, ISO 8601, to the second.
std::string utc_now();

/// Brings the schema up to date, once, however many processes open the database; throws Error{unsupported} for one that
/// is newer than this program.
void migrate(soci::session& session, Dialect dialect, const std::string& shown);

/// Starts the kind of transaction that may write: SQLite's plain one takes the lock too late to wait for it.
std::string_view begin_writing(Dialect dialect);

}  // namespace heddle::schedules
