// Kernels of known networks, compiled as within a model, each beside what the machine can do, measured in the same run.
// The shapes come from lists (perf/shapes/*.txt). Google Benchmark times all of a list; or another program asks for
// turns of one kernel and measures others between them (perf/kernels.py).
#include <sched.h>

#include <charconv>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <thread>

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "autoscheduler/measure_quiet.hpp"
#include "base/error.hpp"
#include "base/statistics.hpp"
#include "dsl/halide_error.hpp"
#include "tools/operator_bench.hpp"
#include "tools/peak.hpp"

namespace heddle::tools {
namespace {

struct Options {
  std::vector<std::string> lists;
  std::vector<int> threads;
  std::string kernel;
  double seconds = 0.05, check_gflop = 2.5;
};

/// A line of a list: OPERATOR SHAPE [ATTRIBUTES] [*COUNT], the first three as `heddle bench` takes them.
struct KernelShape {
  std::string op, shape, attributes;
  int count = 1;  ///< how often its network has it
};

KernelShape parse_line(const std::string& line) {
  KernelShape kernel;
  std::istringstream words(line);
  words >> kernel.op >> kernel.shape;
  for (std::string word; words >> word;) {
    if (word[0] != '*') {
      kernel.attributes = word;
      continue;
    }
    const auto [end, error] = std::from_chars(word.data() + 1, word.data() + word.size(), kernel.count);
    if (error != std::errc{} || end != word.data() + word.size() || kernel.count < 1)
      throw Error(ErrorCode::invalid_argument, fmt::format("'{}': {} is no count; write *3", line, word));
  }
  if (kernel.shape.empty())
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("'{}': expected OPERATOR SHAPE [ATTRIBUTES] [*COUNT], as in 'conv ci=64,h=56,co=64,k=1 *3'", line));
  return kernel;
}

std::vector<KernelShape> read_list(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw Error(ErrorCode::not_found, fmt::format("cannot read the list of shapes {}", path));
  std::vector<KernelShape> kernels;
  for (std::string line; std::getline(file, line);) {
    line = line.substr(0, line.find('#'));
    if (line.find_first_not_of(" \t\r") != std::string::npos) kernels.push_back(parse_line(line));
  }
  return kernels;
}

/// A kernel ready to be timed, and what bounds its time.
class Kernel {
 public:
  Kernel(const KernelShape& shape, int threads, double check_gflop) : threads_(threads) {
    ModelOptions options;
    options.threads = threads;
    bench_.emplace(parse_shape(operators_.get(shape.op), shape.shape,
                               shape.attributes.empty() ? std::vector<std::string>{} : std::vector{shape.attributes}),
                   options);
    checked_ = flops() <= check_gflop * 1e9;
    if (const std::string wrong = checked_ ? bench_->check() : ""; !wrong.empty())
      throw Error(ErrorCode::internal, fmt::format("the result is wrong, so the time means nothing: {}", wrong));
    measure_limits();
  }

  /// Once before timing (the constructor does it) and once after.
  void measure_limits() {
    peak_ = best(peak_, measure_peak(threads_, false));
    const Bandwidth now = measure_bandwidth(threads_, static_cast<std::size_t>(bytes()));
    bandwidth_.read_gbps = std::max(bandwidth_.read_gbps, now.read_gbps);
    bandwidth_.copy_gbps = std::max(bandwidth_.copy_gbps, now.copy_gbps);
  }

  double time_once() { return bench_->time_once(); }
  double flops() const { return static_cast<double>(bench_->flops()); }
  double bytes() const { return static_cast<double>(bench_->bytes()); }
  bool checked() const { return checked_; }
  const Bandwidth& bandwidth() const { return bandwidth_; }
  const std::string& schedule() const { return bench_->choice().source; }

  double peak_gflops() const { return peak_.of(multiplied(bench_->workload())); }

  /// No direct form is faster: the operations take this long at the peak of such products, and as many bytes as the
  /// operands and the result have, wherever they fit, this long at the better of reading and copying.
  double limit_seconds() const {
    const double rate = std::max(bandwidth_.read_gbps, bandwidth_.copy_gbps);
    return std::max(flops() / peak_gflops(), bytes() / rate) * 1e-9;
  }

