// The space of schedules: what an analysis finds, and that every point which is not pruned computes the reference's
// result, for fixed extents, 1 and odd ones among them.
//
// HEDDLE_SEED chooses points and inputs, HEDDLE_CASE one case: "conv" or "conv:3"; HEDDLE_POINTS how many points each.
#include <atomic>
#include <cstdlib>
#include <set>
#include <thread>

#include <fmt/format.h>
#include <catch2/catch.hpp>

#include "autoscheduler/search_points.hpp"
#include "autoscheduler/subject.hpp"
#include "base/error.hpp"
#include "ops/catalog.hpp"
#include "ops/halide_pipeline.hpp"
#include "targets/target.hpp"
#include "tests/autoscheduler/pictures.hpp"
#include "tests/autoscheduler/stencils.hpp"
#include "tests/support/inputs.hpp"
#include "tests/support/run.hpp"

namespace heddle::autoscheduler {
namespace {

Machine machine() { return {}; }

struct Job {
  const Operator* op = nullptr;
  std::size_t index = 0;
  Case test;  ///< static

  std::string name() const { return fmt::format("{}:{}", op->name(), index); }
};

Workload workload_of(const Job& job, int threads) {
  const bool spatial = job.op->layout() == LayoutPreference::channels_last && job.op->kind() == OperatorKind::window &&
                       job.test.inputs[0].rank() == 4;
  return spatial ? testing::channels_last_form(*job.op, job.test, threads)
                 : Workload::of(*job.op, job.test.attributes, job.test.inputs, {}, threads);
}

/// The defaults, and as many points again drawn at random.
std::vector<Point> points(const Space& space, std::size_t most, std::mt19937_64& random) {
  std::vector<Point> chosen = space.defaults();
  if (chosen.size() > most) chosen.resize(most);
  std::set<Point> known(chosen.begin(), chosen.end());
  for (std::size_t tries = 0; tries < 400 && known.size() < 2 * most; ++tries) {
    Point p{random() % space.sketches().size(), {}};
    for (const SpaceKnob& knob : space.sketches()[p.sketch].knobs)
      p.values.push_back(knob.domain[random() % knob.domain.size()]);
    if (std::holds_alternative<Pruned>(space.emit(p)) || !known.insert(p).second) continue;
    chosen.push_back(p);
  }
  return chosen;
}

std::string check(const Job& job, std::size_t most, int threads) {
  auto random = testing::generator_for(testing::seed(), job.name());
  const std::string again =
      fmt::format("again: HEDDLE_SEED={} HEDDLE_CASE={} test_autoscheduler", testing::seed(), job.name());
  try {
    const Workload workload = workload_of(job, threads);
    const auto space = make_space(workload, machine(), false);
    const auto inputs = testing::draw_inputs(job.test, {}, testing::Extremes::none, random);
    for (const Point& point : points(*space, most, random)) {
      const auto made = space->emit(point);
      if (std::holds_alternative<Pruned>(made)) continue;
      const auto& candidate = std::get<Candidate>(made);
      const auto context = [&] {
        return fmt::format("{} on {} threads\n{}\n{}  {}", job.name(), threads, print(point, space->sketches()),
                           candidate.implementation.print(), again);
      };
      if (!(candidate.estimate > 0)) return fmt::format("estimate {}\n  {}", candidate.estimate, context());
      try {
        const testing::Kernel kernel(workload, candidate.implementation);
        const std::string difference = testing::compare(workload, inputs, kernel.run(inputs));
        if (!difference.empty()) return fmt::format("{}\n  {}", difference, context());
      } catch (const std::exception& e) {
        return fmt::format("{}\n  {}", e.what(), context());
      }
    }
  } catch (const Error& e) {
    if (e.code() != ErrorCode::unsupported) return fmt::format("{} {}\n  {}", job.name(), e.what(), again);
  } catch (const std::exception& e) {
    return fmt::format("{} {}\n  {}", job.name(), e.what(), again);
  }
  return "";
}

std::vector<Job> jobs() {
  const char* chosen = std::getenv("HEDDLE_CASE");
  const std::string only = chosen == nullptr ? "" : chosen;
  std::vector<Job> all;
  std::vector<const Operator*> operators(catalog().begin(), catalog().end());
  for (const Operator* op : {&testing::stencils(), &testing::mosaic(), &testing::column_histogram()})
    operators.push_back(op);
  for (const Operator* op : operators) {
    const auto cases = op->cases();
    // Elementwise functions differ in an expression only.
    const std::size_t count = op->kind() == OperatorKind::elementwise ? 1 : cases.size();
    for (std::size_t i = 0; i < std::min(count, cases.size()); ++i) {
      const Case fixed = cases[i].bindings.empty() ? cases[i] : testing::bind(cases[i], *op, cases[i].bindings.back());
      Job job{op, i, fixed};
      job.test.bindings.clear();
      if (only.empty() || only == op->name() || only == job.name()) all.push_back(job);
    }
  }
  // Deep enough for blocks of the reduction, wide enough for blocks of tiles.
  Case deep{Json::object(), {TensorType::parse("f32[32,512]"), TensorType::parse("f32[512,128]")}, {}};
  if (const Job job{Operators().find("matmul"), 99, deep}; only.empty() || only == "matmul" || only == job.name())
    all.push_back(job);
  return all;
}

TEST_CASE("every point of a space computes the reference's result") {
  const char* wanted = std::getenv("HEDDLE_POINTS");
  const std::size_t most = wanted == nullptr ? 2 : static_cast<std::size_t>(std::atoi(wanted));
  const auto all = jobs();
  REQUIRE_FALSE(all.empty());
  std::vector<std::string> failures(all.size());
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t i = next++; i < all.size(); i = next++) failures[i] = check(all[i], most, i % 3 == 0 ? 2 : 1);
  };
  std::thread second(work);
  work();
  second.join();
  for (const auto& failure : failures)
    if (!failure.empty()) FAIL_CHECK(failure);
}

