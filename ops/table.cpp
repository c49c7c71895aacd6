#include "ops/table.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "ops/math.hpp"

namespace heddle::ops {

bool accepts(Accepts accepted, DType type) {
  switch (accepted) {
    case Accepts::numbers: return is_number(type);
    case Accepts::signed_numbers: return is_signed(type);
    case Accepts::integers: return is_integer(type);
    case Accepts::floats: return is_float(type);
    case Accepts::narrow_floats: return is_float(type) && type != DType::f64;
    case Accepts::booleans: return type == DType::boolean;
    case Accepts::all: return type != DType::string;
  }
  return false;
}

std::string describe(Accepts accepted) {
  switch (accepted) {
    case Accepts::numbers: return "integers or floats";
    case Accepts::signed_numbers: return "signed integers or floats";
    case Accepts::integers: return "integers";
    case Accepts::floats: return "floats";
    case Accepts::narrow_floats: return "f32, f16 or bf16";
    case Accepts::booleans: return "booleans";
    case Accepts::all: break;
  }
  return "numbers or booleans";
}

std::vector<reflect::MemberInfo> TableOperator::attributes() const {
  std::vector<reflect::MemberInfo> members;
  for (const auto& p : parameters_) {
    if (p.choices.empty()) members.push_back({p.name, "float", reflect::value_to_json(p.initial), {}});
    else members.push_back({p.name, "choice", p.choices[static_cast<std::size_t>(p.initial)], p.choices});
  }
  return members;
}

Json TableOperator::canonical(const Json& attributes) const {
  const auto filled = values(attributes);
  Json json = Json::object();
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const auto& p = parameters_[i];
    json[p.name] =
        p.choices.empty() ? reflect::value_to_json(filled[i]) : Json(p.choices[static_cast<std::size_t>(filled[i])]);
  }
  return json;
}

std::vector<double> TableOperator::values(const Json& attributes) const {
  const std::string what = fmt::format("attributes of {}", name_);
  reflect::require_object(attributes, what);
  std::vector<std::string> known;
  for (const auto& p : parameters_) known.push_back(p.name);
  for (const auto& item : attributes.items())
    if (std::find(known.begin(), known.end(), item.key()) == known.end()) reflect::fail_member(what, item.key(), known);
  std::vector<double> filled;
  for (const auto& p : parameters_) {
    const auto found = attributes.find(p.name);
    if (found == attributes.end()) {
      filled.push_back(p.initial);
    } else if (p.choices.empty()) {
      filled.push_back(reflect::read_float(*found, what, p.name));
    } else {
      if (!found->is_string()) reflect::fail_type(what, p.name, "choice", *found);
      const auto choice = std::find(p.choices.begin(), p.choices.end(), found->get<std::string>());
      if (choice == p.choices.end()) reflect::fail_choice(what, p.name, found->get<std::string>(), p.choices);
      filled.push_back(static_cast<double>(choice - p.choices.begin()));
    }
  }
  return filled;
}

std::vector<std::string> TableOperator::dimensions(const Json& attributes, std::span<const TensorType> in) const {
  return default_dimensions(infer(attributes, in)[0].rank());
}

Halide::Expr widen(const Halide::Expr& x) {
  return (x.type().is_float() || x.type().is_bfloat()) && x.type().bits() == 16 ? math::widen_to_f32(x) : x;
}

}  // namespace heddle::ops
