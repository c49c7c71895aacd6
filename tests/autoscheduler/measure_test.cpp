// Measuring in worker processes: what a candidate may do, what becomes of it, and that the next one does not notice.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "autoscheduler/measure.hpp"
#include "autoscheduler/measure_memory.hpp"
#include "base/error.hpp"
#include "generators/kernel.hpp"
#include "ops/catalog.hpp"
#include "schedules/family.hpp"

namespace heddle::autoscheduler {
namespace {

using Catch::Matchers::Contains;

std::vector<std::string> modules() { return {HEDDLE_FAULTY_OPERATORS}; }

Workload increment(const Extent& size = 637, SymbolRanges symbols = {}) {
  static const Operators operators = [] {
    Operators all;
    all.load(HEDDLE_FAULTY_OPERATORS);
    return all;
  }();
  return Workload::of(operators.get("faulty_increment"), Json::object(), {tensor(DType::f32, {size})},
                      std::move(symbols));
}

Implementation variant(const std::string& name, const std::string& schedule = "") {
  return Implementation::parse("variant " + name + "\n" + schedule);
}

/// Limits that a test can wait for, on a machine that is busy with other tests.
MeasureOptions quick() {
  return {.compile_limit_s = 20, .run_limit_s = 20, .memory_bytes = std::uint64_t{1} << 30, .least_seconds = 0.002};
}

std::unique_ptr<Measurer> measurer_of(const Workload& workload, const MeasureOptions& options = quick()) {
  ::setenv("HEDDLE_PROGRAM", HEDDLE_PROGRAM, 1);
  return make_measurer(workload, host_target(), modules(), options);
}

Measurement one(Measurer& measurer, const Implementation& candidate, const Implementation* incumbent = nullptr) {
  auto results = measurer.measure({candidate}, incumbent, {});
  REQUIRE(results.size() == 1);
  return results[0];
}

std::vector<::pid_t> children(::pid_t of = ::getpid()) {
  std::vector<::pid_t> found;
  std::ifstream file(fmt::format("/proc/{0}/task/{0}/children", of));
  for (::pid_t pid = 0; file >> pid;) found.push_back(pid);
  return found;
}

int processes_named(const std::string& name) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "comm");
    std::string line;
    if (std::getline(file, line) && line == name) ++count;
  }
  return count;
}

TEST_CASE("a candidate is compiled as packages are, checked and timed") {
  const Operators operators;
  Composition c =
      Workload::of(operators.get("conv"), {{"pads", {1, 1, 1, 1}}},
                   {tensor(DType::f32, {1, 32, 14, 14}), tensor(DType::f32, {32, 32, 3, 3}), tensor(DType::f32, {32})})
          .composition();
  c.inputs[0].type.layout = {.order = channels_last(4), .border = {{}, {}, {1, 1}, {1, 1}}};
  c.output_layouts = {{.order = channels_last(4)}};
  const Workload workload(c);
  const Target target = host_target();
  const Choice choice = choose(workload, target.machine);
  REQUIRE_FALSE(choice.implementation.packings.empty());
  const auto measurer = measurer_of(workload);

  const Measurement good = one(*measurer, choice.implementation);
  CHECK(good.message == "");
  REQUIRE(good.status == TrialStatus::ok);
  CHECK(good.seconds.size() >= 7);
  CHECK(good.incumbent_seconds.empty());
  // 3.6 million operations: no processor of today takes less than a microsecond, nor does a busy one take a second.
  CHECK(good.median() > 1e-6);
  CHECK(good.median() < 1);
  CHECK(good.compile_seconds > 0);
  CHECK(good.run_seconds > 0);
  CHECK(good.kernel_key ==
        kernel_key({.workload = &workload, .implementation = choice.implementation, .target = target}));

  const auto again = measurer->remeasure(choice.implementation, choice.implementation, 5);
  REQUIRE(again.size() == 5);
  for (const FreshTimes& process : again)
    for (const double seconds : {process.candidate, process.incumbent}) CHECK((seconds > 1e-6 && seconds < 1));
}

TEST_CASE("a candidate for a device is checked and timed there") {
  ::setenv("HEDDLE_PROGRAM", HEDDLE_PROGRAM, 1);
  const auto measurer = make_measurer(increment(), find_target("vulkan"), modules(), quick());
  const std::string threads = "out.split(x, block, thread, 64, GuardWithIf).gpu_blocks(block).gpu_threads(thread)";
  const Implementation good = variant("direct", threads);
  const auto found = measurer->measure({good, variant("wrong", threads), variant("direct", "out.vectorize(x, 8)"),
                                        variant("direct",
                                                "out.split(x, block, thread, 512).gpu_blocks(block)"
                                                ".gpu_threads(thread)")},
                                       &good, {});
  REQUIRE(found.size() == 4);
  CHECK(found[0].message == "");
  CHECK(found[0].status == TrialStatus::ok);
  CHECK((found[0].median() > 0 && found[0].median() < 1));
  CHECK_FALSE(found[0].incumbent_seconds.empty());
  CHECK(found[1].status == TrialStatus::wrong);
  CHECK_THAT(found[1].message, Contains("output 0"));
  CHECK(found[2].status != TrialStatus::ok);  // it launches nothing, and a processor does not see the device's memory
  CHECK(found[3].status == TrialStatus::rejected);
  CHECK_THAT(found[3].message, Contains("512 threads"));
}

