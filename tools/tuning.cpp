#include "tools/tuning.hpp"

#include <algorithm>
#include <csignal>
#include <ranges>

#include <fmt/format.h>

#include "autoscheduler/subject.hpp"
#include "base/error.hpp"
#include "base/file.hpp"
#include "ops/workload_json.hpp"
#include "tools/version.hpp"

namespace heddle::tools {
namespace {

using autoscheduler::Measurement;
using autoscheduler::Point;
using autoscheduler::Space;
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
                    {"machine", machine_name()},
                    {"seed", request.search.seed},
                    {"families", request.families},
                    {"version", version_text()},
                    {"search", autoscheduler::search_version},
                    {"sketches", std::move(sketches)},
                    {"defaults", std::move(defaults)}};
  return sha256(key.dump()).substr(0, 32);
}

Record to_record(const Trial& trial, const TuneRequest& request, const Space& space, const std::string& key) {
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
  record.machine = machine_name();
  record.threads = request.workload->composition().threads;
  record.implementation = trial.implementation.print();
  record.requirements = print_requirements(trial.requirements);
  Json knobs = Json::object();
  const auto& sketch = space.sketches()[trial.point.sketch];
  for (std::size_t k = 0; k < sketch.knobs.size(); ++k) knobs[sketch.knobs[k].name] = trial.point.values[k];
  record.point = Json({{"sketch", sketch.name}, {"knobs", std::move(knobs)}}).dump();
  record.origin = trial.origin;
  record.status = std::string(to_string(m.status));
  record.message = m.message;
  record.seconds = m.seconds;
  record.incumbent_seconds = m.incumbent_seconds;
  record.median_seconds = ok ? m.median() : 0;
  record.compile_seconds = m.compile_seconds;
  record.kernel_key = m.kernel_key;
  record.versions = Json({{"program", version_text()}, {"search", autoscheduler::search_version}}).dump();
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

TuneResult tune(const TuneRequest& request, RecordStore& store,
                const std::function<void(const std::vector<Trial>&)>& progress, const std::function<bool()>& stop) {
  const auto space = autoscheduler::make_space(*request.workload, request.target.machine, request.families);
  TuneResult result;
  result.sketches = space->sketches();
  result.key = search_key(request, *space);

  std::map<int, std::int64_t> ids;
  autoscheduler::SearchHooks hooks;
  hooks.progress = progress;
  hooks.stop = stop;
  hooks.recall = [&](int number, const Point&, const Implementation& implementation) -> std::optional<Measurement> {
    const auto record = store.find(result.key, number);
    if (!record) return std::nullopt;
    if (record->implementation != implementation.print())
      throw Error(ErrorCode::unsupported,
                  fmt::format("trial {} of search {} in the records has another schedule than this program would try: "
                              "they were changed since. Search with another --seed, or into another file of records",
                              number, result.key));
    ids[number] = record->id;
    ++result.recalled;
    return to_measurement(*record);
  };
  hooks.store = [&](const Trial& trial) {
    ids[trial.number] = store.add(to_record(trial, request, *space, result.key));
  };
  hooks.recall_finalist = [&](int number) {
    const auto record = store.find(ids.at(number));
    return record ? record->process_seconds : std::vector<double>();
  };
  hooks.store_finalist = [&](const Trial& trial) {
    store.set_process_seconds(ids.at(trial.number), trial.process_seconds);
  };

  std::unique_ptr<autoscheduler::Measurer> measurer;
  if (request.search.trials > 0) {
    autoscheduler::MeasureOptions options;
    options.seed = request.search.seed;
    measurer = autoscheduler::make_measurer(*request.workload, request.target, request.modules, options);
  }
  result.search = autoscheduler::search(*space, measurer.get(), request.search, hooks);
  return result;
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
