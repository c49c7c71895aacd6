#include <chrono>
#include <cstring>
#include <filesystem>

#include "base/file.hpp"
#include "tests/runtime/faulty_opencl.hpp"
#include "tests/runtime/opencl_bench.hpp"

// Building code for OpenCL devices, and what they refuse.
using namespace heddle;
using namespace heddle::test;

TEST_CASE("OpenCL C that the driver rejects is reported with its log", "[opencl]") {
  const auto device = open();
  check_error(ErrorCode::unsupported, "no_such_name", [&] {
    device->build(kernel_of("broken"), "__kernel void broken(__global int* x) { x[0] = no_such_name; }", "");
  });
  check_error(ErrorCode::unsupported, "broken_of_test",
              [&] { device->build(kernel_of("broken"), "not C at all", ""); });
  // The entries that there are.
  check_error(ErrorCode::unsupported, "scale_add", [&] { device->build(kernel_of("missing"), opencl_source, ""); });
}

TEST_CASE("OpenCL programs are built once for the entries that share a text", "[opencl]") {
  const FaultyOpenCl loader(FaultyOpenCl::works);
  Bench bench;
  const int before = loader.programs_from_source();
  const auto first = bench.device->build(kernel_of("increment"), opencl_source, "");
  const auto second = bench.device->build(kernel_of("reverse"), opencl_source, "");
  CHECK(loader.programs_from_source() == before + 1);
  bench.device->build(kernel_of("increment"), std::string(opencl_source) + "\n", "");
  CHECK(loader.programs_from_source() == before + 2);
}

TEST_CASE("OpenCL drivers build several programs at once, NVIDIA's one, unless told otherwise", "[opencl]") {
  FaultyOpenCl loader(FaultyOpenCl::works);
  CHECK(open()->most_build_threads() == 0);
  loader.set(FaultyOpenCl::nvidia);
  {
    const Environment unset("HEDDLE_OPENCL_BUILD_THREADS", nullptr);
    CHECK(open()->most_build_threads() == 1);
  }
  {
    const Environment wanted("HEDDLE_OPENCL_BUILD_THREADS", "3");
    CHECK(open()->most_build_threads() == 3);
  }
  const Environment wrong("HEDDLE_OPENCL_BUILD_THREADS", "many");
  check_error(ErrorCode::invalid_argument, "HEDDLE_OPENCL_BUILD_THREADS is 'many'", [&] { open(); });
}

TEST_CASE("OpenCL binaries are kept, and built anew when damaged or rejected", "[opencl]") {
  FaultyOpenCl loader(FaultyOpenCl::works);
  const TemporaryDirectory directory;
  const std::filesystem::path cache = directory.path() / "new";
  // Whether the program came from opencl_source, and that it works wherever it came from.
  const auto from_source = [&](const std::filesystem::path& where) {
    Bench bench;
    const int before = loader.programs_from_source();
    bench.codes["increment"] = bench.device->build(kernel_of("increment"), opencl_source, where.string());
    const auto x = bench.memory(std::vector<std::int32_t>(64, 5));
    bench.run({bench.launch("increment", 1, 64, {buffer(*x), scalar(std::int32_t{2})})});
    CHECK(bench.values<std::int32_t>(*x) == std::vector<std::int32_t>(64, 7));
    return loader.programs_from_source() != before;
  };
  CHECK(from_source(cache));
  std::vector<std::filesystem::path> files;
  for (const auto& file : std::filesystem::recursive_directory_iterator(cache))
    if (file.is_regular_file()) files.push_back(file.path());
  REQUIRE(files.size() == 1);
  CHECK_FALSE(from_source(cache));

  const std::string whole = read_file(files[0]);
  std::string flipped = whole;
  flipped[flipped.size() / 2] ^= 1;
  for (const std::string& damaged : {flipped, whole.substr(0, whole.size() / 2), whole.substr(0, 10), std::string()}) {
    write_file(files[0], damaged);
    CHECK(from_source(cache));
    CHECK_FALSE(from_source(cache));
  }
  loader.set(FaultyOpenCl::rejected_binary);
  CHECK(from_source(cache));
  loader.set(FaultyOpenCl::works);
  CHECK_FALSE(from_source(cache));

  // Nothing can be written below a file; the program works all the same.
  CHECK(from_source(files[0] / "below"));
}

