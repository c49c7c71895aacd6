#pragma once
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <nlohmann/json.hpp>

#include "dsl/reflect.hpp"

/// The knobs of a schedule family: a Hana struct whose members carry their domains in their types, so that the family
/// computes with plain integers and search, records and the command line find names, values and domains by reflection.
///
///   struct ConvKnobs {
///     BOOST_HANA_DEFINE_STRUCT(ConvKnobs, (OneOf<1, 2, 3, 4>, vectors), (InRange<1, 14>, pixels));
///   };
namespace heddle {

/// An integer that is one of `Values`; the first unless said otherwise.
template <std::int64_t First, std::int64_t... Others>
struct OneOf {
  std::int64_t value = First;
  OneOf() = default;
  OneOf(std::int64_t v) : value(v) {}  // NOLINT: a knob is an integer to its family
  operator std::int64_t() const { return value; }
  static std::vector<std::int64_t> domain() { return {First, Others...}; }
};

/// An integer in Min, Min + Step, ..., Max; Min unless said otherwise.
template <std::int64_t Min, std::int64_t Max, std::int64_t Step = 1>
struct InRange {
  static_assert(Min <= Max && Step > 0);
  std::int64_t value = Min;
  InRange() = default;
  InRange(std::int64_t v) : value(v) {}  // NOLINT
  operator std::int64_t() const { return value; }
  static std::vector<std::int64_t> domain() {
    std::vector<std::int64_t> values;
    for (std::int64_t v = Min; v <= Max; v += Step) values.push_back(v);
    return values;
  }
};

/// One knob, with the struct's type forgotten.
struct Knob {
  std::string name;
  std::int64_t value = 0;
  std::vector<std::int64_t> domain;
  bool operator==(const Knob&) const = default;
};

/// The knobs of `k` with their values and domains, in declaration order.
template <class K>
std::vector<Knob> knobs_of(const K& k = {}) {
  std::vector<Knob> knobs;
  reflect::for_each_member(k, [&](const char* name, const auto& knob) {
    knobs.push_back({name, knob.value, std::remove_cvref_t<decltype(knob)>::domain()});
  });
  return knobs;
}

/// Throws Error{invalid_argument} naming the knob whose value its domain does not hold. `what` names the family.
void check_knobs(const std::vector<Knob>& knobs, std::string_view what);

/// "vectors=4,pixels=7".
std::string print_knobs(const std::vector<Knob>& knobs);
/// Sets those of `knobs` that the text names; the others keep their values. Throws Error{invalid_argument} for an
/// unknown knob (with the near names), a value that is no integer or not in the domain, or a knob set twice.
std::vector<Knob> parse_knobs(std::vector<Knob> knobs, std::string_view text, std::string_view what);

nlohmann::json knobs_to_json(const std::vector<Knob>& knobs);
/// As parse_knobs, from {"vectors": 4, "pixels": 7}.
std::vector<Knob> knobs_from_json(std::vector<Knob> knobs, const nlohmann::json& json, std::string_view what);

/// The struct with these values, one a member in declaration order, checked against the domains.
template <class K>
K knobs_with(const std::vector<Knob>& values, std::string_view what) {
  check_knobs(values, what);
  K k{};
  std::size_t i = 0;
  reflect::for_each_member(k, [&](const char* name, auto& knob) {
    if (i >= values.size() || values[i].name != name)
      throw Error(ErrorCode::internal, std::string(what) + ": these are not its knobs");
    knob.value = values[i++].value;
  });
  return k;
}

template <class K>
std::string print_knobs(const K& k) {
  return print_knobs(knobs_of(k));
}

/// Missing knobs keep their values in `defaults`.
template <class K>
K parse_knobs(std::string_view text, std::string_view what, const K& defaults = {}) {
  return knobs_with<K>(parse_knobs(knobs_of(defaults), text, what), what);
}

template <class K>
nlohmann::json knobs_to_json(const K& k) {
  return knobs_to_json(knobs_of(k));
}

template <class K>
K knobs_from_json(const nlohmann::json& json, std::string_view what, const K& defaults = {}) {
  return knobs_with<K>(knobs_from_json(knobs_of(defaults), json, what), what);
}

}  // namespace heddle
