// The space of schedules for devices: that every point which is not pruned computes the reference's result, on OpenCL
// and Vulkan by the runtime that measures it, with the validation layers; what is pruned and why.
//
// HEDDLE_SEED chooses points, inputs and examples, HEDDLE_CASE one example by its number, HEDDLE_POINTS how many points
// each.
#include <cstdlib>
#include <set>

#include <fmt/format.h>
#include <catch2/catch.hpp>

#include "autoscheduler/device_cost.hpp"
#include "autoscheduler/measure_channel.hpp"
#include "autoscheduler/measure_running.hpp"
#include "autoscheduler/subject.hpp"
#include "base/error.hpp"
#include "ops/catalog.hpp"
#include "runtime/gpu/device.hpp"
#include "targets/target.hpp"
#include "tests/autoscheduler/stencils.hpp"
#include "tests/support/inputs.hpp"

namespace heddle::autoscheduler {
namespace {

struct Example {
  std::string op;
  Json attributes;
  std::vector<std::string> types;
  bool channels_last = false;
};

const std::vector<Example>& examples() {
  const Json none = Json::object(), same = {{"pads", {1, 1, 1, 1}}};
  static const std::vector<Example> all = {
      {"matmul", none, {"f32[64,32]", "f32[32,64]"}},
      {"matmul", none, {"f32[37,33]", "f32[33,45]", "f32[45]"}},
      {"matmul", none, {"f32[1,1]", "f32[1,1]"}},
      {"matmul", {{"transpose_b", true}}, {"f32[2,17,24]", "f32[2,33,24]"}},
      {"conv", same, {"f32[1,16,9,11]", "f32[24,16,3,3]", "f32[24]"}, true},
      {"conv", {{"strides", {2, 2}}, {"group", 12}}, {"f32[2,12,9,7]", "f32[12,1,3,3]"}, true},
      {"conv", same, {"f32[1,3,8,5]", "f32[4,3,3,3]"}},
      {"softmax", {{"axis", 1}}, {"f32[5,67]"}},
      {"layer_norm", {{"axis", 1}}, {"f32[9,64]", "f32[64]", "f32[64]"}},
      {"reduce_sum", {{"axes", {0}}}, {"f32[33,20]"}},
      {"reduce_max", none, {"f32[7,1,19]"}},
      {"max_pool", {{"kernel_shape", {3, 3}}, {"strides", {2, 2}}}, {"f32[1,8,11,9]"}, true},
      {"add", none, {"f32[3,5,7]", "f32[5,1]"}},
      {"gelu", none, {"f32[4,256]"}},
      {"transpose", {{"perm", {1, 0}}}, {"f32[33,17]"}},
      {"stencils", none, {"f32[13,22]"}},
      {"attention", none, {"f32[2,1,9,16]", "f32[2,1,21,16]", "f32[2,1,21,12]"}},
      {"conv", same, {"u8[1,5,6,7]", "i8[6,5,3,3]", "i32[6]"}},
      {"matmul", none, {"f16[17,24]", "f16[24,20]"}},
  };
  return all;
}

Workload workload_of(const Example& example) {
  std::vector<TensorType> inputs;
  for (const auto& type : example.types) inputs.push_back(TensorType::parse(type));
  const Operator& op = example.op == testing::stencils().name() ? testing::stencils() : Operators().get(example.op);
  Composition c = Workload::of(op, example.attributes, inputs, {}, 1).composition();
  if (example.channels_last) {
    c.inputs[0].type.layout.order = channels_last(c.inputs[0].type.rank());
    c.output_layouts = {Layout{.order = channels_last(c.inputs[0].type.rank())}};
  }
  return Workload(std::move(c));
}

/// Defaults of each sketch, and as many points again drawn at random.
std::vector<Point> points(const Space& space, std::size_t most, std::mt19937_64& random) {
  std::vector<Point> chosen;
  std::map<std::size_t, std::size_t> of_sketch;
  for (const Point& p : space.defaults())
    if (of_sketch[p.sketch]++ < most) chosen.push_back(p);
  std::set<std::string> known;
  for (std::size_t s = 0; s < space.sketches().size(); ++s)
    for (std::size_t tries = 0, drawn = 0; tries < 500 && drawn < most; ++tries) {
      Point p{s, {}};
      for (const SpaceKnob& knob : space.sketches()[s].knobs)
        p.values.push_back(knob.domain[random() % knob.domain.size()]);
      const auto made = space.emit(p);
      const auto* candidate = std::get_if<Candidate>(&made);
      if (candidate == nullptr || !known.insert(candidate->implementation.print()).second) continue;
      chosen.push_back(p);
      ++drawn;
    }
  return chosen;
}

std::string check(const Workload& workload, const Target& target, const std::vector<CheckSet>& sets,
                  const Implementation& implementation) {
  try {
    const Descriptor file = anonymous_file("kernel");
    const std::string key = build_kernel(workload, implementation, target, file.get());
    const BuiltKernel built{.implementation = implementation,
                            .module = file.get(),
                            .symbol = "k_" + key.substr(0, 16),
                            .device = target.machine.gpu->api};
    const auto kernel = run_on_device(workload, built, {}, "");
    for (const CheckSet& set : sets)
      if (std::string found = kernel->check(set); !found.empty()) return found;
    kernel->fill(sets.back().inputs);
    return kernel->seconds_of(1) > 0 ? "" : "took no time";
  } catch (const std::exception& e) {
    return e.what();
  }
}

/// `one_of`: of so many examples one is taken, by the seed.
void check_all(const char* name, std::size_t one_of) {
  ::setenv("HEDDLE_VULKAN_VALIDATION", "1", 1);
  const Target target = find_target(name);
  const auto devices = runtime::gpu::list_devices(target.machine.gpu->api);
  INFO(devices.reason);
  REQUIRE_FALSE(devices.devices.empty());
  const char* wanted = std::getenv("HEDDLE_POINTS");
  const std::size_t most = wanted == nullptr ? 1 : static_cast<std::size_t>(std::atoi(wanted));
  const char* only = std::getenv("HEDDLE_CASE");
  for (std::size_t e = 0; e < examples().size(); ++e) {
    const bool chosen = only != nullptr && *only != '\0';
    if (chosen ? std::to_string(e) != only : (e + testing::seed()) % one_of != 0) continue;
    const Workload workload = workload_of(examples()[e]);
    // Each device has other points.
    auto random = testing::generator_for(testing::seed(), workload.text() + name);
    std::vector<CheckSet> sets(1);
    sets[0].inputs = heddle::draw_inputs(workload, {}, Extremes::none, random);
    sets[0].want = workload.expect(sets[0].inputs);
    const auto space = make_space(workload, target.machine, false);
    CHECK_FALSE(space->defaults().empty());
    for (const Point& point : points(*space, most, random)) {
      const auto candidate = std::get<Candidate>(space->emit(point));
      INFO(fmt::format("{} on {}\n{}\n{}  again: HEDDLE_SEED={} HEDDLE_CASE={} HEDDLE_POINTS={}", workload.text(), name,
                       print(point, space->sketches()), candidate.implementation.print(), testing::seed(), e, most));
      CHECK(candidate.estimate > 0);
      CHECK(check(workload, target, sets, candidate.implementation) == "");
    }
  }
}

TEST_CASE("every point of a device's space computes the reference's result on vulkan") { check_all("vulkan", 1); }
TEST_CASE("every point of a device's space computes the reference's result on opencl") {
  check_all("opencl", 3);  // whose driver for processors takes a second for a kernel
}

/// Why points of a sketch are pruned, over a space's random points.
std::set<std::string> reasons(const Space& space, const std::string& sketch, std::size_t tries) {
  auto random = testing::generator_for(1, sketch);
  std::set<std::string> found;
  for (std::size_t s = 0; s < space.sketches().size(); ++s) {
    if (space.sketches()[s].name != sketch) continue;
    for (std::size_t i = 0; i < tries; ++i) {
      Point p{s, {}};
      for (const SpaceKnob& knob : space.sketches()[s].knobs)
        p.values.push_back(knob.domain[random() % knob.domain.size()]);
      const auto made = space.emit(p);
      if (const auto* pruned = std::get_if<Pruned>(&made)) found.insert(pruned->reason);
    }
  }
  return found;
}

bool any_starts(const std::set<std::string>& all, const std::string& with) {
  for (const auto& one : all)
    if (one.starts_with(with)) return true;
  return false;
}

TEST_CASE("what a device cannot run is pruned before it is compiled, with the reason") {
  const Machine vulkan = find_target("vulkan").machine;
  const Example product{"matmul", Json::object(), {"f32[512,512]", "f32[512,512]"}};
  const auto space = make_space(workload_of(product), vulkan, false);
  auto found = reasons(*space, "blocks", 4000);
  const Example few{"matmul", Json::object(), {"f32[64,64]", "f32[64,64]"}};
  found.merge(reasons(*make_space(workload_of(few), vulkan, false), "blocks", 4000));
  for (const char* reason : {"threads: ", "registers: ", "shared memory: ", "blocks: "}) {
    INFO(reason);
    CHECK(any_starts(found, reason));
  }
  const Example long_grid{"matmul", Json::object(), {"f32[200000,4]", "f32[4,16]"}};
  const auto too_long = reasons(*make_space(workload_of(long_grid), vulkan, false), "blocks", 20000);
  CHECK(too_long.contains("blocks: 100000 along one dimension of the grid, 65535 at most"));
  // None of what is left exceeds what it was pruned for.
  DeviceLaunch launch{.stage = "out", .blocks = 1, .threads = 256};
  CHECK(obstacle(launch, *vulkan.gpu) == "");
  launch.threads = 257;
  CHECK(obstacle(launch, *vulkan.gpu) == "threads: 257 a block in out, 256 at most");
  launch.threads = 64;
  launch.shared_bytes = vulkan.gpu->shared_bytes + 4.0;
  CHECK(obstacle(launch, *vulkan.gpu) == "shared memory: 32772 bytes a block in out, 32768 at most");
  launch.shared_bytes = 0;
  launch.accumulators = 17;
  CHECK(obstacle(launch, *vulkan.gpu) ==
        "registers: 17 sums a thread in out, and the device's compiler spills beyond 16");
  CHECK(obstacle(launch, *find_target("opencl").machine.gpu) == "");
}

TEST_CASE("a device's first points are those that the estimate likes, and families come first where they are wanted") {
  const Target target = find_target("opencl");
  const Workload workload = workload_of({"matmul", Json::object(), {"f32[512,256]", "f32[256,512]"}});
  const auto bare = make_space(workload, target.machine, false);
  REQUIRE_FALSE(bare->defaults().empty());
  const Point first = bare->defaults().front();
  CHECK(bare->sketches()[first.sketch].name == "blocks");
  const auto made = std::get<Candidate>(bare->emit(first));
  // A product of this size is bound by its operands' way to the threads: they are shared.
  CHECK(made.implementation.print().find("GPUShared") != std::string::npos);
  const auto with = make_space(workload, target.machine, true);
  CHECK(with->sketches()[with->defaults().front().sketch].name == "gpu_matmul");
  const auto best = std::get<Candidate>(with->emit(with->defaults().front()));
  CHECK(best.implementation.print() == choose(workload, target.machine).implementation.print());
}

TEST_CASE("fewer bytes, fuller blocks and more of them are estimated as faster") {
  const Gpu gpu = *find_target("opencl").machine.gpu;
  const DeviceLaunch usual{.stage = "out", .blocks = 4096, .threads = 256, .instructions = 200, .bytes = 65536};
  const auto seconds = [&](const DeviceLaunch& launch) {
    std::map<std::string, double> features;
    return estimate_seconds({launch}, gpu, features);
  };
  DeviceLaunch other = usual;
  other.bytes *= 2;
  CHECK(seconds(other) > 1.5 * seconds(usual));
  other = usual;
  other.instructions *= 100;
  CHECK(seconds(other) > 5 * seconds(usual));
  // The same work by one multiprocessor.
  other = usual;
  other.blocks = 1;
  other.bytes *= 4096;
  other.instructions *= 4096;
  CHECK(seconds(other) > 20 * seconds(usual));
  other = usual;
  other.shared_bytes = 32768;  // so that three blocks are resident, not eight
  other.waits = 100;
  DeviceLaunch resident = other;
  resident.shared_bytes = 4096;
  CHECK(seconds(other) > seconds(resident));
}

}  // namespace
}  // namespace heddle::autoscheduler