TEST_CASE("what a candidate does costs that candidate alone") {
  const Workload workload = increment();
  MeasureOptions options = quick();
  options.compile_limit_s = 6;
  const auto measurer = measurer_of(workload, options);
  struct Expected {
    Implementation candidate;
    TrialStatus status;
    std::string message;
  };
  const std::vector<Expected> all = {
      {variant("direct", "out.vectorize(x, 8)"), TrialStatus::ok, ""},
      {variant("abort"), TrialStatus::crashed, "an assertion failed"},
      {variant("wrong"), TrialStatus::wrong, "output 0"},
      {variant("exit"), TrialStatus::crashed, "without an answer"},
      {variant("throw"), TrialStatus::crashed, "exception"},
      {variant("hang"), TrialStatus::timed_out, "within 6 s"},
      {variant("segfault"), TrialStatus::crashed, "signal 11"},
      {variant("greedy"), TrialStatus::out_of_memory, "beyond the limit of 1024 MiB of address space"},
      // A kernel without Halide's checks does not look whether it got its memory.
      {variant("scratch"), TrialStatus::out_of_memory, "beyond the limit of 1024 MiB of address space: no scratch"},
      // Beyond the end of x lie NaNs.
      {variant("outside"), TrialStatus::wrong, "output 0"},
      // Without Halide's checks these two say nothing themselves.
      {variant("direct", "out.split(x, xo, xi, 128, RoundUp)"), TrialStatus::wrong, "behind out was written"},
      {variant("direct", "out.split(x, xo, xi, 1024, ShiftInwards)"), TrialStatus::wrong, "before out was written"},
      {variant("direct", "out.vectorize(z, 8)"), TrialStatus::rejected, "z"},
      {variant("direct", "out.unroll(x, 4)"), TrialStatus::ok, ""},
      {variant("unheard_of"), TrialStatus::rejected, "unheard_of"},
      {variant("direct"), TrialStatus::ok, ""},
  };
  std::vector<Implementation> candidates;
  for (const auto& expected : all) candidates.push_back(expected.candidate);
  std::size_t reported = 0;
  const auto results = measurer->measure(candidates, nullptr, [&](const Measurement&) {
    ++reported;
    return true;
  });
  CHECK(reported == all.size());
  REQUIRE(results.size() == all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    INFO(all[i].candidate.print() << results[i].message);
    CHECK(to_string(results[i].status) == to_string(all[i].status));
    CHECK_THAT(results[i].message, Contains(all[i].message));
    CHECK(results[i].seconds.empty() == (all[i].status != TrialStatus::ok));
  }
}

TEST_CASE("a kernel that does not end is stopped, and nothing of a measurer stays behind") {
  {
    MeasureOptions options = quick();
    options.run_limit_s = 3;
    const auto measurer = measurer_of(increment(), options);
    CHECK(one(*measurer, variant("stray")).status == TrialStatus::ok);
    CHECK(processes_named("heddle-stray") == 0);
    const Measurement endless = one(*measurer, variant("endless"));
    CHECK(endless.status == TrialStatus::timed_out);
    CHECK_THAT(endless.message, Contains("within 3 s"));
    REQUIRE(children().size() == 1);
    CHECK(children(children()[0]).empty());
  }
  CHECK(children().empty());
}

TEST_CASE("candidates are timed in turns with the incumbent") {
  const auto measurer = measurer_of(increment());
  const Implementation vectors = variant("direct", "out.vectorize(x, 8)"),
                       plain = variant("direct", "out.vectorize(x, 4)");
  const auto results = measurer->measure({plain, vectors, variant("wrong")}, &vectors, {});
  REQUIRE(results.size() == 3);
  for (const std::size_t i : {0, 1}) {
    INFO(results[i].message);
    REQUIRE(results[i].status == TrialStatus::ok);
    CHECK(results[i].seconds.size() >= 7);
    CHECK(results[i].incumbent_seconds.size() >= 7);
  }
  CHECK(results[2].status == TrialStatus::wrong);

  // Far slower than the incumbent: not worth more than a look.
  const Measurement slow = one(*measurer, variant("slow"), &vectors);
  REQUIRE(slow.status == TrialStatus::ok);
  CHECK(slow.seconds.size() == 1);
  CHECK(slow.median() > 5 * slow.incumbent_seconds.at(0));

  // An incumbent that is none does not keep a candidate from being measured.
  const Implementation broken = variant("abort");
  const Measurement alone = one(*measurer, plain, &broken);
  CHECK(alone.status == TrialStatus::ok);
  CHECK(alone.incumbent_seconds.empty());
}

