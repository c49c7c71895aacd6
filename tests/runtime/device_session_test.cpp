#include <catch2/catch.hpp>
#include <cstring>
#include <numeric>
#include <thread>

#include "base/error.hpp"
#include "runtime/gpu/device_module.hpp"
#include "runtime/session.hpp"
#include "tests/runtime/device_package.hpp"
#include "tests/runtime/sample_package.hpp"
#include "tests/runtime/session_inputs.hpp"

using namespace heddle;
using Catch::Matchers::Contains;
using runtime::Model;
using runtime::Session;
using test::error_of;
using test::FakeDevice;
using test::floats;
using test::numbers;
using test::tensor;

namespace {

std::shared_ptr<const Model> load(const std::shared_ptr<FakeDevice>& device,
                                  const plan::Package& package = test::device_package()) {
  const TemporaryDirectory directory;
  test::write_device_package(package, directory.path());
  return Model::load(directory.path(), {.opened = device});
}

void check_outputs(const Session& session, const Array& x) {
  const auto expected = test::device_reference(floats(x));
  CHECK(floats(session.output(0)) == expected.out);
  CHECK(floats(session.output(1)) == expected.rows);
}

plan::Function& main_of(plan::Package& package) { return package.modules[0].functions[0]; }

}  // namespace

TEST_CASE("a package for a device runs at several sizes", "[device]") {
  const auto device = test::fake_device();
  device->host_visible = GENERATE(false, true);
  auto info = FakeDevice::typical();
  info.kind = GENERATE(runtime::gpu::DeviceInfo::Kind::discrete, runtime::gpu::DeviceInfo::Kind::integrated);
  const auto other = test::fake_device(info);
  other->host_visible = device->host_visible;
  const auto model = load(other);
  CHECK(model->module().target == "opencl");
  Session session(model, {.poison = true});
  for (const std::int64_t width : {5, 64, 1000, 1, 0, 7, 8, 9, 10, 11, 12, 5, 1000}) {
    Array x = numbers(width);
    session.set_input(0, tensor(x));
    session.run();
    CHECK(session.output(0).shape == Shape{2, width});
    check_outputs(session, x);
  }
}

TEST_CASE("steps become the fewest programs, with each copy where it has to be", "[device]") {
  const auto device = test::fake_device();
  Session session(load(device));
  Array x = numbers(100);
  session.set_input(0, tensor(x));
  session.run();
  check_outputs(session, x);
  REQUIRE(device->recorded.size() == 2);
  CHECK(device->recorded[0].uploads.size() == 1);    // x
  CHECK(device->recorded[0].launches.size() == 1);   // k_add
  CHECK(device->recorded[0].downloads.size() == 1);  // a
  CHECK(device->recorded[1].uploads.size() == 1);    // b
  CHECK(device->recorded[1].launches.size() == 3);   // k_chain twice, k_rows
  CHECK(device->recorded[1].downloads.size() == 2);  // out, rows
  // One memory for all of the session, one for the constants.
  CHECK(device->allocations == 2);

  // Recorded once; an input that changed in place is seen.
  x.as<float>()[3] = 500;
  session.run();
  check_outputs(session, x);
  CHECK(device->programs == 2);
  CHECK(device->submissions == 4);
  // A shape seen before keeps its programs; the memory serves smaller ones too.
  Array small = numbers(10);
  session.set_input(0, tensor(small));
  session.run();
  CHECK(device->programs == 4);
  CHECK(device->allocations == 2);
  session.set_input(0, tensor(x));
  session.run();
  session.set_input(0, tensor(small));
  session.run();
  check_outputs(session, small);
  CHECK(device->programs == 4);
}

TEST_CASE("memory that host and device share saves the copies", "[device]") {
  auto info = FakeDevice::typical();
  info.kind = runtime::gpu::DeviceInfo::Kind::cpu;
  const auto device = test::fake_device(info);
  device->host_visible = true;
  Session session(load(device), {.poison = true});
  Array x = numbers(33);
  session.set_input(0, tensor(x));
  session.run();
  check_outputs(session, x);
  for (const auto& commands : device->recorded) {
    CHECK(commands.uploads.empty());
    CHECK(commands.downloads.empty());
  }
}

