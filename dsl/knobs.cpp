#include "dsl/knobs.hpp"

#include <charconv>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle {
namespace {

[[noreturn]] void fail(std::string_view what, const std::string& message) {
  throw Error(ErrorCode::invalid_argument, fmt::format("{}: {}", what, message));
}

std::string listed(const std::vector<std::int64_t>& domain) {
  // A long domain with a constant step reads better as one.
  const std::size_t n = domain.size();
  if (n > 8) {
    const std::int64_t step = domain[1] - domain[0];
    bool even = step > 0;
    for (std::size_t i = 1; i < n; ++i) even = even && domain[i] - domain[i - 1] == step;
    if (even && step == 1) return fmt::format("{} to {}", domain[0], domain[n - 1]);
    if (even) return fmt::format("{}, {} to {}", domain[0], domain[1], domain[n - 1]);
  }
  std::string text;
  for (const std::int64_t v : domain) text += (text.empty() ? "" : ", ") + std::to_string(v);
  return text;
}

void check(const Knob& knob, std::string_view what) {
  if (std::find(knob.domain.begin(), knob.domain.end(), knob.value) == knob.domain.end())
    fail(what, fmt::format("knob '{}' cannot be {}; it takes {}", knob.name, knob.value, listed(knob.domain)));
}

Knob& find(std::vector<Knob>& knobs, std::string_view name, std::string_view what) {
  std::vector<std::string> names;
  for (Knob& knob : knobs) {
    if (knob.name == name) return knob;
    names.push_back(knob.name);
  }
  std::string list;
  for (const auto& n : names) list += (list.empty() ? "" : ", ") + n;
  fail(what, fmt::format("no knob '{}'{}; it has {}", name, did_you_mean(name, names), list.empty() ? "none" : list));
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

}  // namespace

void check_knobs(const std::vector<Knob>& knobs, std::string_view what) {
  for (const Knob& knob : knobs) check(knob, what);
}

std::string print_knobs(const std::vector<Knob>& knobs) {
  std::string text;
  for (const Knob& knob : knobs) text += fmt::format("{}{}={}", text.empty() ? "" : ",", knob.name, knob.value);
  return text;
}

std::vector<Knob> parse_knobs(std::vector<Knob> knobs, std::string_view text, std::string_view what) {
  std::vector<std::string> set;
  text = trimmed(text);
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    const std::string_view item = trimmed(text.substr(0, comma));
    if (comma != std::string_view::npos && trimmed(text.substr(comma + 1)).empty())
      fail(what, "expected a knob after the last ','");
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
    const std::size_t equals = item.find('=');
    if (equals == std::string_view::npos) fail(what, fmt::format("expected knob=value, not '{}'", item));
    const std::string_view name = trimmed(item.substr(0, equals));
    const std::string_view number = trimmed(item.substr(equals + 1));
    Knob& knob = find(knobs, name, what);
    if (std::find(set.begin(), set.end(), knob.name) != set.end())
      fail(what, fmt::format("knob '{}' is set twice", knob.name));
    set.push_back(knob.name);
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), knob.value);
    if (error != std::errc() || end != number.data() + number.size())
      fail(what, fmt::format("knob '{}' needs an integer, not '{}'", knob.name, number));
    check(knob, what);
  }
  return knobs;
}

nlohmann::json knobs_to_json(const std::vector<Knob>& knobs) {
  nlohmann::json json = nlohmann::json::object();
  for (const Knob& knob : knobs) json[knob.name] = knob.value;
  return json;
}

std::vector<Knob> knobs_from_json(std::vector<Knob> knobs, const nlohmann::json& json, std::string_view what) {
  reflect::require_object(json, what);
  for (const auto& item : json.items()) {
    Knob& knob = find(knobs, item.key(), what);
    knob.value = reflect::read_int(item.value(), what, item.key());
    check(knob, what);
  }
  return knobs;
}

}  // namespace heddle
