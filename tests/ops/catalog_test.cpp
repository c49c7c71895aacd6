// Every operator of the catalog against its own reference: each case compiled once and run for every binding of its
// symbols, a seeded sample also compiled for fixed extents and for other layouts with borders.
//
// HEDDLE_SEED chooses the random inputs and the sample, HEDDLE_CASE one case: "conv" or "conv:3".
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <mutex>
#include <set>
#include <thread>

#include "dsl/workload.hpp"
#include "ops/catalog.hpp"
#include "tests/support/inputs.hpp"
#include "tests/support/run.hpp"

namespace heddle {
namespace {

using testing::Extremes;

struct Job {
  const Operator* op;
  std::size_t index;
  Case test;
};

std::string print(const SymbolValues& symbols) {
  std::vector<std::string> parts;
  for (const auto& [name, value] : symbols) parts.push_back(fmt::format("{}={}", name, value));
  return fmt::format("{}", fmt::join(parts, " "));
}

/// Runs one compiled form for its bindings; returns what differs.
std::string run(const Job& job, const Case& test, const Workload& workload, std::mt19937_64& random) {
  Pipeline pipeline = workload.instantiate();
  const bool pointwise = job.op->kind() == OperatorKind::elementwise;
  testing::schedule_plainly(pipeline, pointwise ? 8 : 1);
  const testing::Kernel kernel(workload, std::move(pipeline));
  const bool exact = workload.tolerance().special_values == SpecialValues::exact;
  auto bindings = test.bindings;
  if (bindings.empty()) bindings.emplace_back();
  for (const auto& symbols : bindings)
    // First without extremes: a tolerance relative to the largest value means nothing beside an extreme one.
    for (const Extremes extremes : {Extremes::none, exact ? Extremes::all : Extremes::finite}) {
      const auto inputs = testing::draw_inputs(test, symbols, extremes, random);
      const std::string difference = testing::compare(workload, inputs, kernel.run(inputs, symbols), symbols);
      if (!difference.empty())
        return fmt::format("{}{}{}", symbols.empty() ? "" : print(symbols) + ": ",
                           extremes == Extremes::none ? "" : "with extremes: ", difference);
    }
  return "";
}

/// The same work on values that lie otherwise in memory.
Workload relaid(const Job& job, const Case& test, std::mt19937_64& random) {
  Composition c = Workload::of(*job.op, test.attributes, test.inputs).composition();
  for (auto& input : c.inputs)
    if (input.type.layout == Layout{} && random() % 2 == 0)
      input.type.layout = testing::random_layout(input.type.rank(), random);
  const Workload plain(c);
  c.output_layouts.clear();
  for (const auto& type : plain.output_types()) c.output_layouts.push_back(testing::random_layout(type.rank(), random));
  return Workload(std::move(c));
}

std::string check(const Job& job, std::uint64_t seed) {
  auto random = testing::generator_for(seed, job.op->name(), job.index);
  std::string form = "as it is";
  std::string failure;
  try {
    failure = run(job, job.test,
                  Workload::of(*job.op, job.test.attributes, job.test.inputs, testing::ranges_of(job.test)), random);
    if (failure.empty() && random() % 4 == 0) {
      const auto& bindings = job.test.bindings;
      const Case fixed =
          bindings.empty() ? job.test : testing::bind(job.test, *job.op, bindings[random() % bindings.size()]);
      const Workload workload = relaid(job, fixed, random);
      form = "static, in other layouts: " + workload.text();
      failure = run(job, fixed, workload, random);
    }
  } catch (const std::exception& e) {
    failure = e.what();
  }
  if (failure.empty()) return "";
  std::vector<std::string> types;
  for (const auto& type : job.test.inputs) types.push_back(type.str());
  return fmt::format(
      "{} {} ({}), {}:\n  {}\n  again: HEDDLE_SEED={} HEDDLE_CASE={}:{} test_ops \"every operator agrees with its "
      "reference\"",
      job.op->name(), job.test.attributes.dump(), fmt::join(types, ", "), form, failure, seed, job.op->name(),
      job.index);
}

std::vector<Job> jobs() {
  const char* only = std::getenv("HEDDLE_CASE");
  std::vector<Job> all;
  for (const Operator* op : catalog()) {
    const auto cases = op->cases();
    for (std::size_t i = 0; i < cases.size(); ++i)
      if (only == nullptr || only == op->name() || only == fmt::format("{}:{}", op->name(), i))
        all.push_back({op, i, cases[i]});
  }
  return all;
}

TEST_CASE("every operator agrees with its reference", "[catalog]") {
  const auto all = jobs();
  REQUIRE_FALSE(all.empty());
  const std::uint64_t seed = testing::seed();
  std::vector<std::string> failures(all.size());
  std::atomic<std::size_t> next = 0;
  // Pipelines share no Func, so they may be compiled side by side. Catch2's assertions are for one thread.
  const auto work = [&] {
    for (std::size_t i = next++; i < all.size(); i = next++) failures[i] = check(all[i], seed);
  };
  std::thread second(work);
  work();
  second.join();
  for (const auto& failure : failures)
    if (!failure.empty()) FAIL_CHECK(failure);
}

TEST_CASE("every operator has cases, a summary and attributes that survive a round trip", "[catalog]") {
  for (const Operator* op : catalog()) {
    INFO(op->name());
    CHECK_FALSE(op->summary().empty());
    const auto cases = op->cases();
    CHECK_FALSE(cases.empty());
    for (const auto& test : cases) {
      const Json canonical = op->canonical(test.attributes);
      CHECK(op->canonical(canonical) == canonical);
      CHECK(canonical.size() == op->attributes().size());
      CHECK_FALSE(op->tolerance(canonical, test.inputs).reason.empty());
    }
  }
}

TEST_CASE("float operators that are exact are tested with infinities and NaN", "[catalog]") {
  for (const Operator* op : catalog()) {
    if (op->kind() != OperatorKind::elementwise) continue;
    INFO(op->name());
    bool has_float = false, has_nan = false;
    for (const auto& test : op->cases())
      for (std::size_t i = 0; i < test.inputs.size(); ++i) {
        if (!is_float(test.inputs[i].dtype) ||
            op->tolerance(test.attributes, test.inputs).special_values == SpecialValues::ignored)
          continue;
        has_float = true;
        if (i < test.domains.size())
          for (const double value : test.domains[i].extremes) has_nan = has_nan || std::isnan(value);
      }
    CHECK(has_float == has_nan);
  }
}

TEST_CASE("the catalog is sorted and finds by name", "[catalog]") {
  const auto all = catalog();
  CHECK(std::is_sorted(all.begin(), all.end(),
                       [](const Operator* a, const Operator* b) { return a->name() < b->name(); }));
  std::set<std::string_view> names;
  for (const Operator* op : all) names.insert(op->name());
  CHECK(names.size() == all.size());

  const Operators operators;
  CHECK(&operators.get("relu") == operators.find("relu"));
  CHECK(operators.find("no_such_operator") == nullptr);
  CHECK_THROWS_WITH(operators.get("sigmiod"), Catch::Contains("sigmoid"));
}

}  // namespace
}  // namespace heddle
