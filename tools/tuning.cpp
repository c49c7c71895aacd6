#include "tools/tuning.hpp"

#include <algorithm>
#include <csignal>
#include <ranges>
#include <thread>

#include <fmt/format.h>

#include "autoscheduler/subject.hpp"
#include "autoscheduler/transfer.hpp"
#include "base/error.hpp"
#include "base/file.hpp"
#include "ops/workload_json.hpp"
#include "tools/version.hpp"

namespace heddle::tools {
namespace {

using autoscheduler::Measurement;
using autoscheduler::Point;
using autoscheduler::Space;
using autoscheduler::Start;
using autoscheduler::Trial;
using autoscheduler::TrialStatus;

/// Equal keys are one search: the same trials in the same order, given the same measurements. A space whose sketches or
/// schedules have changed is another search, whatever the version number says.
std::string search_key(const TuneRequest& request, const Space& space) {
  Json sketches = Json::array();
  for (const auto& sketch : space.sketches()) {
    Json knobs = Json::array();
    for (const auto& knob : sketch.knobs) knobs.push_back({knob.name, knob.domain, knob.ordered});
    sketches.push_back({sketch.name, std::move(knobs)});
  }
  Json defaults = Json::array();
  for (const Point& point : space.defaults()) {
    const auto emitted = space.emit(point);
    if (const auto* candidate = std::get_if<autoscheduler::Candidate>(&emitted))
      defaults.push_back({candidate->implementation.print(), candidate->estimate});
  }
  const Json key = {{"workload", request.workload->text()},
                    {"target", request.target.name},
                    {"machine", request.machine()},
                    {"seed", request.seed},
                    {"families", request.families},
                    {"transfer", request.transfer},
                    {"version", version_text()},
                    {"search", autoscheduler::search_version},
                    {"sketches", std::move(sketches)},
                    {"defaults", std::move(defaults)}};
  return sha256(key.dump()).substr(0, 32);
}

/// Of the search that an earlier run has begun, else of what the store holds by now.
std::vector<Start> starts_of(const TuneRequest& request, const RecordStore& store, const Space& space,
                             const std::string& key) {
  if (!request.transfer) return {};
  const auto begun = store.list({.search = key, .most = 1});
  if (begun.empty())
    return autoscheduler::starts_from_records(store, *request.workload, request.target.name, request.machine(), space);
  std::vector<Start> starts;
  const Json point = Json::parse(begun.front().point);
  for (const Json& start : point.value("starts", Json::array()))
    starts.push_back({{start.at("sketch"), start.at("values")}, start.at("origin")});
  return starts;
}

Record to_record(const Trial& trial, const TuneRequest& request, const Space& space, const std::string& key,
                 const std::vector<Start>& starts) {
  const Measurement& m = trial.measurement;
  const bool ok = m.status == TrialStatus::ok;
  Record record;
  record.search = key;
  record.trial = trial.number;
  record.workload = request.workload->text();
  record.workload_json = workload_to_json(*request.workload).dump();
  record.name = request.workload->name();
  record.anchor = std::string(request.workload->anchor().op->name());
  record.target = request.target.name;
  record.machine = m.machine.empty() ? request.machine() : m.machine;
  record.threads = request.workload->composition().threads;
  record.implementation = trial.implementation.print();
  record.requirements = print_requirements(trial.requirements);
  Json point = autoscheduler::recorded_point(trial.point, space.sketches());
  for (const Start& start : starts)
    point["starts"].push_back(
        {{"origin", start.origin}, {"sketch", start.point.sketch}, {"values", start.point.values}});
  if (!trial.incumbent_kernel.empty()) point["incumbent_kernel"] = trial.incumbent_kernel;
  record.point = point.dump();
  record.origin = trial.origin;
  record.status = std::string(to_string(m.status));
  record.message = m.message;
  record.seconds = m.seconds;
  record.incumbent_seconds = m.incumbent_seconds;
  record.median_seconds = ok ? m.median() : 0;
  record.compile_seconds = m.compile_seconds;
  record.kernel_key = m.kernel_key;
  Json versions = {{"program", version_text()}, {"search", autoscheduler::search_version}};
  if (!m.worker.empty()) versions["worker"] = m.worker;
  record.versions = versions.dump();
  return record;
}

Measurement to_measurement(const Record& record) {
  Measurement m;
  m.status = autoscheduler::trial_status_from_string(record.status);
  m.message = record.message;
  m.seconds = record.seconds;
  m.incumbent_seconds = record.incumbent_seconds;
  m.compile_seconds = record.compile_seconds;
  m.kernel_key = record.kernel_key;
  return m;
}

volatile std::sig_atomic_t signals_seen = 0;

void note_signal(int) { signals_seen = 1; }

}  // namespace

double TuneResult::seconds() const {
  if (!search.best) return 0;
  const Trial& best = search.trials[*search.best];
  return best.process_seconds.empty() ? best.measurement.median() : median(best.process_seconds);
}

Tuner::Tuner(const TuneRequest& request, RecordStore& store, const std::function<bool()>& stop)
    : request_(request),
      store_(store),
      space_(autoscheduler::make_space(*request.workload, request.target.machine, request.families, stop)),
      key_(search_key(request, *space_)),
      starts_(starts_of(request, store, *space_, key_)),
      search_(*space_, request.seed, starts_, stop) {}

std::optional<autoscheduler::RecalledTrial> Tuner::recall(int number) {
  const auto record = store_.find(key_, number);
  if (!record) return std::nullopt;
  const auto point = autoscheduler::nearest_point(record->point, *space_);
  const auto emitted = point ? space_->emit(*point) : autoscheduler::Pruned{};
  const auto* candidate = std::get_if<autoscheduler::Candidate>(&emitted);
  if (candidate == nullptr || candidate->implementation.print() != record->implementation)
    throw Error(ErrorCode::unsupported,
                fmt::format("trial {} of search {} in the records has another schedule than this program makes of its "
                            "point: they were changed since. Search with another --seed, or into another file of "
                            "records",
                            number, key_));
  ids_[number] = record->id;
  return autoscheduler::RecalledTrial{*point, record->origin, Json::parse(record->point).value("incumbent_kernel", ""),
                                      to_measurement(*record)};
}

TuneResult Tuner::run(const autoscheduler::SearchOptions& options,
                      const std::function<void(const std::vector<Trial>&)>& progress, std::function<bool()> stop) {
  stop_ = std::move(stop);
  deadline_ = std::chrono::steady_clock::now() +
              std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                  std::chrono::duration<double>(options.seconds > 0 ? options.seconds : 1e9));
  autoscheduler::SearchHooks hooks;
  hooks.progress = progress;
  hooks.stop = stop_;
  hooks.recall = [&](int number) { return recall(number); };
  hooks.store = [&](const Trial& trial) {
    ids_[trial.number] = store_.add(to_record(trial, request_, *space_, key_, starts_));
  };
  hooks.recall_finalist = [&](int number) {
    const auto record = store_.find(ids_.at(number));
    return record ? record->process_seconds : std::vector<double>();
  };
  hooks.store_finalist = [&](const Trial& trial) {
    store_.set_process_seconds(ids_.at(trial.number), trial.process_seconds);
  };

