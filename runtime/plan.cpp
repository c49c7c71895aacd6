#include "runtime/plan.hpp"

#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include <fmt/format.h>
#include <xxhash.h>
#include <nlohmann/json.hpp>

#include "base/error.hpp"
#include "base/file.hpp"

namespace heddle::plan {
namespace {

using Json = nlohmann::json;

constexpr std::array<std::pair<Storage, const char*>, 6> storage_names = {{{Storage::input, "input"},
                                                                           {Storage::output, "output"},
                                                                           {Storage::constant, "constant"},
                                                                           {Storage::arena, "arena"},
                                                                           {Storage::alias, "alias"},
                                                                           {Storage::heap, "heap"}}};
constexpr std::array<std::pair<StepKind, const char*>, 9> step_names = {{{StepKind::kernel, "kernel"},
                                                                         {StepKind::host, "host"},
                                                                         {StepKind::copy, "copy"},
                                                                         {StepKind::fill_border, "fill_border"},
                                                                         {StepKind::branch, "branch"},
                                                                         {StepKind::loop, "loop"},
                                                                         {StepKind::call, "call"},
                                                                         {StepKind::upload, "upload"},
                                                                         {StepKind::download, "download"}}};
constexpr std::array<std::pair<Precondition::Kind, const char*>, 2> precondition_names = {
    {{Precondition::Kind::at_least, "at_least"}, {Precondition::Kind::multiple_of, "multiple_of"}}};

// Writing.

template <class Enum, std::size_t N>
std::string name_of(const std::array<std::pair<Enum, const char*>, N>& names, Enum value) {
  for (const auto& [candidate, name] : names)
    if (candidate == value) return name;
  throw Error(ErrorCode::internal, "an enumeration of the plan has no name");
}

Json write(const Extent& extent) {
  if (const auto constant = extent.constant()) return *constant;
  return extent.str();
}

/// JSON has no infinities: those are written as strings.
Json write(double value) {
  if (std::isfinite(value)) return value;
  return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

Json write(const Value& value);
Json write(const Argument& argument);
Json write(const Step& step);
Json write(const Precondition& precondition);
Json write(const Kernel& kernel);
Json write(const DeviceKernel& entry);
Json write(const Function& function);
Json write(const Module& module);
Json write(const Symbol& symbol);
Json write(const File& file);

template <class T>
Json write_all(const std::vector<T>& items) {
  Json list = Json::array();
  for (const T& item : items) list.push_back(write(item));
  return list;
}

Json write(const Value& value) {
  Json j = {{"name", value.name},
            {"dtype", std::string(to_string(value.dtype))},
            {"shape", write_all(value.shape)},
            {"strides", write_all(value.strides)},
            {"offset", write(value.offset)},
            {"elements", write(value.elements)},
            {"storage", name_of(storage_names, value.storage)}};
  if (!value.origin.empty()) j["origin"] = value.origin;
  if (!value.border_before.empty() || !value.border_after.empty()) {
    j["border_before"] = value.border_before;
    j["border_after"] = value.border_after;
  }
  if (value.border_value != 0 || std::isnan(value.border_value)) j["border_value"] = write(value.border_value);
  if (value.of != -1) j["of"] = value.of;
  if (value.file_offset != 0) j["file_offset"] = value.file_offset;
  return j;
}

Json write(const Argument& argument) {
  Json dimensions = Json::array();
  for (const auto& d : argument.dimensions)
    dimensions.push_back(Json::array({write(d.min), write(d.extent), write(d.stride)}));
  return {{"value", argument.value}, {"dimensions", dimensions}, {"offset", write(argument.offset)}};
}

Json write(const Step& step) {
  Json j = {{"kind", name_of(step_names, step.kind)}, {"name", step.name},          {"inputs", write_all(step.inputs)},
            {"outputs", write_all(step.outputs)},     {"flops", write(step.flops)}, {"bytes", write(step.bytes)}};
  if (!step.label.empty()) j["label"] = step.label;
  if (!step.symbols.empty()) j["symbols"] = step.symbols;
  if (!step.attributes.empty()) j["attributes"] = step.attributes;
  if (!step.functions.empty()) j["functions"] = step.functions;
  if (step.on_device) j["on_device"] = true;
  return j;
}

Json write(const Precondition& p) {
  return {{"kind", name_of(precondition_names, p.kind)},
          {"left", write(p.left)},
          {"right", write(p.right)},
          {"reason", p.reason}};
}

Json write(const Kernel& kernel) {
  Json j = {{"name", kernel.name},
            {"workload", kernel.workload},
            {"implementation", kernel.implementation},
            {"source", kernel.source},
            {"preconditions", write_all(kernel.preconditions)}};
  if (!kernel.obstacle.empty()) j["obstacle"] = kernel.obstacle;
  return j;
}

Json write(const DeviceKernel& entry) {
  Json shared = Json::array();
  for (const auto& s : entry.shared) shared.push_back(Json::array({s.constant, s.element_bytes, s.elements}));
  return {{"kernel", entry.kernel}, {"entry", entry.entry},
          {"file", entry.file},     {"uniform_block", entry.uniform_block},
          {"access", entry.access}, {"block_constants", entry.block_constants},
          {"shared", shared}};
}

Json write(const Function& function) {
  return {{"name", function.name},
          {"values", write_all(function.values)},
          {"inputs", function.inputs},
          {"outputs", function.outputs},
          {"steps", write_all(function.steps)}};
}

Json write(const Module& module) {
  Json j = {{"target", module.target},
            {"file", module.file},
            {"architecture", module.architecture},
            {"features", module.features},
            {"rank", module.rank},
            {"functions", write_all(module.functions)},
            {"kernels", write_all(module.kernels)},
            {"weights", module.weights}};
  if (module.device) {
    j["device"] = std::string(to_string(*module.device));
    j["device_kernels"] = write_all(module.device_kernels);
  }
  return j;
}

Json write(const Symbol& symbol) { return {{"name", symbol.name}, {"min", symbol.min}, {"max", symbol.max}}; }

Json write(const File& file) { return {{"path", file.path}, {"sha256", file.sha256}, {"bytes", file.bytes}}; }

// Reading.

/// A JSON value and where it lies in the document, so that every error names its field.
class Field {
 public:
  explicit Field(const Json& json) : json_(json) {}

  [[noreturn]] void fail(const std::string& what) const {
    const std::string where = path();
    throw Error(ErrorCode::corrupt, fmt::format("the manifest is damaged: {} {}; compile the package again",
                                                where.empty() ? "it" : where, what));
  }

  /// A required member.
  Field operator[](const char* key) const {
    object();
    const auto found = json_.find(key);
    if (found == json_.end()) Field(json_, this, key, 0).fail("is missing");
    return {*found, this, key, 0};
  }

  bool has(const char* key) const { return object().contains(key); }

  /// Calls read(Field) for every element and returns the results.
  template <class F>
  auto list(F&& read) const {
    if (!json_.is_array()) fail("is not a list");
    std::vector<decltype(read(*this))> items;
    items.reserve(json_.size());
    for (std::size_t i = 0; i < json_.size(); ++i) items.push_back(read(Field(json_[i], this, nullptr, i)));
    return items;
  }

  Field element(std::size_t i, std::size_t count) const {
    if (!json_.is_array() || json_.size() != count) fail(fmt::format("is not a list of {}", count));
    return {json_[i], this, nullptr, i};
  }

  std::string text() const {
    if (!json_.is_string()) fail("is not a string");
    return json_.get<std::string>();
  }

  std::int64_t integer(std::int64_t min = std::numeric_limits<std::int64_t>::min(),
                       std::int64_t max = std::numeric_limits<std::int64_t>::max()) const {
    if (!json_.is_number_integer()) fail("is not an integer");
    const bool too_large = json_.is_number_unsigned() &&
                           json_.get<std::uint64_t>() > std::uint64_t{std::numeric_limits<std::int64_t>::max()};
    const std::int64_t value = too_large ? 0 : json_.get<std::int64_t>();
    if (too_large || value < min || value > max) fail(fmt::format("is {}, outside {} to {}", json_.dump(), min, max));
    return value;
  }

  bool boolean() const {
    if (!json_.is_boolean()) fail("is neither true nor false");
    return json_.get<bool>();
  }

  int small(int min, int max = std::numeric_limits<int>::max()) const { return static_cast<int>(integer(min, max)); }

  double number() const {
    if (json_.is_number()) return json_.get<double>();
    const std::string value = json_.is_string() ? json_.get<std::string>() : "";
    if (value == "inf") return std::numeric_limits<double>::infinity();
    if (value == "-inf") return -std::numeric_limits<double>::infinity();
    if (value == "nan") return std::numeric_limits<double>::quiet_NaN();
    fail("is not a number");
  }

  Extent extent() const {
    if (json_.is_number_integer()) return integer();
    if (!json_.is_string()) fail("is neither an integer nor an expression");
    try {
      return Extent::parse(json_.get_ref<const std::string&>());
    } catch (const Error& error) {
      fail(fmt::format("is not an extent: {}", error.what()));
    }
  }

  template <class Enum, std::size_t N>
  Enum one_of(const std::array<std::pair<Enum, const char*>, N>& names) const {
    const std::string name = text();
    for (const auto& [value, candidate] : names)
      if (name == candidate) return value;
    fail(fmt::format("has the unknown value '{}'", name));
  }

 private:
  Field(const Json& json, const Field* parent, const char* key, std::size_t index)
      : json_(json), parent_(parent), key_(key), index_(index) {}

  const Json& object() const {
    if (!json_.is_object()) fail("is not an object");
    return json_;
  }

  std::string path() const {
    if (parent_ == nullptr) return "";
    const std::string above = parent_->path();
    if (key_ == nullptr) return fmt::format("{}[{}]", above, index_);
    return above.empty() ? key_ : fmt::format("{}.{}", above, key_);
  }

  const Json& json_;
  const Field* parent_ = nullptr;
  const char* key_ = nullptr;
  std::size_t index_ = 0;
};

std::vector<Extent> read_extents(const Field& field) {
  return field.list([](const Field& f) { return f.extent(); });
}

std::vector<std::string> read_texts(const Field& field) {
  return field.list([](const Field& f) { return f.text(); });
}

std::vector<int> read_indices(const Field& field) {
  return field.list([](const Field& f) { return f.small(0); });
}

Value read_value(const Field& j) {
  Value value;
  value.name = j["name"].text();
  if (j.has("origin")) value.origin = j["origin"].text();
  const std::string dtype = j["dtype"].text();
  try {
    value.dtype = dtype_from_string(dtype);
  } catch (const Error& error) {
    j["dtype"].fail(fmt::format("is no element type: {}", error.what()));
  }
  value.shape = read_extents(j["shape"]);
  value.strides = read_extents(j["strides"]);
  if (value.strides.size() != value.shape.size())
    j["strides"].fail(fmt::format("has {} entries for {} dimensions", value.strides.size(), value.shape.size()));
  for (const auto& [key, border] :
       {std::pair{"border_before", &value.border_before}, {"border_after", &value.border_after}}) {
    if (!j.has(key)) continue;
    *border = j[key].list([](const Field& f) { return f.integer(0); });
    if (border->size() != value.shape.size() && !border->empty())
      j[key].fail(fmt::format("has {} entries for {} dimensions", border->size(), value.shape.size()));
  }
  if (j.has("border_value")) value.border_value = j["border_value"].number();
  value.offset = j["offset"].extent();
  value.elements = j["elements"].extent();
  value.storage = j["storage"].one_of(storage_names);
  if (j.has("of")) value.of = j["of"].small(-1);
  if (j.has("file_offset")) value.file_offset = static_cast<std::uint64_t>(j["file_offset"].integer(0));
  return value;
}

Argument read_argument(const Field& j) {
  Argument argument;
  argument.value = j["value"].small(-1);
  argument.dimensions = j["dimensions"].list([](const Field& d) {
    return Argument::Dimension{d.element(0, 3).extent(), d.element(1, 3).extent(), d.element(2, 3).extent()};
  });
  argument.offset = j["offset"].extent();
  return argument;
}

Step read_step(const Field& j) {
  Step step;
  step.kind = j["kind"].one_of(step_names);
  step.name = j["name"].text();
  if (j.has("label")) step.label = j["label"].text();
  step.inputs = j["inputs"].list(read_argument);
  step.outputs = j["outputs"].list(read_argument);
  if (j.has("symbols")) step.symbols = read_texts(j["symbols"]);
  if (j.has("attributes")) step.attributes = j["attributes"].text();
  if (j.has("functions")) step.functions = read_texts(j["functions"]);
  if (j.has("on_device")) step.on_device = j["on_device"].boolean();
  step.flops = j["flops"].extent();
  step.bytes = j["bytes"].extent();
  return step;
}

Precondition read_precondition(const Field& j) {
  return {j["kind"].one_of(precondition_names), j["left"].extent(), j["right"].extent(), j["reason"].text()};
}

Kernel read_kernel(const Field& j) {
  return {j["name"].text(),
          j["workload"].text(),
          j["implementation"].text(),
          j["source"].text(),
          j["preconditions"].list(read_precondition),
          j.has("obstacle") ? j["obstacle"].text() : ""};
}

Function read_function(const Field& j) {
  return {j["name"].text(), j["values"].list(read_value), read_indices(j["inputs"]), read_indices(j["outputs"]),
          j["steps"].list(read_step)};
}

DeviceKernel read_device_kernel(const Field& j) {
  DeviceKernel entry;
  entry.kernel = j["kernel"].text();
  entry.entry = j["entry"].text();
  entry.file = j["file"].text();
  entry.uniform_block = j["uniform_block"].boolean();
  entry.access = j["access"].text();
  if (entry.access.find_first_not_of("rwb") != std::string::npos) j["access"].fail("holds other letters than r, w, b");
  for (std::size_t d = 0; d < entry.block_constants.size(); ++d)
    entry.block_constants[d] = j["block_constants"].element(d, entry.block_constants.size()).small(0);
  entry.shared = j["shared"].list([](const Field& s) {
    return DeviceKernel::Shared{s.element(0, 3).small(0), s.element(1, 3).integer(1), s.element(2, 3).integer(0)};
  });
  return entry;
}

std::optional<DeviceApi> read_device(const Field& j) {
  if (!j.has("device")) return std::nullopt;
  try {
    return device_api_from_string(j["device"].text());
  } catch (const Error& error) {
    j["device"].fail(fmt::format("is not known: {}", error.what()));
  }
}

Module read_module(const Field& j) {
  Module module = {j["target"].text(),
                   j["file"].text(),
                   j["architecture"].text(),
                   read_texts(j["features"]),
                   j["rank"].small(std::numeric_limits<int>::min()),
                   j["functions"].list(read_function),
                   j["kernels"].list(read_kernel),
                   j["weights"].text()};
  module.device = read_device(j);
  if (module.device) module.device_kernels = j["device_kernels"].list(read_device_kernel);
  return module;
}

Symbol read_symbol(const Field& j) {
  Symbol symbol{j["name"].text(), j["min"].integer(), j["max"].integer()};
  if (symbol.min > symbol.max) j["min"].fail("is greater than max");
  return symbol;
}

File read_file_entry(const Field& j) {
  return {j["path"].text(), j["sha256"].text(), static_cast<std::uint64_t>(j["bytes"].integer(0))};
}

constexpr const char* own_checksum = "checksum";

}  // namespace

std::string checksum(std::string_view bytes) {
  constexpr std::size_t large = std::size_t{1} << 20;
  if (bytes.size() <= large) return sha256(bytes);
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return fmt::format("xxh3:{:016x}{:016x}", hash.high64, hash.low64);
}

std::string to_json(const Package& package) {
  Json j = {{"format", "heddle-package"},
            {"version", package.version},
            {"model", package.model},
            {"symbols", write_all(package.symbols)},
            {"modules", write_all(package.modules)},
            {"files", write_all(package.files)},
            {"provenance", package.provenance}};
  j[own_checksum] = checksum(j.dump());
  return j.dump() + "\n";
}

Package from_json(const std::string& text) {
  Json j;
  try {
    j = Json::parse(text);
  } catch (const Json::exception& error) {
    throw Error(ErrorCode::corrupt,
                fmt::format("the manifest is damaged: it is not JSON ({}); compile the package again", error.what()));
  }
  const Field root(j);
  const int version = root["version"].small(1);
  if (version != Package::current_version)
    throw Error(ErrorCode::unsupported,
                fmt::format("the package has format version {} and this runtime reads version {}: {}", version,
                            Package::current_version,
                            version > Package::current_version ? "update Heddle" : "compile the model again"));
  if (root.has(own_checksum)) {
    const std::string expected = root[own_checksum].text();
    j.erase(own_checksum);
    if (checksum(j.dump()) != expected)
      throw Error(
          ErrorCode::corrupt,
          "the manifest has been changed since it was written (its checksum differs); compile the package again");
  }
  Package package;
  package.version = version;
  package.model = root["model"].text();
  package.symbols = root["symbols"].list(read_symbol);
  package.modules = root["modules"].list(read_module);
  package.files = root["files"].list(read_file_entry);
  package.provenance = root["provenance"].text();
  return package;
}

}  // namespace heddle::plan
