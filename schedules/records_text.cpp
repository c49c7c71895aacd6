#include <algorithm>
#include <sstream>
#include <tuple>
#include <type_traits>

#include <fmt/format.h>

#include "base/error.hpp"
#include "schedules/database.hpp"
#include "schedules/records_row.hpp"

namespace heddle {
namespace schedules {
namespace {

constexpr int format_version = 1;
constexpr const char* format_member = "heddle_records";

auto order_of(const Record& r) { return std::tie(r.name, r.workload, r.target, r.machine, r.search, r.trial); }

Json without_id(const Record& record) {
  Json json = Json::object();
  for_each_member(record, [&](const char* name, const auto& member) { json[name] = member; });
  return json;
}

template <class Member>
constexpr std::string_view kind_of() {
  if constexpr (std::is_same_v<Member, std::string>) return "a text";
  else if constexpr (std::is_same_v<Member, int>) return "a whole number";
  else if constexpr (std::is_same_v<Member, double>) return "a number";
  else return "a list of numbers";
}

template <class Member>
bool has_kind(const Json& json) {
  if constexpr (std::is_same_v<Member, std::string>) return json.is_string();
  else if constexpr (std::is_same_v<Member, int>) return json.is_number_integer();
  else if constexpr (std::is_same_v<Member, double>) return json.is_number();
  else return json.is_array() && std::ranges::all_of(json, [](const Json& element) { return element.is_number(); });
}

Record from_json(const Json& json) {
  if (!json.is_object()) throw Error(ErrorCode::invalid_argument, "a record is a JSON object");
  Record record;
  std::vector<std::string> known;
  for_each_member(record, [&](const char* name, auto& member) {
    using Member = std::remove_reference_t<decltype(member)>;
    known.emplace_back(name);
    const auto found = json.find(name);
    if (found == json.end()) throw Error(ErrorCode::invalid_argument, fmt::format("the member '{}' is missing", name));
    if (!has_kind<Member>(*found))
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("the member '{}' is {}, not {}", name, found->dump(), kind_of<Member>()));
    member = found->template get<Member>();
  });
  for (const auto& item : json.items())
    if (std::ranges::find(known, item.key()) == known.end())
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("there is no member '{}'{}", item.key(), did_you_mean(item.key(), known)));
  return record;
}

}  // namespace

std::string records_to_text(std::vector<Record> records) {
  std::ranges::sort(records, [](const Record& a, const Record& b) { return order_of(a) < order_of(b); });
  std::string text = Json{{format_member, format_version}}.dump() + "\n";
  for (const Record& record : records) text += without_id(record).dump() + "\n";
  return text;
}

std::vector<Record> records_from_text(const std::string& text, const std::string& file) {
  std::vector<Record> records;
  std::istringstream lines(text);
  std::string line;
  bool named = false;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      const Json json = Json::parse(line, nullptr, false);
      if (json.is_discarded()) throw Error(ErrorCode::invalid_argument, "the line is not one JSON object");
      // Files that were put one after the other, or merged, name the format several times.
      if (json.is_object() && json.contains(format_member)) {
        if (json[format_member] != format_version)
          throw Error(ErrorCode::unsupported,
                      fmt::format("the records have format {}, this program reads {}; use the Heddle that wrote them",
                                  json[format_member].dump(), format_version));
        named = true;
        continue;
      }
      if (!named)
        throw Error(ErrorCode::invalid_argument,
                    fmt::format("the first line has to be {}, as `heddle records export` writes it",
                                Json{{format_member, format_version}}.dump()));
      records.push_back(from_json(json));
    } catch (const Error& e) {
      throw Error(e.code(), fmt::format("{}:{}: {}", file, number, e.what()));
    }
  }
  if (!named) throw Error(ErrorCode::invalid_argument, fmt::format("{}: there are no records in it", file));
  return records;
}

}  // namespace schedules

Json to_json(const Record& record) {
  Json json = schedules::without_id(record);
  json["id"] = record.id;
  return json;
}

std::string print_requirements(const std::vector<ScheduleRequirement>& requirements) {
  Json json = Json::array();
  for (const auto& r : requirements)
    json.push_back({{"kind", r.kind == ScheduleRequirement::Kind::at_least ? "at_least" : "multiple_of"},
                    {"left", r.left},
                    {"right", r.right},
                    {"reason", r.reason}});
  return json.dump();
}

std::vector<ScheduleRequirement> parse_requirements(const std::string& text) {
  const auto fail = [&] {
    return Error(ErrorCode::invalid_argument, fmt::format("no list of requirements: {}", text));
  };
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_array()) throw fail();
  std::vector<ScheduleRequirement> requirements;
  for (const auto& entry : json) {
    if (!entry.is_object()) throw fail();
    for (const char* member : {"kind", "left", "right", "reason"})
      if (!entry.contains(member)) throw fail();
    const auto& kind = entry["kind"];
    if ((kind != "at_least" && kind != "multiple_of") || !entry["reason"].is_string()) throw fail();
    for (const char* member : {"left", "right"})
      if (!entry[member].is_number_integer() && !entry[member].is_string()) throw fail();
    requirements.push_back(
        {kind == "at_least" ? ScheduleRequirement::Kind::at_least : ScheduleRequirement::Kind::multiple_of,
         entry["left"].get<Extent>(), entry["right"].get<Extent>(), entry["reason"].get<std::string>()});
  }
  return requirements;
}

}  // namespace heddle
