#include "tools/operator_bench.hpp"

#include <charconv>
#include <chrono>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "base/error.hpp"
#include "dsl/check.hpp"
#include "generators/kernel.hpp"
#include "ops/halide_pipeline.hpp"
#include "ops/rules.hpp"
#include "tools/execution.hpp"

namespace heddle::tools {
namespace {

/// "a=1,b=f32[2,3]" -> pairs; commas inside brackets belong to the value.
std::map<std::string, std::string> pairs(const std::string& text, const std::string& flag) {
  std::map<std::string, std::string> result;
  std::string item;
  int depth = 0;
  const auto finish = [&] {
    if (item.empty()) return;
    const auto equals = item.find('=');
    if (equals == std::string::npos || equals == 0)
      throw Error(ErrorCode::invalid_argument, fmt::format("{} '{}': expected KEY=VALUE", flag, item));
    result[item.substr(0, equals)] = item.substr(equals + 1);
    item.clear();
  };
  for (const char c : text) {
    depth += c == '[' || c == '{' ? 1 : c == ']' || c == '}' ? -1 : 0;
    if (c == ',' && depth == 0) finish();
    else item += c;
  }
  finish();
  return result;
}

/// What a layer's operands are made of.
struct LayerType {
  std::string_view name;
  DType data, weights, bias;
};

constexpr std::array layer_types = {
    LayerType{"f32", DType::f32, DType::f32, DType::f32},
    LayerType{"bf16", DType::bf16, DType::bf16, DType::f32},
    LayerType{"int8", DType::u8, DType::i8, DType::i32},
};

/// Values by key with defaults; every key must have been asked for.
class Keys {
 public:
  Keys(std::map<std::string, std::string> values, std::string op) : values_(std::move(values)), op_(std::move(op)) {}

  std::int64_t get(const std::string& key, std::optional<std::int64_t> fallback = {}) {
    known_.push_back(key);
    const auto found = values_.find(key);
    if (found == values_.end()) {
      if (fallback) return *fallback;
      throw Error(ErrorCode::invalid_argument, fmt::format("--shape of {} needs {}=...", op_, key));
    }
    std::int64_t value = 0;
    const std::string& digits = found->second;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc{} || end != digits.data() + digits.size() || value < 0)
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("--shape {}={}: expected an integer that is not negative", key, digits));
    return value;
  }

  const LayerType& type() {
    known_.emplace_back("type");
    const auto found = values_.find("type");
    if (found == values_.end()) return layer_types.front();
    std::vector<std::string> names;
    for (const LayerType& type : layer_types) {
      if (type.name == found->second) return type;
      names.emplace_back(type.name);
    }
    throw Error(ErrorCode::invalid_argument,
                fmt::format("--shape type={}: {} has no such type{}; it has {}", found->second, op_,
                            did_you_mean(found->second, names), fmt::join(names, ", ")));
  }

  void finish() const {
    for (const auto& [key, value] : values_)
      if (std::find(known_.begin(), known_.end(), key) == known_.end())
        throw Error(ErrorCode::invalid_argument, fmt::format("--shape of {} has no key '{}'{}; it has {}", op_, key,
                                                             did_you_mean(key, known_), fmt::join(known_, ", ")));
  }

 private:
  std::map<std::string, std::string> values_;
  std::string op_;
  std::vector<std::string> known_;
};

/// Factors that spread sums of so many products of random bytes over those of u8.
Array requantization(const Shape& shape, std::int64_t products) {
  constexpr double deviation = 0.29 * 256 * 0.58 * 256;  // of a product: of i8, and from 0 of u8
  const double step = std::sqrt(static_cast<double>(products)) * deviation / 64;
  return random_array(DType::f32, shape, 5, 0.5 / step, 1 / step);
}

OperatorRequest conv_request(const Operator& op, const std::map<std::string, std::string>& values) {
  Keys keys(values, "conv");
  const auto n = keys.get("n", 1), ci = keys.get("ci"), h = keys.get("h"), w = keys.get("w", h), co = keys.get("co"),
             k = keys.get("k", 0);
  const auto kh = keys.get("kh", k), kw = keys.get("kw", k), s = keys.get("s", 1), p = keys.get("p", 0),
             d = keys.get("d", 1);
  const auto groups = keys.get("groups", 1), bias = keys.get("bias", 1);
  const LayerType& type = keys.type();
  keys.finish();
  if (kh < 1 || kw < 1) throw Error(ErrorCode::invalid_argument, "--shape of conv needs k=... (or kh=...,kw=...)");
  if (groups < 1 || ci % groups != 0)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("--shape of conv: {} channels do not divide into {} groups", ci, groups));
  OperatorRequest request{
      &op, {{"strides", {s, s}}, {"pads", {p, p, p, p}}, {"dilations", {d, d}}, {"group", groups}}, {}};
  request.inputs = {tensor(type.data, {n, ci, h, w}), tensor(type.weights, {co, ci / groups, kh, kw})};
  if (bias != 0) request.inputs.push_back(tensor(type.bias, {co}));
  if (ops::is_byte(type.data)) request.requantization = requantization({co, 1, 1}, ci / groups * kh * kw);
  return request;
}

