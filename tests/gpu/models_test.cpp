// From a graph to what devices make of it: every model here is compiled for OpenCL and Vulkan, written, loaded and run
// on poisoned memory, by the runtime and devices that users have.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <thread>

#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "base/file.hpp"
#include "graph/compile.hpp"
#include "graph/interpret.hpp"
#include "heddle/heddle.h"
#include "runtime/gpu/device_module.hpp"
#include "runtime/session.hpp"
#include "runtime/vulkan/vulkan.hpp"
#include "tests/graph/loaded_model.hpp"

namespace heddle::graph {
namespace {

const char* const device_targets[] = {"opencl", "vulkan"};

/// One cache for all tests of this file: kernels shared by two models are compiled once.
const std::filesystem::path& cache() {
  static const TemporaryDirectory directory;
  return directory.path();
}

CompileOptions options(std::vector<std::string> targets) {
  CompileOptions o;
  for (const std::string& target : targets) o.targets.push_back(find_target(target));
  o.cache = cache();
  o.jobs = 1;
  return o;
}

/// A package on disk, compiled for the targets.
class Package {
 public:
  explicit Package(const Graph& graph, const CompileOptions& o) {
    // Before the first device is asked for: the layer cannot be added later.
    ::setenv("HEDDLE_VULKAN_VALIDATION", "1", 1);
    ::setenv("HEDDLE_CACHE", cache().c_str(), 1);
    write_package(compile(graph, o), path());
  }
  std::filesystem::path path() const { return directory_.path() / "package"; }
  std::shared_ptr<const runtime::Model> load(const std::string& target) const {
    return runtime::Model::load(path(), {.target = target});
  }

 private:
  TemporaryDirectory directory_;
};

/// Runs at every one of the sizes twice, in turns, so that what another run left in the memory shows.
void check_runs(const Graph& graph, const std::shared_ptr<const runtime::Model>& model,
                const std::vector<SymbolValues>& sizes = {{}}, double tolerance = 1e-5) {
  REQUIRE(model->device() != nullptr);
  runtime::Session session(model, {.threads = 1, .poison = true});
  for (const std::uint32_t seed : {1U, 2U})
    for (const SymbolValues& symbols : sizes) {
      auto inputs = random_inputs(graph, symbols, seed);
      CHECK(difference(run(session, inputs), interpret(graph, inputs)) < tolerance);
    }
}

/// A device that the host shares no memory with: what it is asked for goes to the real one.
class Apart final : public runtime::gpu::Device {
 public:
  explicit Apart(std::shared_ptr<Device> real) : real_(std::move(real)), info_(real_->info()) {
    info_.kind = runtime::gpu::DeviceInfo::Kind::discrete;
  }
  const runtime::gpu::DeviceInfo& info() const override { return info_; }
  std::unique_ptr<runtime::gpu::Memory> allocate(std::uint64_t bytes) override { return real_->allocate(bytes); }
  std::unique_ptr<runtime::gpu::Memory> allocate_staging(std::uint64_t bytes) override {
    return real_->allocate_staging(bytes);
  }
  std::shared_ptr<runtime::gpu::Code> build(const plan::DeviceKernel& kernel, std::string_view code,
                                            const std::string& cache) override {
    return real_->build(kernel, code, cache);
  }
  std::unique_ptr<runtime::gpu::Program> record(const runtime::gpu::Commands& commands) override {
    copies += commands.uploads.size() + commands.downloads.size();
    return real_->record(commands);
  }
  void write(runtime::gpu::Memory& to, std::uint64_t offset, const void* from, std::uint64_t bytes) override {
    real_->write(to, offset, from, bytes);
  }
  void read(const runtime::gpu::Memory& from, std::uint64_t offset, void* to, std::uint64_t bytes) override {
    real_->read(from, offset, to, bytes);
  }

  std::size_t copies = 0;

