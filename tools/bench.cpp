#include <memory>

#include <fmt/format.h>

#include "tools/command.hpp"
#include "tools/execution.hpp"
#include "tools/model.hpp"
#include "tools/operator_bench.hpp"
#include "tools/peak.hpp"
#include "tools/statistics.hpp"

namespace heddle::tools {
namespace {

struct Options : ModelOptions {
  InputOptions inputs;
  std::string shape;
  std::vector<std::string> attributes;
  std::string schedule = "auto";
  double seconds = 1.0;
  bool json = false;
};

struct Measured {
  std::string name, target, device, schedule;
  double flops = 0, bytes = 0;
  bool bounded = true;         ///< by the FMA peak
  DType numbers = DType::f32;  ///< that are multiplied; of a model, whose kernels differ, f32
  std::vector<double> seconds;
  Peak peak;  ///< of the processor; zero where a device works, which it says nothing of

  double gflops() const { return flops / median(seconds) * 1e-9; }
};

/// Times `once`, between two measurements of what the processor reaches.
void measure(Measured& m, const Options& options, int least_samples, const std::function<double()>& once) {
  const bool on_processor = m.device == "cpu";
  if (on_processor) m.peak = measure_peak(options.thread_count());
  m.seconds = sample(once, least_samples, options.seconds);
  if (on_processor) m.peak = peak_after(m.peak, options.thread_count(), m.bounded ? m.gflops() : 0);
}

int report(const Measured& m, const Options& options) {
  const Peak& peak = m.peak;
  const double middle = median(m.seconds);
  const double gflops = m.gflops();
  const double reached = peak.of(m.numbers);
  const double share = reached > 0 ? gflops / reached : 0;
  const double bandwidth = m.bytes / middle * 1e-9;
  const bool valid = !m.bounded || share <= largest_valid_share;
  if (options.json) {
    const Json json = {{"name", m.name},
                       {"threads", options.thread_count()},
                       {"samples", m.seconds.size()},
                       {"median_ms", middle * 1e3},
                       {"p10_ms", quantile(m.seconds, 0.1) * 1e3},
                       {"p90_ms", quantile(m.seconds, 0.9) * 1e3},
                       {"gflops", gflops},
                       {"peak_gflops", peak.gflops},
                       {"peak_byte_gops", peak.byte_gops},
                       {"peak_half_gflops", peak.half_gflops},
                       {"share_of_peak", share},
                       {"valid", valid},
                       {"bandwidth_gbs", bandwidth},
                       {"peak_bandwidth_gbs", peak.copy_gbps},
                       {"peak_read_gbs", peak.read_gbps},
                       {"schedule", m.schedule},
                       {"target", m.target},
                       {"device", m.device}};
    fmt::print("{}\n", json.dump(2));
  } else {
    const bool on_processor = m.device == "cpu";
    if (on_processor)
      fmt::print("{}, {} thread{}, {}\n", m.name, options.thread_count(), options.thread_count() == 1 ? "" : "s",
                 m.target);
    else fmt::print("{}, {}, {}\n", m.name, m.target, m.device);
    fmt::print("  time      {:.4f} ms median, {:.4f} p10, {:.4f} p90 ({} samples)\n", middle * 1e3,
               quantile(m.seconds, 0.1) * 1e3, quantile(m.seconds, 0.9) * 1e3, m.seconds.size());
    fmt::print("  compute   {:.1f} GFLOP/s", gflops);
    if (on_processor)
      fmt::print(", {:.1f} % of the {:.1f} that {} reach here", share * 100, reached, products_of(m.numbers));
    fmt::print("\n  memory    {:.1f} GB/s at least", bandwidth);
    if (on_processor) fmt::print(", copies reach {:.1f}", peak.copy_gbps);
    fmt::print("\n");
    if (!m.schedule.empty()) fmt::print("  schedule  {}\n", m.schedule);
  }
  if (!valid) print_invalid_run(share, "Repeat it");
  return valid ? 0 : 1;
}

Measured bench_model(const Options& options) {
  const ReadyPackage package(options);
  const auto model = load_model(package.path(), options);
  auto inputs = load_inputs(options.inputs, *model, true, 1);
  runtime::Session session(model, {.threads = options.thread_count()});
  set_inputs(session, inputs);
  session.run();
  Measured m;
  m.name = std::filesystem::path(options.model).filename().string();
  m.target = model->module().target;
  m.device = device_name(*model);
  m.schedule = "by kernel; see `heddle profile`";
  for (const auto& kernel : model->module().kernels)
    if (!bounded_by_fma_peak(Implementation::parse(kernel.implementation).variant)) m.bounded = false;
  for (std::size_t i = 0; i < model->main().steps.size(); ++i) {
    m.flops += static_cast<double>(session.flops(i));
    m.bytes += static_cast<double>(session.bytes(i));
  }
  measure(m, options, 20, [&] {
    const auto start = std::chrono::steady_clock::now();
    session.run();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  });
  return m;
}

Measured bench_operator(const Options& options) {
  const Operators operators = load_operators(options);
  OperatorBench bench(operator_request(operators, options.model, options.shape, options.attributes), options,
                      options.schedule);
  if (const std::string difference = bench.check(); !difference.empty())
    throw Error(ErrorCode::internal,
                fmt::format("the kernel's result is wrong, so its time means nothing: {}\n  schedule: {}", difference,
                            bench.choice().source));
  Measured m;
  m.name = fmt::format("{} {}", options.model, options.shape);
  m.target = bench.target().name;
  m.device = bench.device();
  m.schedule = bench.choice().source;
  m.flops = static_cast<double>(bench.flops());
  m.bounded = bounded_by_fma_peak(bench.choice().implementation.variant);
  m.numbers = multiplied(bench.workload());
  m.bytes = static_cast<double>(bench.bytes());
  measure(m, options, 50, [&] { return bench.time_once(); });
  return m;
}

int run(const Options& options) {
  return report(names_operator(options.model, options.shape) ? bench_operator(options) : bench_model(options), options);
}

}  // namespace

Command bench_command() {
  return {"bench", "time a model, a package or one operator, beside what the machine can do", [](CLI::App& app) {
            auto options = std::make_shared<Options>();
            app.add_option(
                   "what", options->model,
                   "an ONNX model, a package, an operator's name with --shape, or a pipeline of Halide's (*.hlpipe)")
                ->required();
            options->add_flags(app);
            options->add_records(app);
            options->inputs.add_flags(app);
            app.add_option("--shape", options->shape,
                           "of an operator: conv n=1,ci=64,h=56,w=56,co=64,k=3,s=1,p=1[,groups=1]; matmul "
                           "m=..,n=..,k=..; either with type=bf16 or, requantised, int8; others ROLE=f32[...]");
            app.add_option("--attribute", options->attributes, "NAME=JSON of the operator");
            app.add_option("--implementation", options->schedule,
                           "auto (a record, else hand), hand, FAMILY[:KNOB=N,...] or a .sched file");
            app.add_option("--seconds", options->seconds, "measure at least this long")->check(CLI::NonNegativeNumber);
            app.add_flag("--json", options->json, "one JSON document");
            return std::function<int()>([options] { return run(*options); });
          }};
}

}  // namespace heddle::tools