OperatorRequest matmul_request(const Operator& op, const std::map<std::string, std::string>& values) {
  Keys keys(values, "matmul");
  const auto b = keys.get("b", 1), m = keys.get("m"), n = keys.get("n"), k = keys.get("k");
  const LayerType& type = keys.type();
  keys.finish();
  OperatorRequest request{&op, Json::object(), {tensor(type.data, {m, k}), tensor(type.weights, {k, n})}};
  if (b > 1) request.inputs = {tensor(type.data, {b, m, k}), tensor(type.weights, {b, k, n})};
  // What is computed has one scale, weights have one a column.
  if (ops::is_byte(type.data)) request.requantization = requantization(b > 1 ? Shape{} : Shape{n}, k);
  return request;
}

OperatorRequest matmul_blocks_request(const Operator& op, const std::map<std::string, std::string>& values) {
  Keys keys(values, "matmul_blocks");
  const auto m = keys.get("m"), n = keys.get("n"), k = keys.get("k"), bits = keys.get("bits", 4),
             block = keys.get("block", 32);
  keys.finish();
  if (block == 0) throw Error(ErrorCode::invalid_argument, "--shape of matmul_blocks: a block of 0");
  const std::int64_t blocks = (k + block - 1) / block;
  return {
      &op,
      {{"bits", bits}, {"block_size", block}},
      {tensor(DType::f32, {m, k}), tensor(DType::u8, {n, blocks, block * bits / 8}), tensor(DType::f32, {n, blocks})}};
}

/// "auto", "hand", a file, or family[:knob=value,...] -> the implementation's text in a file for the compiler.
std::optional<std::filesystem::path> schedule_file(const std::string& schedule, const Workload& workload,
                                                   const Target& target, const std::filesystem::path& directory) {
  if (schedule == "auto" || schedule == "hand") return std::nullopt;
  const auto colon = schedule.find(':');
  const std::string name = schedule.substr(0, colon);
  std::vector<std::string> names = {"auto", "hand"};
  for (const Family& family : families()) {
    names.push_back(family.name);
    if (family.name != name) continue;
    if (!matches(family, workload, target.machine))
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("family {} does not take the workload {}", name, workload.text()));
    Json knobs = family.rule(workload, target.machine);
    if (colon != std::string::npos)
      for (const auto& [key, value] : pairs(schedule.substr(colon + 1), "--schedules")) knobs[key] = Json::parse(value);
    std::filesystem::path file = directory / (name + ".sched");
    write_file(file, family.make(workload, target.machine, knobs).print());
    return file;
  }
  if (std::filesystem::exists(schedule)) return schedule;
  throw Error(ErrorCode::not_found, fmt::format("'{}' is neither a .sched file nor a family's name{}; families: {}",
                                                schedule, did_you_mean(name, names), fmt::join(names, ", ")));
}

bool is_pipeline_file(const std::string& what) { return std::filesystem::path(what).extension() == ".hlpipe"; }

ops::ParameterValues parameter_values(const std::vector<std::string>& attributes) {
  ops::ParameterValues result;
  for (const auto& text : attributes)
    for (const auto& [name, value] : pairs(text, "--attribute")) {
      const Json json = Json::parse(value, nullptr, false);
      if (!json.is_number() && !json.is_boolean())
        throw Error(ErrorCode::invalid_argument,
                    fmt::format("--attribute {}={}: a parameter of a pipeline is a number", name, value));
      result[name] = json.is_boolean() ? static_cast<double>(json.get<bool>()) : json.get<double>();
    }
  return result;
}