 private:
  std::shared_ptr<Device> real_;
  runtime::gpu::DeviceInfo info_;
};

std::size_t on_device(const runtime::Model& model) {
  return static_cast<std::size_t>(
      std::ranges::count_if(model.main().steps, [](const plan::Step& step) { return step.on_device; }));
}

/// Compiles for both and runs each. `host_steps`: whether something is expected to stay on the processor.
void check_both(const Graph& graph, const std::vector<SymbolValues>& sizes = {{}}, double tolerance = 1e-5) {
  const Package package(graph, options({"opencl", "vulkan"}));
  for (const std::string target : device_targets) {
    INFO(target);
    const auto model = package.load(target);
    CHECK(on_device(*model) > 0);
    check_runs(graph, model, sizes, tolerance);
  }
  CHECK(runtime::gpu::validation_messages() == 0);
}

}  // namespace

TEST_CASE("elementwise chains on devices at several sizes", "[gpu]") {
  ModelBuilder m({{"N", {1, 1000}}});
  const int x = m.input("x", "f32[3,N]");
  const int a = m.op("relu", {m.op("add", {x, m.constant("f32[3,1]")})});
  m.output(m.op("mul", {a, m.op("tanh", {x})}), "y");
  check_both(m.graph, {{{"N", 1}}, {{"N", 64}}, {{"N", 77}}, {{"N", 1000}}});
}

TEST_CASE("a small network of convolutions on devices", "[gpu]") {
  ModelBuilder m;
  const int x = m.input("x", "f32[1,3,12,12]");
  const int a =
      m.op("relu", {m.op("conv", {x, m.constant("f32[8,3,3,3]"), m.constant("f32[8]")}, {{"pads", {1, 1, 1, 1}}})});
  const int b =
      m.op("relu", {m.op("conv", {a, m.constant("f32[8,8,3,3]"), m.constant("f32[8]")}, {{"pads", {1, 1, 1, 1}}})});
  m.output(m.op("add", {a, b}), "y");
  check_both(m.graph);
}

TEST_CASE("matrix products, softmax and reshapes on devices at several sizes", "[gpu]") {
  ModelBuilder m({{"T", {1, 64}}});
  const int x = m.input("x", "f32[T,32]");
  const int q = m.op("matmul", {x, m.constant("f32[32,32]")});
  const int s = m.op("matmul", {q, m.op("transpose", {x}, {{"perm", {1, 0}}})});
  const int p = m.op("softmax", {s}, {{"axis", 1}});
  m.output(m.op("matmul", {p, x}), "y");
  m.output(x, "x_again");
  check_both(m.graph, {{{"T", 1}}, {{"T", 7}}, {{"T", 64}}});
}

TEST_CASE("what stays on the processor runs between programs of the device", "[gpu]") {
  ModelBuilder m({{"N", {1, 300}}});
  const int x = m.input("x", "f32[2,N]");
  const int a = m.op("add", {x, m.constant("f32[2,1]")});
  const int s = m.op("softmax", {a}, {{"axis", 1}});
  m.output(m.op("relu", {m.op("mul", {s, a})}), "y");
  m.output(s, "s");
  CompileOptions o = options({"opencl", "vulkan"});
  o.keep_on_host = [](const Workload& w, const Target&) {
    return w.anchor().op->name() == "softmax" ? std::string("this test wants it so") : std::string();
  };
  const Package package(m.graph, o);
  for (const std::string target : device_targets) {
    INFO(target);
    const auto model = package.load(target);
    const auto& steps = model->main().steps;
    CHECK(on_device(*model) < steps.size());
    CHECK(std::ranges::any_of(steps, [](const plan::Step& step) { return step.kind == plan::StepKind::download; }));
    CHECK(std::ranges::any_of(steps, [](const plan::Step& step) { return step.kind == plan::StepKind::upload; }));
    check_runs(m.graph, model, {{{"N", 5}}, {{"N", 300}}});

    const auto api = device_api_from_string(target);
    const auto apart = std::make_shared<Apart>(runtime::gpu::open_device(runtime::gpu::choose_device(api, "")));
    check_runs(m.graph, runtime::Model::load(package.path(), {.target = target, .opened = apart}),
               {{{"N", 5}}, {{"N", 300}}});
    CHECK(apart->copies == 2 * 4);  // x there, a back, s there, y back; for each size
  }
  CHECK(runtime::gpu::validation_messages() == 0);
}

TEST_CASE("sessions on two threads share a model on a device", "[gpu]") {
  ModelBuilder m({{"N", {1, 500}}});
  const int x = m.input("x", "f32[N,16]");
  m.output(m.op("relu", {m.op("matmul", {x, m.constant("f32[16,16]")})}), "y");
  const Package package(m.graph, options({"opencl", "vulkan"}));
  for (const std::string target : device_targets) {
    INFO(target);
    const auto model = package.load(target);
    std::atomic<int> wrong = 0;
    std::vector<std::thread> threads;
    for (const std::uint32_t t : {1U, 2U})
      threads.emplace_back([&, t] {
        runtime::Session session(model, {.threads = 1});
        for (std::uint32_t round = 0; round < 6; ++round) {
          auto inputs = random_inputs(m.graph, {{"N", 40 * t + round % 2}}, t * 10 + round);
          if (!(difference(run(session, inputs), interpret(m.graph, inputs)) < 1e-5)) ++wrong;
        }
      });
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == 0);
  }
  CHECK(runtime::gpu::validation_messages() == 0);
}

