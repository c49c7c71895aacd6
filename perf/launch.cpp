// What starting a kernel costs on each device present: 100 small kernels recorded once and replayed, each waiting for
// the one before (`chain`) or none for another (`apart`), and the host's part of it (`submit`). Times are a kernel's,
// except for `submit`, which is a replay's.
//
// lavapipe hands each kernel to its threads and waits: where the machine wakes a thread slowly (25 us in some virtual
// ones) that is all that is seen. LP_NUM_THREADS=0 leaves it out.
#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <spirv-tools/libspirv.hpp>

#include "base/error.hpp"
#include "runtime/gpu/device.hpp"

namespace {

using namespace heddle;
using namespace heddle::runtime::gpu;

constexpr int kernels = 100;
constexpr std::uint32_t threads = 64;
constexpr std::uint64_t buffer_bytes = threads * sizeof(std::uint32_t);

// x[i] = 2 * x[i] + 1, by one block. (`step` is a function of OpenCL C.)
constexpr const char* opencl_text = R"(
__kernel void advance(__global uint *x, __local uint *shared) { x[get_global_id(0)] = 2 * x[get_global_id(0)] + 1; }
)";
constexpr const char* spirv_text = R"(
OpCapability Shader
OpMemoryModel Logical GLSL450
OpEntryPoint GLCompute %main "advance" %id %x
OpExecutionMode %main LocalSize 64 1 1
OpDecorate %id BuiltIn GlobalInvocationId
OpDecorate %uints ArrayStride 4
OpDecorate %Buffer Block
OpMemberDecorate %Buffer 0 Offset 0
OpDecorate %x DescriptorSet 0
OpDecorate %x Binding 0
%void = OpTypeVoid
%function = OpTypeFunction %void
%uint = OpTypeInt 32 0
%uint3 = OpTypeVector %uint 3
%zero = OpConstant %uint 0
%one = OpConstant %uint 1
%two = OpConstant %uint 2
%uints = OpTypeRuntimeArray %uint
%Buffer = OpTypeStruct %uints
%input_uint3 = OpTypePointer Input %uint3
%storage_Buffer = OpTypePointer StorageBuffer %Buffer
%storage_uint = OpTypePointer StorageBuffer %uint
%id = OpVariable %input_uint3 Input
%x = OpVariable %storage_Buffer StorageBuffer
%main = OpFunction %void None %function
%entry = OpLabel
%ids = OpLoad %uint3 %id
%i = OpCompositeExtract %uint %ids 0
%at = OpAccessChain %storage_uint %x %zero %i
%old = OpLoad %uint %at
%doubled = OpIMul %uint %old %two
%new = OpIAdd %uint %doubled %one
OpStore %at %new
OpReturn
OpFunctionEnd
)";

std::string code_for(DeviceApi api) {
  if (api == DeviceApi::opencl) return opencl_text;
  std::vector<std::uint32_t> words;
  if (!spvtools::SpirvTools(SPV_ENV_VULKAN_1_2).Assemble(spirv_text, &words))
    throw std::runtime_error("the kernel's SPIR-V does not assemble");
  return {reinterpret_cast<const char*>(words.data()), words.size() * sizeof(std::uint32_t)};
}

/// The recorded kernels on one device.
class Replay {
 public:
  Replay(const DeviceInfo& info, bool chained) : device_(open_device(info)) {
    kernel_.kernel = kernel_.entry = "advance";
    kernel_.access = "b";
    code_ = device_->build(kernel_, code_for(info.api), {});
    const std::uint64_t stride = chained ? 0 : std::max(info.alignment, buffer_bytes);
    memory_ = device_->allocate(stride * (kernels - 1) + buffer_bytes);
    Commands commands;
    for (std::uint64_t i = 0; i < kernels; ++i)
      commands.launches.push_back(
          {.kernel = &kernel_,
           .code = code_.get(),
           .threads = {threads, 1, 1},
           .arguments = {{.is_buffer = true, .buffer = {memory_.get(), i * stride, buffer_bytes}}}});
    program_ = device_->record(commands);
    must_compute(chained ? kernels : 1);
  }

  Program& program() { return *program_; }

 private:
  /// A replay that does nothing is fast, too.
  void must_compute(int steps) {
    std::vector<std::uint32_t> values(threads);
    device_->write(*memory_, 0, values.data(), buffer_bytes);
    program_->submit();
    program_->wait();
    device_->read(*memory_, 0, values.data(), buffer_bytes);
    std::uint32_t expected = 0;
    for (int i = 0; i < steps; ++i) expected = 2 * expected + 1;
    if (values != std::vector(threads, expected)) throw std::runtime_error("the device's result is wrong");
  }

  std::shared_ptr<Device> device_;
  plan::DeviceKernel kernel_;
  std::shared_ptr<Code> code_;
  std::unique_ptr<Memory> memory_;
  std::unique_ptr<Program> program_;
};

void time_kernels(benchmark::State& state, const DeviceInfo& info, bool chained) {
  Replay replay(info, chained);
  for ([[maybe_unused]] auto iteration : state) {
    const auto begin = std::chrono::steady_clock::now();
    replay.program().submit();
    replay.program().wait();
    state.SetIterationTime(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / kernels);
  }
}

void time_submit(benchmark::State& state, const DeviceInfo& info) {
  Replay replay(info, true);
  for ([[maybe_unused]] auto iteration : state) {
    const auto begin = std::chrono::steady_clock::now();
    replay.program().submit();
    state.SetIterationTime(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    replay.program().wait();
  }
}

template <class F>
void add(const std::string& name, F f) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [=](benchmark::State& state) {
                                 try {
                                   f(state);
                                 } catch (const std::exception& error) {
                                   state.SkipWithError(error.what());
                                 }
                               })
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond)
      ->MinTime(0.02);  // of a kernel's time: a hundred times as long
}

}  // namespace

int main(int argc, char** argv) {
  for (const DeviceApi api : {DeviceApi::opencl, DeviceApi::vulkan}) {
    const DeviceList list = list_devices(api);
    if (list.devices.empty()) fmt::print(stderr, "no {} device: {}\n", to_string(api), list.reason);
    for (const DeviceInfo& info : list.devices) {
      const std::string on = fmt::format("{} {} ({}) ", to_string(api), info.name, info.driver);
      add(on + "chain", [=](benchmark::State& state) { time_kernels(state, info, true); });
      add(on + "apart", [=](benchmark::State& state) { time_kernels(state, info, false); });
      add(on + "submit", [=](benchmark::State& state) { time_submit(state, info); });
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
