#include <set>
#include <sstream>

#include <Halide.h>
#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "base/file.hpp"
#include "tests/generators/support.hpp"

using namespace heddle;
using namespace heddle::test;
using Catch::Contains;

namespace {

// The sum on the device's own, three launches: its start, its products, and what is made of it.
const char* const launches = R"(
acc.compute_root().gpu_tile(x, y, xo, yo, xi, yi, 16, 4, GuardWithIf)
acc.update(0).gpu_tile(x, y, xo, yo, xi, yi, 16, 4, GuardWithIf)
out.gpu_tile(x, y, xo, yo, xi, yi, 16, 4, GuardWithIf)
)";

// The sum in the block's shared memory: one launch.
const char* const shared = R"(
out.gpu_tile(x, y, xo, yo, xi, yi, 16, 4, GuardWithIf)
acc.compute_at(out, xo).gpu_threads(x, y)
acc.update(0).reorder(k, x, y).gpu_threads(x, y)
)";

Workload symbolic() { return product_workload(Extent::symbol("M"), Extent::symbol("K"), Extent::symbol("N")); }

std::string any_target() { return GENERATE(as<std::string>(), "opencl", "vulkan"); }

}  // namespace

TEST_CASE("A kernel for a device is host code and entries that it launches by name") {
  const std::string name = any_target();
  INFO(name);
  const Workload workload = symbolic();
  const KernelRequest r = request(workload, launches, find_target(name));
  const CompiledKernel kernel = compile_kernel(r);
  CHECK(std::string(to_string(kernel.device.api)) == name);
  REQUIRE(kernel.device.entries.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    const auto& entry = kernel.device.entries[i];
    CHECK(entry.name == "k" + std::to_string(i));
    CHECK((entry.code.empty() == (name == "opencl")));
    CHECK(entry.uniform_block == (name == "vulkan"));
  }
  CHECK(kernel.device.source.empty() == (name == "vulkan"));
  CHECK_THAT(kernel.object, Contains(kernel_symbol(r)));
  CHECK_THAT(kernel.object, !Contains("__kernel") && !Contains("GLSL.std.450"));

  const CompiledKernel one = compile_kernel(request(workload, shared, find_target(name)));
  CHECK(one.device.entries.size() == 1);
  CHECK(one.device.entries[0].shared.size() == (name == "vulkan" ? 1 : 0));
  CHECK(compile_kernel(request(workload, tiled)).device == targets::DeviceCode{});
}

TEST_CASE("Equal requests for a device give equal bytes, whatever was compiled before") {
  const std::string name = any_target();
  INFO(name);
  const Workload workload = symbolic(), other = product_workload(3, 4, 16);
  KernelRequest r = request(workload, GENERATE(as<std::string>(), launches, shared), find_target(name));
  r.asserts = GENERATE(false, true);
  const CompiledKernel first = compile_kernel(r);
  for (const char* between : {"opencl", "vulkan", "cpu"}) {
    const std::string schedule = std::string(between) == "cpu" ? tiled : launches;
    compile_kernel(request(other, schedule, find_target(between)));
    // Names of our stages, made by someone else in this process.
    Halide::Func a("product_acc"), b("product_out");
    const CompiledKernel again = compile_kernel(r);
    CHECK(again.device.source == first.device.source);
    CHECK(again.device == first.device);
    CHECK(again.object == first.object);
  }
}

TEST_CASE("The key of a kernel for a device holds what its passes are told") {
  const Workload workload = product_workload(4, 4, 16);
  const KernelRequest opencl = request(workload, launches, find_target("opencl"));
  CHECK(kernel_key(opencl) != kernel_key(request(workload, launches, find_target("vulkan"))));
  KernelRequest larger = opencl;
  larger.target.machine.gpu->block_threads *= 2;
  CHECK(kernel_key(larger) != kernel_key(opencl));
  CHECK(kernel_key(opencl) == kernel_key(request(workload, launches, find_target("opencl"))));
}

