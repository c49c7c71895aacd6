#pragma once
#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <boost/hana/accessors.hpp>
#include <boost/hana/adapt_struct.hpp>
#include <boost/hana/concept/struct.hpp>
#include <boost/hana/define_struct.hpp>
#include <boost/hana/for_each.hpp>
#include <boost/hana/fuse.hpp>
#include <boost/hana/string.hpp>
#include <nlohmann/json.hpp>

#include "base/dtype.hpp"
#include "base/error.hpp"
#include "base/extent.hpp"

namespace heddle {

/// All members of DType, which makes it an enum that reflection can read and write. An enum E of one's own needs the
/// same two functions beside it: `std::string_view to_string(E)` and `enum_values(E)` returning a range of every E.
inline const std::array<DType, 14>& enum_values(DType) {
  static const std::array<DType, 14> all{DType::f32, DType::f64, DType::f16,     DType::bf16,  DType::i8,
                                         DType::u8,  DType::i16, DType::u16,     DType::i32,   DType::u32,
                                         DType::i64, DType::u64, DType::boolean, DType::string};
  return all;
}

/// Reflection over Hana structs: one description of attributes, stages or knobs drives JSON, command-line flags, cache
/// keys and documentation. A struct takes part by BOOST_HANA_DEFINE_STRUCT inside it (members without default), or
/// BOOST_HANA_ADAPT_STRUCT after it in the global namespace (members with defaults).
namespace reflect {

struct MemberInfo {
  std::string name;
  std::string type;  ///< "int", "ints", "float", "floats", "text", "texts", "flag", "extent", "extents" or "choice"
  nlohmann::json default_value;
  std::vector<std::string> choices;  ///< of a "choice"
};

template <class E>
concept NamedEnum = std::is_enum_v<E> && requires(E e) {
  { to_string(e) } -> std::convertible_to<std::string_view>;
  enum_values(e).begin();
};

/// How one type of member is called in messages and documentation, written as JSON and read from it. Floats that JSON
/// has no number for are the texts "inf", "-inf" and "nan".
nlohmann::json value_to_json(double value);
[[noreturn]] void fail_type(std::string_view what, std::string_view member, std::string_view type,
                            const nlohmann::json& got);
std::int64_t read_int(const nlohmann::json& json, std::string_view what, std::string_view member);
double read_float(const nlohmann::json& json, std::string_view what, std::string_view member);
[[noreturn]] void fail_member(std::string_view what, std::string_view member, const std::vector<std::string>& known);
[[noreturn]] void fail_choice(std::string_view what, std::string_view member, std::string_view got,
                              const std::vector<std::string>& choices);
[[noreturn]] void fail_range(std::string_view what, std::string_view member, std::int64_t got);
void require_object(const nlohmann::json& json, std::string_view what);

template <class T>
constexpr std::string_view type_name() {
  if constexpr (std::is_same_v<T, bool>) return "flag";
  else if constexpr (std::is_integral_v<T>) return "int";
  else if constexpr (std::is_floating_point_v<T>) return "float";
  else if constexpr (std::is_same_v<T, std::string>) return "text";
  else if constexpr (std::is_same_v<T, std::vector<std::int64_t>>) return "ints";
  else if constexpr (std::is_same_v<T, std::vector<double>>) return "floats";
  else if constexpr (std::is_same_v<T, std::vector<std::string>>) return "texts";
  else if constexpr (std::is_same_v<T, Extent>) return "extent";
  else if constexpr (std::is_same_v<T, std::vector<Extent>>) return "extents";
  else {
    static_assert(NamedEnum<T>, "not a type that reflection can read and write");
    return "choice";
  }
}

template <class T>
nlohmann::json member_to_json(const T& value) {
  if constexpr (NamedEnum<T>) {
    return std::string(to_string(value));
  } else if constexpr (std::is_floating_point_v<T>) {
    return value_to_json(value);
  } else if constexpr (std::is_same_v<T, std::vector<double>>) {
    nlohmann::json list = nlohmann::json::array();
    for (const double v : value) list.push_back(value_to_json(v));
    return list;
  } else {
    return value;
  }
}

template <class E>
std::vector<std::string> choices_of() {
  std::vector<std::string> names;
  if constexpr (std::is_enum_v<E>)
    for (const E e : enum_values(E{})) names.emplace_back(to_string(e));
  return names;
}

template <class T>
void member_from_json(const nlohmann::json& json, std::string_view what, std::string_view member, T& value) {
  const auto require = [&](bool ok) {
    if (!ok) fail_type(what, member, type_name<T>(), json);
  };
  if constexpr (std::is_same_v<T, bool>) {
    require(json.is_boolean());
    value = json.get<bool>();
  } else if constexpr (NamedEnum<T>) {
    require(json.is_string());
    for (const T e : enum_values(T{}))
      if (json.get_ref<const std::string&>() == to_string(e)) {
        value = e;
        return;
      }
    fail_choice(what, member, json.get_ref<const std::string&>(), choices_of<T>());
  } else if constexpr (std::is_integral_v<T>) {
    const std::int64_t wide = read_int(json, what, member);
    value = static_cast<T>(wide);
    if (static_cast<std::int64_t>(value) != wide) fail_range(what, member, wide);
  } else if constexpr (std::is_floating_point_v<T>) {
    value = static_cast<T>(read_float(json, what, member));
  } else if constexpr (std::is_same_v<T, std::string>) {
    require(json.is_string());
    value = json.get<std::string>();
  } else if constexpr (std::is_same_v<T, Extent>) {
    require(json.is_number_integer() || json.is_string());
    value = json.get<Extent>();
  } else {
    require(json.is_array());
    T list;
    for (const auto& element : json) {
      typename T::value_type v{};
      member_from_json(element, what, member, v);
      list.push_back(std::move(v));
    }
    value = std::move(list);
  }
}

/// Calls `f(const char* name, auto& value)` for every member of `s`, in declaration order.
template <class S, class F>
void for_each_member(S& s, F f) {
  namespace hana = boost::hana;
  using Plain = std::remove_const_t<S>;
  static_assert(hana::Struct<Plain>::value, "not a Hana struct");
  hana::for_each(hana::accessors<Plain>(),
                 hana::fuse([&](auto name, auto get) { f(hana::to<const char*>(name), get(s)); }));
}

/// Names of the members, in declaration order.
template <class S>
std::vector<std::string> member_names() {
  namespace hana = boost::hana;
  std::vector<std::string> names;
  hana::for_each(hana::accessors<S>(),
                 hana::fuse([&](auto name, auto) { names.emplace_back(hana::to<const char*>(name)); }));
  return names;
}

/// Every member as an object of JSON; keys come out sorted, so its dump is a canonical text.
template <class S>
nlohmann::json to_json(const S& s) {
  nlohmann::json json = nlohmann::json::object();
  for_each_member(s, [&](const char* name, const auto& value) { json[name] = member_to_json(value); });
  return json;
}

/// Reads an object of JSON; missing members keep their defaults. `what` names the struct in messages ("attributes of
/// conv"). Throws Error{invalid_argument} for an unknown member (with the near ones) or a value of the wrong type.
template <class S>
S from_json(const nlohmann::json& json, std::string_view what) {
  require_object(json, what);
  S s{};
  const std::vector<std::string> known = member_names<S>();
  for (const auto& item : json.items())
    if (std::find(known.begin(), known.end(), item.key()) == known.end()) fail_member(what, item.key(), known);
  for_each_member(s, [&](const char* name, auto& value) {
    if (const auto found = json.find(name); found != json.end()) member_from_json(*found, what, name, value);
  });
  return s;
}

/// Every member's name, type and default, for flags and documentation.
template <class S>
std::vector<MemberInfo> describe() {
  std::vector<MemberInfo> members;
  const S defaults{};
  for_each_member(defaults, [&](const char* name, const auto& value) {
    using T = std::remove_cvref_t<decltype(value)>;
    members.push_back({name, std::string(type_name<T>()), member_to_json(value), choices_of<T>()});
  });
  return members;
}

}  // namespace reflect
}  // namespace heddle