TEST_CASE("steps on a device can be run, read, written and timed one by one", "[gpu]") {
  ModelBuilder m;
  const int x = m.input("x", "f32[4,64]");
  const int a = m.op("softmax", {x}, {{"axis", 1}});
  m.output(m.op("matmul", {a, m.constant("f32[64,32]")}), "y");
  const Package package(m.graph, options({"opencl", "vulkan"}));
  for (const std::string target : device_targets) {
    INFO(target);
    const auto model = package.load(target);
    auto inputs = random_inputs(m.graph);
    const auto expected = interpret(m.graph, inputs);
    runtime::Session session(model, {.threads = 1, .poison = true, .profile = true});
    session.prepare({});
    session.write(static_cast<std::size_t>(model->main().inputs[0]), inputs[0]);
    for (std::size_t s = 0; s < model->main().steps.size(); ++s) session.run_step(s);
    CHECK(difference({session.read(static_cast<std::size_t>(model->main().outputs[0]))}, expected) < 1e-5);

    CHECK(difference(run(session, inputs), expected) < 1e-5);
    const auto times = session.profile();
    for (std::size_t s = 0; s < times.size(); ++s) {
      INFO(model->main().steps[s].label);
      if (model->main().steps[s].on_device) CHECK(times[s].duration_ns > 0);
      if (s > 0) CHECK(times[s].start_ns >= times[s - 1].start_ns);
    }
  }
  CHECK(runtime::gpu::validation_messages() == 0);
}

TEST_CASE("one package runs on the processor and on devices, and the C interface chooses", "[gpu]") {
  ModelBuilder m;
  m.output(m.op("relu", {m.op("add", {m.input("x", "f32[2,50]"), m.constant("f32[50]")})}), "y");
  const Package package(m.graph, options({"cpu", "opencl", "vulkan"}));
  auto inputs = random_inputs(m.graph);
  const auto expected = interpret(m.graph, inputs)[0];
  CHECK(package.load("")->device() == nullptr);
  CHECK(package.load("cpu")->device() == nullptr);
  CHECK(package.load("opencl")->device()->device().info().api == DeviceApi::opencl);
  CHECK_FALSE(std::filesystem::is_empty(cache() / "devices"));  // the drivers' binaries

  for (const heddle_device_api api : {HEDDLE_OPENCL, HEDDLE_VULKAN}) {
    std::size_t count = 0;
    REQUIRE(heddle_device_count(api, &count) == HEDDLE_OK);
    REQUIRE(count > 0);
    heddle_device_info listed = HEDDLE_DEVICE_INFO_INIT, taken = HEDDLE_DEVICE_INFO_INIT;
    REQUIRE(heddle_device(api, 0, &listed) == HEDDLE_OK);
    heddle_load_options load = HEDDLE_LOAD_OPTIONS_INIT;
    load.target = device_targets[api];
    load.device = listed.name;
    heddle_model* model = nullptr;
    REQUIRE(heddle_model_load(package.path().c_str(), &load, &model) == HEDDLE_OK);
    REQUIRE(heddle_model_device(model, &taken) == HEDDLE_OK);
    CHECK(taken.api == api);
    CHECK(std::string(taken.name) == listed.name);
    heddle_session* session = nullptr;
    REQUIRE(heddle_session_create(model, nullptr, &session) == HEDDLE_OK);
    const std::int64_t shape[] = {2, 50};
    const heddle_tensor tensor = {HEDDLE_F32, 2, shape, inputs[0].mutable_data()};
    REQUIRE(heddle_session_set_input(session, 0, &tensor) == HEDDLE_OK);
    REQUIRE(heddle_session_run(session) == HEDDLE_OK);
    heddle_tensor out;
    REQUIRE(heddle_session_get_output(session, 0, &out) == HEDDLE_OK);
    Array got(DType::f32, {2, 50});
    std::memcpy(got.mutable_data(), out.data, got.bytes());
    CHECK(difference({got}, {expected}) < 1e-6);
    heddle_session_free(session);
    heddle_model_free(model);

    load.device = "no such device";
    CHECK(heddle_model_load(package.path().c_str(), &load, &model) == HEDDLE_UNSUPPORTED);
    CHECK_THAT(heddle_last_error(), Catch::Contains("no such device") && Catch::Contains(listed.name));
  }
}

}  // namespace heddle::graph
