#include "runtime/vulkan/vulkan.hpp"

#include <catch2/catch.hpp>
#include <numeric>
#include <thread>

#include <fmt/format.h>

#include "base/error.hpp"
#include "runtime/vulkan/program.hpp"
#include "tests/runtime/vulkan_kernels.hpp"

using namespace heddle;
using namespace heddle::test;
using runtime::gpu::Commands;
using runtime::gpu::Device;
using runtime::gpu::DeviceInfo;
using runtime::gpu::Launch;
using runtime::gpu::Memory;
using runtime::gpu::Program;
using runtime::gpu::vulkan::VulkanProgram;

namespace {

std::vector<float> ramp(std::size_t count, float first = 0) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), first);
  return values;
}

int barriers(const Program& program) { return dynamic_cast<const VulkanProgram&>(program).barriers(); }

}  // namespace

TEST_CASE("devices are listed with their limits", "[vulkan]") {
  const Silence silence;
  const auto list = runtime::gpu::list_vulkan_devices();
  INFO(list.reason);
  REQUIRE_FALSE(list.devices.empty());
  for (const DeviceInfo& device : list.devices) {
    CHECK(device.api == DeviceApi::vulkan);
    CHECK_FALSE(device.name.empty());
    CHECK_FALSE(device.driver.empty());
    CHECK(device.memory_bytes > 0);
    CHECK(device.most_buffer_bytes >= std::uint64_t{1} << 27);  // Vulkan's least
    CHECK(device.most_allocation_bytes >= device.most_buffer_bytes);
    CHECK(device.alignment >= 256);
    CHECK(device.block_threads >= 128);
    CHECK(device.shared_bytes >= 16384);
  }
}

TEST_CASE("scalars come from the launch, the block's width too", "[vulkan]") {
  const Silence silence;
  const bool own_memory = GENERATE(false, true);
  const auto device = open_again(own_memory);
  const auto memory = device->allocate(1 << 16);
  CHECK((memory->host() == nullptr || !own_memory));
  put(*device, *memory, 0, ramp(1000));
  put(*device, *memory, 8192, std::vector<float>(1024, -1));
  put(*device, *memory, 16384, std::vector<float>(1024, -1));

  const Built kernel(scale_add(), *device);
  Commands commands;
  const auto launch = [&](std::uint32_t threads, std::uint64_t out, std::uint32_t n, float scale, float add) {
    commands.launches.push_back(
        kernel((n + threads - 1) / threads, threads,
               {buffer(*memory, 0, 4000), buffer(*memory, out, 4 * n), scalar(scale), scalar(add), scalar(n)}));
  };
  launch(64, 8192, 1000, 2, 0.5F);
  launch(96, 16384, 777, -1, 3);
  run(*device, commands);

  const auto first = take<float>(*device, *memory, 8192, 1024);
  const auto second = take<float>(*device, *memory, 16384, 1024);
  for (std::size_t i = 0; i < 1024; ++i) {
    const auto x = static_cast<float>(i);
    CHECK(first[i] == (i < 1000 ? 2 * x + 0.5F : -1));
    CHECK(second[i] == (i < 777 ? 3 - x : -1));
  }
}

TEST_CASE("scalars of several sizes lie where the code reads them", "[vulkan]") {
  const Silence silence;
  const auto device = vulkan_device();
  if (!device->info().int8 || !device->info().int16) return;
  const auto memory = device->allocate(256);
  const Built kernel(mixed_scalars(), *device);
  run(*device, {.launches = {kernel(1, 64,
                                    {buffer(*memory, 0, 256), scalar(std::int32_t{-100000}),
                                     scalar(std::int16_t{-2000}), scalar(std::int8_t{-30})})}});
  CHECK(take<std::int32_t>(*device, *memory, 0, 64) == std::vector<std::int32_t>(64, -102030));
}

