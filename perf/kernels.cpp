// Kernels of known networks, compiled as within a model, each with its share of the FMA peak measured in the same run.
#include <array>
#include <memory>
#include <string>
#include <thread>

#include <benchmark/benchmark.h>

#include "tools/operator_bench.hpp"
#include "tools/peak.hpp"

namespace {

using namespace heddle;
using namespace heddle::tools;

struct KernelShape {
  const char* op;
  const char* shape;
};

constexpr std::array shapes = {
    // ResNet-50
    KernelShape{"conv", "ci=3,h=224,co=64,k=7,s=2,p=3"},
    KernelShape{"conv", "ci=64,h=56,co=64,k=1"},
    KernelShape{"conv", "ci=64,h=56,co=256,k=1"},
    KernelShape{"conv", "ci=64,h=56,co=64,k=3,p=1"},
    KernelShape{"conv", "ci=128,h=28,co=128,k=3,p=1"},
    KernelShape{"conv", "ci=512,h=28,co=128,k=1"},
    KernelShape{"conv", "ci=256,h=14,co=256,k=3,p=1"},
    KernelShape{"conv", "ci=1024,h=14,co=256,k=1"},
    KernelShape{"conv", "ci=256,h=14,co=1024,k=1"},
    KernelShape{"conv", "ci=512,h=7,co=512,k=3,p=1"},
    KernelShape{"conv", "ci=2048,h=7,co=512,k=1"},
    KernelShape{"conv", "ci=512,h=7,co=2048,k=1"},
    // MobileNetV2's depthwise layers
    KernelShape{"conv", "ci=32,h=112,co=32,k=3,p=1,groups=32"},
    KernelShape{"conv", "ci=192,h=28,co=192,k=3,p=1,groups=192"},
    KernelShape{"conv", "ci=384,h=14,co=384,k=3,p=1,groups=384"},
    KernelShape{"conv", "ci=960,h=7,co=960,k=3,p=1,groups=960"},
    // BERT-base, ViT, GPT-2 and squares
    KernelShape{"matmul", "m=128,n=768,k=768"},
    KernelShape{"matmul", "m=128,n=3072,k=768"},
    KernelShape{"matmul", "m=197,n=768,k=768"},
    KernelShape{"matmul", "m=64,n=2304,k=768"},
    KernelShape{"matmul", "m=512,n=512,k=512"},
    KernelShape{"matmul", "m=1024,n=1024,k=1024"},
    KernelShape{"matmul", "m=2048,n=2048,k=2048"},
};

void run(benchmark::State& state, const KernelShape& shape, int threads, double peak) {
  ModelOptions options;
  options.threads = threads;
  const Operators operators;
  OperatorBench bench(parse_shape(operators.get(shape.op), shape.shape, {}), options);
  if (const std::string wrong = bench.check(); !wrong.empty()) {
    state.SkipWithError(wrong.c_str());
    return;
  }
  for ([[maybe_unused]] auto iteration : state) state.SetIterationTime(bench.time_once());
  const auto operations = static_cast<double>(bench.flops());
  state.counters["GFLOP/s"] = benchmark::Counter(operations * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["%peak"] =
      benchmark::Counter(100 * operations * 1e-9 / peak, benchmark::Counter::kIsIterationInvariantRate);
  state.SetLabel(bench.choice().source);
}

}  // namespace

int main(int argc, char** argv) {
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  for (const int threads : cores > 1 ? std::vector<int>{1, cores} : std::vector<int>{1}) {
    const double peak = measure_peak(threads, false).gflops;
    for (const KernelShape& shape : shapes)
      benchmark::RegisterBenchmark(
          (std::string(shape.op) + " " + shape.shape + " threads=" + std::to_string(threads)).c_str(),
          [=](benchmark::State& state) { run(state, shape, threads, peak); })
          ->UseManualTime();
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