TEST_CASE("a reduction to one number has schedules without the families") {
  for (const std::string type : {"f32[64,1000]", "f32[7]"}) {
    const auto space = make_space(
        Workload::of(Operators().get("reduce_sum"), Json::object(), {TensorType::parse(type)}), machine(), false);
    INFO(type);
    REQUIRE_FALSE(space->defaults().empty());
    CHECK(std::holds_alternative<Candidate>(space->emit(space->defaults().front())));
  }
}

TEST_CASE("rows of an attention are lanes, so that no step of theirs is horizontal") {
  const TensorType heads = TensorType::parse("f32[1,12,128,64]");
  const auto space = make_space(Workload::of(Operators().get("attention"), Json::object(), {heads, heads, heads}),
                                find_target("x86-64-linux-avx512_sapphirerapids").machine, false);
  double best = std::numeric_limits<double>::infinity();
  std::string text;
  for (const Point& point : space->defaults()) {
    const auto candidate = std::get<Candidate>(space->emit(point));
    if (candidate.estimate < best) text = candidate.implementation.print();
    best = std::min(best, candidate.estimate);
  }
  CHECK_THAT(text, Catch::Contains("exp.reorder_storage(m, n, h, b)"));
  CHECK_THAT(text, Catch::Contains("q.in(q_panel, scores)"));
}

TEST_CASE("a stage that would be written out at great length is not inlined") {
  const Halide::Var x("x"), y("y");
  const Halide::ImageParam in(Halide::Float(32), 2, "in");
  Halide::Func polynomial("polynomial"), out("out");
  Halide::Expr value = in(x, y);
  for (int i = 0; i < 200; ++i) value = value * in(x, y) + static_cast<float>(i);
  polynomial(x, y) = value;
  Halide::Expr taps = polynomial(x, y);
  for (int i = 1; i < 9; ++i) taps = taps + polynomial(x + i, y);
  out(x, y) = taps;
  out.set_estimates({{0, 64}, {0, 64}});
  const auto imported = ops::import_pipeline(Halide::Pipeline(out));
  const auto space = make_space(Workload::of(Operators().get("halide_pipeline"), imported.attributes, imported.inputs),
                                machine(), false);
  std::mt19937_64 random(testing::seed());
  int overlong = 0;
  for (int tries = 0; tries < 2000; ++tries) {
    const auto made = space->emit(random_point(random, space->sketches()));
    if (const auto* pruned = std::get_if<Pruned>(&made))
      overlong += pruned->reason == "out would be too long an expression" ? 1 : 0;
    else CHECK(std::get<Candidate>(made).implementation.print().find("polynomial.compute_") != std::string::npos);
  }
  CHECK(overlong > 0);
  CHECK_FALSE(space->defaults().empty());
}

}  // namespace
}  // namespace heddle::autoscheduler