TEST_CASE("shared memory is as large as the launch says", "[vulkan]") {
  const Silence silence;
  const auto device = vulkan_device();
  const auto memory = device->allocate(1 << 16);
  put(*device, *memory, 0, ramp(1024));
  const Built kernel(reverse(), *device);
  for (const std::uint32_t threads : {32U, 128U, 64U, 128U}) {
    run(*device, {.launches = {kernel(1024 / threads, threads, {buffer(*memory, 0, 4096), buffer(*memory, 4096, 4096)},
                                      4 * threads)}});
    const auto result = take<float>(*device, *memory, 4096, 1024);
    for (std::size_t i = 0; i < 1024; ++i) {
      const std::size_t block = i / threads * threads;
      CHECK(result[i] == static_cast<float>(block + threads - 1 - (i - block)));
    }
  }
}

TEST_CASE("dependent kernels run in order, a barrier before each", "[vulkan]") {
  const Silence silence;
  const auto device = vulkan_device();
  const auto memory = device->allocate(1 << 16);
  const std::uint32_t n = 4096;
  const Built kernel(scale_add(), *device);
  Commands commands;
  for (int i = 0; i < 100; ++i) {
    const std::uint64_t from = i % 2 == 0 ? 0 : n * 4;
    commands.launches.push_back(scale_add_of(kernel, *memory, from, n * 4 - from, n, 1, static_cast<float>(i)));
  }
  const auto program = device->record(commands);
  CHECK(barriers(*program) == 99);
  for (int repetition = 0; repetition < 5; ++repetition) {
    put(*device, *memory, 0, ramp(n));
    program->submit();
    program->wait();
    CHECK(take<float>(*device, *memory, 0, n) == ramp(n, 99 * 50));
  }
}

TEST_CASE("an in-place kernel works on one buffer", "[vulkan]") {
  const Silence silence;
  const auto device = vulkan_device();
  const auto memory = device->allocate(1024);
  put(*device, *memory, 0, std::vector<std::uint32_t>(256, 5));
  const Built kernel(step(), *device);
  Commands commands;
  for (int i = 0; i < 10; ++i) commands.launches.push_back(kernel(4, 64, {buffer(*memory, 0, 1024)}));
  run(*device, commands);
  CHECK(take<std::uint32_t>(*device, *memory, 0, 256) == std::vector<std::uint32_t>(256, 6 * 1024 - 1));
}

TEST_CASE("kernels that share no written byte have no barrier between", "[vulkan]") {
  const Silence silence;
  const auto device = vulkan_device();
  const auto memory = device->allocate(1 << 20);
  put(*device, *memory, 0, ramp(64));
  const Built kernel(scale_add(), *device);
  Commands commands;
  for (std::uint64_t i = 1; i <= 100; ++i)
    commands.launches.push_back(scale_add_of(kernel, *memory, 0, i * 256, 64, static_cast<float>(i), 0));
  const auto program = device->record(commands);
  CHECK(barriers(*program) == 0);
  program->submit();
  program->wait();
  for (std::uint64_t i = 1; i <= 100; ++i)
    CHECK(take<float>(*device, *memory, i * 256, 64)[3] == 3 * static_cast<float>(i));
}

TEST_CASE("memory may be used again for another value", "[vulkan]") {
  const Silence silence;
  const auto device = vulkan_device();
  const auto memory = device->allocate(1 << 16);
  put(*device, *memory, 0, ramp(256));
  const Built kernel(scale_add(), *device);
  // b = a + 1 at 1024; c = b + 1 at 2048; d = c * 2 where b was and partly beyond; e = d + 1 where a was.
  const auto program = device->record({.launches = {scale_add_of(kernel, *memory, 0, 1024, 256, 1, 1),
                                                    scale_add_of(kernel, *memory, 1024, 2048, 256, 1, 1),
                                                    scale_add_of(kernel, *memory, 2048, 1280, 192, 2, 0),
                                                    scale_add_of(kernel, *memory, 1280, 0, 192, 1, 1)}});
  CHECK(barriers(*program) == 3);
  program->submit();
  program->wait();
  const auto result = take<float>(*device, *memory, 0, 192);
  for (std::size_t i = 0; i < 192; ++i) CHECK(result[i] == 2 * static_cast<float>(i + 2) + 1);
}