  if (options.trials > 0 && !measurer_) {
    autoscheduler::MeasureOptions measuring;
    measuring.seed = request_.seed;
    measuring.device = request_.device;
    const auto stopped = [this] { return stop_ && stop_(); };
    if (request_.fleet) {
      request_.fleet->stop = stopped;
      request_.fleet->late = [this] { return std::chrono::steady_clock::now() > deadline_; };
      measurer_ = autoscheduler::make_remote_measurer(*request_.workload, request_.target, request_.modules, measuring,
                                                      *request_.fleet, key_);
    } else {
      measurer_ =
          autoscheduler::make_measurer(*request_.workload, request_.target, request_.modules, measuring, stopped);
    }
  }
  TuneResult result;
  result.key = key_;
  result.sketches = space_->sketches();
  result.search = search_.run(measurer_.get(), options, hooks);
  result.recalled = static_cast<int>(std::ranges::count_if(result.search.trials, &Trial::recalled));
  // What is left is of runs that were killed between keeping a result and removing its job.
  if (request_.fleet && !result.search.stopped && static_cast<int>(result.search.trials.size()) == options.trials)
    autoscheduler::forget_jobs(request_.fleet->records, key_);
  return result;
}

std::optional<autoscheduler::Fleet> find_fleet(const std::string& records, const std::string& machine, double seconds,
                                               const std::function<bool()>& stop) {
  using namespace std::chrono_literals;
  const JobQueue queue(records);
  const auto start = std::chrono::steady_clock::now();
  for (std::string said;;) {
    if (auto found = autoscheduler::choose_machine(queue, machine, version_text())) {
      fmt::print(stderr, "tunes for {}: {} of its workers seen lately\n", found->row(),
                 autoscheduler::workers_of(queue, *found));
      return autoscheduler::Fleet{.records = records, .machine = std::move(*found)};
    }
    const std::string why = autoscheduler::absent_workers(queue, nullptr, version_text());
    if (why != said) fmt::print(stderr, "waits for a first worker: {}\n", why);
    said = why;
    if (stop()) return std::nullopt;
    if (seconds > 0 && std::chrono::steady_clock::now() - start > std::chrono::duration<double>(seconds))
      throw Error(ErrorCode::unsupported, fmt::format("no time was left for a single trial: {}", why));
    std::this_thread::sleep_for(200ms);
  }
}

InterruptGuard::InterruptGuard() {
  signals_seen = 0;
  struct sigaction action = {};
  action.sa_handler = note_signal;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  for (const int signal : {SIGINT, SIGTERM}) ::sigaction(signal, &action, nullptr);
}

InterruptGuard::~InterruptGuard() {
  for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, SIG_DFL);
}

bool InterruptGuard::interrupted() { return signals_seen != 0; }

}  // namespace heddle::tools
