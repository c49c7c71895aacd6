// Packages with modules for devices: what is written, and what the modules share. Nothing here needs a device.
#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <catch2/catch.hpp>

#include "base/file.hpp"
#include "graph/compile.hpp"
#include "graph/weights.hpp"
#include "runtime/model.hpp"
#include "tests/graph/model_builder.hpp"

namespace heddle::graph {
namespace {

namespace fs = std::filesystem;

CompileOptions options() {
  static const TemporaryDirectory cache;
  CompileOptions o;
  o.cache = cache.path();
  o.jobs = 1;
  for (const char* name : {"cpu", "opencl", "vulkan"}) o.targets.push_back(find_target(name));
  o.keep_on_host = [](const Workload& w, const Target& target) {
    return w.anchor().op->name() == "softmax" && target.name == "vulkan" ? std::string("it is kept for this test")
                                                                         : std::string();
  };
  return o;
}

Graph network(int size = 6) {
  ModelBuilder m;
  const int a = m.op(
      "conv", {m.input("x", fmt::format("f32[1,2,{0},{0}]", size)), m.constant("f32[4,2,3,3]"), m.constant("f32[4]")},
      {{"pads", {1, 1, 1, 1}}});
  m.output(m.op("softmax", {m.op("relu", {a})}, {{"axis", 1}}), "y");
  return m.graph;
}

const plan::Module& module_of(const Compiled& compiled, std::string_view target) {
  const auto& modules = compiled.package.modules;
  const auto found = std::ranges::find_if(modules, [&](const auto& m) { return m.target == target; });
  REQUIRE(found != modules.end());
  return *found;
}

TEST_CASE("one package holds the processor's module and one a device's language") {
  const Compiled compiled = compile(network(), options());
  REQUIRE(compiled.modules.size() == 3);
  const TemporaryDirectory directory;
  write_package(compiled, directory.path() / "package");
  const plan::Package written = plan::from_json(read_file(directory.path() / "package/manifest.json"));

  // Every file is listed once, with its checksum, and no other is there.
  std::set<std::string> listed;
  for (const plan::File& file : written.files) {
    CHECK(listed.insert(file.path).second);
    const std::string bytes = read_file(directory.path() / "package" / file.path);
    CHECK(bytes.size() == file.bytes);
    CHECK(plan::checksum(bytes) == file.sha256);
  }
  std::set<std::string> present;
  for (const auto& entry : fs::recursive_directory_iterator(directory.path() / "package"))
    if (entry.is_regular_file()) present.insert(fs::relative(entry.path(), directory.path() / "package").string());
  present.erase("manifest.json");
  CHECK(present == listed);

  for (const plan::Module& module : written.modules) {
    INFO(module.target);
    CHECK(listed.contains(module.file));
    CHECK(listed.contains(module.weights));
    std::set<std::string> kernels, on_device;
    for (const auto& kernel : module.kernels) kernels.insert(kernel.name);
    for (const auto& step : module.functions.at(0).steps) {
      if (step.on_device) on_device.insert(step.name);
      if (step.kind == plan::StepKind::kernel) CHECK(kernels.contains(step.name));
    }
    CHECK(module.device.has_value() == !on_device.empty());
    // Every kernel on the device, and no other, has code for it.
    std::set<std::string> with_code;
    for (const auto& entry : module.device_kernels) {
      CHECK(listed.contains(entry.file));
      with_code.insert(entry.kernel);
      const std::string code = read_file(directory.path() / "package" / entry.file);
      if (module.target == "vulkan") CHECK(code.substr(0, 4) == "\x03\x02\x23\x07");
      else CHECK(code.find("__kernel void " + entry.entry + "(") != std::string::npos);
    }
    CHECK(with_code == on_device);
  }
}

TEST_CASE("a module says why a kernel is on the processor") {
  const Compiled compiled = compile(network(), options());
  const auto obstacles = [&](std::string_view target) {
    std::vector<std::string> reasons;
    for (const auto& kernel : module_of(compiled, target).kernels)
      if (!kernel.obstacle.empty()) reasons.push_back(kernel.obstacle);
    return reasons;
  };
  CHECK(obstacles("opencl").empty());
  CHECK(obstacles("vulkan") == std::vector<std::string>{"it is kept for this test"});
  const auto again = plan::from_json(plan::to_json(compiled.package));
  CHECK(std::ranges::count_if(again.modules[2].kernels, [](const auto& k) { return !k.obstacle.empty(); }) == 1);

  const std::string text = print(compiled.package);
  CHECK(text.find("module opencl: ") != std::string::npos);
  CHECK(text.find("; on the host: it is kept for this test") != std::string::npos);
  CHECK(text.find("download(%") != std::string::npos);
  CHECK(text.find("device ") != std::string::npos);
}

TEST_CASE("modules for devices are of one graph, the processor's of another") {
  const Compiled compiled = compile(network(), options());
  const auto groups = [&](std::size_t m) { return print(compiled.modules[m].groups(), compiled.modules[m].graph()); };
  CHECK(groups(1) == groups(2));
  CHECK(groups(0) != groups(1));
  CHECK(compiled.modules[1].source == compiled.modules[2].source);
  CHECK(compiled.modules[0].source != compiled.modules[1].source);
  const auto borders = [&](std::size_t m) {
    return std::ranges::count_if(compiled.modules[m].graph().values, [](const auto& v) { return v.type.has_border(); });
  };
  CHECK(borders(0) > 0);
  CHECK(borders(1) == 0);
  for (const plan::Module& module : compiled.package.modules) {
    if (!module.device) continue;
    for (const auto& value : module.functions[0].values) {
      CHECK(value.offset == Extent(0));
      if (value.storage == plan::Storage::constant) CHECK(value.file_offset % 256 == 0);
    }
    for (const auto& step : module.functions[0].steps) {
      CHECK(step.kind != plan::StepKind::fill_border);
      for (const auto* list : {&step.inputs, &step.outputs})
        for (const auto& argument : *list) CHECK(argument.offset == Extent(0));
    }
  }
}

TEST_CASE("equal weights are one file, other weights are not shared") {
  // Nothing to pack and one alignment: both devices read the same bytes.
  ModelBuilder m;
  m.output(m.op("add", {m.input("x", "f32[4,8]"), m.constant("f32[8]")}), "y");
  const Compiled same = compile(m.graph, options());
  CHECK(module_of(same, "opencl").weights == module_of(same, "vulkan").weights);
  CHECK(same.files.size() == same.package.files.size());
  for (const auto& file : same.package.files) CHECK(same.files.contains(file.path));

  const Compiled other = compile(network(), options());
  for (const plan::Module& module : other.package.modules) {
    const std::string& bytes = other.files.at(module.weights);
    for (const auto& value : module.functions[0].values)
      if (value.storage == plan::Storage::constant)
        CHECK(value.file_offset + static_cast<std::uint64_t>(value.elements.value()) * size_of(value.dtype) <=
              bytes.size());
  }
}

TEST_CASE("a device's kernels do not depend on the processor's threads") {
  const auto texts = [&](const char* target, int threads) {
    std::vector<std::string> result;
    const GroupedGraph prepared = prepare(network(256), find_target(target), {.threads = threads});
    for (const Group& group : prepared.groups)
      if (group.workload) result.push_back(group.workload->text());
    return result;
  };
  CHECK(texts("opencl", 1) == texts("vulkan", 8));
  CHECK(texts("cpu", 1) != texts("cpu", 8));
}

TEST_CASE("a target that is named twice is compiled once") {
  CompileOptions o = options();
  o.targets = {host_target(), find_target(host_target().name)};
  const Compiled compiled = compile(network(), o);
  CHECK(compiled.modules.size() == 1);
  CHECK(compiled.package.modules.size() == 1);
}

TEST_CASE("a schedule for a kernel that stays on the processor is refused") {
  const TemporaryDirectory directory;
  write_file(directory.path() / "a.sched", "out.gpu_single_thread()\n");
  CompileOptions o = options();
  o.targets = {find_target("vulkan")};
  o.schedules["softmax"] = directory.path() / "a.sched";
  CHECK_THROWS_WITH(compile(network(), o), Catch::Contains("it is kept for this test"));
}

TEST_CASE("a device's constants lie where its buffers may begin") {
  Weights weights(256);
  CHECK(weights.add("abc") == 0);
  CHECK(weights.add("abcd") == 256);
  CHECK(weights.add("abc") == 0);
}

}  // namespace
}  // namespace heddle::graph
