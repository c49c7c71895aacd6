#include "runtime/opencl/opencl.hpp"

#include <array>
#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>
#include <thread>

#include "tests/runtime/faulty_opencl.hpp"
#include "tests/runtime/opencl_bench.hpp"

// What OpenCL devices compute, and that they do it in order.
using namespace heddle;
using namespace heddle::test;

TEST_CASE("OpenCL devices tell their limits", "[opencl]") {
  const DeviceList list = list_opencl_devices();
  INFO(list.reason);
  REQUIRE_FALSE(list.devices.empty());
  for (const DeviceInfo& device : list.devices) {
    CHECK(device.api == DeviceApi::opencl);
    CHECK_FALSE(device.name.empty());
    CHECK_FALSE(device.driver.empty());
    CHECK(device.memory_bytes >= device.most_allocation_bytes);
    CHECK(device.most_allocation_bytes >= std::uint64_t{1} << 20);
    CHECK(device.alignment >= 256);
    CHECK((device.alignment & (device.alignment - 1)) == 0);
    CHECK(device.block_threads >= 64);
    CHECK(device.shared_bytes >= 16 << 10);
    CHECK(device.int8);
  }
}

TEST_CASE("OpenCL kernels take buffers and scalars of several types", "[opencl]") {
  Bench bench;
  const auto x = bench.memory(ramp(100)), y = bench.memory(std::vector<float>(100, -1));
  bench.run({bench.launch("scale_add", 7, 16,
                          {buffer(*x), buffer(*y), scalar(2.5F), scalar(std::int32_t{-3}), scalar(std::uint8_t{201}),
                           scalar(std::uint16_t{99})})});
  const auto result = bench.values<float>(*y);
  for (std::size_t i = 0; i < 99; ++i) CHECK(result[i] == 2.5F * static_cast<float>(i) - 3 + 100.5F);
  CHECK(result[99] == -1);

  const std::int64_t large = std::int64_t{1} << 40;
  const auto longs = bench.memory(std::vector<std::int64_t>{1, 2, 3, 4});
  bench.run({bench.launch("add_long", 1, 4, {buffer(*longs), buffer(*longs), scalar(large)})});
  CHECK(bench.values<std::int64_t>(*longs) == std::vector<std::int64_t>{large + 1, large + 2, large + 3, large + 4});
}

TEST_CASE("OpenCL kernels see three dimensions of blocks and threads", "[opencl]") {
  Bench bench;
  const auto y = bench.memory(std::vector<std::int32_t>(6 * 4 * 5, -1));
  Launch launch = bench.launch("number", 0, 0, {buffer(*y)});
  launch.blocks = {2, 2, 5};
  launch.threads = {3, 2, 1};
  bench.run({launch});
  const auto result = bench.values<std::int32_t>(*y);
  for (int z = 0; z < 5; ++z)
    for (int row = 0; row < 4; ++row)
      for (int x = 0; x < 6; ++x)
        CHECK(result[static_cast<std::size_t>((z * 4 + row) * 6 + x)] == 10000 * z + 100 * row + x);
}

TEST_CASE("OpenCL kernels share memory of a size known at launch, and of fixed size", "[opencl]") {
  Bench bench;
  const auto x = bench.memory(ramp(192)), y = bench.memory(std::vector<float>(192));
  const Launch small = bench.launch("reverse", 12, 16, {buffer(*x), buffer(*y)}, 16 * sizeof(float));
  const Launch large = bench.launch("reverse", 3, 64, {buffer(*y), buffer(*x)}, 64 * sizeof(float));
  bench.run({small, large});
  const auto once = bench.values<float>(*y), twice = bench.values<float>(*x);
  for (std::size_t i = 0; i < 192; ++i) {
    REQUIRE(once[i] == static_cast<float>(i / 16 * 16 + 15 - i % 16));
    REQUIRE(twice[i] == once[i / 64 * 64 + 63 - i % 64]);
  }
  bench.run({bench.launch("fixed", 1, 192, {buffer(*x)})});
  const auto reversed = bench.values<float>(*x);
  for (std::size_t i = 0; i < 192; ++i) REQUIRE(reversed[i] == twice[191 - i]);
}