TEST_CASE("what is timed in turns has its data in the same memory, and constants of its own") {
  Composition composition = Workload::of(Operators().get("matmul"), Json::object(),
                                         {tensor(DType::f32, {8, 16}), tensor(DType::f32, {16, 32})})
                                .composition();
  composition.inputs[1].constant = true;
  const Workload workload(composition);
  const auto packed = [](std::int64_t block) { return std::vector<Packing>{{"b", {{"n", block}}}}; };
  KernelMemory one(workload, packed(8), {}), other(workload, packed(16), {}, &one);
  int context = 0;
  const auto place = [&](KernelMemory& memory, std::size_t operand) {
    return static_cast<halide_buffer_t*>(memory.arguments(&context)[1 + operand])->host;
  };
  CHECK(place(one, 0) == place(other, 0));
  CHECK(place(one, 2) == place(other, 2));
  CHECK(place(one, 1) != place(other, 1));
  auto random = generator_for(1, workload.text());
  const auto inputs = draw_inputs(workload, {}, Extremes::none, random);
  one.fill(inputs);
  const std::vector<std::uint8_t> before(place(one, 1), place(one, 1) + 16 * 32 * 4);
  other.fill(inputs);
  CHECK(std::equal(before.begin(), before.end(), place(one, 1)));
  CHECK(other.outputs().size() == 1);
  CHECK(other.damage().empty());
  place(other, 1)[0] ^= 1;
  CHECK(other.damage() == "input b was written");
}

TEST_CASE("a worker that is killed costs the candidate it was at") {
  const auto measurer = measurer_of(increment());
  const auto kill_worker = [] {
    const auto workers = children();
    REQUIRE(workers.size() == 1);
    ::kill(workers[0], SIGKILL);
  };
  CHECK(one(*measurer, variant("direct")).status == TrialStatus::ok);
  kill_worker();  // between two candidates: it costs none
  CHECK(one(*measurer, variant("direct")).status == TrialStatus::ok);

  int done = 0;
  const auto results =
      measurer->measure({variant("direct"), variant("slow"), variant("wrong")}, nullptr, [&](const Measurement&) {
        if (++done == 1) kill_worker();
        return true;
      });
  REQUIRE(results.size() == 3);
  CHECK(results[0].status == TrialStatus::ok);
  CHECK(results[1].status == TrialStatus::crashed);
  CHECK_THAT(results[1].message, Contains("killed"));
  CHECK(results[2].status == TrialStatus::wrong);
}

TEST_CASE("measuring stops when the caller has enough, and goes on after it") {
  const auto measurer = measurer_of(increment());
  const std::vector<Implementation> candidates(6, variant("direct"));
  CHECK(measurer->measure(candidates, nullptr, [](const Measurement&) { return false; }).size() == 1);
  CHECK(measurer->measure(candidates, nullptr, {}).size() == 6);
  CHECK_THROWS_WITH(
      measurer->measure(candidates, nullptr, [](const Measurement&) -> bool { throw std::runtime_error("full"); }),
      "full");
  CHECK(one(*measurer, variant("direct")).status == TrialStatus::ok);
  CHECK_THROWS_WITH(measurer->remeasure(variant("wrong"), variant("direct"), 3),
                    Contains("wrong") && Contains("output 0"));
  CHECK(measurer->measure({}, nullptr, {}).empty());
}

TEST_CASE("symbolic workloads are measured at the largest extents that fit") {
  const Workload workload = increment(Extent::symbol("N"), {{"N", {1, 5000}}});
  const Measurement m = one(*measurer_of(workload), variant("direct", "out.vectorize(x, 8, GuardWithIf)"));
  INFO(m.message);
  CHECK(m.status == TrialStatus::ok);
}

TEST_CASE("what cannot be measured is said before anything is") {
  ::setenv("HEDDLE_PROGRAM", HEDDLE_PROGRAM, 1);
  MeasureOptions elsewhere = quick();
  elsewhere.device = "no such device";
  CHECK_THROWS_WITH(make_measurer(increment(), find_target("vulkan"), modules(), elsewhere),
                    Contains("no such device"));
  CHECK_THROWS_WITH(make_measurer(increment(), find_target("arm-64-linux"), modules(), quick()), Contains("arm-64"));
  CHECK_THROWS_WITH(make_measurer(increment(), host_target(), {}, quick()), Contains("faulty_increment"));
  CHECK_THROWS_WITH(make_measurer(increment(), host_target(), {"/no/such.so"}, quick()), Contains("/no/such.so"));
  ::setenv("HEDDLE_PROGRAM", "/no/such/program", 1);
  CHECK_THROWS_WITH(make_measurer(increment(), host_target(), modules(), quick()), Contains("HEDDLE_PROGRAM"));
  ::setenv("HEDDLE_PROGRAM", "/bin/true", 1);
  CHECK_THROWS_WITH(make_measurer(increment(), host_target(), modules(), quick()), Contains("before it was ready"));
  ::setenv("HEDDLE_PROGRAM", HEDDLE_PROGRAM, 1);
  CHECK_THROWS_WITH(trial_status_from_string("crashd"), Contains("crashed"));
  CHECK_THROWS_AS(Measurement{}.median(), Error);
}

}  // namespace
}  // namespace heddle::autoscheduler
