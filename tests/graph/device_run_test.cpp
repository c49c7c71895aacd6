// Models on devices, from the graph to the result: all of it there, and mixed with the processor at random.
#include <catch2/catch.hpp>

#include "runtime/gpu/device.hpp"
#include "tests/graph/loaded_model.hpp"

namespace heddle::graph {
namespace {

CompileOptions device_options(DeviceApi api) {
  const auto list = runtime::gpu::list_devices(api);
  INFO(to_string(api) << " has no device: " << list.reason);
  REQUIRE_FALSE(list.devices.empty());
  CompileOptions options = compile_options();
  options.targets = {find_target(to_string(api))};
  return options;
}

int on_device(const plan::Function& f) {
  return static_cast<int>(
      std::count_if(f.steps.begin(), f.steps.end(), [](const plan::Step& s) { return s.on_device; }));
}

TEST_CASE("a small convolutional network runs on a device", "[gpu]") {
  for (const DeviceApi api : {DeviceApi::opencl, DeviceApi::vulkan}) {
    INFO(to_string(api));
    const Graph graph = convolutions();
    const LoadedModel loaded(graph, device_options(api));
    CHECK(on_device(loaded.main()) > 10);
    for (const auto& kernel : loaded.model->module().kernels) {
      INFO(kernel.workload << ": " << kernel.obstacle);
      CHECK(kernel.obstacle.empty());
    }
    check_runs(graph, loaded);
  }
}

TEST_CASE("one package for a device runs several sizes", "[gpu]") {
  ModelBuilder m({{"N", {1, 4}}, {"W", {8, 64}}});
  const int x = m.input("x", "f32[N,3,8,W]");
  const int a =
      m.op("relu", {m.op("conv", {x, m.constant("f32[8,3,3,3]")}, {{"pads", {1, 1, 1, 1}}, {"strides", {2, 2}}})});
  const int b = m.op("mul", {a, m.op("sigmoid", {a})});
  m.output(m.op("softmax", {m.op("reduce_mean", {b}, {{"axes", {2}}})}, {{"axis", 1}}), "y");
  for (const DeviceApi api : {DeviceApi::opencl, DeviceApi::vulkan}) {
    INFO(to_string(api));
    const LoadedModel loaded(m.graph, device_options(api));
    for (const SymbolValues& symbols : {SymbolValues{{"N", 1}, {"W", 8}}, SymbolValues{{"N", 3}, {"W", 33}}})
      check_runs(m.graph, loaded, symbols);
  }
}

TEST_CASE("any part of a network may stay on the processor", "[gpu][slow]") {
  for (std::uint32_t seed = 21; seed <= 24; ++seed) {
    const DeviceApi api = seed % 2 == 0 ? DeviceApi::opencl : DeviceApi::vulkan;
    INFO(to_string(api) << " seed " << seed);
    CompileOptions options = device_options(api);
    options.keep_on_host = [seed](const Workload& w, const Target&) {
      // By the kernel's work, so that equal kernels are on one side.
      const auto digest = std::stoul(sha256(w.text()).substr(0, 8), nullptr, 16);
      return (digest + seed) % 3 == 0 ? std::string("by chance") : std::string();
    };
    const Graph graph = random_network(seed);
    const LoadedModel loaded(graph, options);
    check_runs(graph, loaded, {}, 5e-5);
  }
}

TEST_CASE("each module of a mixed package gives the same results", "[gpu]") {
  const Graph graph = convolutions();
  CompileOptions options = device_options(DeviceApi::opencl);
  options.targets.push_back(find_target("vulkan"));
  options.targets.push_back(host_target());
  for (const Target& target : options.targets) {
    runtime::LoadOptions load;
    load.target = target.name;
    const LoadedModel loaded(graph, options, load);
    CHECK(loaded.model->module().target == target.name);
    check_runs(graph, loaded);
  }
}

}  // namespace
}  // namespace heddle::graph