TEST_CASE("unaligned memory and memory of the caller", "[device]") {
  const auto device = test::fake_device();
  Session session(load(device), {.poison = GENERATE(false, true)});
  Array memory(DType::f32, {400}), rows(DType::f32, {2, 20});
  const Array x = numbers(20);
  float* in = memory.as<float>().data() + 1;
  float* out = memory.as<float>().data() + 101;
  std::ranges::copy(x.as<float>(), in);
  session.set_input(0, {DType::f32, {2, 20}, in});
  session.set_output(0, {DType::f32, {2, 20}, out});
  session.set_output(1, tensor(rows));
  session.run();
  check_outputs(session, x);
  CHECK(session.output(0).data == out);
  CHECK(floats(rows) == test::device_reference(floats(x)).rows);
  CHECK(out[-1] == 0);
  CHECK(out[40] == 0);
}

TEST_CASE("outputs that are intermediates, inputs, constants, aliases or returned twice", "[device]") {
  plan::Package package = test::device_package();
  plan::Function& main = main_of(package);
  const Extent w = Extent::symbol("W");
  plan::Value alias = test::dense_value("a_transposed", DType::f32, {w, 2}, plan::Storage::alias);
  alias.strides = {1, w};
  alias.of = 1;
  main.values.push_back(alias);
  main.outputs = {4, 5, 1, 0, 3, 4, 6, 2};
  const auto device = test::fake_device();
  device->host_visible = GENERATE(false, true);
  Session session(load(device, package), {.poison = true});
  Array x = numbers(9);
  session.set_input(0, tensor(x));
  for (int again = 0; again < 2; ++again) {
    session.run();
    check_outputs(session, x);
    const auto expected = test::device_reference(floats(x));
    CHECK(floats(session.output(2)) == expected.a);
    CHECK(floats(session.output(3)) == floats(x));
    CHECK(floats(session.output(4)) == std::vector<float>{3, 5});
    CHECK(floats(session.output(5)) == expected.out);
    CHECK(session.output(6).shape == Shape{9, 2});
    CHECK(floats(session.output(6))[1] == expected.a[9]);
    CHECK(floats(session.output(7)) == expected.rows);
  }
}

TEST_CASE("an intermediate that only the device has is downloaded to be returned", "[device]") {
  // x -> a on the device, nothing else: a is in no output's memory.
  plan::Package package = test::device_package();
  plan::Function& main = main_of(package);
  main.steps.resize(1);
  main.outputs = {1};
  main.values[4].storage = main.values[5].storage = plan::Storage::arena;
  const auto device = test::fake_device();
  Session session(load(device, package), {.poison = true});
  Array x = numbers(6);
  session.set_input(0, tensor(x));
  session.run();
  CHECK(floats(session.output(0)) == test::device_reference(floats(x)).a);
  CHECK(device->recorded.size() == 1);
}

TEST_CASE("copies join the steps beside them only where that changes nothing", "[device]") {
  plan::Package package = test::device_package();
  plan::Function& main = main_of(package);
  const auto run = [&] {
    const auto device = test::fake_device();
    Session session(load(device, package), {.poison = true});
    Array x = numbers(50);
    session.set_input(0, tensor(x));
    session.run();
    check_outputs(session, x);
    return static_cast<int>(device->programs);
  };
  SECTION("a kernel behind a download of what it only reads joins it") {
    std::swap(main.steps[4], main.steps[5]);  // rows
    std::rotate(main.steps.begin() + 2, main.steps.begin() + 4, main.steps.begin() + 5);
    CHECK(main.steps[2].name == "k_rows");
    CHECK(run() == 2);
  }
  SECTION("an upload behind a kernel that does not touch its bytes joins it") {
    std::rotate(main.steps.begin() + 3, main.steps.begin() + 5, main.steps.begin() + 6);  // rows, upload b, chain
    CHECK(main.steps[3].name == "k_rows");
    CHECK(run() == 2);
  }
  SECTION("a kernel that overwrites what was downloaded does not") {
    // a is computed anew into the memory from which the first one is still to be copied.
    main.steps.insert(main.steps.begin() + 2, {main.steps[0], main.steps[1]});
    CHECK(run() == 3);
  }
}

TEST_CASE("a device with little memory in one piece gets it in several", "[device]") {
  auto info = FakeDevice::typical();
  info.most_allocation_bytes = 1024;
  const auto device = test::fake_device(info);
  Session session(load(device), {.poison = true});
  Array x = numbers(60);  // x, out and rows: 512 bytes each; a and b together 1024; scratch 512
  session.set_input(0, tensor(x));
  session.run();
  check_outputs(session, x);
  CHECK(device->allocations > 3);

  Array large = numbers(200);
  session.set_input(0, tensor(large));
  const Error error = error_of([&] { session.run(); });
  CHECK(error.code() == ErrorCode::unsupported);
  CHECK_THAT(error.what(), Contains("bytes") && Contains("fake") && Contains("at most 1024"));
  session.set_input(0, tensor(x));
  session.run();
  check_outputs(session, x);
}

