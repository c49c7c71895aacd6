// What a store of records holds: listed, shown, moved between databases and files, and thinned out.
#include <algorithm>
#include <memory>
#include <set>
#include <tuple>

#include <fmt/format.h>

#include "base/error.hpp"
#include "base/file.hpp"
#include "schedules/records.hpp"
#include "tools/command.hpp"
#include "tools/model.hpp"
#include "tools/statistics.hpp"
#include "tools/stored_records.hpp"
#include "tools/terminal.hpp"

namespace heddle::tools {
namespace {

struct Options {
  std::string url;
  RecordStore::Query query;
  std::int64_t id = 0;
  std::string file;
  int keep = 0;
  bool json = false;
};

std::string time_text(const Record& record) {
  return record.status == "ok" ? fmt::format("{:.2f}", record.best_seconds() * 1e6) : "";
}

void print_records(const std::vector<Record>& records, const Options& options, const std::string& where) {
  if (options.json) {
    Json list = Json::array();
    for (const Record& record : records) list.push_back(to_json(record));
    fmt::print("{}\n", list.dump(2));
    return;
  }
  Table table({{"id", true}, {"kernel"}, {"thr", true}, {"status"}, {"us", true}, {"target"}, {"machine"}, {"origin"}});
  for (const Record& r : records)
    table.add({std::to_string(r.id), r.name, std::to_string(r.threads), r.status, time_text(r), r.target, r.machine,
               r.origin});
  if (records.empty()) fmt::print("no such records in {}\n", where);
  else fmt::print("{}", table.str());
}

int list(const Options& options) {
  const RecordStore store = open_store(options.url);
  print_records(store.list(options.query), options, store.name());
  return 0;
}

/// The fastest of each workload, target and machine.
int best(Options options) {
  const RecordStore store = open_store(options.url);
  options.query.status = "ok";
  options.query.fastest_first = true;
  const int most = std::exchange(options.query.most, 0);
  std::set<std::tuple<std::string, std::string, std::string>> seen;
  std::vector<Record> records;
  for (Record& record : store.list(options.query))
    if (seen.insert({record.workload, record.target, record.machine}).second &&
        (most == 0 || std::ssize(records) < most))
      records.push_back(std::move(record));
  print_records(records, options, store.name());
  return 0;
}

int show(const Options& options) {
  const RecordStore store = open_store(options.url);
  const Record record = find_record(store, options.id);
  if (options.json) {
    fmt::print("{}\n", to_json(record).dump(2));
    return 0;
  }
  const auto line = [](const char* what, const std::string& text) {
    if (!text.empty()) fmt::print("{:<12}{}\n", what, text);
  };
  line("record", fmt::format("{} of {}", record.id, store.name()));
  line("kernel", record.name);
  line("workload", record.workload);
  line("target", fmt::format("{}, {} thread{}", record.target, record.threads, record.threads == 1 ? "" : "s"));
  line("machine", record.machine);
  line("measured", fmt::format("{}, trial {} of search {}", record.created, record.trial, record.search));
  line("origin", record.origin);
  line("point", record.point);
  line("status", record.status);
  line("message", record.message);
  if (record.status == "ok") {
    line("time", fmt::format("{:.3f} us median of {} samples", record.median_seconds * 1e6, record.seconds.size()));
    if (!record.process_seconds.empty())
      line("", fmt::format("{:.3f} us median of {} fresh processes", median(record.process_seconds) * 1e6,
                           record.process_seconds.size()));
  }
  line("compiled", fmt::format("in {:.2f} s to kernel {}", record.compile_seconds, record.kernel_key));
  line("versions", record.versions);
  if (!record.requirements.empty() && record.requirements != "[]") line("requires", record.requirements);
  fmt::print("\n{}", record.implementation);
  if (!record.implementation.ends_with('\n')) fmt::print("\n");
  return 0;
}

int report(const Options& options, const std::string& member, std::int64_t count, const std::string& text) {
  if (options.json) fmt::print("{}\n", Json{{member, count}}.dump(2));
  else fmt::print("{}\n", text);
  return 0;
}

int export_to(const Options& options) {
  const RecordStore store = open_store(options.url);
  const std::string text = store.export_text(options.query);
  const auto count = std::count(text.begin(), text.end(), '\n') - 1;  // the first line names the format
  write_file(options.file, text);
  return report(options, "exported", count, fmt::format("wrote {} records to {}", count, options.file));
}

int import_from(const Options& options) {
  const std::string text = read_file(options.file);
  RecordStore store = open_store(options.url, RecordStore::Open::create);
  const int fresh = store.import_text(text, options.file);
  return report(options, "imported", fresh, fmt::format("{} of the records were new to {}", fresh, store.name()));
}

int prune(const Options& options) {
  RecordStore store = open_store(options.url);
  const int gone = store.prune(options.keep);
  return report(options, "removed", gone, fmt::format("removed {} records from {}", gone, store.name()));
}

void add_query(CLI::App& app, RecordStore::Query& query) {
  app.add_option("--kernel", query.name, "only kernels of this name (conv+relu)");
  app.add_option("--operator", query.anchor, "only kernels with this main operator");
  app.add_option("--target", query.target, "only this target (x86-64-linux-avx2)");
  app.add_option("--machine", query.machine, "only this machine, by its whole name");
  app.add_option("--search", query.search, "only trials of this search");
  app.add_option("--threads", query.threads, "only kernels for this many threads")->check(CLI::PositiveNumber);
}

}  // namespace

Command records_command() {
  return {
      "records", "list, show, export, import and prune measured schedules", [](CLI::App& app) {
        auto options = std::make_shared<Options>();
        auto chosen = std::make_shared<std::function<int()>>();
        app.require_subcommand(1);
        const auto add = [&](const char* name, const char* summary, int (*action)(const Options&)) {
          CLI::App* sub = app.add_subcommand(name, summary);
          add_store_option(*sub, options->url);
          sub->add_flag("--json", options->json, "one JSON document");
          sub->callback([options, chosen, action] { *chosen = [options, action] { return action(*options); }; });
          return sub;
        };
        CLI::App* sub = add("list", "trials in the order they were made", list);
        add_query(*sub, options->query);
        sub->add_option("--status", options->query.status, "only trials that ended so: ok, wrong, crashed...");
        sub->add_flag("--fastest", options->query.fastest_first, "the fastest first");
        sub->add_option("--most", options->query.most, "rows at most")->check(CLI::PositiveNumber);
        sub = add("best", "the fastest of each kernel, target and machine", [](const Options& o) { return best(o); });
        add_query(*sub, options->query);
        sub->add_option("--most", options->query.most, "rows at most")->check(CLI::PositiveNumber);
        sub = add("show", "one record with its schedule", show);
        sub->add_option("id", options->id, "the record's number")->required();
        sub = add("export", "write records to a text file that fits git", export_to);
        add_query(*sub, options->query);
        sub->add_option("--status", options->query.status, "only trials that ended so");
        sub->add_option("file", options->file, "the file to write")->required();
        sub = add("import", "read records from such a file; those that are there already are left out", import_from);
        sub->add_option("file", options->file, "the file to read")->required();
        sub = add("prune", "remove failures and slow trials", prune);
        sub->add_option("--keep", options->keep, "trials to keep of each kernel, target and machine")
            ->required()
            ->check(CLI::PositiveNumber);
        return std::function<int()>([chosen] { return (*chosen)(); });
      }};
}

}  // namespace heddle::tools
