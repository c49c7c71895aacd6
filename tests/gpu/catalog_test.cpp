// Every operator of the catalog on devices, the way models go: graph, compiler, package, runtime. OpenCL and Vulkan
// each run a seeded part of every operator's cases, symbolic ones compiled once for all their shapes.
//
// HEDDLE_SEED chooses the random inputs and the part, HEDDLE_CASE one case: "conv" or "conv:3", or "all".
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <catch2/catch.hpp>

#include "base/file.hpp"
#include "graph/compile.hpp"
#include "ops/catalog.hpp"
#include "runtime/gpu/device.hpp"
#include "runtime/session.hpp"
#include "runtime/vulkan/vulkan.hpp"
#include "targets/gpu/passes.hpp"
#include "tests/support/inputs.hpp"
#include "tests/support/run.hpp"

namespace heddle {
namespace {

using testing::Extremes;

/// A case as one node of a graph.
struct Job {
  const Operator* op = nullptr;
  std::size_t index = 0;
  Case test;
  std::mt19937_64 random = {};
  std::optional<Workload> oracle = {};
  std::vector<std::optional<Array>> constants = {};  ///< per operand
  std::vector<Array> arrays = {};                    ///< the operands of the current round
  std::size_t first_output = 0;

  std::string name() const { return fmt::format("{}:{}", op->name(), index); }
};

/// A package's symbols are known from the shapes of its inputs.
bool inputs_give_symbols(const Case& test) {
  std::set<std::string> wanted, given;
  for (const auto& binding : test.bindings)
    for (const auto& [name, value] : binding) wanted.insert(name);
  for (const auto& type : test.inputs)
    for (const Extent& extent : type.shape)
      for (const auto& name : wanted)
        if (extent == Extent::symbol(name)) given.insert(name);
  return wanted == given;
}

Job make_job(const Operator& op, std::size_t index, Case test) {
  Job job{&op, index, std::move(test)};
  job.random = testing::generator_for(testing::seed(), op.name(), index);
  for (auto& type : job.test.inputs) type.layout = {};  // a package's inputs are row-major
  if (op.kind() == OperatorKind::elementwise && !job.test.bindings.empty()) {
    // Shapes that vectors divide take another form of the kernel.
    SymbolValues whole = job.test.bindings.back();
    for (auto& [name, value] : whole) value = (value + 3) / 4 * 4;
    job.test.bindings.push_back(whole);
  }
  if (!inputs_give_symbols(job.test)) job.test = testing::bind(job.test, op, job.test.bindings.back());
  if (job.test.bindings.empty()) job.test.bindings.emplace_back();
  job.oracle = Workload::of(op, job.test.attributes, job.test.inputs, testing::ranges_of(job.test));
  return job;
}

/// The cases of this run.
std::vector<Job> jobs() {
  const char* chosen = std::getenv("HEDDLE_CASE");
  const std::string only = chosen == nullptr ? "" : chosen;
  std::vector<Job> all;
  for (const Operator* op : catalog()) {
    auto random = testing::generator_for(testing::seed(), op->name());
    const auto cases = op->cases();
    // Elementwise functions differ in an expression only.
    const std::size_t part = op->kind() == OperatorKind::elementwise ? 1 : 2;
    std::set<std::size_t> taken;
    while (taken.size() < std::min(part, cases.size())) taken.insert(random() % cases.size());
    for (std::size_t i = 0; i < cases.size(); ++i) {
      const bool wanted = only.empty()
                              ? taken.contains(i)
                              : only == "all" || only == op->name() || only == fmt::format("{}:{}", op->name(), i);
      if (wanted) all.push_back(make_job(*op, i, cases[i]));
    }
  }
  return all;
}

/// All jobs side by side. Each has its symbols to itself.
graph::Graph make_graph(std::span<Job> jobs) {
  graph::Graph g;
  for (std::size_t j = 0; j < jobs.size(); ++j) {
    Job& job = jobs[j];
    std::map<std::string, Extent> own;
    for (const auto& [name, range] : testing::ranges_of(job.test)) {
      const std::string renamed = fmt::format("{}_{}", name, j);
      own[name] = Extent::symbol(renamed);
      g.symbols[renamed] = range;
    }
    const Json attributes = job.op->bind(job.op->canonical(job.test.attributes), own);
    const auto operands = job.op->operands(attributes, job.test.inputs);
    Case constants = job.test;
    std::vector<int> inputs;
    job.constants.clear();
    auto drawn = testing::draw_inputs(job.test, job.test.bindings[0], Extremes::none, job.random);
    for (std::size_t i = 0; i < job.test.inputs.size(); ++i) {
      const bool constant = i < operands.size() && operands[i].constant && job.test.inputs[i].is_static();
      const std::string name = fmt::format("{}/{}", job.name(), i);
      if (constant) {
        inputs.push_back(g.add_constant(name, drawn[i]));
        job.constants.emplace_back(std::move(drawn[i]));
        continue;
      }
      graph::Value value;
      value.name = name;
      value.type = job.test.inputs[i].substitute(own);
      inputs.push_back(g.add_value(std::move(value)));
      g.inputs.push_back(inputs.back());
      job.constants.emplace_back();
    }
    std::vector<std::string> names;
    for (std::size_t o = 0; o < job.oracle->output_types().size(); ++o)
      names.push_back(fmt::format("{} result {}", job.name(), o));
    job.first_output = g.outputs.size();
    for (const int output : g.add_node(job.name(), *job.op, attributes, inputs, names)) {
      g.value(output).type.layout = {};
      g.outputs.push_back(output);
    }
  }
  return g;
}

/// Where a module for a device runs a kernel on the processor although nothing says that it has to.
std::string strays(const graph::Compiled& compiled) {
  for (const auto& kernel : compiled.modules.at(0).kernels)
    if (!kernel.on_device() && kernel.obstacle.empty()) return kernel.symbol;
  return "";
}

std::string again(const Job& job, DeviceApi api) {
  return fmt::format("again: HEDDLE_SEED={} HEDDLE_CASE={} test_gpu \"every operator agrees with its reference on {}\"",
                     testing::seed(), job.name(), to_string(api));
}

/// Compiles and runs the jobs as one package; returns what differs.
std::vector<std::string> check(std::span<Job> jobs, DeviceApi api, const std::filesystem::path& cache) {
  std::vector<std::string> failures;
  const graph::Graph g = make_graph(jobs);
  graph::CompileOptions options;
  options.targets = {find_target(to_string(api))};
  options.cache = cache;
  const graph::Compiled compiled = graph::compile(g, options);
  if (const std::string stray = strays(compiled); !stray.empty())
    failures.push_back(fmt::format("{} runs on the processor, and nothing says why", stray));
  const TemporaryDirectory directory;
  graph::write_package(compiled, directory.path() / "package");
  const auto model =
      runtime::Model::load(directory.path() / "package", {.target = std::string(to_string(api)), .device = "0"});
  runtime::SessionOptions poisoned;
  poisoned.poison = true;
  runtime::Session session(model, poisoned);

  std::size_t rounds = 0;
  for (const Job& job : jobs) rounds = std::max(rounds, job.test.bindings.size());
  std::set<const Job*> failed;
  for (std::size_t round = 0; round < rounds; ++round)
    for (const bool extreme : {false, true}) {
      std::size_t input = 0;
      for (Job& job : jobs) {
        if (round < job.test.bindings.size()) {
          const bool exact = job.oracle->tolerance().special_values == SpecialValues::exact;
          job.arrays = testing::draw_inputs(job.test, job.test.bindings[round],
                                            !extreme ? Extremes::none
                                            : exact  ? Extremes::all
                                                     : Extremes::finite,
                                            job.random);
          for (std::size_t i = 0; i < job.arrays.size(); ++i)
            if (job.constants[i]) job.arrays[i] = *job.constants[i];
        }
        for (std::size_t i = 0; i < job.arrays.size(); ++i)
          if (!job.constants[i])
            session.set_input(input++, {job.arrays[i].dtype(), job.arrays[i].shape(), job.arrays[i].mutable_data()});
      }
      session.run();
      for (const Job& job : jobs) {
        if (round >= job.test.bindings.size() || failed.contains(&job)) continue;
        std::vector<Array> outputs;
        for (std::size_t o = 0; o < job.oracle->output_types().size(); ++o) {
          const auto tensor = session.output(job.first_output + o);
          outputs.emplace_back(tensor.dtype, tensor.shape);
          if (outputs.back().bytes() > 0)
            std::memcpy(outputs.back().mutable_data(), tensor.data, outputs.back().bytes());
        }
        const SymbolValues& symbols = job.test.bindings[round];
        const std::string difference = testing::compare(*job.oracle, job.arrays, outputs, symbols);
        if (difference.empty()) continue;
        failed.insert(&job);
        std::vector<std::string> bound;
        for (const auto& [name, value] : symbols) bound.push_back(fmt::format("{}={}", name, value));
        const Choice choice = choose(*job.oracle, find_target(to_string(api)).machine);
        failures.push_back(fmt::format("{} {} on {}, {}{}: {}\n  {}\n{}  {}", job.name(), job.test.attributes.dump(),
                                       to_string(api), fmt::join(bound, " "), extreme ? " with extremes" : "",
                                       difference, choice.source, choice.implementation.print(), again(job, api)));
      }
    }
  return failures;
}

void check_all(DeviceApi api) {
  // Before the first device is asked for: the layer cannot be added later.
  ::setenv("HEDDLE_VULKAN_VALIDATION", "1", 1);
  const auto messages = runtime::gpu::validation_messages();
  const auto devices = runtime::gpu::list_devices(api);
  INFO(devices.reason);
  REQUIRE_FALSE(devices.devices.empty());
  UNSCOPED_INFO("device: " << devices.devices[0].name);
  const TemporaryDirectory cache;
  auto all = jobs();
  REQUIRE_FALSE(all.empty());
  // Many kernels a package share what a package costs; few enough that an error's place is plain.
  constexpr std::size_t together = 12;
  for (std::size_t begin = 0; begin < all.size(); begin += together) {
    const auto part = std::span(all).subspan(begin, std::min(together, all.size() - begin));
    try {
      for (const auto& failure : check(part, api, cache.path())) FAIL_CHECK(failure);
      INFO("with " << part.front().name() << " to " << part.back().name() << "; what is wrong stands on stderr");
      CHECK(runtime::gpu::validation_messages() == messages);
    } catch (const std::exception&) {
      // One at a time, to say which.
      for (Job& job : part) {
        Job alone = make_job(*job.op, job.index, job.op->cases()[job.index]);
        try {
          for (const auto& failure : check(std::span(&alone, 1), api, cache.path())) FAIL_CHECK(failure);
        } catch (const std::exception& e) {
          FAIL_CHECK(fmt::format("{} {}: {}\n  {}", job.name(), job.test.attributes.dump(), e.what(), again(job, api)));
        }
      }
    }
  }
}

TEST_CASE("every operator agrees with its reference on opencl") { check_all(DeviceApi::opencl); }
TEST_CASE("every operator agrees with its reference on vulkan") { check_all(DeviceApi::vulkan); }

/// What stays on the processor, of which type and why. An operator that no longer needs to be here must be taken out.
struct Host {
  DeviceApi api;
  std::string_view op;
  std::string_view type;  ///< of its first operand
  std::string_view reason;
  auto operator<=>(const Host&) const = default;
};
const std::set<Host>& stays_on_host() {
  using enum DeviceApi;
  static const std::set<Host> list = {
      {vulkan, "attention", "f64", "Vulkan has no exp of doubles"},
      {vulkan, "reduce_log_sum", "f64", "Vulkan has no log of doubles"},
      {vulkan, "reduce_log_sum_exp", "f64", "Vulkan has no exp of doubles"},
      {vulkan, "softmax", "f64", "Vulkan has no exp of doubles"},
  };
  return list;
}

TEST_CASE("what stays on the processor is known by name") {
  std::set<Host> found;
  std::set<std::string> kept;  // texts that the rows refer to
  for (const DeviceApi api : {DeviceApi::opencl, DeviceApi::vulkan})
    for (const Operator* op : catalog())
      for (const Case& test : op->cases()) {
        const Workload workload = Workload::of(*op, test.attributes, test.inputs, testing::ranges_of(test));
        const std::string reason = targets::gpu_obstacle(workload.instantiate().outputs, api);
        const DType type = test.inputs.empty() ? workload.output_types()[0].dtype : test.inputs[0].dtype;
        if (!reason.empty()) found.insert({api, op->name(), to_string(type), *kept.insert(reason).first});
      }
  for (const Host& host : found)
    if (!stays_on_host().contains(host))
      FAIL_CHECK(fmt::format("{} of {} cannot run on {}: {}; list it here, or mend it", host.op, host.type,
                             to_string(host.api), host.reason));
  for (const Host& host : stays_on_host())
    if (!found.contains(host))
      FAIL_CHECK(fmt::format("{} of {} runs on {} now: take it off the list", host.op, host.type, to_string(host.api)));
}

}  // namespace
}  // namespace heddle