TEST_CASE("Host code of several kernels links with kernels of the processor, and needs nobody else") {
  const Workload a = product_workload(6, 8, 64), b = symbolic();
  const std::string name = any_target();
  const Target gpu = find_target(name), cpu = companion_target(gpu);
  const std::vector<KernelRequest> requests = {request(a, launches, gpu), request(b, shared, gpu),
                                               request(b, tiled, cpu)};
  std::vector<std::string> objects;
  std::set<std::string> exported = {"heddle_module_init"};
  for (const auto& r : requests) {
    objects.push_back(compile_kernel(r).object);
    exported.insert(kernel_symbol(r) + "_argv");
  }
  const TemporaryDirectory directory;
  const auto path = directory.path() / "module.so";
  write_file(path, link_module(objects, gpu));
  std::istringstream lines(shell("nm -D --format=posix --defined-only " + path.string()));
  std::set<std::string> defined;
  for (std::string line; std::getline(lines, line);) defined.insert(line.substr(0, line.find_first_of(" @")));
  CHECK(defined == exported);
  CHECK_THAT(shell("nm -D --undefined-only " + path.string()), !Contains("halide_"));
  const LoadedModule module(read_file(path));
  // The processor's kernel runs as it would alone.
  const std::vector<Array> inputs = {noise({3, 5}, 1), noise({5, 7}, 2)};
  CHECK(mismatch(module.run(requests[2], inputs)[0], b.reference(inputs)[0], b.tolerance()) == "");
}

TEST_CASE("The cache keeps device code, and takes nothing that it does not understand") {
  const std::string name = any_target();
  const TemporaryDirectory directory;
  const Workload workload = symbolic();
  const KernelRequest r = request(workload, shared, find_target(name));
  const CompiledKernel kernel = KernelCache(directory.path()).get(r);
  KernelCache second(directory.path());
  CHECK(second.get(r) == kernel);
  CHECK(second.hits() == 1);

  const std::string key = kernel_key(r);
  const auto entry = directory.path() / key.substr(0, 2) / (key + ".o");
  const std::string intact = read_file(entry);
  const auto with_checksum = [&](const std::string& body) {
    return "heddle kernel 2 " + key + " " + sha256(body) + " " + std::to_string(body.size()) + "\n" + body;
  };
  REQUIRE(with_checksum(intact.substr(intact.find('\n') + 1)) == intact);
  // Sound as files, but not what this version writes.
  for (const auto& body :
       {std::string("\x7f"
                    "ELF"),
        std::string("\x94\xa6opencl\x01\x90\x01"), std::string("\x91\xa5metal"), std::string("\xc0"), std::string()}) {
    write_file(entry, with_checksum(body));
    KernelCache cache(directory.path());
    CHECK(cache.get(r) == kernel);
    CHECK(cache.misses() == 1);
    CHECK(read_file(entry) == intact);
  }
}

TEST_CASE("A kernel for a device can be looked at as host code and as device code") {
  const Workload workload = symbolic();
  const KernelRequest opencl = request(workload, launches, find_target("opencl")),
                      vulkan = request(workload, launches, find_target("vulkan")), cpu = request(workload, tiled);
  CHECK_THAT(show_kernel(opencl, KernelStage::opencl), Contains("__kernel void k2("));
  CHECK_THAT(show_kernel(vulkan, KernelStage::spirv), Contains("OpEntryPoint GLCompute %k2 \"k2\""));
  CHECK_THAT(show_kernel(vulkan, KernelStage::stmt), Contains("halide_vulkan_run(") && !Contains("SPIR"));
  CHECK_THAT(show_kernel(opencl, KernelStage::llvm), Contains("@halide_opencl_run") && !Contains("__kernel"));
  CHECK_THAT(show_kernel(opencl, KernelStage::assembly), Contains("halide_opencl_run"));
  CHECK_THAT(show_kernel(opencl, KernelStage::loops), Contains("gpu_block"));
  CHECK_THROWS_WITH(show_kernel(opencl, KernelStage::spirv), Contains("compile with --target vulkan"));
  CHECK_THROWS_WITH(show_kernel(cpu, KernelStage::opencl), Contains("compile with --target opencl"));
}

TEST_CASE("A schedule that leaves a stage on the processor is refused with the stage's name") {
  const Workload workload = symbolic();
  const std::string name = any_target();
  CHECK_THROWS_WITH(compile_kernel(request(workload, "", find_target(name))), Contains("runs on a device"));
  CHECK_THROWS_WITH(
      compile_kernel(request(workload, "acc.compute_root()\nout.gpu_tile(x, y, xo, yo, xi, yi, 16, 4, GuardWithIf)",
                             find_target(name))),
      Contains("product_acc") && Contains("computed on the processor"));
}