TEST_CASE("a missing barrier is reported by the validation layer", "[vulkan]") {
  const auto device = vulkan_device();
  const auto memory = device->allocate(4096);
  Kernel lies = scale_add();
  lies.manifest.access = "rr";  // it writes its second buffer
  const Built kernel(lies, *device);
  const std::uint64_t before = runtime::gpu::validation_messages();
  const auto program = device->record({.launches = {scale_add_of(kernel, *memory, 0, 1024, 64, 1, 1),
                                                    scale_add_of(kernel, *memory, 1024, 2048, 64, 1, 1)}});
  CHECK(barriers(*program) == 0);
  CHECK(runtime::gpu::validation_messages() > before);
}

TEST_CASE("inputs and outputs go through staging memory", "[vulkan]") {
  const Silence silence;
  const auto device = open_again(GENERATE(false, true));
  const auto memory = device->allocate(1 << 16);
  const auto staging = device->allocate_staging(1 << 16);
  REQUIRE(staging->host() != nullptr);
  auto* host = reinterpret_cast<float*>(staging->host());
  const Built kernel(scale_add(), *device);
  // Two pieces up, from offsets that only the host's side may have, and two down.
  const auto program = device->record({.uploads = {{{staging.get(), 4, 400}, {memory.get(), 0, 400}},
                                                   {{staging.get(), 404, 624}, {memory.get(), 400, 624}}},
                                       .launches = {scale_add_of(kernel, *memory, 0, 1024, 256, 3, 0)},
                                       .downloads = {{{memory.get(), 1024, 512}, {staging.get(), 8192, 512}},
                                                     {{memory.get(), 1536, 512}, {staging.get(), 8192 + 516, 512}}}});
  for (int repetition = 0; repetition < 20; ++repetition) {
    for (int i = 0; i < 256; ++i) host[1 + i] = static_cast<float>(i + repetition);
    program->submit();
    program->wait();
    for (int i = 0; i < 256; ++i) REQUIRE(host[2048 + i + (i < 128 ? 0 : 1)] == 3 * static_cast<float>(i + repetition));
  }
}

TEST_CASE("copies to the same bytes keep their order", "[vulkan]") {
  const Silence silence;
  const auto device = open_again(true);
  const auto memory = device->allocate(256);
  const auto staging = device->allocate_staging(1024);
  auto* host = reinterpret_cast<std::uint32_t*>(staging->host());
  std::fill_n(host, 64, 1U);
  std::fill_n(host + 64, 64, 2U);
  const auto program = device->record({.uploads = {{{staging.get(), 0, 256}, {memory.get(), 0, 256}},
                                                   {{staging.get(), 256, 128}, {memory.get(), 64, 128}}},
                                       .downloads = {{{memory.get(), 0, 256}, {staging.get(), 512, 256}}}});
  CHECK(barriers(*program) == 1);
  program->submit();
  program->wait();
  for (int i = 0; i < 64; ++i) CHECK(host[128 + i] == (i >= 16 && i < 48 ? 2 : 1));
}

TEST_CASE("large memory is written and read in pieces", "[vulkan]") {
  const Silence silence;
  const auto device = open_again(true);
  std::vector<std::uint32_t> data((36 << 20) / 4 + 3);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::uint32_t>(i * 2654435761U);
  const auto memory = device->allocate(data.size() * 4 + 12);
  put(*device, *memory, 12, data);
  CHECK(take<std::uint32_t>(*device, *memory, 12, data.size()) == data);
  CHECK_THROWS_AS(take<std::uint32_t>(*device, *memory, 16, data.size()), Error);
}