TEST_CASE("OpenCL launches that depend on each other take effect in order, at every replay", "[opencl]") {
  Bench bench;
  const std::size_t n = 256;
  const auto a = bench.memory(ramp(n)), b = bench.memory(std::vector<float>(n));
  std::vector<Launch> launches;
  for (int i = 0; i < 100; ++i) {
    Memory &from = i % 2 == 0 ? *a : *b, &to = i % 2 == 0 ? *b : *a;
    // Neither scaling nor adding commutes with the other.
    launches.push_back(
        bench.launch("scale_add", 4, 64,
                     {buffer(from), buffer(to), scalar(i % 3 == 0 ? 0.5F : 1.25F), scalar(std::int32_t{i % 7}),
                      scalar(std::uint8_t{2}), scalar(static_cast<std::uint16_t>(n))}));
  }
  std::vector<float> expected = ramp(n);
  const auto program = bench.device->record({.launches = launches});
  for (int replay = 0; replay < 3; ++replay) {
    program->submit();
    program->wait();
    for (float& x : expected)
      for (int i = 0; i < 100; ++i) x = x * (i % 3 == 0 ? 0.5F : 1.25F) + static_cast<float>(i % 7) + 1;
    const auto result = bench.values<float>(*a);
    for (std::size_t i = 0; i < n; ++i) REQUIRE(result[i] == Approx(expected[i]).epsilon(1e-5));
  }
}

TEST_CASE("OpenCL launches work in place and on parts of one memory", "[opencl]") {
  Bench bench;
  const std::uint64_t step = bench.device->info().alignment;
  const auto part = static_cast<std::size_t>(step / sizeof(std::int32_t));
  const auto memory = bench.memory(std::vector<std::int32_t>(4 * part, 1000));
  const auto increment = [&](std::uint64_t offset, std::uint64_t bytes, std::int32_t by) {
    return bench.launch("increment", 1, static_cast<std::uint32_t>(bytes / sizeof(std::int32_t)),
                        {buffer(*memory, offset, bytes), scalar(by)});
  };
  // Parts that overlap, one after the other, and an odd length.
  bench.run({increment(step, step, 1), increment(step, 2 * step, 10), increment(0, 2 * step, 100),
             increment(3 * step, 12, 5)});
  const auto result = bench.values<std::int32_t>(*memory);
  for (std::size_t i = 0; i < 4 * part; ++i) {
    const std::size_t which = i / part;
    const std::int32_t more[] = {100, 111, 10, i % part < 3 ? 5 : 0};
    REQUIRE(result[i] == 1000 + more[which]);
  }
  check_error(ErrorCode::internal, "multiples of", [&] { bench.run({increment(step / 2, step, 1)}); });
  check_error(ErrorCode::internal, "outside", [&] { bench.run({increment(3 * step, 2 * step, 1)}); });
}

TEST_CASE("OpenCL kernels keep NaN and infinity", "[opencl]") {
  Bench bench;
  const float infinity = std::numeric_limits<float>::infinity();
  const auto x = bench.memory(std::vector<float>{1, infinity, -infinity, std::nanf("")});
  const auto y = bench.memory(std::vector<std::int32_t>(4));
  bench.run({bench.launch("special", 1, 4, {buffer(*x), buffer(*y)})});
  CHECK(bench.values<std::int32_t>(*y) == std::vector<std::int32_t>{0, 10, 10, 13});
}

