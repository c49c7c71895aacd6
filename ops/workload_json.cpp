#include "ops/workload_json.hpp"

#include <limits>

#include <fmt/format.h>

namespace heddle {
namespace {

// Raised when an older program would read a document wrongly; members that it may ignore do not count.
constexpr int format_version = 1;

[[noreturn]] void fail(const std::string& why) {
  throw Error(ErrorCode::invalid_argument, fmt::format("not a workload's document: {}", why));
}

const Json& member(const Json& object, const char* name, Json::value_t type, const std::string& where) {
  if (!object.is_object()) fail(fmt::format("{} is a JSON {}, not an object", where, object.type_name()));
  const auto found = object.find(name);
  if (found == object.end()) fail(fmt::format("{} lacks the member '{}'", where, name));
  if (found->type() != type)
    fail(
        fmt::format("member '{}' of {} is a JSON {}, not {}", name, where, found->type_name(), Json(type).type_name()));
  return *found;
}

/// A whole number from `low` to `high`.
std::int64_t number(const Json& json, std::int64_t low, std::int64_t high, const std::string& what) {
  // Unsigned numbers beyond the signed ones would wrap around and look small.
  const bool fits = json.is_number_unsigned() ? json.get<std::uint64_t>() <=
                                                    static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())
                                              : json.is_number_integer();
  if (!fits || json.get<std::int64_t>() < low || json.get<std::int64_t>() > high)
    fail(high < low ? fmt::format("{} is {}, but there is nothing to choose from", what, json.dump())
                    : fmt::format("{} is {}, not a whole number from {} to {}", what, json.dump(), low, high));
  return json.get<std::int64_t>();
}

int number_of(const Json& object, const char* name, std::int64_t low, std::int64_t high, const std::string& where) {
  const auto found = object.find(name);
  if (found == object.end()) fail(fmt::format("{} lacks the member '{}'", where, name));
  return static_cast<int>(number(*found, low, high, fmt::format("'{}' of {}", name, where)));
}

SymbolRanges read_symbols(const Json& json) {
  SymbolRanges symbols;
  for (const auto& [name, range] : json.items()) {
    if (!range.is_array() || range.size() != 2)
      fail(fmt::format("the range of symbol '{}' is {}, not [least, most]", name, range.dump()));
    constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
    const auto what = fmt::format("the range of symbol '{}'", name);
    const auto low = number(range[0], 0, most, what);
    symbols[name] = {low, number(range[1], low, most, what)};
  }
  return symbols;
}

TensorType read_type(const Json& object, const std::string& where) {
  return TensorType::parse(member(object, "type", Json::value_t::string, where).get_ref<const std::string&>());
}

/// Reads every member; which values each node makes is known only once the nodes before it are.
Composition read(const Json& json, const Operators& operators) {
  Composition c;
  for (const auto& input : member(json, "inputs", Json::value_t::array, "the document")) {
    const auto where = fmt::format("input {}", c.inputs.size());
    c.inputs.push_back({read_type(input, where), member(input, "constant", Json::value_t::boolean, where).get<bool>()});
  }
  std::vector<TensorType> values;
  for (const auto& input : c.inputs) values.push_back(input.type);
  for (const auto& entry : member(json, "nodes", Json::value_t::array, "the document")) {
    const auto where = fmt::format("node {}", c.nodes.size());
    Composition::Node node;
    node.op = &operators.get(member(entry, "operator", Json::value_t::string, where).get_ref<const std::string&>());
    node.attributes = node.op->canonical(member(entry, "attributes", Json::value_t::object, where));
    std::vector<TensorType> in;
    for (const auto& operand : member(entry, "operands", Json::value_t::array, where)) {
      node.operands.push_back(static_cast<int>(
          number(operand, 0, static_cast<std::int64_t>(values.size()) - 1, fmt::format("an operand of {}", where))));
      in.push_back(values[static_cast<std::size_t>(node.operands.back())]);
    }
    for (auto& type : node.op->infer(node.attributes, in)) values.push_back(std::move(type));
    c.nodes.push_back(std::move(node));
  }
  c.anchor = number_of(json, "anchor", 0, static_cast<std::int64_t>(c.nodes.size()) - 1, "the document");
  for (const auto& output : member(json, "outputs", Json::value_t::array, "the document")) {
    const auto where = fmt::format("output {}", c.outputs.size());
    c.output_layouts.push_back(read_type(output, where).layout);
    c.outputs.push_back(number_of(output, "value", 0, static_cast<std::int64_t>(values.size()) - 1, where));
  }
  if (c.outputs.empty()) fail("there is no output");
  c.symbols = read_symbols(member(json, "symbols", Json::value_t::object, "the document"));
  c.threads = number_of(json, "threads", 1, 1 << 16, "the document");
  c.exact = json.value("exact", false);
  return c;
}

}  // namespace

Json workload_to_json(const Workload& workload) {
  const Composition& c = workload.composition();
  Json json = {{"format", format_version}, {"inputs", Json::array()},   {"nodes", Json::array()}, {"anchor", c.anchor},
               {"outputs", Json::array()}, {"symbols", Json::object()}, {"threads", c.threads}};
  if (c.exact) json["exact"] = true;
  for (const auto& input : c.inputs)
    json["inputs"].push_back({{"type", input.type.str()}, {"constant", input.constant}});
  for (const auto& node : c.nodes)
    json["nodes"].push_back(
        {{"operator", std::string(node.op->name())}, {"attributes", node.attributes}, {"operands", node.operands}});
  const auto types = workload.output_types();
  for (std::size_t i = 0; i < c.outputs.size(); ++i)
    json["outputs"].push_back({{"value", c.outputs[i]}, {"type", types[i].str()}});
  for (const auto& name : workload.symbols()) {
    const Range& range = c.symbols.at(name);
    json["symbols"][name] = {range.min, range.max};
  }
  return json;
}

Workload workload_from_json(const Json& json, const Operators& operators) {
  const int version = number_of(json.is_object() ? json : Json::object(), "format", 1, 1 << 30, "the document");
  if (version > format_version)
    fail(fmt::format("it has format {}, this program reads up to {}; use the Heddle that wrote it, or a newer one",
                     version, format_version));
  Workload workload(read(json, operators));
  const auto types = workload.output_types();
  for (std::size_t i = 0; i < types.size(); ++i)
    if (const auto& stated = json["outputs"][i]["type"]; types[i].str() != stated.get_ref<const std::string&>())
      fail(fmt::format("output {} is stated to be {}, but the operators make {}; an operator has changed since", i,
                       stated.get_ref<const std::string&>(), types[i].str()));
  return workload;
}

}  // namespace heddle