 private:
  const Operators operators_;
  std::optional<OperatorBench> bench_;
  int threads_;
  bool checked_ = false;
  Peak peak_;
  Bandwidth bandwidth_;
};

/// The kernel that is being timed, kept while the framework calls again with more iterations.
struct Current {
  std::string name;
  std::unique_ptr<Kernel> kernel;
  bool failed = false;  ///< any of them
};

void run(benchmark::State& state, const std::string& name, const KernelShape& shape, int threads, double check_gflop,
         Current& current) {
  try {
    translate_halide_errors(name, [&] {
      if (current.name != name) {
        current.kernel.reset();
        current.name = name;
        current.kernel = std::make_unique<Kernel>(shape, threads, check_gflop);
      }
      return 0;
    });
  } catch (const std::exception& error) {
    current.name.clear();
    current.failed = true;
    state.SkipWithError(error.what());
    return;
  }
  Kernel& kernel = *current.kernel;
  double seconds = 0;
  for ([[maybe_unused]] auto iteration : state) {
    const double once = kernel.time_once();
    state.SetIterationTime(once);
    seconds += once;
  }
  kernel.measure_limits();
  seconds /= static_cast<double>(state.iterations());
  state.counters["GFLOP/s"] = kernel.flops() * 1e-9 / seconds;
  state.counters["%limit"] = 100 * kernel.limit_seconds() / seconds;
  state.SetLabel(kernel.schedule() + (kernel.checked() ? "" : ", result not checked"));
}

int run_lists(const Options& options) {
  Current current;
  std::set<std::string> names;
  for (const int threads : options.threads)
    for (const std::string& list : options.lists)
      for (const KernelShape& shape : read_list(list)) {
        std::string name = shape.op + " " + shape.shape;
        if (!shape.attributes.empty()) name += " " + shape.attributes;
        name += " threads=" + std::to_string(threads);
        if (!names.insert(name).second) continue;  // networks share layers
        benchmark::RegisterBenchmark(name.c_str(), [=, &current](benchmark::State& state) {
          run(state, name, shape, threads, options.check_gflop, current);
        })->UseManualTime();
      }
  benchmark::RunSpecifiedBenchmarks();
  return current.failed ? 1 : 0;
}

/// Answers the lines of the standard input, each with a line of JSON: `turn` times the kernel for a while, `limits`
/// measures the machine again. At their end, a report. Whoever asks holds the lock of those who time.
int run_turns(const Options& options) {
  const int threads = options.threads.at(0);
  const auto answer = [](const Json& json) {
    fmt::print("{}\n", json.dump());
    std::fflush(stdout);
  };
  const auto cpus = autoscheduler::divide_processors(threads).timing;
  ::cpu_set_t mask;
  CPU_ZERO(&mask);
  for (const int cpu : cpus) CPU_SET(static_cast<std::size_t>(cpu), &mask);
  ::sched_setaffinity(0, sizeof(mask), &mask);
  Kernel kernel(parse_line(options.kernel), threads, options.check_gflop);
  answer({{"ready", true}, {"cpus", cpus}});
  std::vector<double> samples;
  for (std::string line; std::getline(std::cin, line);) {
    if (line == "turn") {
      const auto turn = sample([&] { return kernel.time_once(); }, 1, options.seconds);
      samples.insert(samples.end(), turn.begin(), turn.end());
      answer({{"samples", turn.size()}, {"median_ms", median(turn) * 1e3}});
    } else if (line == "limits") {
      kernel.measure_limits();
      answer({{"peak_gflops", kernel.peak_gflops()}});
    } else {
      throw Error(ErrorCode::invalid_argument, fmt::format("'{}': expected turn or limits", line));
    }
  }
  if (samples.empty()) throw Error(ErrorCode::invalid_argument, "no turn was asked for");
  answer({{"samples", samples.size()},
          {"median_ms", median(samples) * 1e3},
          {"p10_ms", quantile(samples, 0.1) * 1e3},
          {"p90_ms", quantile(samples, 0.9) * 1e3},
          {"limit_ms", kernel.limit_seconds() * 1e3},
          {"flops", kernel.flops()},
          {"bytes", kernel.bytes()},
          {"peak_gflops", kernel.peak_gflops()},
          {"read_gbs", kernel.bandwidth().read_gbps},
          {"copy_gbs", kernel.bandwidth().copy_gbps},
          {"checked", kernel.checked()},
          {"schedule", kernel.schedule()}});
  return 0;
}

int run(int argc, char** argv) {
  Options options;
  CLI::App app("Times kernels of known networks, each beside its roofline. Flags of Google Benchmark are taken too.");
  app.add_option("--list", options.lists, "files of shapes; the layers that decide, if not given");
  app.add_option("--threads", options.threads, "that run the kernels; 1 and all, if not given")
      ->check(CLI::Range(1, 256));
  app.add_option("--kernel", options.kernel, "one line of a list: turns of it are asked for on the standard input");
  app.add_option("--seconds", options.seconds, "of a turn")->check(CLI::NonNegativeNumber);
  app.add_option("--check-gflop", options.check_gflop,
                 "kernels of more operations are not compared with the reference, which takes seconds a GFLOP");
  benchmark::Initialize(&argc, argv);
  CLI11_PARSE(app, argc, argv);
  if (options.threads.empty()) {
    options.threads = {1};
    if (const auto cores = std::thread::hardware_concurrency(); cores > 1)
      options.threads.push_back(static_cast<int>(cores));
  }
  if (options.lists.empty()) options.lists = {HEDDLE_SHAPES "/short.txt"};
  try {
    return translate_halide_errors("Halide",
                                   [&] { return options.kernel.empty() ? run_lists(options) : run_turns(options); });
  } catch (const std::exception& error) {
    fmt::print(stderr, "perf_heddle: {}\n", error.what());
    return 1;
  }
}

}  // namespace
}  // namespace heddle::tools

int main(int argc, char** argv) { return heddle::tools::run(argc, argv); }