TEST_CASE("OpenCL launches that the device cannot run are refused with numbers", "[opencl]") {
  Bench bench;
  const DeviceInfo& info = bench.device->info();
  const auto x = bench.memory(std::vector<std::int32_t>(64));
  const auto threads = static_cast<std::uint32_t>(2 * info.block_threads);
  const auto arguments = std::vector{buffer(*x), scalar(std::int32_t{1})};
  check_error(ErrorCode::unsupported, std::to_string(threads),
              [&] { bench.run({bench.launch("increment", 1, threads, arguments)}); });
  Launch cube = bench.launch("increment", 1, 2, arguments);
  cube.threads = {static_cast<std::uint32_t>(info.block_threads), 2, 1};
  check_error(ErrorCode::unsupported, std::to_string(info.block_threads), [&] { bench.run({cube}); });
  check_error(ErrorCode::unsupported, std::to_string(info.shared_bytes), [&] {
    bench.run({bench.launch("increment", 1, 64, arguments, static_cast<std::uint32_t>(info.shared_bytes) + 1)});
  });
  // Fixed arrays count too: 1 KiB in this kernel.
  check_error(ErrorCode::unsupported, "shared memory", [&] {
    bench.run({bench.launch("fixed", 1, 64, {buffer(*x)}, static_cast<std::uint32_t>(info.shared_bytes))});
  });
  check_error(ErrorCode::internal, "takes 3", [&] { bench.run({bench.launch("increment", 1, 64, {buffer(*x)})}); });
  check_error(ErrorCode::internal, "does not take 8 bytes",
              [&] { bench.run({bench.launch("increment", 1, 64, {buffer(*x), scalar(std::int64_t{1})})}); });
}

TEST_CASE("an OpenCL kernel with many registers is held to smaller blocks", "[opencl]") {
  const FaultyOpenCl loader(FaultyOpenCl::small_block);
  Bench bench;
  const auto x = bench.memory(std::vector<std::int32_t>(64));
  const auto arguments = std::vector{buffer(*x), scalar(std::int32_t{1})};
  bench.run({bench.launch("increment", 4, 16, arguments)});
  check_error(ErrorCode::unsupported, "at most 16 are possible with the registers",
              [&] { bench.run({bench.launch("increment", 2, 32, arguments)}); });
}

TEST_CASE("OpenCL allocations that are too large are refused with numbers", "[opencl]") {
  const auto device = open();
  const std::uint64_t most = device->info().most_allocation_bytes;
  check_error(ErrorCode::out_of_memory, std::to_string(most), [&] { device->allocate(most + 1); });
  check_error(ErrorCode::out_of_memory, std::to_string(most), [&] { device->allocate_staging(most + 1); });
  check_error(ErrorCode::out_of_memory, "bytes", [&] { device->allocate(~std::uint64_t{0}); });
  FaultyOpenCl loader(FaultyOpenCl::works);
  const auto faulty = open();
  loader.set(FaultyOpenCl::no_memory);
  check_error(ErrorCode::out_of_memory, "CL_MEM_OBJECT_ALLOCATION_FAILURE (-4)", [&] { faulty->allocate(64); });
  check_error(ErrorCode::out_of_memory, "CL_MEM_OBJECT_ALLOCATION_FAILURE (-4)", [&] { faulty->allocate_staging(64); });
  loader.set(FaultyOpenCl::works);
  CHECK(faulty->allocate(64)->bytes() == 64);
}

TEST_CASE("an OpenCL device that fails is reported, and the host's data stay", "[opencl]") {
  FaultyOpenCl loader(FaultyOpenCl::works);
  Bench bench;
  const auto x = bench.memory(std::vector<std::int32_t>(64, 1));
  const auto staging = bench.device->allocate_staging(256);
  std::memset(staging->host(), 42, 256);
  const auto program =
      bench.device->record({.uploads = {{.from = {staging.get(), 0, 256}, .to = {x.get(), 0, 256}}},
                            .launches = {bench.launch("increment", 1, 64, {buffer(*x), scalar(std::int32_t{1})})}});

  loader.set(FaultyOpenCl::refused_launch);
  check_error(ErrorCode::device, "submit kernel 'increment': CL_OUT_OF_RESOURCES (-5)", [&] { program->submit(); });
  CHECK_FALSE(bench.device->lost());
  loader.set(FaultyOpenCl::works);
  program->submit();
  program->wait();
  CHECK(bench.values<std::int32_t>(*x)[0] == 0x2a2a2a2b);

  SECTION("while it runs") {
    program->submit();
    loader.set(FaultyOpenCl::failed_execution);
    check_error(ErrorCode::device, "CL_OUT_OF_RESOURCES (-5)", [&] { program->wait(); });
  }
  SECTION("at a launch") {
    loader.set(FaultyOpenCl::lost_in_launch);
    check_error(ErrorCode::device, "CL_INVALID_COMMAND_QUEUE (-36)", [&] { program->submit(); });
  }
  loader.set(FaultyOpenCl::works);
  CHECK(bench.device->lost());
  check_error(ErrorCode::device, "open it again", [&] { program->submit(); });
  check_error(ErrorCode::device, "open it again", [&] { bench.device->allocate(64); });
  check_error(ErrorCode::device, "open it again", [&] { bench.device->record({}); });
  CHECK(staging->host()[255] == std::byte{42});
}

TEST_CASE("an OpenCL program is submitted again only after somebody waited", "[opencl]") {
  Bench bench;
  const auto x = bench.memory(std::vector<std::int32_t>(64));
  const auto program =
      bench.device->record({.launches = {bench.launch("increment", 1, 64, {buffer(*x), scalar(std::int32_t{1})})}});
  program->submit();
  check_error(ErrorCode::internal, "before anybody waited", [&] { program->submit(); });
  program->wait();
  CHECK(bench.values<std::int32_t>(*x)[0] == 1);
}