TEST_CASE("steps and values of a device one at a time", "[device]") {
  const auto device = test::fake_device();
  device->host_visible = GENERATE(false, true);
  Session session(load(device), {.poison = true});
  session.prepare({{"W", 6}});
  const Array x = numbers(6);
  session.write(0, x);
  CHECK(session.read(0) == x);
  session.run_step(0);
  const auto expected = test::device_reference(floats(x));
  CHECK(floats(session.read(1)) == expected.a);
  session.run_step(1);
  session.run_step(2);
  CHECK(floats(session.read(2)) == expected.rows);
  session.write(2, x);
  session.run_step(4);
  CHECK(floats(session.read(4))[0] == 4);
  const int programs = device->programs;
  session.run_step(4);
  CHECK(device->programs == programs);  // its program is kept
  CHECK(session.read(3).as<float>()[1] == 5);
  session.run_step(5);
  CHECK(floats(session.read(5)) == expected.rows);
  session.run_step(3);

  // Writing an input after a run leaves the caller's memory alone, and the device sees it.
  Array given = numbers(6);
  session.set_input(0, tensor(given));
  session.run();
  check_outputs(session, given);
  session.write(0, Array(DType::f32, {2, 6}));
  CHECK(given == numbers(6));
  session.run_step(0);
  CHECK(session.read(1).as<float>()[3] == 1);
}

TEST_CASE("poison reaches the device's memory", "[device]") {
  const auto device = test::fake_device();
  device->entries["rows"] = [](std::span<std::byte* const>, const runtime::gpu::Launch&) {};
  Session session(load(device), {.poison = true});
  Array x = numbers(6);
  session.set_input(0, tensor(x));
  session.run();
  for (const float value : floats(session.output(1))) CHECK(std::isnan(value));
}

TEST_CASE("steps on a device are timed by it", "[device]") {
  const auto device = test::fake_device();
  Session session(load(device), {.profile = true});
  Array x = numbers(6);
  session.set_input(0, tensor(x));
  session.run();
  const auto times = session.profile();
  REQUIRE(times.size() == 6);
  CHECK(times[0].duration_ns == 100);
  CHECK(times[1].duration_ns == 0);
  CHECK(times[2].duration_ns > 0);
  CHECK(times[4].duration_ns == 200);  // two launches
  CHECK(times[5].duration_ns == 100);
  CHECK(times[5].start_ns == times[4].start_ns + 2000);
}

TEST_CASE("a device out of memory gives up other shapes' plans before it fails", "[device]") {
  const auto device = test::fake_device();
  const auto model = load(device);
  Session session(model);
  Array x = numbers(1000), larger = numbers(2000), largest = numbers(20000);
  session.set_input(0, tensor(x));
  session.run();
  device->room = 110000;  // not for both
  session.set_input(0, tensor(larger));
  session.run();
  check_outputs(session, larger);
  session.set_input(0, tensor(largest));
  const Error error = error_of([&] { session.run(); });
  CHECK(error.code() == ErrorCode::out_of_memory);
  CHECK_THAT(error.what(), Contains("use smaller inputs or fewer sessions"));
  CHECK(floats(largest) == floats(numbers(20000)));
  session.set_input(0, tensor(x));
  session.run();
  check_outputs(session, x);
}

TEST_CASE("a lost device is an error that leaves the caller's memory as it was", "[device]") {
  const auto device = test::fake_device();
  Session session(load(device));
  Array x = numbers(30), out(DType::f32, {2, 30});
  session.set_input(0, tensor(x));
  session.set_output(0, tensor(out));
  session.run();
  const auto before = floats(out);
  x.as<float>()[0] = 77;
  const auto given = floats(x);
  device->lost = true;
  for (int again = 0; again < 2; ++again) {
    const Error error = error_of([&] { session.run(); });
    CHECK(error.code() == ErrorCode::device);
    CHECK_THAT(error.what(), Contains("the device was lost") && Contains("load it again"));
    CHECK_THROWS_AS(session.output(0), Error);
  }
  CHECK(floats(out) == before);
  CHECK(floats(x) == given);
  device->lost = false;
  session.run();
  check_outputs(session, x);
}

