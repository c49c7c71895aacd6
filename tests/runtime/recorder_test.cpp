#include "runtime/gpu/recorder.hpp"

#include <catch2/catch.hpp>

#include "tests/runtime/fake_device.hpp"

using namespace heddle;
using namespace heddle::runtime;
using Catch::Matchers::Contains;
using gpu::Address;
using gpu::Recorder;
using gpu::ScratchPlan;

namespace {

/// A recorder of one kernel "k" with an entry "e" of two buffers, for memories of 1 KiB.
struct Bench {
  explicit Bench(const gpu::DeviceInfo& device = test::FakeDevice::typical())
      : info(device), recorder(call, entries(), info, bytes) {}

  gpu::Entries& entries() {
    kernel = {.kernel = "k", .entry = "e", .file = "k.cl", .access = "rw"};
    all.add(kernel, nullptr);
    return all;
  }

  int launch(halide_buffer_t* in, halide_buffer_t* out, std::array<int, 3> blocks = {4, 1, 1},
             std::array<int, 3> threads = {64, 1, 1}, const char* entry = "e", int shared_bytes = 0) {
    const std::int16_t number = 7;
    const std::size_t sizes[] = {8, 8, sizeof(number), 0};
    void* arguments[] = {in, out, const_cast<std::int16_t*>(&number), nullptr};
    const std::int8_t is_buffer[] = {1, 1, 0, 0};
    return recorder.launch("k", entry, blocks, threads, shared_bytes, sizes, arguments, is_buffer);
  }

  gpu::DeviceInfo info;
  plan::DeviceKernel kernel;
  gpu::Entries all;
  KernelCall call;
  std::vector<std::uint64_t> bytes = {0, 1024, 1024};
  Recorder recorder;
};

struct Buffer : halide_buffer_t {
  Buffer(Address address, std::vector<halide_dimension_t> dimensions) : halide_buffer_t{}, dims(std::move(dimensions)) {
    device = address.encoded();
    type = {halide_type_float, 32};
    this->dimensions = static_cast<int>(dims.size());
    dim = dims.data();
  }
  std::vector<halide_dimension_t> dims;
};

}  // namespace

TEST_CASE("addresses are never 0, and a crop is an addition", "[device]") {
  CHECK(Address{0, 0}.encoded() != 0);
  const Address moved = Address::decode(Address{3, 100}.encoded() + 28);
  CHECK(moved.memory == 3);
  CHECK(moved.offset == 128);
  // Before a memory's begin lies no other memory's begin.
  CHECK(Address::decode(Address{3, 0}.encoded() - 4).offset > (std::uint64_t{1} << 40));
}

TEST_CASE("scratch memory that was released is used again", "[device]") {
  ScratchPlan scratch(256);
  const auto a = scratch.allocate(100), b = scratch.allocate(300), c = scratch.allocate(0);
  CHECK(a == 0);
  CHECK(b == 256);
  CHECK(c == 768);
  CHECK(scratch.bytes() == 1024);
  CHECK(scratch.release(b));
  CHECK_FALSE(scratch.release(b));
  CHECK(scratch.allocate(513) == 1024);  // the hole has 512
  CHECK(scratch.allocate(512) == 256);
  CHECK(scratch.bytes() == 1024 + 768);
}

TEST_CASE("a launch keeps what the host code gave it", "[device]") {
  Bench bench;
  Buffer in({1, 256}, {{0, 3, 1}, {0, 5, 10}}), out({2, 0}, {{0, 1, 1}});
  REQUIRE(bench.launch(&in, &out, {4, 5, 6}, {8, 2, 1}) == 0);
  const std::vector<Recorder::Place> places = {{}, {nullptr, 4096}, {nullptr, 8192}};
  const auto launches = bench.recorder.placed(places);
  REQUIRE(launches.size() == 1);
  const gpu::Launch& launch = launches[0];
  CHECK(launch.kernel == &bench.kernel);
  CHECK(launch.blocks == std::array<std::uint32_t, 3>{4, 5, 6});
  CHECK(launch.threads == std::array<std::uint32_t, 3>{8, 2, 1});
  REQUIRE(launch.arguments.size() == 3);
  // 43 floats, up to the next multiple of what one access reads.
  CHECK(launch.arguments[0].buffer.offset == 4096 + 256);
  CHECK(launch.arguments[0].buffer.bytes == 176);
  CHECK(launch.arguments[1].buffer.offset == 8192);
  CHECK(launch.arguments[1].buffer.bytes == 16);
  CHECK_FALSE(launch.arguments[2].is_buffer);
  CHECK(launch.arguments[2].scalar_bytes == 2);
  CHECK(launch.arguments[2].scalar[0] == std::byte{7});
}

