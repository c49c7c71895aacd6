#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dsl/machine.hpp"
#include "dsl/schedule.hpp"
#include "dsl/workload.hpp"

namespace heddle {

/// One trial of a search, as it is kept: everything that is needed to rebuild, check and judge it.
struct Record {
  std::int64_t id = 0;        ///< given by the store
  std::string search;         ///< key of the search it belongs to: equal keys are one search, stopped and resumed
  int trial = 0;              ///< its number within the search
  std::string workload;       ///< Workload::text()
  std::string workload_json;  ///< from which the workload is rebuilt
  std::string name;           ///< Workload::name(), for people
  std::string anchor;         ///< the anchor operator's name
  std::string target;         ///< "x86-64-linux-avx2"
  std::string machine;        ///< which processor or device: "AMD EPYC 7763, 32 KiB L1, 512 KiB L2"
  int threads = 1;
  std::string implementation;  ///< Implementation::print()
  std::string point;           ///< of the space, for people and for transfer: JSON
  std::string origin;          ///< how the search came to it
  std::string status;          ///< "ok", or what failed
  std::string message;
  std::vector<double> seconds;            ///< samples
  std::vector<double> incumbent_seconds;  ///< of the best one so far, taken in turns with `seconds`; empty without one
  double median_seconds = 0;              ///< 0 unless ok
  std::vector<double> process_seconds;    ///< medians in fresh processes: of finalists
  double compile_seconds = 0;
  std::string kernel_key;
  std::string versions;  ///< JSON: heddle, halide
  std::string created;   ///< UTC, ISO 8601; given by the store if empty
};

/// Trials in a database: SQLite ("sqlite:tune.db", or a path), or PostgreSQL ("postgresql://..."). What add() has
/// returned from survives the process's death at any moment. Errors are Error{io} (away, read-only, full: with what to
/// do), Error{unsupported} for a schema newer than this program, Error{invalid_argument} for a URL that means nothing.
class RecordStore {
 public:
  /// Opens, creates and migrates.
  explicit RecordStore(const std::string& url);
  ~RecordStore();
  RecordStore(RecordStore&&) noexcept;
  RecordStore& operator=(RecordStore&&) noexcept;

  /// Adds a trial, once: a trial of the same search and number that is there already stays, and its id is returned.
  std::int64_t add(const Record& record);
  /// Sets the times in fresh processes.
  void set_process_seconds(std::int64_t id, const std::vector<double>& seconds);
  std::optional<Record> find(std::int64_t id) const;
  std::optional<Record> find(const std::string& search, int trial) const;

  struct Query {
    std::string workload, name, anchor, target, machine, status, search;  ///< empty: any
    int threads = 0;                                                      ///< 0: any
    int most = 0;                                                         ///< 0: all
    bool fastest_first = false;                                           ///< else in the order of their ids
  };
  std::vector<Record> list(const Query& query) const;
  /// The fastest one that is ok: by its time in fresh processes where it has one. Those re-measured come first.
  std::optional<Record> best(const std::string& workload, const std::string& target, const std::string& machine) const;

  /// Text fit for git: one JSON object a line, sorted, without ids. Import skips what is there; returns how many were
  /// new.
  std::string export_text(const Query& query) const;
  int import_text(const std::string& text, const std::string& file);
  /// Of every workload, target and machine keeps the `keep` fastest ok trials, and no failures; returns how many went.
  int prune(int keep);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// This processor, as records name it.
std::string machine_name();

/// The record to compile a workload with, and why: of this machine, else of the machine most like it (same target,
/// nearest caches), else none. Returns the best of each store's answers.
struct RecordChoice {
  Record record;
  std::string why;  ///< "record 12 of sqlite:tune.db, measured on this machine"
};
std::optional<RecordChoice> choose_record(const RecordStore& store, const std::string& url, const Workload& workload,
                                          const Machine& machine);

}  // namespace heddle