graph::Graph single_operator(const OperatorRequest& request) {
  graph::Graph graph;
  graph.name = std::string(request.op->name());
  const auto infos = request.op->operands(request.op->canonical(request.attributes), request.inputs);
  std::vector<int> operands;
  for (std::size_t i = 0; i < request.inputs.size(); ++i) {
    const TensorType& type = request.inputs[i];
    const std::string role = i < infos.size() ? infos[i].role : fmt::format("operand{}", i);
    if (!type.is_static())
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("--shape {}={}: what is measured has extents that are numbers", role, type.str()));
    if (i < infos.size() && infos[i].constant) {
      Shape shape;
      for (const auto& extent : type.shape) shape.push_back(extent.value());
      const auto [low, high] = ops::is_byte(type.dtype) ? ops::integer_range(type.dtype) : ops::IntegerRange{-1, 1};
      operands.push_back(graph.add_constant(
          role, random_array(type.dtype, shape, 17 + i, static_cast<double>(low), static_cast<double>(high))));
    } else {
      graph::Value value;
      value.name = role;
      value.type = type;
      operands.push_back(graph.add_value(std::move(value)));
      graph.inputs.push_back(operands.back());
    }
  }
  graph.outputs =
      graph.add_node(std::string(request.op->name()), *request.op, request.attributes, operands, {"result"});
  if (request.requantization) {
    const Operators operators;
    const int factors = graph.add_constant("factors", *request.requantization);
    const auto sums = graph.add_node("cast", operators.get("cast"), {{"to", "f32"}}, graph.outputs, {"sums"});
    graph.outputs = graph.add_node("quantize", operators.get("quantize"), {{"to", "u8"}, {"inverse", true}},
                                   {sums[0], factors}, {"bytes"});
  }
  return graph;
}

[[noreturn]] void throw_no_kernel(const Operator& op) {
  throw Error(ErrorCode::unsupported,
              fmt::format("{} compiles to no kernel at this shape: it is a view of its operand's bytes", op.name()));
}

}  // namespace

OperatorRequest parse_shape(const Operator& op, const std::string& shape, const std::vector<std::string>& attributes) {
  const auto values = pairs(shape, "--shape");
  OperatorRequest request{&op, Json::object(), {}};
  const bool by_role = std::any_of(values.begin(), values.end(),
                                   [](const auto& pair) { return pair.second.find('[') != std::string::npos; });
  if (!by_role && op.name() == "conv") request = conv_request(op, values);
  else if (!by_role && op.name() == "matmul") request = matmul_request(op, values);
  else if (!by_role && op.name() == "matmul_blocks") request = matmul_blocks_request(op, values);
  for (const auto& text : attributes)
    for (const auto& [name, value] : pairs(text, "--attribute")) {
      Json json = Json::parse(value, nullptr, false);
      request.attributes[name] = json.is_discarded() ? Json(value) : json;
    }
  request.attributes = op.canonical(request.attributes);
  if (!request.inputs.empty()) return request;
  std::map<std::string, TensorType> types;
  for (const auto& [role, type] : values) types[role] = TensorType::parse(type);
  // The operands' roles may depend on how many there are, so ask with as many types as were given.
  std::vector<TensorType> any;
  for (const auto& entry : types) any.push_back(entry.second);
  std::vector<std::string> roles;
  for (const auto& info : op.operands(request.attributes, any)) roles.push_back(info.role);
  for (const auto& role : roles)
    if (const auto found = types.find(role); found != types.end()) request.inputs.push_back(found->second);
  for (const auto& entry : types)
    if (std::find(roles.begin(), roles.end(), entry.first) == roles.end())
      throw Error(
          ErrorCode::invalid_argument,
          fmt::format("{} has no operand '{}'{}; it has {} (write {}=f32[1,64,56,56])", op.name(), entry.first,
                      did_you_mean(entry.first, roles), fmt::join(roles, ", "), roles.empty() ? "x" : roles[0]));
  return request;
}

bool names_operator(const std::string& what, const std::string& shape) {
  return !shape.empty() || is_pipeline_file(what);
}

OperatorRequest operator_request(const Operators& operators, const std::string& what, const std::string& shape,
                                 const std::vector<std::string>& attributes) {
  if (!is_pipeline_file(what)) return parse_shape(operators.get(what), shape, attributes);
  if (!shape.empty())
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{}: the shapes of a pipeline are its estimates; leave --shape out, or serialise it with "
                            "other estimates",
                            what));
  auto imported = ops::import_pipeline(std::filesystem::path(what), parameter_values(attributes));
  return {&operators.get("halide_pipeline"), std::move(imported.attributes), std::move(imported.inputs)};
}

Workload operator_workload(const OperatorRequest& request, const Target& target, int threads, bool exact,
                           DType precision) {
  for (const auto& group : graph::prepare(single_operator(request), target,
                                          {.threads = threads, .exact = exact, .share_all = true}, precision)
                               .groups)
    if (group.workload && group.workload->anchor().op == request.op) return *group.workload;
  throw_no_kernel(*request.op);
}

DType multiplied(const Workload& workload) {
  const std::vector<TensorType> operands = workload.anchor_inputs();
  const OperatorKind kind = workload.anchor().op->kind();
  // Of windows, those with weights.
  const bool sums_products = kind == OperatorKind::contraction || (kind == OperatorKind::window && operands.size() > 1);
  return sums_products ? operands[0].dtype : DType::f32;
}

