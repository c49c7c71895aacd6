#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <regex>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/error.hpp"
#include "schedules/records.hpp"

namespace heddle {
namespace {

/// "AMD EPYC 7763 64-Core Processor" -> "AMD EPYC 7763": what makers add does not tell processors apart.
std::string processor_name() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::string name;
  for (std::string line; name.empty() && std::getline(cpuinfo, line);) {
    // ARM has no "model name"; the part's number is what tells its cores apart.
    if (!line.starts_with("model name") && !line.starts_with("CPU part")) continue;
    const auto colon = line.find(':');
    if (colon != std::string::npos) name = (line.starts_with("CPU part") ? "ARM part" : "") + line.substr(colon + 1);
  }
  if (name.empty()) return "unknown processor";
  name = std::regex_replace(name, std::regex(R"(\((R|TM|tm|r)\)|\bCPU\b|@.*|\b\d+-Core\b|\bProcessor\b|,)"), " ");
  name = std::regex_replace(name, std::regex(R"(\s+)"), " ");
  const auto first = name.find_first_not_of(' ');
  return first == std::string::npos ? "unknown processor" : name.substr(first, name.find_last_not_of(' ') - first + 1);
}

/// A machine's name, taken apart.
struct MachineName {
  std::string model, maker;
  std::map<std::string, double> caches;  ///< KiB, by level

  explicit MachineName(const std::string& name) {
    model = name.substr(0, name.find(','));
    maker = model.substr(0, model.find(' '));
    static const std::regex cache(R"((\d+) KiB (L\d))");
    for (auto at = std::sregex_iterator(name.begin(), name.end(), cache); at != std::sregex_iterator(); ++at)
      caches[(*at)[2]] = std::stod((*at)[1]);
  }
};

/// Throws Error where the record's schedule does not fit the workload as it is today.
Choice choice_of(const Record& record, const Workload& workload) {
  const auto where = fmt::format("record {}", record.id);
  Choice choice{Implementation::parse(record.implementation, where), where, {}};
  workload.instantiate(choice.implementation, where);
  if (!record.requirements.empty()) choice.requirements = parse_requirements(record.requirements);
  else if (!workload.symbols().empty())
    throw Error(ErrorCode::unsupported,
                "it does not say which extents its schedule needs, and the workload's extents vary");
  return choice;
}

}  // namespace

std::string machine_name() {
  std::string name = processor_name();
  const auto add = [&](const char* level, int parameter) {
    if (const long bytes = ::sysconf(parameter); bytes > 0) name += fmt::format(", {} KiB {}", bytes >> 10, level);
  };
  add("L1", _SC_LEVEL1_DCACHE_SIZE);
  add("L2", _SC_LEVEL2_CACHE_SIZE);
  return name;
}

double machine_distance(const std::string& a, const std::string& b) {
  if (a == b) return 0;
  const MachineName first(a), second(b);
  double distance = first.model == second.model ? 0 : 0.25;
  if (first.maker != second.maker) distance += 1;
  for (const auto& [level, size] : first.caches)
    if (const auto other = second.caches.find(level); other != second.caches.end() && size > 0 && other->second > 0)
      distance += std::abs(std::log2(size / other->second));
  // Names that differ in what is not understood are still not the same machine.
  return std::max(distance, 1e-3);
}

std::optional<RecordChoice> choose_record(const RecordStore& store, const Workload& workload, const Machine& machine,
                                          const std::string& this_machine) {
  auto records =
      store.list({.workload = workload.text(), .target = machine.target, .status = "ok", .fastest_first = true});
  // Stable: of one machine the fastest stays first.
  std::ranges::stable_sort(
      records, {}, [&](const Record& r) { return std::pair(machine_distance(r.machine, this_machine), r.machine); });
  for (Record& record : records) {
    const auto where = fmt::format("record {} of {}", record.id, store.name());
    try {
      Choice choice = choice_of(record, workload);
      choice.source = record.machine == this_machine
                          ? fmt::format("{}, measured on this machine", where)
                          : fmt::format("{}, measured on the nearest machine ({})", where, record.machine);
      return RecordChoice{std::move(record), std::move(choice)};
    } catch (const Error& e) {
      spdlog::warn("{} no longer fits {} and is passed over: {}", where, workload.name(), e.what());
    }
  }
  return std::nullopt;
}

}  // namespace heddle