TEST_CASE("OpenCL programs copy through staging memory, whose bytes change between runs", "[opencl]") {
  Bench bench;
  const std::size_t n = 64;
  const std::uint64_t bytes = n * sizeof(float);
  const auto x = bench.device->allocate(1024), y = bench.device->allocate(1024);
  const auto staging = bench.device->allocate_staging(2 * bytes + 4);
  REQUIRE(staging->host() != nullptr);
  auto* in = reinterpret_cast<float*>(staging->host() + 4);
  const auto* out = in + n;
  const auto program = bench.device->record(
      {.uploads = {{.from = {staging.get(), 4, bytes}, .to = {x.get(), 512, bytes}}},
       .launches = {bench.launch("scale_add", 1, 64,
                                 {buffer(*x, 512, bytes), buffer(*y, 0, bytes), scalar(2.0F), scalar(std::int32_t{1}),
                                  scalar(std::uint8_t{0}), scalar(static_cast<std::uint16_t>(n))})},
       .downloads = {{.from = {y.get(), 0, bytes}, .to = {staging.get(), 4 + bytes, bytes}}}});
  for (int run = 0; run < 5; ++run) {
    for (std::size_t i = 0; i < n; ++i) in[i] = static_cast<float>(100 * run) + static_cast<float>(i);
    program->submit();
    program->wait();
    for (std::size_t i = 0; i < n; ++i) REQUIRE(out[i] == 2 * in[i] + 1);
  }
  check_error(ErrorCode::internal, "a copy from",
              [&] { bench.device->record({.uploads = {{.from = {staging.get(), 0, 8}, .to = {x.get(), 0, 12}}}}); });
}

TEST_CASE("an OpenCL device's memory that the host sees holds what kernels see", "[opencl]") {
  Bench bench;
  const auto x = bench.device->allocate(64 * sizeof(std::int32_t));
  if (x->host() == nullptr) {
    // Then the device is one of its own, as tests that take HEDDLE_DEVICE may meet.
    CHECK(bench.device->info().kind != DeviceInfo::Kind::cpu);
    return;
  }
  auto* host = reinterpret_cast<std::int32_t*>(x->host());
  const auto program =
      bench.device->record({.launches = {bench.launch("increment", 1, 64, {buffer(*x), scalar(std::int32_t{3})})}});
  for (int run = 0; run < 20; ++run) {
    for (int i = 0; i < 64; ++i) host[i] = run * i;
    program->submit();
    program->wait();
    for (int i = 0; i < 64; ++i) REQUIRE(host[i] == run * i + 3);
  }
}

TEST_CASE("OpenCL memory is freed and had again", "[opencl]") {
  Bench bench;
  const std::uint64_t bytes = std::uint64_t{64} << 20;
  // In all, more than the device has.
  const auto rounds = static_cast<int>(std::min<std::uint64_t>(bench.device->info().memory_bytes / bytes + 2, 200));
  for (int round = 0; round < rounds; ++round) {
    const auto memory = bench.device->allocate(bytes);
    const std::int32_t value = round;
    std::int32_t back = -1;
    bench.device->write(*memory, bytes - 4, &value, 4);
    bench.device->read(*memory, bytes - 4, &back, 4);
    REQUIRE(back == round);
  }
  const auto empty = bench.device->allocate(0);
  CHECK(empty->bytes() == 0);
}

TEST_CASE("OpenCL programs without launches, and launches without blocks, complete", "[opencl]") {
  Bench bench;
  const auto nothing = bench.device->record({});
  nothing->wait();
  nothing->submit();
  nothing->wait();
  const auto x = bench.memory(std::vector<std::int32_t>(64, 7));
  for (const bool timestamps : {false, true}) {
    const auto program =
        bench.device->record({.launches = {bench.launch("increment", 0, 64, {buffer(*x), scalar(std::int32_t{1})})},
                              .timestamps = timestamps});
    program->submit();
    program->wait();
    CHECK(program->intervals().size() == (timestamps ? 1 : 0));
  }
  CHECK(bench.values<std::int32_t>(*x) == std::vector<std::int32_t>(64, 7));
  // A part of no bytes is an argument like others.
  bench.run({bench.launch("increment", 0, 64, {buffer(*x, x->bytes(), 0), scalar(std::int32_t{1})})});
}

