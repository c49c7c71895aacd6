#include "dsl/reflect.hpp"

#include <cmath>
#include <limits>

#include <fmt/format.h>

namespace heddle::reflect {
namespace {

std::string_view describe_type(std::string_view type) {
  if (type == "flag") return "true or false";
  if (type == "int") return "an integer";
  if (type == "float") return "a number";
  if (type == "text") return "a text";
  if (type == "ints") return "a list of integers";
  if (type == "floats") return "a list of numbers";
  if (type == "texts") return "a list of texts";
  return "a name";
}

[[noreturn]] void fail(std::string message) { throw Error(ErrorCode::invalid_argument, std::move(message)); }

}  // namespace

nlohmann::json value_to_json(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return value;
}

void fail_type(std::string_view what, std::string_view member, std::string_view type, const nlohmann::json& got) {
  fail(fmt::format("{}: '{}' must be {}, not {}", what, member, describe_type(type), got.dump()));
}

std::int64_t read_int(const nlohmann::json& json, std::string_view what, std::string_view member) {
  if (json.is_number_unsigned() && json.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max())
    fail_type(what, member, "int", json);
  if (!json.is_number_integer()) fail_type(what, member, "int", json);
  return json.get<std::int64_t>();
}

double read_float(const nlohmann::json& json, std::string_view what, std::string_view member) {
  if (json.is_string()) {
    const auto& text = json.get_ref<const std::string&>();
    if (text == "inf") return std::numeric_limits<double>::infinity();
    if (text == "-inf") return -std::numeric_limits<double>::infinity();
    if (text == "nan") return std::numeric_limits<double>::quiet_NaN();
  }
  if (!json.is_number()) fail_type(what, member, "float", json);
  return json.get<double>();
}

void fail_member(std::string_view what, std::string_view member, const std::vector<std::string>& known) {
  std::string list;
  for (const auto& name : known) list += (list.empty() ? "" : ", ") + name;
  fail(fmt::format("{}: unknown member '{}'{}; it has {}", what, member, did_you_mean(member, known),
                   list.empty() ? "none" : list));
}

void fail_choice(std::string_view what, std::string_view member, std::string_view got,
                 const std::vector<std::string>& choices) {
  std::string list;
  for (const auto& name : choices) list += (list.empty() ? "" : ", ") + name;
  fail(fmt::format("{}: '{}' cannot be '{}'{}; it is one of {}", what, member, got, did_you_mean(got, choices), list));
}

void fail_range(std::string_view what, std::string_view member, std::int64_t got) {
  fail(fmt::format("{}: '{}' is out of range: {}", what, member, got));
}

void require_object(const nlohmann::json& json, std::string_view what) {
  if (!json.is_object()) fail(fmt::format("{} must be an object {{\"name\": value, ...}}, not {}", what, json.dump()));
}

}  // namespace heddle::reflect
