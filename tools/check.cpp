// Every kernel of a model against tensors that another runtime computed: each step is fed with the reference's inputs,
// so that an error shows where it arises and nowhere else.
#include <algorithm>
#include <cmath>
#include <memory>
#include <random>

#include <fmt/format.h>

#include "graph/arrays.hpp"
#include "ops/rules.hpp"
#include "tools/command.hpp"
#include "tools/execution.hpp"
#include "tools/model.hpp"
#include "tools/tensor_file.hpp"
#include "tools/terminal.hpp"

namespace heddle::tools {
namespace {

struct Options : ModelOptions {
  InputOptions inputs;
  std::string reference;
  bool spoil = false;
  std::uint64_t seed = 1;
  bool json = false;
};

/// The step's result changed by less than a thousandth of elements but more than any tolerance: what a subtle bug does.
void spoil(Array& array, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  double largest = 1e-3;
  for (std::int64_t i = 0; i < array.size(); ++i)
    if (std::isfinite(array.at(i))) largest = std::max(largest, std::abs(array.at(i)));
  const auto index = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(array.size()));
  const double before = array.at(index);
  array.set(index, array.dtype() == DType::boolean ? 1 - before : before + std::max(1.0, 0.05 * largest));
}

struct Checked {
  std::string label, verdict, detail;
};

/// Where a step's tensor is found among the reference's: by the source model's name.
const Array* find(const std::map<std::string, Array>& reference, const plan::Value& value) {
  const auto found = reference.find(value.origin);
  return value.origin.empty() || found == reference.end() ? nullptr : &found->second;
}

/// Same elements, possibly under another shape: fused views keep the bytes of the tensor they stand for.
std::optional<Array> as_shape(const Array& array, const Array& like) {
  if (array.size() != like.size()) return std::nullopt;
  const bool narrows = like.dtype() == DType::bf16 || like.dtype() == DType::f16;
  return (array.dtype() == like.dtype() ? array
          : narrows                     ? graph::narrowed(array, like.dtype())
                                        : array.cast(like.dtype()))
      .reshaped(like.shape());
}

int run(const Options& options) {
  if (is_package(options.model))
    throw Error(ErrorCode::invalid_argument,
                "check needs the model itself, whose operators' tolerances it compares by");
  if (options.targets.size() > 1)
    throw Error(ErrorCode::invalid_argument, "check compares the kernels of one target: name one with --target");
  const auto reference = read_npz(options.reference);
  const graph::Compiled compiled = compile_model(options);
  const TemporaryDirectory directory;
  graph::write_package(compiled, directory.path() / "package");
  const auto model = load_model(directory.path() / "package", options);
  auto inputs = load_inputs(options.inputs, *model, false, 0);
  runtime::Session session(model, {.threads = options.thread_count(), .poison = true});
  set_inputs(session, inputs);
  session.run();  // binds the shapes

  std::map<std::string, const Workload*> workloads;
  for (const auto& group : compiled.modules.at(0).groups())
    if (group.workload) workloads[group.workload->text()] = &*group.workload;
  std::map<std::string, std::string> kernel_workload;
  for (const auto& kernel : model->module().kernels) kernel_workload[kernel.name] = kernel.workload;
  std::map<std::string, std::string> variants;
  for (const auto& kernel : compiled.modules.at(0).kernels)
    variants[kernel.symbol] = kernel.choice.implementation.variant;

  const auto& main = model->main();
  std::vector<Checked> rows;
  std::vector<std::size_t> with_reference;
  for (std::size_t i = 0; i < main.steps.size(); ++i)
    if (main.steps[i].kind == plan::StepKind::kernel &&
        find(reference, main.values[static_cast<std::size_t>(main.steps[i].outputs.at(0).value)]) != nullptr)
      with_reference.push_back(i);
  if (with_reference.empty())
    throw Error(ErrorCode::invalid_argument,
                "the reference holds none of the model's tensors; are they of this model?");
  const std::size_t spoiled =
      options.spoil ? with_reference[std::mt19937_64(options.seed)() % with_reference.size()] : main.steps.size();

  // The reference's tensors and constants are rounded to what kernels read: products of two such are off by twice that,
  // and softmaxes and activations magnify it a few times.
  const DType precision = dtype_from_string(options.precision);
  const double rounding = precision == DType::f32 ? 0 : ops::unit_roundoff(precision);

  int wrong = 0, without = 0;
  for (std::size_t i = 0; i < main.steps.size(); ++i) {
    const plan::Step& step = main.steps[i];
    // What a kernel of the other side has just made, where the source model has no tensor for it.
    if (step.kind == plan::StepKind::upload || step.kind == plan::StepKind::download) session.run_step(i);
    if (step.kind != plan::StepKind::kernel) continue;
    const auto& result = main.values[static_cast<std::size_t>(step.outputs.at(0).value)];
    const Array* want = find(reference, result);
    // An input that the source model has no tensor for (a pass made it) is what its own step, run from the reference's
    // tensors, has just left in memory: the arena keeps it until its last reader ran.
    for (const auto& argument : step.inputs) {
      const auto index = static_cast<std::size_t>(argument.value);
      const auto& value = main.values[index];
      if (value.storage == plan::Storage::constant) continue;
      const Array* given = find(reference, value);
      if (given == nullptr) continue;
      if (const auto shaped = as_shape(*given, session.read(index))) session.write(index, *shaped);
    }
    session.run_step(i);
    if (want == nullptr) {
      ++without;
      rows.push_back({step.label, "no reference", "the source model has no such tensor; what reads it is compared"});
      continue;
    }
    Array got = session.read(static_cast<std::size_t>(step.outputs.at(0).value));
    if (i == spoiled) spoil(got, options.seed);
    const auto expected = as_shape(*want, got);
    const Workload* workload = workloads.at(kernel_workload.at(step.name));
    // The operators' tolerances are against exact results; the reference here has rounded as well.
    Tolerance tolerance = workload->tolerance(variants.at(step.name));
    tolerance.relative *= 2;
    tolerance.of_largest = 2 * tolerance.of_largest + 8 * rounding;
    const std::string difference =
        expected ? mismatch(got, *expected, tolerance) : "the reference has another number of elements";
    if (!difference.empty()) ++wrong;
    rows.push_back({step.label, difference.empty() ? "ok" : "WRONG", difference});
  }

  // The whole model, end to end: 1e-3 of the largest for floats. Between quantised layers a value half-way goes either
  // way, and the steps that are off then spread: two of the output's, of which there are a hundred or more. What
  // kernels round to a narrow type is off at random, so that it grows with the square root of their number.
  const bool quantised = std::any_of(workloads.begin(), workloads.end(), [](const auto& workload) {
    const auto& nodes = workload.second->composition().nodes;
    return std::any_of(nodes.begin(), nodes.end(), [](const auto& node) { return node.op->name() == "quantize"; });
  });
  const double floats = 1e-3 + 2 * rounding * std::sqrt(static_cast<double>(rows.size()));
  session.run();
  for (std::size_t i = 0; i < main.outputs.size(); ++i) {
    const auto& value = main.values[static_cast<std::size_t>(main.outputs[i])];
    const auto found = reference.find(value.name);
    if (found == reference.end()) continue;
    const Array got = output_array(session, i);
    const Tolerance whole{.of_largest = quantised ? 0.02 : is_float(got.dtype()) ? floats : 0, .reason = "whole model"};
    const auto expected = as_shape(found->second, got);
    const std::string difference = expected ? mismatch(got, *expected, whole) : "another number of elements";
    if (!difference.empty()) ++wrong;
    rows.push_back({"output " + value.name, difference.empty() ? "ok" : "WRONG", difference});
  }

  if (options.json) {
    Json report = {{"wrong", wrong},
                   {"checked", rows.size() - static_cast<std::size_t>(without)},
                   {"without_reference", without},
                   {"steps", Json::array()}};
    for (const auto& row : rows)
      report["steps"].push_back({{"step", row.label}, {"verdict", row.verdict}, {"detail", row.detail}});
    fmt::print("{}\n", report.dump(2));
  } else {
    for (const auto& row : rows)
      if (row.verdict != "ok") fmt::print("{:<13} {}\n              {}\n", row.verdict, row.label, row.detail);
    fmt::print("{} compared, {} wrong, {} without reference\n", rows.size() - static_cast<std::size_t>(without), wrong,
               without);
  }
  return wrong == 0 ? 0 : 1;
}

}  // namespace

Command check_command() {
  return {"check", "compare every kernel of a model with tensors that another runtime computed", [](CLI::App& app) {
            auto options = std::make_shared<Options>();
            options->add_model(app);
            options->add_flags(app);
            options->add_records(app);
            options->inputs.add_flags(app);
            app.add_option("--reference", options->reference,
                           ".npz with the model's intermediate and output tensors by name")
                ->required();
            app.add_flag("--spoil", options->spoil,
                         "change one step's result, chosen by --seed: the check must then fail");
            app.add_option("--seed", options->seed, "of --spoil");
            app.add_flag("--json", options->json, "one JSON document");
            return std::function<int()>([options] { return run(*options); });
          }};
}

}  // namespace heddle::tools