TEST_CASE("OpenCL timestamps tell a launch's start and duration", "[opencl]") {
  Bench bench;
  const auto x = bench.memory(std::vector<std::int32_t>(1 << 16)), y = bench.memory(std::vector<std::int32_t>(64));
  const Launch large = bench.launch("increment", 1024, 64, {buffer(*x), scalar(std::int32_t{1})});
  const Launch small = bench.launch("increment", 1, 64, {buffer(*y), scalar(std::int32_t{1})});
  const auto plain = bench.device->record({.launches = {small, small}});
  const auto measured = bench.device->record({.launches = {small, large, small}, .timestamps = true});
  CHECK(measured->intervals().size() == 3);
  // The two programs use different queues of the device, and each must see what the other did.
  for (int run = 1; run <= 10; ++run) {
    plain->submit();
    measured->submit();
    plain->wait();
    measured->wait();
    const auto intervals = measured->intervals();
    REQUIRE(intervals.size() == 3);
    CHECK(intervals[0].start_ns == 0);
    for (std::size_t i = 0; i < 3; ++i) CHECK(intervals[i].duration_ns > 0);
    for (std::size_t i = 1; i < 3; ++i)
      CHECK(intervals[i].start_ns >= intervals[i - 1].start_ns + intervals[i - 1].duration_ns);
    REQUIRE(bench.values<std::int32_t>(*y) == std::vector<std::int32_t>(64, 4 * run));
  }
  CHECK(plain->intervals().empty());
  CHECK(bench.values<std::int32_t>(*x) == std::vector<std::int32_t>(1 << 16, 10));
}

TEST_CASE("threads share an OpenCL device", "[opencl]") {
  const auto device = open();
  std::atomic<int> wrong = 0;
  const auto work = [&](int seed) {
    Bench bench{.device = device};
    const auto x = bench.memory(std::vector<std::int32_t>(256, seed));
    const auto program = device->record({.launches = {
                                             bench.launch("increment", 4, 64, {buffer(*x), scalar(std::int32_t{1})}),
                                             bench.launch("increment", 4, 64, {buffer(*x), scalar(seed)}),
                                         }});
    for (int run = 1; run <= 100; ++run) {
      program->submit();
      program->wait();
      if (run % 20 == 0 && bench.values<std::int32_t>(*x) != std::vector<std::int32_t>(256, seed + run * (seed + 1)))
        ++wrong;
    }
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) threads.emplace_back(work, t + 1);
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("OpenCL programs, memory and code outlive their device's handle", "[opencl]") {
  Bench bench;
  const auto staging = bench.device->allocate_staging(256);
  const auto x = bench.memory(std::vector<std::int32_t>(64, 1));
  const auto program =
      bench.device->record({.launches = {bench.launch("increment", 1, 64, {buffer(*x), scalar(std::int32_t{1})})},
                            .downloads = {{.from = {x.get(), 0, 256}, .to = {staging.get(), 0, 256}}}});
  bench.device.reset();
  program->submit();
  program->wait();
  CHECK(reinterpret_cast<const std::int32_t*>(staging->host())[63] == 2);
}

TEST_CASE("OpenCL kernels replayed from a command buffer do the same", "[opencl]") {
  // A discrete device has memory of its own and takes command buffers where its driver offers them.
  const auto fault = GENERATE(FaultyOpenCl::works, FaultyOpenCl::discrete);
  const char* wanted = GENERATE("0", "1");
  const FaultyOpenCl loader(fault);
  const Environment environment("HEDDLE_OPENCL_COMMAND_BUFFERS", wanted);
  Bench bench;
  const auto x = bench.device->allocate(256);
  if (fault == FaultyOpenCl::discrete) {
    CHECK(bench.device->info().kind == DeviceInfo::Kind::discrete);
    CHECK(x->host() == nullptr);
  }
  const auto staging = bench.device->allocate_staging(512);
  auto* host = reinterpret_cast<std::int32_t*>(staging->host());
  std::vector<Launch> launches;
  for (int i = 0; i < 10; ++i)
    launches.push_back(bench.launch("increment", i == 5 ? 0 : 1, 64, {buffer(*x), scalar(std::int32_t{i})}));
  const auto program =
      bench.device->record({.uploads = {{.from = {staging.get(), 0, 256}, .to = {x.get(), 0, 256}}},
                            .launches = launches,
                            .downloads = {{.from = {x.get(), 0, 256}, .to = {staging.get(), 256, 256}}}});
  for (int run = 0; run < 10; ++run) {
    for (int i = 0; i < 64; ++i) host[i] = 1000 * run + i;
    program->submit();
    program->wait();
    for (int i = 0; i < 64; ++i) REQUIRE(host[64 + i] == host[i] + 40);
  }
}