TEST_CASE("programs that wait in the queue take effect in order", "[vulkan]") {
  const Silence silence;
  const auto device = vulkan_device();
  const auto memory = device->allocate(1 << 16);
  put(*device, *memory, 0, ramp(1024));
  const Built kernel(scale_add(), *device);
  std::vector<std::unique_ptr<Program>> programs;
  for (int i = 0; i < 64; ++i) {
    const std::uint64_t from = i % 2 == 0 ? 0 : 4096;
    programs.push_back(device->record({.launches = {scale_add_of(kernel, *memory, from, 4096 - from, 1024, 1, 1)}}));
  }
  for (int repetition = 0; repetition < 3; ++repetition) {
    for (const auto& program : programs) program->submit();
    for (const auto& program : programs) program->wait();
  }
  CHECK(take<float>(*device, *memory, 0, 1024) == ramp(1024, 3 * 64));
  // One that nobody waits for completes before its memory goes.
  programs[0]->submit();
  CHECK_THROWS_AS(programs[0]->submit(), Error);
  programs.clear();
}

TEST_CASE("threads run their programs on one device", "[vulkan]") {
  const Silence silence;
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 2; ++t)
    threads.emplace_back([&wrong, t] {
      const auto device = vulkan_device();
      const Built kernel(scale_add(), *device);
      for (int round = 0; round < 4; ++round) {
        const auto memory = device->allocate(1 << 16);
        const auto program = device->record({.launches = {scale_add_of(kernel, *memory, 0, 8192, 512, 2, 1),
                                                          scale_add_of(kernel, *memory, 8192, 16384, 512, 1, 1)}});
        for (int i = 0; i < 50; ++i) {
          const auto first = static_cast<float>(1000 * t + i);
          put(*device, *memory, 0, ramp(512, first));
          program->submit();
          program->wait();
          if (take<float>(*device, *memory, 16384, 512)[7] != 2 * (first + 7) + 2) ++wrong;
        }
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("launches without a block do nothing", "[vulkan]") {
  const Silence silence;
  const auto device = vulkan_device();
  const auto memory = device->allocate(256);
  put(*device, *memory, 0, std::vector<std::uint32_t>(64, 5));
  const Built kernel(step(), *device);
  const auto program = device->record({.launches = {kernel(0, 64, {buffer(*memory, 0, 256)})}, .timestamps = true});
  program->submit();
  program->wait();
  CHECK(take<std::uint32_t>(*device, *memory, 0, 64) == std::vector<std::uint32_t>(64, 5));
  run(*device, {});
}

TEST_CASE("timestamps tell when each kernel ran", "[vulkan]") {
  const Silence silence;
  const auto device = vulkan_device();
  const auto memory = device->allocate(1 << 20);
  const Built kernel(step(), *device);
  Commands commands;
  for (int i = 0; i < 10; ++i) commands.launches.push_back(kernel(4096, 64, {buffer(*memory, 0, 1 << 20)}));
  const auto untimed = device->record(commands);
  commands.timestamps = true;
  const auto program = device->record(commands);
  CHECK(program->intervals().empty());  // not executed yet
  for (int repetition = 0; repetition < 2; ++repetition) {
    program->submit();
    program->wait();
    const auto intervals = program->intervals();
    REQUIRE(intervals.size() == 10);
    CHECK(intervals[0].start_ns == 0);
    for (std::size_t i = 0; i < intervals.size(); ++i) {
      CHECK(intervals[i].duration_ns > 0);
      CHECK(intervals[i].duration_ns < 10'000'000'000);
      if (i > 0) CHECK(intervals[i].start_ns >= intervals[i - 1].start_ns + intervals[i - 1].duration_ns);
    }
  }
  untimed->submit();
  untimed->wait();
  CHECK(untimed->intervals().empty());
}
