// launches.json is enough: a model is run from it alone, on memories that the test makes.
#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "base/file.hpp"
#include "graph/interpret.hpp"
#include "ops/catalog.hpp"
#include "runtime/gpu/device.hpp"
#include "tools/execution.hpp"
#include "tools/launches.hpp"

namespace heddle::tools {
namespace {

namespace gpu = runtime::gpu;
namespace fs = std::filesystem;

graph::Graph network(const std::string& rows) {
  const Operators operators;
  graph::Graph g;
  if (rows == "N") g.symbols["N"] = {1, 8};
  graph::Value x;
  x.name = "x";
  x.type = TensorType::parse("f32[" + rows + ",8]");
  const int input = g.add_value(std::move(x));
  g.inputs = {input};
  const int w = g.add_constant("w", random_array(DType::f32, {8, 16}, 1));
  const int b = g.add_constant("b", random_array(DType::f32, {16}, 2));
  const int a = g.add_node("product", operators.get("matmul"), Json::object(), {input, w}, {"a"})[0];
  const int c = g.add_node("sum", operators.get("add"), Json::object(), {a, b}, {"c"})[0];
  const int y = g.add_node("softmax", operators.get("softmax"), Json::object(), {c}, {"y"})[0];
  g.outputs = {y};
  return g;
}

/// Few pixels and many channels: products whose depth is cut into slices, two launches with an intermediate between.
graph::Graph convolutions() {
  const Operators operators;
  graph::Graph g;
  graph::Value x;
  x.name = "x";
  x.type = TensorType::parse("f32[1,3,14,14]");
  const int input = g.add_value(std::move(x));
  g.inputs = {input};
  const int first = g.add_constant("first", random_array(DType::f32, {1024, 3, 3, 3}, 1));
  const int second = g.add_constant("second", random_array(DType::f32, {32, 1024, 1, 1}, 2));
  const int a =
      g.add_node("a", operators.get("conv"), {{"pads", {1, 1, 1, 1}}, {"strides", {2, 2}}}, {input, first}, {"a"})[0];
  const int b = g.add_node("b", operators.get("conv"), Json::object(), {a, second}, {"b"})[0];
  const int y = g.add_node("y", operators.get("reduce_mean"), {{"axes", {2, 3}}}, {b}, {"y"})[0];
  g.outputs = {y};
  return g;
}

graph::Compiled compiled(const graph::Graph& g, const std::vector<std::string>& targets) {
  static const TemporaryDirectory cache;
  graph::CompileOptions options;
  options.cache = cache.path();
  options.jobs = 1;
  for (const auto& name : targets) options.targets.push_back(find_target(name));
  graph::Compiled result = graph::compile(g, options);
  add_launches(result);
  return result;
}

/// Runs launches.json on a device as a program without the package's runtime would.
Array run_launches(const fs::path& package, const std::string& folder, const Array& x) {
  const auto document = nlohmann::json::parse(read_file(package / folder / "launches.json"));
  const auto device = gpu::open_device(gpu::choose_device(device_api_from_string(folder), ""));
  std::map<std::string, std::unique_ptr<gpu::Memory>> memories;
  const auto allocate = [&](const std::string& name, std::uint64_t bytes) {
    memories[name] = device->allocate(std::max<std::uint64_t>((bytes + 255) / 256 * 256, 256));
  };
  for (const auto& [name, bytes] : document["memories"].items()) allocate(name, bytes);
  const std::string weights = read_file(package / document["weights"].get<std::string>());
  allocate("weights", weights.size());
  device->write(*memories["weights"], 0, weights.data(), weights.size());
  for (const char* list : {"inputs", "outputs"})
    for (const auto& tensor : document[list])
      if (!memories.contains(tensor["memory"])) allocate(tensor["memory"], tensor["bytes"]);
  const auto& input = document["inputs"][0];
  device->write(*memories[input["memory"]], input["offset"], x.data(), x.bytes());

  const plan::Package manifest = plan::from_json(read_file(package / "manifest.json"));
  const auto module = std::ranges::find(manifest.modules, folder, &plan::Module::target);
  REQUIRE(module != manifest.modules.end());
  gpu::Commands commands;
  std::vector<std::shared_ptr<gpu::Code>> codes;
  for (const auto& step : document["steps"])
    for (const auto& l : step["launches"]) {
      gpu::Launch launch;
      const auto kernel = std::ranges::find_if(module->device_kernels, [&](const plan::DeviceKernel& k) {
        return k.file == l["file"] && k.entry == l["entry"];
      });
      REQUIRE(kernel != module->device_kernels.end());
      launch.kernel = &*kernel;
      codes.push_back(device->build(*kernel, read_file(package / kernel->file), ""));
      launch.code = codes.back().get();
      launch.blocks = l["blocks"];
      launch.threads = l["threads"];
      launch.shared_bytes = l["shared_bytes"];
      for (const auto& a : l["arguments"]) {
        gpu::Launch::Argument& argument = launch.arguments.emplace_back();
        argument.is_buffer = !a.contains("scalar");
        if (argument.is_buffer) {
          argument.buffer = {memories.at(a["memory"]).get(), a["offset"], a["bytes"]};
          continue;
        }
        const std::string digits = a["scalar"];
        argument.scalar_bytes = static_cast<std::uint32_t>(digits.size() / 2);
        for (std::size_t i = 0; i < argument.scalar_bytes; ++i) {
          unsigned byte = 0;
          std::from_chars(digits.data() + 2 * i, digits.data() + 2 * i + 2, byte, 16);
          argument.scalar.at(i) = static_cast<std::byte>(byte);
        }
      }
      commands.launches.push_back(std::move(launch));
    }
  const auto program = device->record(commands);
  program->submit();
  program->wait();
  const auto& output = document["outputs"][0];
  Array y(DType::f32, output["shape"].get<Shape>());
  device->read(*memories[output["memory"]], output["offset"], y.mutable_data(), y.bytes());
  return y;
}

TEST_CASE("launches.json says all that running a model takes", "[gpu]") {
  std::uint64_t scratch = 0;  // intermediates of kernels that are several launches
  for (const graph::Graph& g : {network("4"), convolutions()}) {
    const graph::Compiled package = compiled(g, {"cpu", "opencl", "vulkan"});
    const TemporaryDirectory directory;
    graph::write_package(package, directory.path() / "package");
    Shape shape;
    for (const Extent& extent : g.value(g.inputs[0]).type.shape) shape.push_back(extent.value());
    const Array x = random_array(DType::f32, shape, 5);
    const Array want = graph::interpret(g, std::vector<Array>{x})[0];
    for (const std::string folder : {"opencl", "vulkan"}) {
      INFO(folder);
      const auto document = nlohmann::json::parse(package.files.at(folder + "/launches.json"));
      scratch = std::max(scratch, document["memories"]["scratch"].get<std::uint64_t>());
      CHECK(std::ranges::count(package.package.files, folder + "/launches.json", &plan::File::path) == 1);
      CHECK(mismatch(run_launches(directory.path() / "package", folder, x), want,
                     {.relative = 1e-5, .of_largest = 1e-5}) == "");
    }
    CHECK_FALSE(fs::exists(directory.path() / "package/cpu/launches.json"));
  }
  CHECK(scratch > 0);
}

TEST_CASE("launches are written down only where they are all there is to do", "[gpu]") {
  CHECK_FALSE(compiled(network("N"), {"opencl"}).files.contains("opencl/launches.json"));
  CHECK_FALSE(compiled(network("4"), {"cpu"}).files.contains("cpu/launches.json"));
}

}  // namespace
}  // namespace heddle::tools
