#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dsl/machine.hpp"
#include "dsl/schedule.hpp"
#include "dsl/workload.hpp"
#include "schedules/family.hpp"

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
  /// What the schedule relies on, by print_requirements(); empty: nobody knows, so that only static extents may use it.
  std::string requirements;
  std::string point;   ///< of the space, for people and for transfer: JSON
  std::string origin;  ///< how the search came to it
  std::string status;  ///< "ok", or what failed
  std::string message;
  std::vector<double> seconds;            ///< samples
  std::vector<double> incumbent_seconds;  ///< of the best one so far, taken in turns with `seconds`; empty without one
  double median_seconds = 0;              ///< 0 unless ok
  std::vector<double> process_seconds;    ///< medians in fresh processes: of finalists
  double compile_seconds = 0;
  std::string kernel_key;
  std::string versions;  ///< JSON: heddle, halide
  std::string created;   ///< UTC, ISO 8601; given by the store if empty

  /// The median of its medians in fresh processes where it has them, else of its samples; 0 unless ok.
  double best_seconds() const;
};

/// A record's members as the text form has them, and its id.
Json to_json(const Record& record);

/// JSON: [{"kind": "at_least", "left": "W", "right": 8, "reason": "..."}].
std::string print_requirements(const std::vector<ScheduleRequirement>& requirements);
/// Throws Error{invalid_argument}.
std::vector<ScheduleRequirement> parse_requirements(const std::string& text);

/// A store's URL as people may see it: without a password. Throws Error{invalid_argument} for one that means nothing.
std::string records_name(const std::string& url);

/// Trials in a database: SQLite ("sqlite:tune.db", or a path), or PostgreSQL ("postgresql://..."). What add() has
/// returned from survives the process's death at any moment. Errors are Error{io} (away, read-only, full: with what to
/// do), Error{unsupported} for a schema newer than this program, Error{invalid_argument} for a URL that means nothing,
/// Error{corrupt} for a file that is no database. Not for several threads at once: each opens its own. A PostgreSQL
/// server that restarts is waited for.
class RecordStore {
 public:
  enum class Open { create, existing };
  /// Opens and migrates; throws Error{not_found} for an SQLite file that is not there and not to be created.
  explicit RecordStore(const std::string& url, Open open = Open::create);
  ~RecordStore();
  RecordStore(RecordStore&&) noexcept;
  RecordStore& operator=(RecordStore&&) noexcept;

  const std::string& name() const;  ///< records_name() of the URL

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

/// This processor, as records name it: "AMD EPYC 7763, 32 KiB L1, 512 KiB L2".
std::string machine_name();

/// How unlike two machines are, by their names: |log2| of the ratio of each cache that both name, 0.25 for another
/// model and 1 more for another maker. 0: the same.
double machine_distance(const std::string& a, const std::string& b);

struct RecordChoice {
  Record record;
  Choice choice;  ///< its source: "record 12 of sqlite:tune.db, measured on this machine"
};
/// The record to compile a workload with, and why: the best one of this machine, else of the machine nearest to it that
/// measured the same workload for the same target, else none. One that no longer parses or applies is skipped, with a
/// warning in the log that names it.
std::optional<RecordChoice> choose_record(const RecordStore& store, const Workload& workload, const Machine& machine,
                                          const std::string& this_machine = machine_name());

/// choose(), where the machine that the kernel will run on has another name in records than this processor: a device.
Choice choose(const Workload& workload, const Machine& machine, const std::optional<std::filesystem::path>& file,
              const RecordStore* records, const std::string& this_machine);

}  // namespace heddle