TEST_CASE("a binding ends with its memory", "[device]") {
  Bench bench;
  bench.bytes[1] = 256 + 12;  // 3 floats behind an aligned offset
  Buffer in({1, 256}, {{0, 3, 1}}), out({2, 0}, {{0, 1, 1}});
  REQUIRE(bench.launch(&in, &out) == 0);
  CHECK(bench.recorder.placed(std::vector<Recorder::Place>(3))[0].arguments[0].buffer.bytes == 12);
}

TEST_CASE("shared memory of fixed size is not counted twice", "[device]") {
  Bench bench;
  Buffer in({1, 0}, {{0, 8, 1}}), out({2, 0}, {{0, 8, 1}});
  const std::int64_t most = bench.info.shared_bytes;
  bench.kernel.shared = {{.constant = 0, .element_bytes = 1, .elements = most - 64}, {.constant = 7}};
  REQUIRE(bench.launch(&in, &out, {1, 1, 1}, {1, 1, 1}, "e", static_cast<int>(most)) == 0);
  CHECK(bench.recorder.placed(std::vector<Recorder::Place>(3))[0].shared_bytes == 64);
  CHECK(bench.launch(&in, &out, {1, 1, 1}, {1, 1, 1}, "e", static_cast<int>(most) + 1) != 0);
}

TEST_CASE("empty grids launch nothing", "[device]") {
  Bench bench;
  Buffer in({1, 0}, {{0, 0, 1}}), out({2, 0}, {{0, 0, 1}});
  CHECK(bench.launch(&in, &out, {0, 1, 1}) == 0);
  CHECK(bench.recorder.launches() == 0);
}

TEST_CASE("what cannot be recorded is an error of the call and of the recorder", "[device]") {
  gpu::DeviceInfo small = test::FakeDevice::typical();
  small.block_threads = 100;
  Bench bench(small);
  Buffer in({1, 0}, {{0, 8, 1}}), out({2, 0}, {{0, 8, 1}});
  std::string message;
  ErrorCode code = ErrorCode::internal;
  const auto fails = [&](int result, const std::string& text) {
    CHECK(result != 0);
    CHECK_THAT(bench.call.message(), Contains(text));
    try {
      bench.recorder.check();
      FAIL("the recorder has no error");
    } catch (const Error& error) {
      CHECK_THAT(error.what(), Contains(text));
      code = error.code();
    }
  };
  SECTION("an unknown entry") {
    fails(bench.launch(&in, &out, {1, 1, 1}, {1, 1, 1}, "other"), "'k' launches 'other'");
    CHECK(code == ErrorCode::corrupt);
  }
  SECTION("too many threads") {
    fails(bench.launch(&in, &out, {1, 1, 1}, {16, 16, 1}),
          "blocks of 16x16x1 threads are needed and fake has at most 100");
    CHECK(code == ErrorCode::unsupported);
  }
  SECTION("too much shared memory") {
    bench.kernel.shared = {{.constant = 0, .element_bytes = 4, .elements = 10000}};
    fails(bench.launch(&in, &out), "40000 bytes of shared memory");
    CHECK(code == ErrorCode::unsupported);
  }
  SECTION("a buffer at an odd place") {
    in.device += 64;
    fails(bench.launch(&in, &out), "begins 64 bytes into its memory");
    CHECK(code == ErrorCode::unsupported);
  }
  SECTION("a buffer that runs backwards") {
    in.dims[0].stride = -1;
    fails(bench.launch(&in, &out), "backwards");
    CHECK(code == ErrorCode::unsupported);
  }
  SECTION("a buffer that leaves its memory") {
    in.dims[0].extent = 257;
    fails(bench.launch(&in, &out), "1028 bytes from 0 on");
  }
  SECTION("a buffer without memory") {
    in.device = 0;
    fails(bench.launch(&in, &out), "without device memory");
  }
  SECTION("another number of buffers than the package says") {
    bench.kernel.access = "rrw";
    fails(bench.launch(&in, &out), "3 buffers");
    CHECK(code == ErrorCode::corrupt);
  }
  CHECK(bench.recorder.launches() == 0);
}

TEST_CASE("intermediates of kernels lie in the scratch memory", "[device]") {
  Bench bench;
  Buffer between({0, 0}, {{0, 100, 1}}), in({1, 0}, {{0, 8, 1}});
  between.device = 0;
  REQUIRE(bench.recorder.allocate(between) == 0);
  CHECK(Address::decode(between.device).memory == Recorder::scratch_memory);
  CHECK(bench.launch(&in, &between) == 0);
  CHECK(bench.recorder.release(between) == 0);
  CHECK(bench.recorder.scratch_bytes() == 512);
  CHECK(bench.recorder.release(between) != 0);
  // A kernel's own arguments are not its to release, which is no error.
  CHECK(bench.recorder.release(in) == 0);
}

TEST_CASE("device functions without a recorder are an error, not a crash", "[device]") {
  KernelCall call;
  Buffer buffer({1, 0}, {{0, 8, 1}});
  CHECK(kernel_table().device_allocate(&call, &buffer) != 0);
  CHECK_THAT(call.message(), Contains("is one for a device"));
}