OperatorBench::OperatorBench(const OperatorRequest& request, const ModelOptions& options, const std::string& schedule,
                             const OperatorBench* beside)
    : inputs_(beside == nullptr ? std::make_shared<std::vector<Array>>() : beside->inputs_),
      arena_(beside == nullptr ? std::make_shared<runtime::Pages>() : beside->arena_) {
  const graph::Graph graph = single_operator(request);
  graph::CompileOptions compile = compile_options(options);
  compile.share_all = true;
  compile.targets.resize(1);
  // A file for every kernel is the operator's: the copies around it are left to themselves.
  if (auto for_all = compile.schedules.extract(""); !for_all.empty())
    compile.schedules.try_emplace(std::string(request.op->name()), std::move(for_all.mapped()));
  if (schedule == "hand") compile.records.clear();
  if (schedule != "auto" && schedule != "hand") {
    const Workload workload =
        operator_workload(request, compile.targets[0], compile.threads, compile.exact, compile.precision);
    if (const auto file = schedule_file(schedule, workload, compile.targets[0], directory_.path()))
      compile.schedules[std::string(request.op->name())] = *file;
  }
  compiled_ = graph::compile(graph, compile);
  graph::write_package(compiled_, directory_.path() / "package");
  const auto model = load_model(directory_.path() / "package", options);
  session_ = std::make_unique<runtime::Session>(
      model, runtime::SessionOptions{.threads = options.thread_count(), .arena = arena_});
  // From the operator's own domain: a division by what happens to be near zero says nothing about a schedule.
  if (inputs_->empty()) {
    const Workload drawn = Workload::of(*request.op, request.attributes, request.inputs);
    auto random = generator_for(1, drawn.text());
    auto arrays = draw_inputs(drawn, {}, Extremes::none, random);
    for (std::size_t i = 0; i < arrays.size(); ++i)
      if (!drawn.composition().inputs[i].constant) inputs_->push_back(std::move(arrays[i]));
  }
  set_inputs(*session_, *inputs_);
  if (beside != nullptr)
    for (std::size_t o = 0; o < model->main().outputs.size(); ++o) session_->set_output(o, beside->session_->output(o));
  session_->run();

  std::size_t kernel = 0;
  for (const auto& group : compiled_.modules.at(0).groups()) {
    if (!group.workload) continue;
    if (group.workload->anchor().op == request.op) {
      group_ = &group;
      kernel_ = &compiled_.modules.at(0).kernels.at(kernel);
    }
    ++kernel;
  }
  if (group_ == nullptr) throw_no_kernel(*request.op);
  for (const auto& k : model->module().kernels)
    if (k.workload == workload().text())
      for (std::size_t i = 0; i < model->main().steps.size(); ++i)
        if (model->main().steps[i].name == k.name) step_ = i;
}

std::string OperatorBench::check() {
  const plan::Step& step = session_->model().main().steps[step_];
  session_->run();
  std::vector<Array> operands;
  for (std::size_t i = 0; i < step.inputs.size(); ++i) {
    const auto value = static_cast<std::size_t>(step.inputs[i].value);
    if (workload().composition().inputs[i].constant) {
      // Packed in the package: the logical array is the graph's constant.
      operands.push_back(compiled_.modules.at(0).graph().value(group_->inputs[i]).constant.value());
    } else {
      operands.push_back(session_->read(value));
    }
    Shape shape;
    for (const auto& extent : workload().value_types()[i].shape) shape.push_back(extent.value());
    operands.back() = operands.back().reshaped(shape);
  }
  const Array want = workload().reference(operands)[0];
  return mismatch(session_->read(static_cast<std::size_t>(step.outputs.at(0).value)).reshaped(want.shape()), want,
                  workload().tolerance(choice().implementation.variant));
}

double OperatorBench::time_once() {
  const auto start = std::chrono::steady_clock::now();
  session_->run_step(step_);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string OperatorBench::loops() const { return show_kernel(kernel_->request, KernelStage::loops); }

std::vector<double> sample(const std::function<double()>& once, int least_samples, double least_seconds) {
  constexpr double shortest = 20e-6;  // below this the clock's own cost shows
  double first = once();
  for (int i = 0; i < 3; ++i) first = std::min(first, once());
  const int repeats = first >= shortest ? 1 : static_cast<int>(shortest / std::max(first, 1e-8)) + 1;
  std::vector<double> seconds;
  double total = 0;
  while (static_cast<int>(seconds.size()) < least_samples || total < least_seconds) {
    double sum = 0;
    for (int i = 0; i < repeats; ++i) sum += once();
    seconds.push_back(sum / repeats);
    total += sum;
  }
  return seconds;
}

}  // namespace heddle::tools