TEST_CASE("sessions of one model share the device's code and constants", "[device]") {
  const auto device = test::fake_device();
  const auto model = load(device);
  CHECK(device->built.size() == 4);
  CHECK(device->allocations == 1);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&, t] {
      Session session(model);
      for (int round = 0; round < 100; ++round) {
        Array x = numbers(100 + 10 * t + round % 3);
        session.set_input(0, tensor(x));
        session.run();
        if (floats(session.output(0)) != test::device_reference(floats(x)).out) ++wrong;
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(device->built.size() == 4);
  CHECK(device->programs == 3 * 3 * 2);
}

TEST_CASE("no more threads build code than the device allows", "[device]") {
  for (const int builders : {0, 1, 2}) {
    const auto device = test::fake_device();
    device->builders = builders;
    load(device);
    CHECK(device->built.size() == 4);
  }
}

TEST_CASE("errors while a kernel is recorded name the step", "[device]") {
  plan::Package package = test::device_package();
  plan::Module& module = package.modules[0];
  const auto with = [&](const std::string& kernel) {
    module.functions[0].steps[0].name = kernel;
    module.kernels.push_back({.name = kernel});
    Session session(load(test::fake_device(), package));
    Array x = numbers(6);
    session.set_input(0, tensor(x));
    return error_of([&] { session.run(); });
  };
  SECTION("unknown entry") {
    const Error error = with("k_unknown");
    CHECK(error.code() == ErrorCode::corrupt);
    CHECK_THAT(error.what(), Contains("'subtract'") && Contains("step 0 'k_add'"));
  }
  SECTION("blocks that the device does not have") {
    const Error error = with("k_many_threads");
    CHECK(error.code() == ErrorCode::unsupported);
    CHECK_THAT(error.what(), Contains("4096x1x1") && Contains("at most 1024"));
  }
  SECTION("a crop at a place where no buffer can begin") {
    const Error error = with("k_crop");
    CHECK(error.code() == ErrorCode::unsupported);
    CHECK_THAT(error.what(), Contains("begins 24 bytes into its memory"));
  }
  SECTION("a kernel for a device as a step of the host") {
    module.functions[0].steps[2].name = "k_add";
    module.functions[0].steps[2].inputs.pop_back();
    Session session(load(test::fake_device(), package));
    Array x = numbers(6);
    session.set_input(0, tensor(x));
    const Error error = error_of([&] { session.run(); });
    CHECK_THAT(error.what(), Contains("is one for a device"));
  }
}

TEST_CASE("crops that begin where buffers may are fine", "[device]") {
  plan::Package package = test::device_package();
  plan::Module& module = package.modules[0];
  module.functions[0].steps[0].name = "k_crop";
  module.kernels.push_back({.name = "k_crop"});
  Session session(load(test::fake_device(), package));
  Array x = numbers(64);  // a row of 256 bytes
  session.set_input(0, tensor(x));
  session.run();
  CHECK(floats(session.output(1))[64] == 5 * (x.as<float>()[64] + 1));
}

TEST_CASE("what keeps a device from running a module is said when it is loaded", "[device]") {
  const TemporaryDirectory directory;
  plan::Package package = test::device_package();
  const auto write = [&](const std::string& code = "add") {
    test::write_device_package(package, directory.path(), code);
  };
  const auto fails = [&](const runtime::LoadOptions& options) {
    return error_of([&] { Model::load(directory.path(), options); });
  };
  auto info = FakeDevice::typical();

  SECTION("element types") {
    main_of(package).values[1].dtype = DType::f64;
    info.f64 = false;
    write();
    const Error error = fails({.opened = test::fake_device(info)});
    CHECK(error.code() == ErrorCode::unsupported);
    CHECK_THAT(error.what(), Contains("opencl needs f64, which fake does not have"));
    CHECK_THAT(error.what(), Contains("compile with a --target for it") && Contains("choose another device"));
    // OpenCL C is given f16 as bits.
    main_of(package).values[1].dtype = DType::f16;
    info.f16 = false;
    info.int16 = false;
    write();
    CHECK_THAT(fails({.opened = test::fake_device(info)}).what(), Contains("opencl needs f16"));
  }
  SECTION("shared memory") {
    package.modules[0].device_kernels[0].shared = {{.constant = 0, .element_bytes = 4, .elements = 9000}};
    write();
    CHECK_THAT(fails({.opened = test::fake_device()}).what(), Contains("needs 36000 bytes of shared memory"));
  }
  SECTION("another API") {
    info.api = DeviceApi::vulkan;
    write();
    CHECK_THAT(fails({.opened = test::fake_device(info)}).what(),
               Contains("is for opencl, and fake was opened by vulkan"));
  }
  SECTION("no such device") {
    write();
    const Error error = fails({.target = "opencl", .device = "no such device"});
    CHECK(error.code() == ErrorCode::unsupported);
    CHECK_THAT(error.what(), Contains("opencl has no device"));
  }
  SECTION("a processor without the host code's features") {
    package.modules[0].features = {"warp_drive"};
    write();
    CHECK_THAT(fails({.opened = test::fake_device()}).what(), Contains("needs warp_drive"));
  }
  SECTION("code that the driver rejects") {
    write("broken");
    const Error error = fails({.opened = test::fake_device()});
    CHECK(error.code() == ErrorCode::unsupported);
    CHECK_THAT(error.what(), Contains("line 1: broken") && Contains("of kernel 'k_") && Contains("fake"));
  }
  SECTION("code that is not the one compiled") {
    write();
    write_file(directory.path() / "opencl/kernels.cl", "bad");
    CHECK(fails({.opened = test::fake_device()}).code() == ErrorCode::corrupt);
  }
  SECTION("a package for processors, asked to run on a device") {
    test::write_sample(test::sample_package(), directory.path());
    const Error error = fails({.device = "0"});
    CHECK(error.code() == ErrorCode::not_found);
    CHECK_THAT(error.what(), Contains("no module for a device"));
  }
}

TEST_CASE("a module for a processor is preferred unless a device is asked for", "[device]") {
  const TemporaryDirectory directory;
  plan::Package package = test::device_package();
  const plan::Package sample = test::sample_package();
  package.modules.push_back(sample.modules[0]);
  package.modules[1].rank = -5;
  package.files.insert(package.files.end(), sample.files.begin(), sample.files.end());
  test::write_device_package(package, directory.path());
  const auto target = [&](const runtime::LoadOptions& options) {
    return Model::load(directory.path(), options)->module().target;
  };
  CHECK(target({}) == "sample");
  CHECK(target({.target = "cpu"}) == "sample");
  CHECK(target({.target = "sample"}) == "sample");
  CHECK(target({.target = "opencl", .opened = test::fake_device()}) == "opencl");
  CHECK(target({.opened = test::fake_device()}) == "opencl");
  CHECK(Model::load(directory.path())->device() == nullptr);
}

TEST_CASE("a manifest that uses a value where it is not is refused", "[device]") {
  plan::Package package = test::device_package();
  plan::Function& main = main_of(package);
  const auto fails = [&](ErrorCode code, const std::string& text) {
    const Error error = error_of([&] { load(test::fake_device(), package); });
    CHECK(error.code() == code);
    CHECK_THAT(error.what(), Contains(text));
  };
  SECTION("no download") {
    main.steps.erase(main.steps.begin() + 1);
    fails(ErrorCode::corrupt, "value 'a' is used on the host, but it was written on the device");
  }
  SECTION("no upload") {
    main.steps.erase(main.steps.begin() + 3);
    fails(ErrorCode::corrupt, "value 'b' is used on the device, but it was written on the host");
  }
  SECTION("a kernel of an unknown name") {
    package.modules[0].device_kernels[0].kernel = "k_other";
    fails(ErrorCode::corrupt, "no kernel 'k_other'");
  }
  SECTION("two entries of the same name") {
    package.modules[0].device_kernels.push_back(package.modules[0].device_kernels[0]);
    fails(ErrorCode::corrupt, "two entries 'add'");
  }
  SECTION("a device step in a module for a processor") {
    package.modules[0].device.reset();
    package.modules[0].device_kernels.clear();
    fails(ErrorCode::not_found, "no module for a device");
    const TemporaryDirectory directory;
    test::write_device_package(package, directory.path());
    CHECK_THAT(error_of([&] { Model::load(directory.path()); }).what(), Contains("the module is for none"));
  }
  SECTION("a device step inside a function") {
    plan::Function body;
    body.name = "body";
    body.values = {main.values[0], main.values[4]};
    body.inputs = {0};
    body.outputs = {1};
    body.steps = {main.steps[0]};
    body.steps[0].outputs[0].value = 1;
    package.modules[0].functions.push_back(body);
    fails(ErrorCode::unsupported, "outside of branches, loops and calls");
  }
}
